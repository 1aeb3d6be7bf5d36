#pragma once

// Memory for rows and scratch: allocated once, aligned to a cache line, zeroed unless the caller fills it.
//
//     ms::aligned_array<float> x(rows * 128);                 // zeros; x.data() is a multiple of 64
//
// From 2 MiB on it asks Linux for huge pages (a hint that the system may ignore). Attention reads whole caches; with
// pages of 4 KiB this took up to 1.2 times as long, and the first touch of new memory took up to 8 times as long.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "multistate/core/shape.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The argument of constructors that leave memory as it is, because their caller fills it.
struct uncleared_t {};
inline constexpr uncleared_t uncleared{};

/// A fixed number of trivial elements, all bits zero at first.
template <class T>
class aligned_array {
    static_assert(std::is_trivially_copyable_v<T>);

  public:
    aligned_array() = default;
    explicit aligned_array(std::size_t size) : aligned_array(size, uncleared) {
        if (size > 0) std::memset(static_cast<void*>(data_), 0, length_of(size));
    }
    /// The elements have any value at first.
    aligned_array(std::size_t size, uncleared_t) : size_(size) {
        if (size == 0) return;
        const std::size_t length = length_of(size);
        const std::align_val_t alignment{alignment_of(length)};
        data_ = static_cast<T*>(::operator new(length, alignment));
#if defined(__linux__)
        if (alignment_of(length) == huge_page) madvise(data_, length, MADV_HUGEPAGE);
#endif
    }
    aligned_array(const aligned_array& other) : aligned_array(other.size_, uncleared) {
        std::copy_n(other.data(), size_, data());
    }
    aligned_array(aligned_array&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    ~aligned_array() {
        if (data_ != nullptr) ::operator delete (data_, std::align_val_t{alignment_of(bytes())});
    }
    aligned_array& operator=(aligned_array other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }

    T* data() noexcept { return data_; }
    const T* data() const noexcept { return data_; }
    std::size_t bytes() const noexcept { return size_ * sizeof(T); }

  private:
    static constexpr std::size_t huge_page = std::size_t{2} << 20;
    static std::size_t length_of(std::size_t size) { return detail::product("aligned_array", size, sizeof(T)); }
    static constexpr std::size_t alignment_of(std::size_t length) noexcept {
        return length >= huge_page ? huge_page : 64;
    }

    T* data_ = nullptr;
    std::size_t size_ = 0;
};

}}  // namespace multistate::MULTISTATE_TARGET
