#pragma once

// Memory for rows and scratch: allocated once, zeroed, aligned to a cache line. Large arrays ask the system for huge
// pages (Linux; a hint, without effect where it is not granted): attention reads whole caches, and with pages of 4 KiB
// that took up to 1.2 times as long.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "multistate/core/shape.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// A fixed number of trivial elements, all bits zero at first.
template <class T>
class aligned_array {
    static_assert(std::is_trivially_copyable_v<T>);

  public:
    aligned_array() = default;
    explicit aligned_array(std::size_t size) : size_(size) {
        if (size == 0) return;
        const std::size_t length = detail::product("aligned_array", size, sizeof(T));
        const bool large = length >= 2 * huge_page;
        const std::align_val_t alignment{large ? huge_page : 64};
        data_ = {static_cast<T*>(::operator new(length, alignment)), release{alignment}};
#if defined(__linux__)
        if (large) madvise(data_.get(), length, MADV_HUGEPAGE);
#endif
        std::memset(static_cast<void*>(data_.get()), 0, length);
    }
    aligned_array(const aligned_array& other) : aligned_array(other.size_) { std::copy_n(other.data(), size_, data()); }
    aligned_array(aligned_array&& other) noexcept
        : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
    aligned_array& operator=(aligned_array other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }

    T* data() noexcept { return data_.get(); }
    const T* data() const noexcept { return data_.get(); }
    std::size_t bytes() const noexcept { return size_ * sizeof(T); }

  private:
    static constexpr std::size_t huge_page = std::size_t{2} << 20;
    struct release {
        std::align_val_t alignment{};
        void operator()(T* p) const noexcept { ::operator delete(p, alignment); }
    };
    std::unique_ptr<T[], release> data_;
    std::size_t size_ = 0;
};

}}  // namespace multistate::MULTISTATE_TARGET
