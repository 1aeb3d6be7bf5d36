#pragma once

// Elementwise vector arithmetic on float spans: sums, exponentials, soft capping.
#include <cmath>
#include <limits>
#include <span>

#include "multistate/simd/vector.hpp"

namespace multistate::inline MULTISTATE_TARGET::simd {

/// Calls f on `lanes` floats of x at a time, in place. The last, shorter piece passes through a buffer whose missing
/// lanes hold `fill`, because a masked load may still read past the end on targets without mask registers.
template <class F>
HWY_INLINE void transform(std::span<float> x, float fill, F f) noexcept {
    const float_tag d;
    std::size_t i = 0;
    for (; i + lanes <= x.size(); i += lanes) hn::StoreU(f(hn::LoadU(d, x.data() + i)), d, x.data() + i);
    if (i == x.size()) return;
    alignas(64) float buffer[lanes];
    std::fill_n(buffer, lanes, fill);
    std::copy(x.begin() + static_cast<std::ptrdiff_t>(i), x.end(), buffer);
    hn::Store(f(hn::Load(d, buffer)), d, buffer);
    std::copy_n(buffer, x.size() - i, x.data() + i);
}

/// y[i] += x[i]; x has at least y.size() elements.
inline void add(std::span<const float> x, std::span<float> y) noexcept {
    const float_tag d;
    const std::size_t whole = y.size() / lanes * lanes;
    for (std::size_t i = 0; i < whole; i += lanes) {
        hn::StoreU(hn::Add(hn::LoadU(d, y.data() + i), hn::LoadU(d, x.data() + i)), d, y.data() + i);
    }
    for (std::size_t i = whole; i < y.size(); ++i) y[i] += x[i];
}

/// x[i] *= factor
inline void scale(std::span<float> x, float factor) noexcept {
    transform(x, 0, [=](float_vector v) { return hn::Mul(v, hn::Set(float_tag{}, factor)); });
}

/// e to the power x for x <= 88, relative error below 2e-7; exactly 0 below -87.33 (and for -inf); NaN stays NaN.
HWY_INLINE float_vector exp(float_vector x) noexcept {
    const float_tag d;
    const integer_tag integers;
    // x = k ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts, so that k * first part is exact.
    const auto k = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504f)));
    auto r = hn::NegMulAdd(k, hn::Set(d, 0.693359375f), x);
    r = hn::NegMulAdd(k, hn::Set(d, -2.12194440e-4f), r);
    // Cephes' minimax polynomial for (e^r - 1 - r) / r^2.
    auto p = hn::Set(d, 1.9875691500e-4f);
    p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3f));
    p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
    p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
    p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
    p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
    p = hn::MulAdd(p, hn::Mul(r, r), hn::Add(r, hn::Set(d, 1.0f)));
    const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(integers, k), hn::Set(integers, 127)));
    const auto result = hn::Mul(p, hn::BitCast(d, exponent));
    return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.33f)), result);
}

/// x[i] = cap * tanh(x[i] / cap), the logit soft-capping of Gemma 2. Absolute error below 3e-7 * cap; NaN stays NaN.
inline void softcap(std::span<float> x, float cap) noexcept {
    const float_tag d;
    transform(x, 0, [=](float_vector v) {
        // tanh(y) = 1 - 2 / (e^2y + 1); beyond |y| = 20 it is 1 in float32
        const auto y = hn::Mul(v, hn::Set(d, 1 / cap));
        const auto bounded = hn::Max(hn::Min(y, hn::Set(d, 20.0f)), hn::Set(d, -20.0f));
        const auto e = exp(hn::Add(bounded, bounded));
        const auto tanh = hn::Sub(hn::Set(d, 1.0f), hn::Div(hn::Set(d, 2.0f), hn::Add(e, hn::Set(d, 1.0f))));
        return hn::IfThenElse(hn::IsNaN(v), v, hn::Mul(tanh, hn::Set(d, cap)));  // Min and Max lose a NaN
    });
}

/// The greatest of x; -inf when x is empty.
inline float max(std::span<const float> x) noexcept {
    const float_tag d;
    const auto lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
    auto a = lowest;
    auto b = lowest;
    const std::size_t whole = x.size() / (2 * lanes) * (2 * lanes);
    for (std::size_t i = 0; i < whole; i += 2 * lanes) {
        a = hn::Max(a, hn::LoadU(d, x.data() + i));
        b = hn::Max(b, hn::LoadU(d, x.data() + i + lanes));
    }
    float result = hn::GetLane(hn::MaxOfLanes(d, hn::Max(a, b)));
    for (std::size_t i = whole; i < x.size(); ++i) result = std::max(result, x[i]);
    return result;
}

}  // namespace multistate::inline MULTISTATE_TARGET::simd
