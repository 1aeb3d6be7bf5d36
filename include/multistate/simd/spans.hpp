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

}  // namespace multistate::inline MULTISTATE_TARGET::simd
