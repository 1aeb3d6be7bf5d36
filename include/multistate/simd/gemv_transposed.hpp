#pragma once

// The weighted sums of attention for a few queries: P V. Stored rows are read once, in order, and every query uses a
// block of rows while it is in the first-level cache. See gemv.hpp for the logits.
#include <algorithm>
#include <cstddef>

#include "multistate/simd/elementwise.hpp"
#include "multistate/simd/stored_rows.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd { namespace detail {

// Queries that share the loading of a stored row, and registers for their sums.
inline constexpr std::size_t sum_queries = 4;
inline constexpr std::size_t sum_registers = many_registers ? 16 : 8;
/// The most groups of columns at a time.
inline constexpr std::size_t most_groups = 8;
template <class Format>
inline constexpr std::size_t most_groups_of = has_groups<Format> ? most_groups : 1;

/// out[i] += the weighted sum of n rows, n <= most_block_rows, in `Vectors` vectors of columns from c. Pairs come from
/// two rows, fours from four. The sums of pairs lie in another order, see restore_order.
template <std::size_t Queries, std::size_t Vectors, class Codec, class Number>
MULTISTATE_INLINE void sum_some_columns(const Number* weights, const float* factors, matrix<Codec> values,
                                        std::size_t n, std::size_t c, float* out, std::size_t stride, rows_ahead& ahead,
                                        std::size_t ahead_bytes) noexcept {
    using how = format<Codec>;
    constexpr std::size_t rows = how::rows;
    typename how::sum sums[Queries][Vectors * rows];
    MULTISTATE_UNROLL
    for (std::size_t i = 0; i < Queries; ++i) {
        MULTISTATE_UNROLL
        for (std::size_t v = 0; v < Vectors * rows; ++v) sums[i][v] = how::zero();
    }
    std::size_t first_column = c;
    if constexpr (has_groups<how>) {
        values.data += c / how::block;
        weights += c / how::group * most_block_rows;
        first_column = Vectors * how::columns % how::block == 0 ? 0 : c % how::block;  // a constant if it can be
    }
    const auto add = [&](std::size_t j) {
        const typename Codec::element* const a = values.row(j);
        const auto load_weight = [&](std::size_t i, std::size_t group) {
            return in_register(how::same(weights + (i * most_groups_of<how> + group) * most_block_rows, j));
        };
        decltype(how::same(weights, j)) weight[Queries];
        if constexpr (!has_groups<how>) {
            MULTISTATE_UNROLL
            for (std::size_t i = 0; i < Queries; ++i) weight[i] = load_weight(i, 0);
        }
        const typename Codec::element* row[rows];
        MULTISTATE_UNROLL
        for (std::size_t r = 0; r < rows; ++r) row[r] = j + r < n ? a + r * values.stride : a;  // its weight is 0 then
        MULTISTATE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) {
            decltype(how::load(row[0], c)) x[rows];
            if constexpr (has_groups<how>) {
                how::load_rows(row, first_column + v * how::columns, x);
            } else {
                MULTISTATE_UNROLL
                for (std::size_t r = 0; r < rows; ++r) x[r] = how::load(row[r], c + v * how::columns);
                how::interleave(x);
            }
            MULTISTATE_UNROLL
            for (std::size_t i = 0; i < Queries; ++i) {
                if constexpr (has_groups<how>) weight[i] = load_weight(i, v * how::columns / how::group);
                MULTISTATE_UNROLL
                for (std::size_t r = 0; r < rows; ++r) {
                    sums[i][v * rows + r] = how::add(sums[i][v * rows + r], x[r], weight[i]);
                }
            }
        }
    };
    constexpr std::size_t at_once = 8;  // rows: a loop within the loop over rows would cost GCC 12 the registers
    for (std::size_t first = 0; first < n; first += at_once) {
        ahead.next(at_once * ahead_bytes);
        for (std::size_t j = first; j < (std::min)(n, first + at_once); j += rows) add(j);
    }
    const float_tag d;
    MULTISTATE_UNROLL
    for (std::size_t i = 0; i < Queries; ++i) {
        const auto factor = hn::Set(d, factors[i]);
        MULTISTATE_UNROLL
        for (std::size_t v = 0; v < Vectors * rows; ++v) {
            std::size_t column = c + v * lanes;
            if constexpr (has_groups<how>) column = how::place(c + v / rows * how::columns, v % rows);
            float* const to = out + i * stride + column;
            hn::StoreU(hn::MulAdd(how::floats(sums[i][v]), factor, hn::LoadU(d, to)), d, to);
        }
    }
}

/// The same, not inlined: with weights of groups GCC 12 runs out of registers otherwise, 1.09 times the time of a step.
template <std::size_t Queries, std::size_t Vectors, class... Arguments>
[[gnu::noinline]] void sum_some_columns_apart(Arguments&&... arguments) noexcept {
    sum_some_columns<Queries, Vectors>(arguments...);
}

/// sum_some_columns from column c to the end of the rows, as many vectors at once as there are registers for.
template <std::size_t Queries, std::size_t Vectors, class Codec, class Number>
MULTISTATE_INLINE void sum_columns(const Number* weights, const float* factors, matrix<Codec> values, std::size_t n,
                                   std::size_t c, std::size_t width, float* out, std::size_t stride, rows_ahead& ahead,
                                   std::size_t ahead_bytes) noexcept {
    constexpr std::size_t columns = Vectors * format<Codec>::columns;
    const auto sum = [&] {
        if constexpr (has_groups<format<Codec>>) {
            sum_some_columns_apart<Queries, Vectors>(weights, factors, values, n, c, out, stride, ahead, ahead_bytes);
        } else {
            sum_some_columns<Queries, Vectors>(weights, factors, values, n, c, out, stride, ahead, ahead_bytes);
        }
    };
    for (; c + columns <= width; c += columns) sum();
    if (c >= width) return;
    if constexpr (Vectors > 1) {
        sum_columns<Queries, Vectors / 2>(weights, factors, values, n, c, width, out, stride, ahead, ahead_bytes);
    } else {
        sum();
    }
}

/// The scales that groups of columns have in a block of rows, by which weights are multiplied.
template <class Codec, class Format>
struct group_scales {
    void gather(matrix<Codec>, std::size_t, std::size_t) noexcept {}
    float multiply(typename Format::number*, std::size_t, std::size_t) const noexcept { return 1; }
};
template <class Codec, class Format>
requires has_groups<Format>
struct group_scales<Codec, Format> {
    void gather(matrix<Codec> rows, std::size_t n, std::size_t width) noexcept {
        for (std::size_t b = 0; b * Format::block < width; ++b) {
            for (std::size_t j = 0; j < n; ++j) scales_[b][j] = Format::scales(rows.row(j)[b]);
        }
    }
    /// Replaces the weights of one query by those of each group. Returns the value of a unit.
    float multiply(typename Format::number* weights, std::size_t n, std::size_t width) const noexcept {
        for (std::size_t b = (width - 1) / Format::block + 1; b-- > 0;) {  // the first group's replace the weights
            auto* const to = weights + b * 2 * most_block_rows;
            Format::scale_weights(weights, scales_[b], n, to, to + most_block_rows);
        }
        return 128;
    }

  private:
    alignas(64) std::int16_t scales_[most_groups / 2][most_block_rows] = {};
};

/// out[i] += the weighted sum of up to most_block_rows rows. Weights are multiplied by the scales of the rows and made
/// narrow; behind the last they are 0.
template <std::size_t Queries, class Codec>
void sum_block(const float* p, std::size_t p_stride, matrix<Codec> values, std::size_t n, std::size_t width, float* out,
               std::size_t stride, rows_ahead& ahead, std::size_t ahead_bytes) noexcept {
    using how = format<Codec>;
    constexpr std::size_t vectors = sum_registers / registers<how> / Queries / how::rows;
    constexpr std::size_t weight_stride = most_groups_of<how> * most_block_rows;
    constexpr bool narrows = !std::is_same_v<typename how::number, float>;
    alignas(64) float floats[Queries * most_block_rows];
    alignas(64) typename how::number narrow[narrows ? Queries * weight_stride : 1];
    const typename how::number* weights;
    float factors[Queries];
    const float_tag d;
    group_scales<Codec, how> scales;
    scales.gather(values, n, width);  // long before they are loaded as vectors, which would wait for short stores
    const auto load_up_to = [=](const float* x, std::size_t j) {
        return j + lanes <= n ? hn::LoadU(d, x + j) : load_first(d, x + j, j < n ? n - j : 0, 0.0f);
    };
    for (std::size_t i = 0; i < Queries; ++i) {
        for (std::size_t j = 0; j < padded(n, 32); j += lanes) {
            const auto x = load_up_to(p + i * p_stride, j);
            const auto scaled = [&] {
                if constexpr (Codec::scaled) return hn::Mul(x, load_up_to(values.scales, j));
                return x;
            }();
            hn::Store(scaled, d, floats + i * most_block_rows + j);
        }
    }
    if constexpr (narrows) {
        // Weights of groups meet integers within ±7, of which 128 are less than two times 7 * 127.
        constexpr std::size_t terms = has_groups<how> ? 2 : most_block_rows;
        how::template narrow<Queries>(floats, most_block_rows, padded(n, 32), terms, narrow, weight_stride, factors);
        for (std::size_t i = 0; i < Queries; ++i) {
            factors[i] *= scales.multiply(narrow + i * weight_stride, padded(n, 32), width);
        }
        weights = narrow;
    } else {
        std::fill_n(factors, Queries, 1.0f);
        weights = floats;
    }
    constexpr std::size_t columns = vectors * how::columns;
    sum_columns<Queries, vectors>(weights, factors, values, n, 0, width, out, stride, ahead,
                                  ahead_bytes / ((width + columns - 1) / columns));
}

/// Puts sums of pairs in the order of columns; they lie [columns 0 … 3, 8 … 11, …][columns 4 … 7, 12 … 15, …] in every
/// two vectors.
inline void restore_order(float* x, std::size_t width) noexcept {
    alignas(64) float buffer[2 * lanes];
    for (; width > 0; x += 2 * lanes, width -= (std::min)(width, 2 * lanes)) {
        std::copy_n(x, 2 * lanes, buffer);
        for (std::size_t c = 0; c < 2 * lanes; c += 4) {
            std::copy_n(buffer + c / 4 % 2 * lanes + c / 8 * 4, 4, x + c);
        }
    }
}

template <class Codec>
void stream_weighted_sums(const float* p, std::size_t p_stride, std::size_t count, matrix<Codec> values, std::size_t n,
                          std::size_t width, float* out, std::size_t stride) noexcept {
    using how = format<Codec>;
    std::fill_n(out, count * stride, 0.0f);
    if constexpr (has_groups<how>) width = padded(width, how::group);  // columns of a group come together
    constexpr std::size_t at_once = sum_queries / registers<how>;
    const std::size_t ahead_bytes = row_bytes(values) / group_count(count, at_once);
    for (std::size_t rows = block_rows(row_bytes(values)), j = 0; j < n; j += rows) {
        rows_ahead ahead(values.row(j + rows));
        prefetch_scales(values, j + rows, rows);
        const matrix<Codec> block{values.row(j), Codec::scaled ? values.scales + j : nullptr, values.stride};
        in_groups<at_once>(count, [&](std::size_t i, auto queries) {
            const auto sum = [&](matrix<Codec> some, std::size_t c, std::size_t columns) {
                sum_block<queries>(p + i * p_stride + j, p_stride, some, (std::min)(rows, n - j), columns,
                                   out + i * stride + c, stride, ahead, ahead_bytes * columns / width);
            };
            if constexpr (has_groups<how>) {
                constexpr std::size_t most = most_groups * how::group;
                for (std::size_t c = 0; c < width; c += most) {
                    sum({block.data + c / how::block, block.scales, block.stride}, c, (std::min)(most, width - c));
                }
            } else {
                sum(block, 0, width);
            }
        });
    }
    if constexpr (how::rows == 2 && !has_groups<how>) {
        for (std::size_t i = 0; i < count; ++i) restore_order(out + i * stride, width);
    }
}

}}}}  // namespace multistate::MULTISTATE_TARGET::simd::detail
