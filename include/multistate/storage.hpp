#pragma once

// Where keys or values lie: [plane][row][dimension], one plane per layer and KV head, encoded by a codec.
#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

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

    /// out[j] = x [dimension] . row j, for the first out.size() rows.
    void dot(std::span<const float> x, std::span<float> out) const noexcept {
        const simd::float_tag d;
        const std::size_t whole = dimension / simd::lanes * simd::lanes;
        const auto last = simd::load_first(d, x.data() + whole, dimension - whole, 0.0f);
        for (std::size_t j = 0; j < out.size(); ++j) {
            auto sum = simd::hn::Zero(d);
            for (std::size_t c = 0; c < whole; c += simd::lanes) {
                sum = simd::hn::MulAdd(simd::load(data + j * stride, c), simd::hn::LoadU(d, x.data() + c), sum);
            }
            if (whole < dimension) sum = simd::hn::MulAdd(simd::load(data + j * stride, whole), last, sum);
            out[j] = simd::sum(sum) * scale(j);
        }
    }
    /// out [dimension] = the sum of weights[j] times row j, over the first weights.size() rows.
    void sum(std::span<const float> weights, std::span<float> out) const noexcept {
        const simd::float_tag d;
        for (std::size_t c = 0; c < dimension; c += simd::lanes) {
            auto sum = simd::hn::Zero(d);
            for (std::size_t j = 0; j < weights.size(); ++j) {
                sum = simd::hn::MulAdd(simd::load(data + j * stride, c), simd::hn::Set(d, weights[j] * scale(j)), sum);
            }
            simd::store_first(d, sum, out.data() + c, std::min(simd::lanes, dimension - c));
        }
    }
};

/// Owns the rows of one kind (keys, or values) in all planes. Allocates in the constructor only.
template <codec C>
class storage {
  public:
    /// One plane for each entry of `rows`, with that many rows.
    storage(std::span<const std::size_t> rows, std::size_t dimension)
        : first_(first_rows(rows)),
          dimension_(dimension),
          stride_(C::stride(dimension)),
          elements_(detail::product("cache", first_.back(), stride_) + read_behind),
          scales_(C::scaled ? first_.back() : 0) {}

    storage(std::size_t planes, std::size_t rows, std::size_t dimension)
        : storage(std::vector<std::size_t>(planes, rows), dimension) {}

    stored_rows<C> plane(std::size_t i) const noexcept {
        return {elements_.data() + first_[i] * stride_, C::scaled ? scales_.data() + first_[i] : nullptr, stride_,
                dimension_};
    }

    /// Encodes x [dimension] into a row.
    void write(std::size_t plane, std::size_t row, const float* x) noexcept {
        const std::size_t i = first_[plane] + row;
        const float scale = C::store(x, dimension_, elements_.data() + i * stride_);
        if constexpr (C::scaled) scales_.data()[i] = scale;
    }

    void move(std::size_t plane, std::size_t from, std::size_t to) noexcept { copy(*this, plane, from, to); }
    /// Copies a row of the same plane of `other`, a storage of the same dimension.
    void copy(const storage& other, std::size_t plane, std::size_t from, std::size_t to) noexcept {
        const std::size_t source = other.first_[plane] + from;
        const std::size_t target = first_[plane] + to;
        std::copy_n(other.elements_.data() + source * stride_, stride_, elements_.data() + target * stride_);
        if constexpr (C::scaled) scales_.data()[target] = other.scales_.data()[source];
    }

    std::size_t memory_bytes() const noexcept {
        return elements_.bytes() + scales_.bytes() + first_.size() * sizeof(std::size_t);
    }

  private:
    /// Elements that kernels may read, and not use, behind the last row.
    static constexpr std::size_t read_behind = 16;

    static std::vector<std::size_t> first_rows(std::span<const std::size_t> rows) {
        std::vector<std::size_t> first(rows.size() + 1);
        for (std::size_t i = 0; i < rows.size(); ++i) first[i + 1] = detail::sum("cache", first[i], rows[i]);
        return first;
    }

    std::vector<std::size_t> first_;  // of each plane, and the end
    std::size_t dimension_;
    std::size_t stride_;
    aligned_array<typename C::element> elements_;
    aligned_array<float> scales_;
};

}  // namespace multistate::inline MULTISTATE_TARGET
