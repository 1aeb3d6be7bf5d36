#pragma once

// The products of attention for a few queries, the heads of one group: stored rows are read once, in order, and every
// query uses a row while it is in the first-level cache. The codec's format (formats.hpp) is the arithmetic.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "multistate/simd/elementwise.hpp"
#include "multistate/simd/formats.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

/// Rows in memory as a codec stores them: row j begins at data + j * stride and counts scales[j] times, where the codec
/// has scales.
template <class Codec>
struct matrix {
    const typename Codec::element* data;
    const float* scales;
    std::size_t stride;

    const typename Codec::element* row(std::size_t j) const noexcept { return data + j * stride; }
};

/// The most queries for which rows are streamed; more queries are a matrix product (gemm.hpp).
inline constexpr std::size_t most_streamed = 16;

namespace detail {

// Queries that share the loading of a stored row, and registers for their sums: limited by the vector registers.
inline constexpr bool many_registers = lanes == 16 || HWY_ARCH_ARM_A64;
inline constexpr std::size_t dot_queries = many_registers ? 4 : 2;
inline constexpr std::size_t sum_queries = 4;
inline constexpr std::size_t sum_registers = many_registers ? 16 : 8;
/// Registers of one sum.
template <class Format>
inline constexpr std::size_t registers = sizeof(typename Format::sum) / sizeof(float_vector);
/// Rows that all queries use before the next are touched, so that they stay in the first-level cache.
inline constexpr std::size_t rows_at_once = 64;

/// How far ahead rows are asked for, in bytes: worth up to 1.45 times on a Cascade Lake, whose own prefetcher stops at
/// the end of a page; on a Zen 4 the same cost up to 1.36 times.
#if defined(__znver1__) || defined(__znver2__) || defined(__znver3__) || defined(__znver4__)
inline constexpr std::size_t prefetch_distance = 0;
#else
inline constexpr std::size_t prefetch_distance = 2048;
#endif

template <class Element>
MULTISTATE_INLINE void prefetch_behind(const Element* row, std::size_t stride) noexcept {
    if constexpr (prefetch_distance != 0) {
        const auto ahead = reinterpret_cast<std::uintptr_t>(row) + prefetch_distance;
        for (std::size_t byte = 0; byte < stride * sizeof(Element); byte += 64) {
            hwy::Prefetch(reinterpret_cast<const char*>(ahead + byte));
        }
    }
}

/// Columns [c, c + lanes) of row j, times its scale.
template <class Codec>
MULTISTATE_INLINE float_vector load_scaled(matrix<Codec> rows, std::size_t j, std::size_t c) noexcept {
    const auto x = load<Codec>(rows.row(j), c);
    if constexpr (Codec::scaled) {
        return hn::Mul(x, hn::Set(float_tag{}, rows.scales[j]));
    } else {
        return x;
    }
}

/// sums[i][r] = the lanes of q_i . row_r
template <class Codec, std::size_t Queries, std::size_t Rows, class Number, class Sum>
MULTISTATE_INLINE void dot_few_rows(const Number* q, std::size_t q_stride, std::size_t dimension,
                                    const typename Codec::element* row, std::size_t row_stride,
                                    Sum (&sums)[Queries][Rows]) noexcept {
    using how = format<Codec>;
    MULTISTATE_UNROLL
    for (std::size_t i = 0; i < Queries; ++i) {
        MULTISTATE_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) sums[i][r] = how::zero();
    }
    for (std::size_t c = 0; c < dimension; c += how::columns) {
        decltype(how::load(row, c)) x[Rows];
        MULTISTATE_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) x[r] = how::load(row + r * row_stride, c, dimension);
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Queries; ++i) {
            const auto y = how::load_query(q + i * q_stride + c);
            MULTISTATE_UNROLL
            for (std::size_t r = 0; r < Rows; ++r) sums[i][r] = how::add(sums[i][r], x[r], y);
        }
    }
}

/// out[i * stride + j] = q_i . row_j, without scales.
template <std::size_t Queries, class Codec, class Number>
void dot_rows(const Number* q, std::size_t q_stride, std::size_t dimension, matrix<Codec> keys, std::size_t n,
              float* out, std::size_t stride, bool first) noexcept {
    using sum = typename format<Codec>::sum;
    std::size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        if (first) prefetch_behind(keys.row(j), 4 * keys.stride);
        sum sums[Queries][4];
        dot_few_rows<Codec>(q, q_stride, dimension, keys.row(j), keys.stride, sums);
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Queries; ++i) store_sums(sums[i], out + i * stride + j);
    }
    for (; j < n; ++j) {
        sum sums[Queries][1];
        dot_few_rows<Codec>(q, q_stride, dimension, keys.row(j), keys.stride, sums);
        for (std::size_t i = 0; i < Queries; ++i) out[i * stride + j] = simd::sum(format<Codec>::floats(sums[i][0]));
    }
}

/// out[i] += the weighted sum of n rows, n <= rows_at_once, in `Vectors` vectors of columns from c. Pairs come from two
/// rows, fours from four. The sums of pairs lie in another order, see restore_order.
template <std::size_t Queries, std::size_t Vectors, class Codec, class Number>
void sum_some_columns(const Number* weights, const float* factors, matrix<Codec> values, std::size_t n, std::size_t c,
                      float* out, std::size_t stride, bool first) noexcept {
    using how = format<Codec>;
    constexpr std::size_t rows = how::rows;
    typename how::sum sums[Queries][Vectors * rows];
    MULTISTATE_UNROLL
    for (std::size_t i = 0; i < Queries; ++i) {
        MULTISTATE_UNROLL
        for (std::size_t v = 0; v < Vectors * rows; ++v) sums[i][v] = how::zero();
    }
    for (std::size_t j = 0; j < n; j += rows) {
        const typename Codec::element* const a = values.row(j);
        if (first) prefetch_behind(a, rows * values.stride);
        decltype(how::same(weights, j)) weight[Queries];
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Queries; ++i) weight[i] = how::same(weights + i * rows_at_once, j);
        const typename Codec::element* row[rows];
        MULTISTATE_UNROLL
        for (std::size_t r = 0; r < rows; ++r) row[r] = j + r < n ? a + r * values.stride : a;  // its weight is 0 then
        MULTISTATE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) {
            decltype(how::load(row[0], c)) x[rows];
            MULTISTATE_UNROLL
            for (std::size_t r = 0; r < rows; ++r) x[r] = how::load(row[r], c + v * how::columns);
            how::interleave(x);
            MULTISTATE_UNROLL
            for (std::size_t i = 0; i < Queries; ++i) {
                MULTISTATE_UNROLL
                for (std::size_t r = 0; r < rows; ++r) {
                    sums[i][v * rows + r] = how::add(sums[i][v * rows + r], x[r], weight[i]);
                }
            }
        }
    }
    const float_tag d;
    MULTISTATE_UNROLL
    for (std::size_t i = 0; i < Queries; ++i) {
        const auto factor = hn::Set(d, factors[i]);
        MULTISTATE_UNROLL
        for (std::size_t v = 0; v < Vectors * rows; ++v) {
            float* const to = out + i * stride + c + v * lanes;
            hn::StoreU(hn::MulAdd(how::floats(sums[i][v]), factor, hn::LoadU(d, to)), d, to);
        }
    }
}

/// sum_some_columns from column c to the end of the rows, as many vectors at once as there are registers for.
template <std::size_t Queries, std::size_t Vectors, class Codec, class Number>
void sum_columns(const Number* weights, const float* factors, matrix<Codec> values, std::size_t n, std::size_t c,
                 std::size_t width, float* out, std::size_t stride, bool first) noexcept {
    constexpr std::size_t columns = Vectors * format<Codec>::columns;
    for (; c + columns <= width; c += columns) {
        sum_some_columns<Queries, Vectors>(weights, factors, values, n, c, out, stride, first);
        first = false;
    }
    if constexpr (Vectors > 1) {
        if (c < width) {
            sum_columns<Queries, Vectors / 2>(weights, factors, values, n, c, width, out, stride, first);
        }
    } else if (c < width) {
        sum_some_columns<Queries, 1>(weights, factors, values, n, c, out, stride, first);
    }
}

/// out[i] += the weighted sum of up to rows_at_once rows. Weights are multiplied by the scales of the rows and made
/// narrow; behind the last they are 0.
template <std::size_t Queries, class Codec>
void sum_block(const float* p, std::size_t p_stride, matrix<Codec> values, std::size_t n, std::size_t width, float* out,
               std::size_t stride, bool first) noexcept {
    using how = format<Codec>;
    alignas(64) float floats[rows_at_once];
    alignas(64) typename how::number weights[Queries * rows_at_once];
    float factors[Queries];
    const float_tag d;
    const auto load_up_to = [=](const float* x, std::size_t j) {
        return j + lanes <= n ? hn::LoadU(d, x + j) : load_first(d, x + j, j < n ? n - j : 0, 0.0f);
    };
    for (std::size_t i = 0; i < Queries; ++i) {
        for (std::size_t j = 0; j < rows_at_once; j += lanes) {
            const auto x = load_up_to(p + i * p_stride, j);
            if constexpr (Codec::scaled) {
                hn::Store(hn::Mul(x, load_up_to(values.scales, j)), d, floats + j);
            } else {
                hn::Store(x, d, floats + j);
            }
        }
        factors[i] = how::narrow(floats, rows_at_once, rows_at_once, weights + i * rows_at_once);
    }
    constexpr std::size_t vectors = sum_registers / registers<how> / Queries / how::rows;
    sum_columns<Queries, vectors>(weights, factors, values, n, 0, width, out, stride, first);
}

/// Puts sums of pairs in the order of columns; they lie [columns 0 … 3, 8 … 11, …][columns 4 … 7, 12 … 15, …] in every two vectors.
inline void restore_order(float* x, std::size_t width) noexcept {
    alignas(64) float buffer[2 * lanes];
    for (; width > 0; x += 2 * lanes, width -= (std::min)(width, 2 * lanes)) {
        std::copy_n(x, 2 * lanes, buffer);
        for (std::size_t c = 0; c < 2 * lanes; c += 4) {
            std::copy_n(buffer + c / 4 % 2 * lanes + c / 8 * 4, 4, x + c);
        }
    }
}

/// f(i, Queries) for i in steps of `Queries` below count, then for the rest one by one.
template <std::size_t Queries, class F>
MULTISTATE_INLINE void in_groups(std::size_t count, F f) noexcept {
    std::size_t i = 0;
    for (; i + Queries <= count; i += Queries) f(i, std::integral_constant<std::size_t, Queries>{});
    for (; i < count; ++i) f(i, std::integral_constant<std::size_t, 1>{});
}

template <class Codec>
void stream_dot_products(const float* q, std::size_t count, std::size_t q_stride, std::size_t dimension,
                         matrix<Codec> keys, std::size_t n, float* out, std::size_t stride, float* scratch) noexcept {
    using how = format<Codec>;
    auto* const numbers = reinterpret_cast<typename how::number*>(scratch);
    float factors[most_streamed];
    for (std::size_t i = 0; i < count; ++i) {
        factors[i] = how::narrow(q + i * q_stride, q_stride, q_stride, numbers + i * q_stride);
    }
    for (std::size_t j = 0; j < n; j += rows_at_once) {
        const std::size_t rows = (std::min)(rows_at_once, n - j);
        in_groups<dot_queries / registers<how>>(count, [&](std::size_t i, auto queries) {
            dot_rows<queries>(numbers + i * q_stride, q_stride, dimension,
                              matrix<Codec>{keys.row(j), nullptr, keys.stride}, rows, out + i * stride + j, stride,
                              i == 0);
        });
    }
    if constexpr (!std::is_same_v<typename how::number, float>) {
        for (std::size_t i = 0; i < count; ++i) simd::scale({out + i * stride, n}, factors[i]);
    }
    if constexpr (Codec::scaled) {
        for (std::size_t i = 0; i < count; ++i) multiply({keys.scales, n}, {out + i * stride, n});
    }
}

template <class Codec>
void stream_weighted_sums(const float* p, std::size_t p_stride, std::size_t count, matrix<Codec> values, std::size_t n,
                          std::size_t width, float* out, std::size_t stride) noexcept {
    using how = format<Codec>;
    std::fill_n(out, count * stride, 0.0f);
    for (std::size_t j = 0; j < n; j += rows_at_once) {
        const std::size_t rows = (std::min)(rows_at_once, n - j);
        const matrix<Codec> part{values.row(j), Codec::scaled ? values.scales + j : nullptr, values.stride};
        in_groups<sum_queries / registers<how>>(count, [&](std::size_t i, auto queries) {
            sum_block<queries>(p + i * p_stride + j, p_stride, part, rows, width, out + i * stride, stride, i == 0);
        });
    }
    if constexpr (how::rows == 2) {
        for (std::size_t i = 0; i < count; ++i) restore_order(out + i * stride, width);
    }
}

}  // namespace detail
}}}  // namespace multistate::MULTISTATE_TARGET::simd
