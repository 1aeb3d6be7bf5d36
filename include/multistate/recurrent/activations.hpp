#pragma once

// The activations of recurrent cells, on vectors of floats; each is finite for every finite x.
//
//     const simd::floats z = ms::detail::sigmoid(x);
#include <cstddef>

#include "multistate/simd/elementwise.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

MULTISTATE_INLINE simd::floats clamped(simd::floats x, float least, float most) noexcept {
    const simd::floats low = simd::fill(least), high = simd::fill(most);
    const simd::floats below = x > high ? high : x;  // NaN stays NaN
    return below < low ? low : below;
}

/// 1 / (1 + e^-x), relative error below 5e-7 for x > -87; smaller x give that of -87, 1.6e-38.
MULTISTATE_INLINE simd::floats sigmoid(simd::floats x) noexcept {
    return 1.0f / (1.0f + simd::exp(-clamped(x, -87.0f, 87.0f)));
}
/// Absolute error below 3e-7.
MULTISTATE_INLINE simd::floats tanh(simd::floats x) noexcept {
    return 1.0f - 2.0f / (simd::exp(2.0f * clamped(x, -20.0f, 20.0f)) + 1.0f);
}
/// ln(1 + e^x), relative error below 6e-7 for x > -87; smaller x give e^x, or 0.
MULTISTATE_INLINE simd::floats softplus(simd::floats x) noexcept {
    // max(x, 0) + ln(1 + e) with e = e^-|x|. ln(1 + e) is ln(u) e / (u - 1) for u = 1 + e rounded: the quotient
    // corrects the rounding error of u.
    const simd::floats magnitude = x < simd::floats{} ? -x : x;
    const simd::floats e = simd::exp(-magnitude);
    const simd::floats u = 1.0f + e, rounded = u - 1.0f;
    const simd::floats correction = rounded == simd::floats{} ? e : simd::log(u) * (e / rounded);
    return (x > simd::floats{} ? x : simd::floats{}) + (x != x ? x : correction);
}

}}}  // namespace multistate::MULTISTATE_TARGET::detail
