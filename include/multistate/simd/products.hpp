#pragma once

// The two products of attention over rows as they are stored: logits = Q K^T and output = P V.
//
// Both read stored rows in order, one at a time, and use each row for several queries at once: the query heads of a
// group, and the tokens of a block. Dimensions are padded to `padding`, so vectors never end inside a row.
#include <cstddef>

#include "multistate/simd/vector.hpp"

namespace multistate::inline MULTISTATE_TARGET::simd {

/// Rows in memory: element i of row j is data[j * stride + i], times scales[j] unless scales is null.
template <class Element>
struct matrix {
    const Element* data;
    const float* scales;
    std::size_t stride;
};

namespace detail {

// Queries that share the loading of a stored row, limited by the vector registers.
inline constexpr bool many_registers = lanes == 16 || HWY_ARCH_ARM_A64;
inline constexpr std::size_t dot_queries = many_registers ? 4 : 2;
inline constexpr std::size_t mix_queries = 4;
inline constexpr std::size_t mix_vectors = many_registers ? 4 : 2;

/// sums[i] = the lanes of q_i . row, for `Queries` queries.
template <std::size_t Queries, class Element>
HWY_INLINE void dot_row(const float* q, std::size_t dimension, const Element* row,
                        float_vector (&sums)[Queries]) noexcept {
    const float_tag d;
    float_vector even[Queries], odd[Queries];  // two chains of additions: half the latency
    MULTISTATE_UNROLL
    for (std::size_t i = 0; i < Queries; ++i) even[i] = odd[i] = hn::Zero(d);
    std::size_t c = 0;
    for (; c + 2 * lanes <= dimension; c += 2 * lanes) {
        const auto a = load(row + c);
        const auto b = load(row + c + lanes);
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Queries; ++i) {
            even[i] = hn::MulAdd(a, hn::LoadU(d, q + i * dimension + c), even[i]);
            odd[i] = hn::MulAdd(b, hn::LoadU(d, q + i * dimension + c + lanes), odd[i]);
        }
    }
    for (; c < dimension; c += lanes) {
        const auto a = load(row + c);
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Queries; ++i) {
            even[i] = hn::MulAdd(a, hn::LoadU(d, q + i * dimension + c), even[i]);
        }
    }
    MULTISTATE_UNROLL
    for (std::size_t i = 0; i < Queries; ++i) sums[i] = hn::Add(even[i], odd[i]);
}

template <std::size_t Queries, class Element>
void dot_queries_rows(const float* q, std::size_t dimension, matrix<Element> keys, std::size_t n, float* out,
                      std::size_t stride) noexcept {
    std::size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        float_vector sums[4][Queries];
        MULTISTATE_UNROLL
        for (std::size_t r = 0; r < 4; ++r) dot_row(q, dimension, keys.data + (j + r) * keys.stride, sums[r]);
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Queries; ++i) {
            const float_vector four[4] = {sums[0][i], sums[1][i], sums[2][i], sums[3][i]};
            store_sums(four, out + i * stride + j);
        }
    }
    for (; j < n; ++j) {
        float_vector sums[Queries];
        dot_row(q, dimension, keys.data + j * keys.stride, sums);
        for (std::size_t i = 0; i < Queries; ++i) out[i * stride + j] = sum(sums[i]);
    }
    if (keys.scales == nullptr) return;
    for (std::size_t i = 0; i < Queries; ++i) {
        for (j = 0; j < n; ++j) out[i * stride + j] *= keys.scales[j];
    }
}

/// out[i] = sum of p_i[j] * value_j, for `Queries` queries and the first `Vectors` vectors of the rows.
template <std::size_t Queries, std::size_t Vectors, bool scaled, class Element>
void mix_rows(const float* p, std::size_t p_stride, matrix<Element> values, std::size_t n, float* out,
              std::size_t out_stride) noexcept {
    const float_tag d;
    float_vector sums[Queries][Vectors];
    MULTISTATE_UNROLL
    for (std::size_t i = 0; i < Queries; ++i) {
        MULTISTATE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) sums[i][v] = hn::Zero(d);
    }
    for (std::size_t j = 0; j < n; ++j) {
        float_vector weight[Queries];
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Queries; ++i) {
            weight[i] = hn::Set(d, scaled ? p[i * p_stride + j] * values.scales[j] : p[i * p_stride + j]);
        }
        MULTISTATE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) {
            const auto value = load(values.data + j * values.stride + v * lanes);
            MULTISTATE_UNROLL
            for (std::size_t i = 0; i < Queries; ++i) sums[i][v] = hn::MulAdd(value, weight[i], sums[i][v]);
        }
    }
    MULTISTATE_UNROLL
    for (std::size_t i = 0; i < Queries; ++i) {
        MULTISTATE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) hn::StoreU(sums[i][v], d, out + i * out_stride + v * lanes);
    }
}

/// mix_rows over the whole width of the rows, as many vectors at once as registers allow.
template <std::size_t Queries, std::size_t Vectors, bool scaled, class Element>
void mix_width(const float* p, std::size_t p_stride, matrix<Element> values, std::size_t n, std::size_t width,
               float* out, std::size_t out_stride) noexcept {
    std::size_t c = 0;
    for (; c + Vectors * lanes <= width; c += Vectors * lanes) {
        mix_rows<Queries, Vectors, scaled>(p, p_stride, values, n, out + c, out_stride);
        values.data += Vectors * lanes;
    }
    if constexpr (Vectors > 1) {
        if (c < width) mix_width<Queries, Vectors / 2, scaled>(p, p_stride, values, n, width - c, out + c, out_stride);
    }
}

template <bool scaled, class Element>
void mix_all(const float* p, std::size_t p_stride, std::size_t count, matrix<Element> values, std::size_t n,
             std::size_t width, float* out) noexcept {
    std::size_t i = 0;
    for (; i + mix_queries <= count; i += mix_queries) {
        mix_width<mix_queries, mix_vectors, scaled>(p + i * p_stride, p_stride, values, n, width, out + i * width,
                                                    width);
    }
    for (; i < count; ++i) {
        mix_width<1, 8, scaled>(p + i * p_stride, p_stride, values, n, width, out + i * width, width);
    }
}

}  // namespace detail

/// out[i * stride + j] = q_i . key_j for i < count and j < n; q is [count, dimension], dimension padded.
template <class Element>
void dot_products(const float* q, std::size_t count, std::size_t dimension, matrix<Element> keys, std::size_t n,
                  float* out, std::size_t stride) noexcept {
    constexpr std::size_t step = detail::dot_queries;
    std::size_t i = 0;
    for (; i + step <= count; i += step) {
        detail::dot_queries_rows<step>(q + i * dimension, dimension, keys, n, out + i * stride, stride);
    }
    for (; i < count; ++i) {
        detail::dot_queries_rows<1>(q + i * dimension, dimension, keys, n, out + i * stride, stride);
    }
}

/// out[i] = sum over j < n of p[i * p_stride + j] * value_j for i < count; out is [count, width], width padded.
template <class Element>
void weighted_sums(const float* p, std::size_t p_stride, std::size_t count, matrix<Element> values, std::size_t n,
                   std::size_t width, float* out) noexcept {
    if (values.scales == nullptr) {
        detail::mix_all<false>(p, p_stride, count, values, n, width, out);
    } else {
        detail::mix_all<true>(p, p_stride, count, values, n, width, out);
    }
}

}  // namespace multistate::inline MULTISTATE_TARGET::simd
