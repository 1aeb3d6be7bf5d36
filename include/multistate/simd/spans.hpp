#pragma once

// Vector arithmetic on pairs of float spans of any length and alignment, for policies and linear_algebra.hpp.
#include <algorithm>
#include <cstddef>
#include <span>

#include "multistate/simd/arithmetic.hpp"

namespace multistate::inline MULTISTATE_TARGET::simd {

/// The sum of x[i] * y[i]; y has at least x.size() elements. Four sums in flight hide the latency of the additions.
inline float dot(std::span<const float> x, std::span<const float> y) noexcept {
    const float_tag d;
    float_vector sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    std::size_t i = 0;
    for (; i + 4 * lanes <= x.size(); i += 4 * lanes) {
        for (std::size_t v = 0; v < 4; ++v) {
            const std::size_t at = i + v * lanes;
            sums[v] = hn::MulAdd(hn::LoadU(d, x.data() + at), hn::LoadU(d, y.data() + at), sums[v]);
        }
    }
    for (; i + lanes <= x.size(); i += lanes) {
        sums[0] = hn::MulAdd(hn::LoadU(d, x.data() + i), hn::LoadU(d, y.data() + i), sums[0]);
    }
    const std::size_t left = x.size() - i;
    if (left > 0) {
        const auto last = load_first(d, x.data() + i, left, 0.0f);
        sums[1] = hn::MulAdd(last, load_first(d, y.data() + i, left, 0.0f), sums[1]);
    }
    return sum(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
}

/// y[i] += factor * x[i]; x has at least y.size() elements.
inline void add_scaled(float factor, std::span<const float> x, std::span<float> y) noexcept {
    const auto factors = hn::Set(float_tag{}, factor);
    combine(x, y, [=](float_vector a, float_vector b) { return hn::MulAdd(factors, b, a); });
}

/// out[k] = x_k^T A x_k for the rows x_k of x [N, n] and a symmetric matrix [n, n] of which the lower triangle is used:
/// what is loaded of it serves all.
template <std::size_t N>
void quadratic(std::span<const float> a, std::span<const float> x, std::span<float, N> out) noexcept {
    const float_tag d;
    const std::size_t n = x.size() / N;
    float_vector sums[N];  // beside the diagonal
    MULTISTATE_UNROLL
    for (auto& one : sums) one = hn::Zero(d);
    std::ranges::fill(out, 0.0f);
    for (std::size_t i = 0; i < n; ++i) {
        const float* const row = a.data() + i * n;
        float_vector products[N];
        MULTISTATE_UNROLL
        for (auto& one : products) one = hn::Zero(d);
        std::size_t c = 0;
        for (; c + lanes <= i; c += lanes) {
            const auto elements = hn::LoadU(d, row + c);
            MULTISTATE_UNROLL
            for (std::size_t k = 0; k < N; ++k) {
                products[k] = hn::MulAdd(elements, hn::LoadU(d, x.data() + k * n + c), products[k]);
            }
        }
        const auto last = load_first(d, row + c, i - c, 0.0f);
        MULTISTATE_UNROLL
        for (std::size_t k = 0; k < N; ++k) {
            const float* const vector = x.data() + k * n;
            products[k] = hn::MulAdd(last, load_first(d, vector + c, i - c, 0.0f), products[k]);
            sums[k] = hn::MulAdd(products[k], hn::Set(d, vector[i]), sums[k]);
            out[k] += row[i] * vector[i] * vector[i];
        }
    }
    for (std::size_t k = 0; k < N; ++k) out[k] += 2 * sum(sums[k]);
}

}  // namespace multistate::inline MULTISTATE_TARGET::simd
