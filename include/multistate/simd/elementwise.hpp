#pragma once

// Elementwise vector arithmetic on float spans of any length and alignment: sums, products, exponentials, soft capping.
#include <cmath>
#include <limits>
#include <span>

#include "multistate/simd/vector.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

/// Calls f on `lanes` floats of x at a time, in place; missing lanes of the last, shorter piece hold `fill`.
template <class F>
HWY_INLINE void transform(std::span<float> x, float fill, F f) noexcept {
    const float_tag d;
    std::size_t i = 0;
    for (; i + lanes <= x.size(); i += lanes) hn::StoreU(f(hn::LoadU(d, x.data() + i)), d, x.data() + i);
    const std::size_t left = x.size() - i;
    if (left > 0) store_first(d, f(load_first(d, x.data() + i, left, fill)), x.data() + i, left);
}

/// y[i] = f(y[i], x[i]), vector by vector; x has at least y.size() elements.
template <class F>
HWY_INLINE void combine(std::span<const float> x, std::span<float> y, F f) noexcept {
    const float_tag d;
    std::size_t i = 0;
    for (; i + lanes <= y.size(); i += lanes) {
        hn::StoreU(f(hn::LoadU(d, y.data() + i), hn::LoadU(d, x.data() + i)), d, y.data() + i);
    }
    const std::size_t left = y.size() - i;
    if (left > 0) {
        const auto last = f(load_first(d, y.data() + i, left, 0.0f), load_first(d, x.data() + i, left, 0.0f));
        store_first(d, last, y.data() + i, left);
    }
}

/// y[i] += x[i]
inline void add(std::span<const float> x, std::span<float> y) noexcept {
    combine(x, y, [](float_vector a, float_vector b) { return hn::Add(a, b); });
}

/// y[i] += x[i] + x[stride + i] + …, for `count` rows of x, row after row. Four rows in one pass over y: all rows in
/// one pass would be many streams, one row in each would read and write y again and again.
inline void add_rows(const float* x, std::size_t count, std::size_t stride, std::span<float> y) noexcept {
    const float_tag d;
    for (; count >= 4; count -= 4, x += 4 * stride) {
        const auto add_four = [=](const float* column, float_vector sum, auto load) {
            for (std::size_t r = 0; r < 4; ++r) sum = hn::Add(sum, load(column + r * stride));
            return sum;
        };
        std::size_t i = 0;
        for (; i + lanes <= y.size(); i += lanes) {
            const auto sum =
                add_four(x + i, hn::LoadU(d, y.data() + i), [=](const float* p) { return hn::LoadU(d, p); });
            hn::StoreU(sum, d, y.data() + i);
        }
        const std::size_t left = y.size() - i;
        if (left == 0) continue;
        const auto load = [=](const float* p) { return load_first(d, p, left, 0.0f); };
        store_first(d, add_four(x + i, load(y.data() + i), load), y.data() + i, left);
    }
    for (; count > 0; --count, x += stride) add({x, y.size()}, y);
}

/// The sum of x, in as many partial sums as a vector has lanes.
inline float sum(std::span<const float> x) noexcept {
    const float_tag d;
    auto total = hn::Zero(d);
    std::size_t i = 0;
    for (; i + lanes <= x.size(); i += lanes) total = hn::Add(total, hn::LoadU(d, x.data() + i));
    if (i < x.size()) total = hn::Add(total, load_first(d, x.data() + i, x.size() - i, 0.0f));
    return sum(total);
}

/// y[i] *= x[i]
inline void multiply(std::span<const float> x, std::span<float> y) noexcept {
    combine(x, y, [](float_vector a, float_vector b) { return hn::Mul(a, b); });
}

/// x[i] *= factor
inline void scale(std::span<float> x, float factor) noexcept {
    transform(x, 0, [=](float_vector v) { return hn::Mul(v, hn::Set(float_tag{}, factor)); });
}

/// e to the power x for x <= 88, relative error below 2e-7; exactly 0 below -87.33 (and for -inf); NaN stays NaN.
HWY_INLINE float_vector exp(float_vector x) noexcept {
    const float_tag d;
    // x = k ln 2 + r with |r| <= ln 2 / 2. Added to 1.5 * 2^23, a number's integer part stands in the last bits; with
    // 127 more, these are the exponent of 2^k. ln 2 comes in two parts, so that k * the first is exact.
    const auto shifter = hn::Set(d, 12582912.0f + 127);
    const auto shifted = hn::MulAdd(x, hn::Set(d, 1.44269504f), shifter);
    const auto power = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(integer_tag{}, shifted)));
    const auto k = hn::Sub(shifted, shifter);
    auto r = hn::NegMulAdd(k, hn::Set(d, 0.693359375f), x);
    r = hn::NegMulAdd(k, hn::Set(d, -2.12194440e-4f), r);
    // 1 + r + r^2 p(r), p minimax for the relative error of e^r: 3.3e-9.
    auto p = hn::Set(d, 1.381314459e-3f);
    p = hn::MulAdd(p, r, hn::Set(d, 8.369418827e-3f));
    p = hn::MulAdd(p, r, hn::Set(d, 4.166845679e-2f));
    p = hn::MulAdd(p, r, hn::Set(d, 1.666651479e-1f));
    p = hn::MulAdd(p, r, hn::Set(d, 4.999999305e-1f));
    p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
    p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
    return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.33f)), hn::Mul(p, power));
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
inline float maximum(std::span<const float> x) noexcept {
    const float_tag d;
    if (x.size() < lanes) {
        float result = -std::numeric_limits<float>::infinity();
        for (const float v : x) result = (std::max)(result, v);
        return result;
    }
    const std::size_t last = x.size() - lanes;  // the last vector may overlap the one before
    auto a = hn::LoadU(d, x.data() + last);
    auto b = a;
    std::size_t i = 0;
    for (; i + 2 * lanes <= last; i += 2 * lanes) {
        a = hn::Max(a, hn::LoadU(d, x.data() + i));
        b = hn::Max(b, hn::LoadU(d, x.data() + i + lanes));
    }
    for (; i < last; i += lanes) a = hn::Max(a, hn::LoadU(d, x.data() + i));
    return hn::GetLane(hn::MaxOfLanes(d, hn::Max(a, b)));
}

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

}}}  // namespace multistate::MULTISTATE_TARGET::simd
