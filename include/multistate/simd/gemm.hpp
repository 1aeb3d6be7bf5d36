#pragma once

// The products of attention for many queries (the tokens of a block). Stored rows are converted to floats in panels,
// then one register-blocked matrix product computes logits and outputs. Only attention_products.hpp, linear.hpp and
// math/packed_products.hpp include this header.
#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "multistate/simd/stored_rows.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd { namespace detail {

/// The register block: the sums of this many queries and vectors of columns stay in registers.
inline constexpr std::size_t product_queries = many_registers ? 8 : 4;
inline constexpr std::size_t product_vectors = (std::max<std::size_t>)(2, 4 / lanes);
/// Columns of a panel, the right factor: one key in each column, or columns of values.
inline constexpr std::size_t panel_columns = product_vectors * lanes;
/// Value rows in a panel: 16 KiB with 32 columns, half of a first-level cache.
inline constexpr std::size_t panel_values = 128;

/// The step from one term of a row of a to the next.
using adjacent = std::integral_constant<std::size_t, 1>;

/// out[i, c] = the sum over t < terms of a[i, t] * b[t, c], for `Queries` rows of a and columns c < Vectors * lanes.
/// Adds it to out if `accumulate`. a[i, t] is a[i * a_stride + t * Step].
template <std::size_t Queries, std::size_t Vectors, bool accumulate, class Step = adjacent>
void product(const float* a, std::size_t a_stride, const float* b, std::size_t b_stride, std::size_t terms, float* out,
             std::size_t stride, Step = {}) noexcept {
    const float_tag d;
    float_vector sums[Queries][Vectors];
    MULTISTATE_UNROLL
    for (std::size_t i = 0; i < Queries; ++i) {
        MULTISTATE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) {
            sums[i][v] = accumulate ? hn::LoadU(d, out + i * stride + v * lanes) : hn::Zero(d);
        }
    }
    for (std::size_t t = 0; t < terms; ++t) {
        float_vector x[Vectors];
        MULTISTATE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) x[v] = hn::LoadU(d, b + t * b_stride + v * lanes);
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Queries; ++i) {
            const auto weight = hn::Set(d, a[i * a_stride + t * Step::value]);
            MULTISTATE_UNROLL
            for (std::size_t v = 0; v < Vectors; ++v) sums[i][v] = hn::MulAdd(weight, x[v], sums[i][v]);
        }
    }
    MULTISTATE_UNROLL
    for (std::size_t i = 0; i < Queries; ++i) {
        MULTISTATE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) hn::StoreU(sums[i][v], d, out + i * stride + v * lanes);
    }
}

/// The same for any number of rows of a.
template <std::size_t Queries, std::size_t Vectors, bool accumulate, class Step = adjacent>
void product_of_all(std::size_t count, const float* a, std::size_t a_stride, const float* b, std::size_t b_stride,
                    std::size_t terms, float* out, std::size_t stride, Step step = {}) noexcept {
    for (; count >= Queries; count -= Queries, a += Queries * a_stride, out += Queries * stride) {
        product<Queries, Vectors, accumulate>(a, a_stride, b, b_stride, terms, out, stride, step);
    }
    if constexpr (Queries > 1) {
        product_of_all<Queries / 2, Vectors, accumulate>(count, a, a_stride, b, b_stride, terms, out, stride, step);
    }
}

/// Transposes keys into a panel: panel[c, k] = keys[k, c] for k < panel_columns; 0 for k >= n.
template <class Codec>
void stand_up(matrix<Codec> keys, std::size_t n, std::size_t dimension, float* panel) noexcept {
    const auto row = [=](std::size_t k, std::size_t c) {
        return k < n ? load_scaled(keys, k, c) : hn::Zero(float_tag{});
    };
    rows_ahead ahead(keys.row(n));
    for (std::size_t k = 0; k < padded(n, 4); k += 4) {
        ahead.next(4 * row_bytes(keys));
        for (std::size_t c = 0; c < dimension; c += lanes) {
            const float_vector four[4] = {row(k, c), row(k + 1, c), row(k + 2, c), row(k + 3, c)};
            store_columns(four, panel + c * panel_columns + k, panel_columns);
        }
    }
    for (std::size_t c = 0; c < dimension; ++c) {
        std::fill(panel + c * panel_columns + padded(n, 4), panel + (c + 1) * panel_columns, 0.0f);
    }
}

/// panel[c * panel_stride + k] = x[k * stride + c] for k < n and c < dimension. Writes nothing else.
inline void transpose(const float* x, std::size_t stride, std::size_t n, std::size_t dimension, float* panel,
                      std::size_t panel_stride) noexcept {
    const std::size_t fours = n / 4 * 4, vectors = dimension / lanes * lanes;
    for (std::size_t k = 0; k < fours; k += 4) {
        const auto at = [=](std::size_t r, std::size_t c) { return hn::LoadU(float_tag{}, x + (k + r) * stride + c); };
        for (std::size_t c = 0; c < vectors; c += lanes) {
            const float_vector four[4] = {at(0, c), at(1, c), at(2, c), at(3, c)};
            store_columns(four, panel + c * panel_stride + k, panel_stride);
        }
    }
    for (std::size_t k = 0; k < n; ++k) {
        for (std::size_t c = k < fours ? vectors : 0; c < dimension; ++c)
            panel[c * panel_stride + k] = x[k * stride + c];
    }
}

template <class Codec>
void block_dot_products(const float* q, std::size_t count, std::size_t q_stride, std::size_t dimension,
                        matrix<Codec> keys, std::size_t n, float* out, std::size_t stride, float* panel) noexcept {
    for (std::size_t j = 0; j < n; j += panel_columns) {
        stand_up(matrix<Codec>{keys.row(j), Codec::scaled ? keys.scales + j : nullptr, keys.stride},
                 (std::min)(panel_columns, n - j), dimension, panel);
        product_of_all<product_queries, product_vectors, false>(count, q, q_stride, panel, panel_columns, dimension,
                                                                out + j, stride);
    }
}

template <class Codec>
void block_weighted_sums(const float* p, std::size_t p_stride, std::size_t count, matrix<Codec> values, std::size_t n,
                         std::size_t width, float* out, std::size_t stride, float* panel) noexcept {
    std::fill_n(out, count * stride, 0.0f);
    for (std::size_t j = 0; j < n; j += panel_values) {
        const std::size_t rows = (std::min)(panel_values, n - j);
        rows_ahead ahead(values.row(j + rows));
        std::size_t c = 0;
        const auto add_columns = [&](auto vectors) {
            for (std::size_t r = 0; r < rows; ++r) {
                if (c == 0) ahead.next(row_bytes(values));
                for (std::size_t v = 0; v < vectors; ++v) {
                    hn::StoreU(load_scaled(values, j + r, c + v * lanes), float_tag{},
                               panel + (r * vectors + v) * lanes);
                }
            }
            product_of_all<product_queries, vectors, true>(count, p + j, p_stride, panel, vectors * lanes, rows,
                                                           out + c, stride);
            c += vectors * lanes;
        };
        while (c + panel_columns <= width) add_columns(std::integral_constant<std::size_t, product_vectors>{});
        while (c < width) add_columns(std::integral_constant<std::size_t, 1>{});
    }
}

}}}}  // namespace multistate::MULTISTATE_TARGET::simd::detail
