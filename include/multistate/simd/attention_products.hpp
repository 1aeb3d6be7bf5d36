#pragma once

// The two products of attention on stored rows: logits = Q K^T and output = P V.
//
//     simd::dot_products(q, heads, head_dim, keys.matrix(), n, logits, stride, scratch);          // [heads, n]
//     simd::weighted_sums(logits, stride, heads, values.matrix(), n, value_dim, out, scratch);    // [heads, value_dim]
//
// Few queries (gemv.hpp): each stored row is read once for all of them, and multiplied in the narrowest format that the
// target multiplies fast. Many queries (gemm.hpp): rows are converted to floats, then multiplied as matrices.
#include "multistate/simd/gemm.hpp"
#include "multistate/simd/gemv.hpp"
#include "multistate/simd/gemv_transposed.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

/// Floats from one query, or one output, to the next in the arguments below.
constexpr std::size_t query_stride(std::size_t dimension) noexcept { return padded(dimension, 32); }

/// Floats of scratch that products with up to `count` queries of up to `dimension` columns need.
constexpr std::size_t product_scratch(std::size_t count, std::size_t dimension) noexcept {
    const std::size_t rows = query_stride(dimension);
    if (count <= most_streamed) return count * rows;
    return (std::max)(most_streamed * rows, detail::panel_columns * (std::max)(rows, detail::panel_values));
}

/// out[i * stride + j] = q_i . key_j for i < count and j < n. Rows of q are query_stride(dimension) floats, padded with
/// zeros. Rows of out have room for n rounded up to 32.
template <class Codec>
void dot_products(const float* q, std::size_t count, std::size_t dimension, matrix<Codec> keys, std::size_t n,
                  float* out, std::size_t stride, float* scratch) noexcept {
    if (count == 0) return;
    const std::size_t q_stride = query_stride(dimension);
    if (count <= most_streamed) {
        detail::stream_dot_products(q, count, q_stride, padded(dimension), keys, n, out, stride, scratch);
    } else {
        detail::block_dot_products(q, count, q_stride, padded(dimension), keys, n, out, stride, scratch);
    }
}

/// out[i] = sum over j < n of p[i * p_stride + j] * value_j for i < count. Rows of out are query_stride(width)
/// floats.
template <class Codec>
void weighted_sums(const float* p, std::size_t p_stride, std::size_t count, matrix<Codec> values, std::size_t n,
                   std::size_t width, float* out, float* scratch) noexcept {
    if (count == 0) return;
    const std::size_t stride = query_stride(width);
    if (count <= most_streamed) {
        detail::stream_weighted_sums(p, p_stride, count, values, n, padded(width), out, stride);
    } else {
        detail::block_weighted_sums(p, p_stride, count, values, n, padded(width), out, stride, scratch);
    }
}

}}}  // namespace multistate::MULTISTATE_TARGET::simd
