#pragma once

// Kernels of linear layers: products of weights [outputs, inputs], row-major without gaps, with rows of floats.
//
//     const simd::weights<float> w{parameters, outputs, inputs};
//     simd::add_few_products(w, {x, count, inputs, inputs}, out, outputs);           // reads w once
//     simd::add_products(w, {x, count, inputs, inputs}, 0, outputs, out, outputs);   // a matrix product, for many rows
//
// Weights are floats, or std::uint16_t: the bits of bf16. Widths need not be multiples of a vector. recurrent/linear.hpp
// divides the work into tasks.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "multistate/core/types.hpp"
#include "multistate/simd/conversions.hpp"
#include "multistate/simd/gemm.hpp"
#include "multistate/simd/stored_rows.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

/// Row-major [outputs, inputs] without gaps.
template <class Element>
struct weights {
    static_assert(std::is_same_v<Element, float> || std::is_same_v<Element, std::uint16_t>);
    const Element* data;
    std::size_t outputs;
    std::size_t inputs;

    const Element* row(std::size_t r) const noexcept { return data + r * inputs; }
};

namespace detail {

MULTISTATE_INLINE float_vector load_weights(const float* w) noexcept { return load_float32(w); }
MULTISTATE_INLINE float_vector load_weights(const std::uint16_t* w) noexcept { return load_bfloat16(w); }
/// The first n < lanes weights, then zeros. Does not read past them.
MULTISTATE_INLINE float_vector load_weights(const float* w, std::size_t n) noexcept {
    return load_first(float_tag{}, w, n, 0.0f);
}
MULTISTATE_INLINE float_vector load_weights(const std::uint16_t* w, std::size_t n) noexcept {
    alignas(64) std::uint16_t buffer[lanes] = {};
    std::copy_n(w, n, buffer);
    return load_bfloat16(buffer);
}

/// Asks for the weights 4 KiB ahead. The hardware follows floats at full speed; without this, bf16 takes 1.08 times as
/// long. The next rows follow without a gap, so weights that are read row by row are one stream. What lies behind the
/// last weights is asked for in vain.
template <class Element>
MULTISTATE_INLINE void prefetch_weights(const Element* w) noexcept {
    if constexpr (prefetches && sizeof(Element) < sizeof(float)) {
        __builtin_prefetch(reinterpret_cast<const char*>(w) + 4096, 0, 3);
    }
}

/// out[i * stride + r] += x_i . row_r for `Rows` rows of weights that are `width` apart, and `Vectors` vectors.
template <std::size_t Rows, std::size_t Vectors, class Element>
MULTISTATE_INLINE void add_dots(const Element* w, std::size_t width, const float* x, std::size_t x_stride, float* out,
                                std::size_t stride) noexcept {
    // Several sums of each product hide the latency of the additions, where registers suffice.
    constexpr std::size_t sums_each = Rows * Vectors == 1 ? 4 : Rows * Vectors <= 4 ? 2 : 1;
    float_vector sums[sums_each][Vectors][Rows];
    MULTISTATE_UNROLL
    for (std::size_t s = 0; s < sums_each; ++s) {
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Vectors; ++i) {
            MULTISTATE_UNROLL
            for (std::size_t r = 0; r < Rows; ++r) sums[s][i][r] = hn::Zero(float_tag{});
        }
    }
    const auto add = [&](float_vector(&into)[Vectors][Rows], std::size_t c, auto... n) {
        float_vector row[Rows];
        MULTISTATE_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) row[r] = load_weights(w + r * width + c, n...);
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Vectors; ++i) {
            const auto v = in_register(load_weights(x + i * x_stride + c, n...));
            MULTISTATE_UNROLL
            for (std::size_t r = 0; r < Rows; ++r) into[i][r] = hn::MulAdd(v, row[r], into[i][r]);
        }
    };
    std::size_t c = 0;
    for (; c + sums_each * lanes <= width; c += sums_each * lanes) {
        MULTISTATE_UNROLL
        for (std::size_t s = 0; s < sums_each; ++s) {
            if (Rows == 1 && s * lanes * sizeof(Element) % 64 == 0) prefetch_weights(w + c + s * lanes);
            add(sums[s], c + s * lanes);
        }
    }
    for (; c + lanes <= width; c += lanes) add(sums[0], c);
    if (c < width) add(sums[0], c, width - c);
    MULTISTATE_UNROLL
    for (std::size_t i = 0; i < Vectors; ++i) {
        MULTISTATE_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
            MULTISTATE_UNROLL
            for (std::size_t s = 1; s < sums_each; ++s) sums[0][i][r] = hn::Add(sums[0][i][r], sums[s][i][r]);
        }
        if constexpr (Rows == 4) {
            float four[4];
            store_sums(sums[0][i], four);
            for (std::size_t r = 0; r < 4; ++r) out[i * stride + r] += four[r];
        } else {
            for (std::size_t r = 0; r < Rows; ++r) out[i * stride + r] += sum(sums[0][i][r]);
        }
    }
}

/// Terms of a product, rows of the left factor and columns of the right factor that a tile has at most.
inline constexpr std::size_t tile_terms = 256;
inline constexpr std::size_t tile_rows = 64;
inline constexpr std::size_t tile_columns = panel_columns;
using tile = std::array<float, tile_terms * tile_columns>;

/// out[i, k] += the sum of a[i, t] * panel[t, k] for k < columns. If `standing`, `a` is [terms, tile_rows].
template <bool standing>
void add_tile(const float* a, std::size_t a_stride, std::size_t count, const float* panel, std::size_t terms,
              float* out, std::size_t stride, std::size_t columns) noexcept {
    using step = std::integral_constant<std::size_t, standing ? tile_rows : 1>;
    if (columns == tile_columns) {
        product_of_all<product_queries, product_vectors, true>(count, a, a_stride, panel, tile_columns, terms, out,
                                                               stride, step{});
        return;
    }
    alignas(64) std::array<float, tile_rows * tile_columns> whole;  // the kernel writes all columns
    for (std::size_t first = 0; first < count; first += tile_rows) {
        const std::size_t n = (std::min)(tile_rows, count - first);
        product_of_all<product_queries, product_vectors, false>(n, a + first * a_stride, a_stride, panel, tile_columns,
                                                                terms, whole.data(), tile_columns, step{});
        for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t k = 0; k < columns; ++k) out[(first + i) * stride + k] += whole[i * tile_columns + k];
        }
    }
}

/// panel[t, k] = row k of the weights, term t; zeros in columns from n on.
inline void stand_up(const float* rows, std::size_t stride, std::size_t n, std::size_t terms, float* panel) noexcept {
    if (n < tile_columns) std::fill_n(panel, terms * tile_columns, 0.0f);
    transpose(rows, stride, n, terms, panel, tile_columns);
}
inline void stand_up(const std::uint16_t* rows, std::size_t stride, std::size_t n, std::size_t terms,
                     float* panel) noexcept {
    alignas(64) tile wide;
    for (std::size_t k = 0; k < n; ++k) {
        std::size_t t = 0;
        for (; t + lanes <= terms; t += lanes) {
            hn::StoreU(load_bfloat16(rows + k * stride + t), float_tag{}, wide.data() + k * tile_terms + t);
        }
        if (t < terms) {
            const auto rest = load_weights(rows + k * stride + t, terms - t);
            store_first(float_tag{}, rest, wide.data() + k * tile_terms + t, terms - t);
        }
    }
    stand_up(wide.data(), tile_terms, n, terms, panel);
}

/// panel[t, k] = x[t * stride + k] for k < n; zeros in columns from n on.
inline void lay_down(const float* x, std::size_t stride, std::size_t n, std::size_t terms, float* panel) noexcept {
    for (std::size_t t = 0; t < terms; ++t) {
        float* const to = panel + t * tile_columns;
        std::fill(std::copy_n(x + t * stride, n, to), to + tile_columns, 0.0f);
    }
}

}  // namespace detail

/// out[i * stride + r] += x_i . row_r for all rows of w, from memory once: for few vectors x_i, at most about 8. A single
/// vector meets row after row: one stream of memory is the fastest. Several vectors share the loading of four rows.
template <class Element>
void add_few_products(weights<Element> w, rows x, float* out, std::size_t stride) noexcept {
    constexpr std::size_t at_once = detail::dot_queries;
    std::size_t r = 0;
    for (; x.count > 1 && r + 4 <= w.outputs; r += 4) {
        detail::in_groups<at_once>(x.count, [&](std::size_t i, auto vectors) {
            detail::add_dots<4, vectors>(w.row(r), w.inputs, x.data + i * x.stride, x.stride, out + i * stride + r,
                                         stride);
        });
    }
    for (; r < w.outputs; ++r) {
        detail::in_groups<at_once>(x.count, [&](std::size_t i, auto vectors) {
            detail::add_dots<1, vectors>(w.row(r), w.inputs, x.data + i * x.stride, x.stride, out + i * stride + r,
                                         stride);
        });
    }
}

/// out[i, r] += x_i . row_r for the rows [first, first + n) of w, n at most tile_columns.
template <class Element>
void add_products(weights<Element> w, rows x, std::size_t first, std::size_t n, float* out,
                  std::size_t stride) noexcept {
    alignas(64) detail::tile panel;
    for (std::size_t t = 0; t < w.inputs; t += detail::tile_terms) {
        const std::size_t terms = (std::min)(detail::tile_terms, w.inputs - t);
        detail::stand_up(w.row(first) + t, w.inputs, n, terms, panel.data());
        detail::add_tile<false>(x.data + t, x.stride, x.count, panel.data(), terms, out + first, stride, n);
    }
}

/// panel [inputs, tile_columns]: rows [first, first + n) of w as columns, n at most tile_columns; then zeros.
template <class Element>
void pack_rows(weights<Element> w, std::size_t first, std::size_t n, float* panel) noexcept {
    for (std::size_t t = 0; t < w.inputs; t += detail::tile_terms) {
        detail::stand_up(w.row(first) + t, w.inputs, n, (std::min)(detail::tile_terms, w.inputs - t),
                         panel + t * detail::tile_columns);
    }
}
/// panel [outputs, tile_columns]: columns [first, first + n) of w; then zeros.
inline void pack_columns(weights<float> w, std::size_t first, std::size_t n, float* panel) noexcept {
    detail::lay_down(w.data + first, w.inputs, n, w.outputs, panel);
}
/// out[i, k] += x_i . column k of a packed panel for k < n, n at most tile_columns.
inline void add_packed_products(const float* panel, rows x, std::size_t n, float* out, std::size_t stride) noexcept {
    detail::add_tile<false>(x.data, x.stride, x.count, panel, x.width, out, stride, n);
}

/// out[i, c] += the sum over outputs r of y[i, r] * w[r, c], for columns [first, first + n), n at most tile_columns.
inline void add_transposed_products(weights<float> w, rows y, std::size_t first, std::size_t n, float* out,
                                    std::size_t stride) noexcept {
    alignas(64) detail::tile panel;
    for (std::size_t t = 0; t < w.outputs; t += detail::tile_terms) {
        const std::size_t terms = (std::min)(detail::tile_terms, w.outputs - t);
        detail::lay_down(w.row(t) + first, w.inputs, n, terms, panel.data());
        detail::add_tile<false>(y.data + t, y.stride, y.count, panel.data(), terms, out + first, stride, n);
    }
}

/// out[r, c] += the sum over i of y[i, r] * x[i, c], for the tile of rows and columns that begins at (row, column).
struct tile_at {
    std::size_t row;
    std::size_t column;
};
inline void add_outer_products(rows y, rows x, tile_at at, float* out, std::size_t stride) noexcept {
    alignas(64) detail::tile panel;
    alignas(64) std::array<float, detail::tile_terms * detail::tile_rows> standing;
    const std::size_t rows = (std::min)(detail::tile_rows, y.width - at.row);
    const std::size_t columns = (std::min)(detail::tile_columns, x.width - at.column);
    for (std::size_t t = 0; t < y.count; t += detail::tile_terms) {
        const std::size_t terms = (std::min)(detail::tile_terms, y.count - t);
        detail::lay_down(x.data + t * x.stride + at.column, x.stride, columns, terms, panel.data());
        for (std::size_t i = 0; i < terms; ++i) {
            std::copy_n(y.data + (t + i) * y.stride + at.row, rows, standing.data() + i * detail::tile_rows);
        }
        detail::add_tile<true>(standing.data(), 1, rows, panel.data(), terms, out + at.row * stride + at.column, stride,
                               columns);
    }
}

inline constexpr std::size_t tile_rows = detail::tile_rows;
inline constexpr std::size_t tile_columns = detail::tile_columns;

}}}  // namespace multistate::MULTISTATE_TARGET::simd
