#pragma once

// Where keys or values lie: [plane][row][dimension], one plane per layer and KV head, encoded by a codec.
#include <algorithm>
#include <cstddef>
#include <span>

#include "multistate/aligned_array.hpp"
#include "multistate/codec.hpp"
#include "multistate/simd/products.hpp"

namespace multistate::inline MULTISTATE_TARGET {

/// Rows of one KV head as they lie in memory; row j begins at data + j * stride and counts scales[j] times.
template <class C>
struct stored_rows {
    const typename C::element* data;
    const float* scales;    ///< one per row; null unless C::scaled
    std::size_t stride;     ///< elements from row to row, C::stride(dimension)
    std::size_t dimension;  ///< columns

    float scale(std::size_t row) const noexcept {
        if constexpr (C::scaled) {
            return scales[row];
        } else {
            return 1;
        }
    }
    /// The rows from `first` on, for the kernels.
    simd::matrix<typename C::element> matrix(std::size_t first = 0) const noexcept {
        return {data + first * stride, C::scaled ? scales + first : nullptr, stride};
    }

    /// Decodes row j into out [dimension].
    void read(std::size_t row, float* out) const noexcept {
        const simd::float_tag d;
        const auto factor = simd::hn::Set(d, scale(row));
        alignas(64) float buffer[simd::lanes];
        for (std::size_t i = 0; i < dimension; i += simd::lanes) {
            simd::hn::Store(simd::hn::Mul(simd::load(data + row * stride, i), factor), d, buffer);
            std::copy_n(buffer, std::min(simd::lanes, dimension - i), out + i);
        }
    }
};

/// Owns the rows of one kind (keys, or values) in all planes. Allocates in the constructor only.
template <codec C>
class storage {
  public:
    storage(std::size_t planes, std::size_t rows, std::size_t dimension)
        : rows_(rows),
          dimension_(dimension),
          stride_(C::stride(dimension)),
          elements_(detail::product("cache", detail::product("cache", planes, rows), stride_) + read_behind),
          scales_(C::scaled ? planes * rows : 0) {}

    stored_rows<C> plane(std::size_t i) const noexcept {
        return {elements_.data() + i * rows_ * stride_, C::scaled ? scales_.data() + i * rows_ : nullptr, stride_,
                dimension_};
    }

    /// Encodes x [dimension] into a row.
    void write(std::size_t plane, std::size_t row, const float* x) noexcept {
        const std::size_t i = plane * rows_ + row;
        const float scale = C::store(x, dimension_, elements_.data() + i * stride_);
        if constexpr (C::scaled) scales_.data()[i] = scale;
    }

    void move(std::size_t plane, std::size_t from, std::size_t to) noexcept {
        const std::size_t first = plane * rows_;
        std::copy_n(elements_.data() + (first + from) * stride_, stride_, elements_.data() + (first + to) * stride_);
        if constexpr (C::scaled) scales_.data()[first + to] = scales_.data()[first + from];
    }

    std::size_t memory_bytes() const noexcept { return elements_.bytes() + scales_.bytes(); }

  private:
    /// Elements that kernels may read, and not use, behind the last row.
    static constexpr std::size_t read_behind = 16;

    std::size_t rows_;
    std::size_t dimension_;
    std::size_t stride_;
    aligned_array<typename C::element> elements_;
    aligned_array<float> scales_;
};

}  // namespace multistate::inline MULTISTATE_TARGET
