#pragma once

// Softmax in place, vectorized.
//
//     float x[] = {1, 2, 3};
//     ms::softmax(x);                                         // x is 0.090, 0.245, 0.665
#include <algorithm>
#include <limits>
#include <span>

#include "multistate/simd/elementwise.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// x[i] = exp(x[i] - max) / sum of exp(x[j] - max), in place, for any length.
///
/// Relative error against double precision: below 1e-6 for inputs within ±8, 5e-6 within ±40 (the rounding of x - max
/// dominates). exp(-inf) is exactly 0. If all inputs are -inf, all results are 0. A NaN makes all results NaN. Three
/// passes; nothing is allocated.
inline void softmax(std::span<float> x) noexcept {
    const float greatest = simd::maximum(x);
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    if (greatest == lowest && std::ranges::all_of(x, [](float v) { return v == lowest; })) {
        std::ranges::fill(x, 0.0f);
        return;
    }
    // Partial sums of 64 vectors in float32, added in double, so the error does not grow with the length.
    constexpr std::size_t piece = 64 * simd::vector_width;
    double total = 0;
    for (std::size_t begin = 0; begin < x.size(); begin += piece) {
        simd::floats sum = {};
        simd::transform(x.subspan(begin, (std::min)(piece, x.size() - begin)), lowest, [&](simd::floats v) {
            const simd::floats e = simd::exp(v - greatest);
            sum += e;
            return e;
        });
        total += static_cast<double>(simd::sum(sum));
    }
    simd::scale(x, static_cast<float>(1 / total));
}

}}  // namespace multistate::MULTISTATE_TARGET
