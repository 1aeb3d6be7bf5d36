#pragma once

// The logits of attention for a few queries, the heads of one group: Q K^T. Stored rows are read once, in order, and
// every query uses a row while it is in the first-level cache. The codec's format (formats.hpp) is the
// arithmetic. See gemv_transposed.hpp for the weighted sums.
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "multistate/simd/elementwise.hpp"
#include "multistate/simd/stored_rows.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

/// The most queries for which rows are streamed; more queries are a matrix product (gemm.hpp).
inline constexpr std::size_t most_streamed = 16;

namespace detail {

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
    const auto add = [&](const typename Codec::element* from, std::size_t column, const Number* at) {
        decltype(how::load(from, column)) x[Rows];
        MULTISTATE_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) x[r] = how::load(from + r * row_stride, column, dimension);
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Queries; ++i) {
            const auto y = in_register(how::load_query(at + i * q_stride));
            MULTISTATE_UNROLL
            for (std::size_t r = 0; r < Rows; ++r) sums[i][r] = how::add(sums[i][r], x[r], y);
        }
    };
    if constexpr (has_groups<how>) {
        for (std::size_t c = 0; c < dimension; c += how::block, ++row) {  // elements are pairs of groups
            MULTISTATE_UNROLL
            for (std::size_t column = 0; column < how::block; column += how::columns) add(row, column, q + c + column);
        }
    } else {
        for (std::size_t c = 0; c < dimension; c += how::columns) add(row, c, q + c);
    }
}

/// out[i * stride + j] = q_i . row_j, without scales.
template <std::size_t Queries, class Codec, class Number>
void dot_rows(const Number* q, std::size_t q_stride, std::size_t dimension, matrix<Codec> keys, std::size_t n,
              float* out, std::size_t stride, rows_ahead& ahead, std::size_t ahead_bytes) noexcept {
    using sum = typename format<Codec>::sum;
    const auto store = [=](const sum(&sums)[Queries][4], std::size_t at) {
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Queries; ++i) store_sums(sums[i], out + i * stride + at);
    };
    // Adding up the lanes of integers at once would wait for their products: 1.1 times the time. Floats gain nothing.
    constexpr bool later = std::is_same_v<typename format<Codec>::number, std::int16_t>;
    sum before[Queries][4];
    std::size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        ahead.next(4 * ahead_bytes);
        sum sums[Queries][4];
        dot_few_rows<Codec>(q, q_stride, dimension, keys.row(j), keys.stride, sums);
        if constexpr (later) {
            if (j > 0) store(before, j - 4);
            std::memcpy(before, sums, sizeof sums);
        } else {
            store(sums, j);
        }
    }
    if (later && j > 0) store(before, j - 4);
    for (; j < n; ++j) {
        sum sums[Queries][1];
        dot_few_rows<Codec>(q, q_stride, dimension, keys.row(j), keys.stride, sums);
        for (std::size_t i = 0; i < Queries; ++i) out[i * stride + j] = simd::sum(format<Codec>::floats(sums[i][0]));
    }
}

template <class Codec>
void stream_dot_products(const float* q, std::size_t count, std::size_t q_stride, std::size_t dimension,
                         matrix<Codec> keys, std::size_t n, float* out, std::size_t stride, float* scratch) noexcept {
    using how = format<Codec>;
    auto* const numbers = reinterpret_cast<typename how::number*>(scratch);
    float factors[most_streamed];
    for (std::size_t i = 0; i < count; ++i) {
        how::template narrow<1>(q + i * q_stride, q_stride, q_stride, q_stride, numbers + i * q_stride, q_stride,
                                factors + i);
    }
    constexpr std::size_t at_once = dot_queries / registers<how>;
    const std::size_t ahead_bytes = row_bytes(keys) / group_count(count, at_once);
    for (std::size_t rows = block_rows(row_bytes(keys)), j = 0; j < n; j += rows) {
        rows_ahead ahead(keys.row(j + rows));
        prefetch_scales(keys, j + rows, rows);
        const matrix<Codec> block{keys.row(j), nullptr, keys.stride};
        in_groups<at_once>(count, [&](std::size_t i, auto queries) {
            dot_rows<queries>(numbers + i * q_stride, q_stride, dimension, block, (std::min)(rows, n - j),
                              out + i * stride + j, stride, ahead, ahead_bytes);
        });
    }
    if constexpr (!std::is_same_v<typename how::number, float>) {
        for (std::size_t i = 0; i < count; ++i) simd::scale({out + i * stride, n}, factors[i]);
    }
    if constexpr (Codec::scaled) {
        for (std::size_t i = 0; i < count; ++i) multiply({keys.scales, n}, {out + i * stride, n});
    }
}

}  // namespace detail
}}}  // namespace multistate::MULTISTATE_TARGET::simd
