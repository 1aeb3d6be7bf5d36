#pragma once

// The vectorized natural logarithm.
#include <limits>

#include "multistate/simd/vector.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

/// ln x for finite x, relative error below 3e-7; -inf below 1.18e-38, the least normal number; NaN stays NaN.
HWY_INLINE float_vector log(float_vector x) noexcept {
    const float_tag d;
    const integer_tag i;
    // x = 2^k (1 + f) with 1 + f from sqrt(1/2) to sqrt(2), so that f is exact and small where ln x is.
    const auto bits = hn::BitCast(i, x);
    const auto exponent = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(i, 0x3f3504f3)));
    const auto k = hn::ConvertTo(d, exponent);
    const auto f = hn::Sub(hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<23>(exponent))), hn::Set(d, 1.0f));
    // f - f^2 / 2 + f^3 p(f), p minimax for the relative error: 5.9e-9. ln 2 comes in two parts, see exp.
    auto p = hn::Set(d, -7.859619707e-2f);
    p = hn::MulAdd(p, f, hn::Set(d, 1.288165152e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, -1.312875450e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 1.418119073e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, -1.662455350e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 2.000228614e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, -2.500081062e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 3.333331645e-1f));
    const auto square = hn::Mul(f, f);
    auto correction = hn::Mul(hn::Mul(p, square), f);
    correction = hn::MulAdd(k, hn::Set(d, -2.12194440e-4f), correction);
    correction = hn::NegMulAdd(square, hn::Set(d, 0.5f), correction);
    const auto result = hn::MulAdd(k, hn::Set(d, 0.693359375f), hn::Add(f, correction));
    const auto none = hn::Set(d, -std::numeric_limits<float>::infinity());
    const auto bounded = hn::IfThenElse(hn::Lt(x, hn::Set(d, (std::numeric_limits<float>::min)())), none, result);
    return hn::IfThenElse(hn::IsNaN(x), x, bounded);
}

}}}  // namespace multistate::MULTISTATE_TARGET::simd
