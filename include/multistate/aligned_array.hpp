#pragma once

// Memory for rows and scratch: allocated once, zeroed, aligned to a cache line.
#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>

#include "multistate/shape.hpp"

namespace multistate::inline MULTISTATE_TARGET {

/// A fixed number of trivial elements.
template <class T>
class aligned_array {
  public:
    aligned_array() = default;
    explicit aligned_array(std::size_t size) : size_(size) {
        if (size == 0) return;
        data_.reset(static_cast<T*>(::operator new(detail::product("aligned_array", size, sizeof(T)), alignment)));
        std::uninitialized_value_construct_n(data_.get(), size);
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
    static constexpr std::align_val_t alignment{64};
    struct release {
        void operator()(T* p) const noexcept { ::operator delete(p, alignment); }
    };
    std::unique_ptr<T[], release> data_;
    std::size_t size_ = 0;
};

}  // namespace multistate::inline MULTISTATE_TARGET
