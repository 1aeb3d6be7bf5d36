#pragma once

// Stored rows as policies use them in decisions: decode one row, multiply all rows with vectors, sum rows with weights.
//
//     simd::read_row(keys.matrix(), row, head_dim, key);                                 // key [head_dim]
//     simd::dot_rows(x, 1, 0, head_dim, keys.matrix(), n, out, 0);                       // out[j] = x . key j, j < n
//     simd::sum_rows(weights, values.matrix(), n, value_dim, out);                       // out [value_dim]
//
// All codecs are computed in floats. Attention has its own kernels, for packed queries (attention_products.hpp).
#include <algorithm>
#include <cstddef>

#include "multistate/simd/elementwise.hpp"
#include "multistate/simd/stored_rows.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

namespace detail {

/// out[i * stride + r] = x_i . row_r, without scales.
template <std::size_t Vectors, std::size_t Rows, class Codec>
MULTISTATE_INLINE void dot_few(const float* x, std::size_t x_stride, std::size_t dimension, matrix<Codec> rows,
                               float* out, std::size_t stride) noexcept {
    float_vector sums[Vectors][Rows];
    MULTISTATE_UNROLL
    for (auto& some : sums) {
        MULTISTATE_UNROLL
        for (auto& one : some) one = hn::Zero(float_tag{});
    }
    const auto add_columns = [&](std::size_t c, auto load_vector) {
        float_vector row[Rows];
        MULTISTATE_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) row[r] = load<Codec>(rows.row(r), c);
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Vectors; ++i) {
            const auto vector = load_vector(x + i * x_stride + c);
            MULTISTATE_UNROLL
            for (std::size_t r = 0; r < Rows; ++r) sums[i][r] = hn::MulAdd(vector, row[r], sums[i][r]);
        }
    };
    std::size_t c = 0;
    for (; c + lanes <= dimension; c += lanes) {
        add_columns(c, [](const float* at) { return hn::LoadU(float_tag{}, at); });
    }
    if (c < dimension) {
        add_columns(c, [=](const float* at) { return load_first(float_tag{}, at, dimension - c, 0.0f); });
    }
    MULTISTATE_UNROLL
    for (std::size_t i = 0; i < Vectors; ++i) {
        if constexpr (Rows == 4) {
            store_sums(sums[i], out + i * stride);
        } else {
            for (std::size_t r = 0; r < Rows; ++r) out[i * stride + r] = sum(sums[i][r]);
        }
    }
}

/// Adds the sum of weights[j] * row_j to `Vectors` vectors of out [dimension] from column c.
template <std::size_t Vectors, class Codec>
MULTISTATE_INLINE void add_few(const float* weights, matrix<Codec> rows, std::size_t n, std::size_t c,
                               std::size_t dimension, float* out, rows_ahead& ahead, std::size_t ahead_bytes) noexcept {
    const float_tag d;
    float_vector sums[Vectors];
    MULTISTATE_UNROLL
    for (auto& one : sums) one = hn::Zero(d);
    for (std::size_t j = 0; j < n; ++j) {
        ahead.next(ahead_bytes);
        const auto weight = hn::Set(d, Codec::scaled ? weights[j] * rows.scales[j] : weights[j]);
        MULTISTATE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) {
            sums[v] = hn::MulAdd(load<Codec>(rows.row(j), c + v * lanes), weight, sums[v]);
        }
    }
    for (std::size_t v = 0; v < Vectors; ++v, c += lanes) {
        const std::size_t left = (std::min)(lanes, dimension - c);
        store_first(d, hn::Add(load_first(d, out + c, left, 0.0f), sums[v]), out + c, left);
    }
}

}  // namespace detail

/// Decodes row j into out [dimension].
template <class Codec>
void read_row(matrix<Codec> rows, std::size_t j, std::size_t dimension, float* out) noexcept {
    for (std::size_t c = 0; c < dimension; c += lanes) {
        store_first(float_tag{}, detail::load_scaled(rows, j, c), out + c, (std::min)(lanes, dimension - c));
    }
}

/// out[i * stride + j] = x_i . row_j for j < n and `count` vectors x_i = x + i * x_stride [dimension]. Each row that is
/// read serves four vectors (two on targets with few registers); the remaining vectors read it one by one.
template <class Codec>
void dot_rows(const float* x, std::size_t count, std::size_t x_stride, std::size_t dimension, matrix<Codec> rows,
              std::size_t n, float* out, std::size_t stride) noexcept {
    detail::in_groups<detail::dot_queries>(count, [&](std::size_t i, auto vectors) {
        const auto from = [&](std::size_t j) { return matrix<Codec>{rows.row(j), nullptr, rows.stride}; };
        const std::size_t bytes = detail::row_bytes(rows);
        detail::rows_ahead ahead(rows.row(detail::block_rows(bytes)));
        std::size_t j = 0;
        for (; j + 4 <= n; j += 4) {
            ahead.next(4 * bytes);
            detail::dot_few<vectors, 4>(x + i * x_stride, x_stride, dimension, from(j), out + i * stride + j, stride);
        }
        for (; j < n; ++j) {
            detail::dot_few<vectors, 1>(x + i * x_stride, x_stride, dimension, from(j), out + i * stride + j, stride);
        }
    });
    if constexpr (Codec::scaled) {
        for (std::size_t i = 0; i < count; ++i) multiply({rows.scales, n}, {out + i * stride, n});
    }
}

/// out [dimension] = the sum of weights[j] * row_j over j < n.
template <class Codec>
void sum_rows(const float* weights, matrix<Codec> rows, std::size_t n, std::size_t dimension, float* out) noexcept {
    std::fill_n(out, dimension, 0.0f);
    constexpr std::size_t at_once = 4;
    const std::size_t vectors = (dimension + lanes - 1) / lanes, bytes = detail::row_bytes(rows);
    for (std::size_t count = detail::block_rows(bytes), j = 0; j < n; j += count) {
        const matrix<Codec> block{rows.row(j), Codec::scaled ? rows.scales + j : nullptr, rows.stride};
        detail::rows_ahead ahead(rows.row(j + count));
        detail::in_groups<at_once>(vectors, [&](std::size_t first, auto some) {
            detail::add_few<some>(weights + j, block, (std::min)(count, n - j), first * lanes, dimension, out, ahead,
                                  bytes / detail::group_count(vectors, at_once));
        });
    }
}

}}}  // namespace multistate::MULTISTATE_TARGET::simd
