#pragma once

// Elementwise arithmetic on float spans of any length and alignment: sums, products, exponentials, logarithms.
//
//     simd::add(x, y);                                                        // y[i] += x[i]
//     simd::scale(y, 0.5f);                                                   // y[i] *= 0.5
//     simd::transform(y, 1, [](simd::floats v) { return simd::log(v); });     // y[i] = ln y[i]
//
// If a function takes two spans, the length is that of the span that it writes.
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "multistate/simd/vector.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

/// x = f(x), vector by vector. If the last vector is incomplete, its missing lanes hold `rest`.
template <class F>
MULTISTATE_INLINE void transform(std::span<float> x, float rest, F f) noexcept {
    std::size_t i = 0;
    for (; i + vector_width <= x.size(); i += vector_width) store(f(load(x.data() + i)), x.data() + i);
    const std::size_t left = x.size() - i;
    if (left > 0) store_first(f(load_first(x.data() + i, left, rest)), x.data() + i, left);
}

/// y[i] = f(y[i], x[i]), vector by vector.
template <class F>
MULTISTATE_INLINE void combine(std::span<const float> x, std::span<float> y, F f) noexcept {
    std::size_t i = 0;
    for (; i + vector_width <= y.size(); i += vector_width)
        store(f(load(y.data() + i), load(x.data() + i)), y.data() + i);
    const std::size_t left = y.size() - i;
    if (left > 0) {
        const floats last = f(load_first(y.data() + i, left, 0.0f), load_first(x.data() + i, left, 0.0f));
        store_first(last, y.data() + i, left);
    }
}

/// y[i] += x[i]
inline void add(std::span<const float> x, std::span<float> y) noexcept {
    combine(x, y, [](floats a, floats b) { return a + b; });
}

/// y[i] += x[i] + x[stride + i] + …, for `count` rows of x, in this order. Four rows share one pass over y: one row per
/// pass would read and write y more often, and all rows in one pass would be too many streams of memory.
inline void add_rows(const float* x, std::size_t count, std::size_t stride, std::span<float> y) noexcept {
    for (; count >= 4; count -= 4, x += 4 * stride) {
        const auto add_four = [=](const float* column, floats total, auto load_row) {
            for (std::size_t r = 0; r < 4; ++r) total += load_row(column + r * stride);
            return total;
        };
        std::size_t i = 0;
        for (; i + vector_width <= y.size(); i += vector_width) {
            store(add_four(x + i, load(y.data() + i), [](const float* p) { return load(p); }), y.data() + i);
        }
        const std::size_t left = y.size() - i;
        if (left == 0) continue;
        const auto load_left = [=](const float* p) { return load_first(p, left, 0.0f); };
        store_first(add_four(x + i, load_left(y.data() + i), load_left), y.data() + i, left);
    }
    for (; count > 0; --count, x += stride) add({x, y.size()}, y);
}

/// The sum of x, as one partial sum per vector lane.
inline float sum(std::span<const float> x) noexcept {
    floats total = {};
    std::size_t i = 0;
    for (; i + vector_width <= x.size(); i += vector_width) total += load(x.data() + i);
    if (i < x.size()) total += load_first(x.data() + i, x.size() - i, 0.0f);
    return sum(total);
}

/// y[i] *= x[i]
inline void multiply(std::span<const float> x, std::span<float> y) noexcept {
    combine(x, y, [](floats a, floats b) { return a * b; });
}

/// x[i] *= factor
inline void scale(std::span<float> x, float factor) noexcept {
    transform(x, 0, [=](floats v) { return v * factor; });
}

/// y[i] += factor * x[i]
inline void add_scaled(float factor, std::span<const float> x, std::span<float> y) noexcept {
    combine(x, y, [factors = fill(factor)](floats a, floats b) { return multiply_add(factors, b, a); });
}

/// The sum of x[i] * y[i] over the elements of x. Four sums hide the latency of the additions.
inline float dot(std::span<const float> x, std::span<const float> y) noexcept {
    floats sums[4] = {};
    std::size_t i = 0;
    for (; i + 4 * vector_width <= x.size(); i += 4 * vector_width) {
        for (std::size_t v = 0; v < 4; ++v) {
            const std::size_t at = i + v * vector_width;
            sums[v] = multiply_add(load(x.data() + at), load(y.data() + at), sums[v]);
        }
    }
    for (; i + vector_width <= x.size(); i += vector_width) {
        sums[0] = multiply_add(load(x.data() + i), load(y.data() + i), sums[0]);
    }
    const std::size_t left = x.size() - i;
    if (left > 0) {
        const floats last = load_first(x.data() + i, left, 0.0f);
        sums[1] = multiply_add(last, load_first(y.data() + i, left, 0.0f), sums[1]);
    }
    return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/// The same with one partial sum per lane: bitwise equal to dot_rows (row_products.hpp) on rows of floats.
inline float dot_in_one_sum(std::span<const float> x, std::span<const float> y) noexcept {
    floats total = {};
    std::size_t i = 0;
    for (; i + vector_width <= x.size(); i += vector_width) {
        total = multiply_add(load(x.data() + i), load(y.data() + i), total);
    }
    const std::size_t left = x.size() - i;
    if (left > 0) {
        total = multiply_add(load_first(x.data() + i, left, 0.0f), load_first(y.data() + i, left, 0.0f), total);
    }
    return sum(total);
}

/// The greatest element of x; -inf if x is empty.
inline float maximum(std::span<const float> x) noexcept {
    const auto greater = [](auto a, auto b) { return a > b ? a : b; };
    if (x.size() < vector_width) {
        float result = -std::numeric_limits<float>::infinity();
        for (const float v : x) result = greater(v, result);
        return result;
    }
    const std::size_t last = x.size() - vector_width;  // the last vector may overlap the one before
    floats a = load(x.data() + last), b = a;
    std::size_t i = 0;
    for (; i + 2 * vector_width <= last; i += 2 * vector_width) {
        a = greater(a, load(x.data() + i));
        b = greater(b, load(x.data() + i + vector_width));
    }
    for (; i < last; i += vector_width) a = greater(a, load(x.data() + i));
    return fold(greater(a, b), greater);
}

/// e to the power x for x <= 88, relative error below 2e-7; exactly 0 below -87.33 (and for -inf); NaN stays NaN.
MULTISTATE_INLINE floats exp(floats x) noexcept {
    // x = k ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 * 2^23 moves the integer part of a number into its last bits.
    // Adding 127 more makes these bits the exponent of 2^k. ln 2 is divided into two parts, so that k times the first
    // is exact.
    constexpr float shifter = 12582912.0f + 127;
    const floats shifted = multiply_add(x, fill(1.44269504f), fill(shifter));
    const auto power = reinterpret_cast<floats>(reinterpret_cast<naturals>(shifted) << 23);
    const floats k = shifted - shifter;
    floats r = multiply_add(-k, fill(0.693359375f), x);
    r = multiply_add(-k, fill(-2.12194440e-4f), r);
    // 1 + r + r^2 p(r), p minimax for the relative error of e^r: 3.3e-9.
    floats p = fill(1.381314459e-3f);
    p = multiply_add(p, r, fill(8.369418827e-3f));
    p = multiply_add(p, r, fill(4.166845679e-2f));
    p = multiply_add(p, r, fill(1.666651479e-1f));
    p = multiply_add(p, r, fill(4.999999305e-1f));
    p = multiply_add(p, r, fill(1.0f));
    p = multiply_add(p, r, fill(1.0f));
    return x < -87.33f ? floats{} : p * power;
}

/// ln x for finite x, relative error below 3e-7; -inf below 1.18e-38, the smallest normal number; NaN stays NaN.
MULTISTATE_INLINE floats log(floats x) noexcept {
    // x = 2^k (1 + f) with 1 + f from sqrt(1/2) to sqrt(2), so that f is exact, and small if ln x is small.
    const auto bits = reinterpret_cast<naturals>(x);
    const integers exponent = reinterpret_cast<integers>(bits - 0x3f3504f3u) >> 23;
    const floats k = __builtin_convertvector(exponent, floats);
    const floats f = reinterpret_cast<floats>(bits - (reinterpret_cast<naturals>(exponent) << 23)) - 1.0f;
    // f - f^2 / 2 + f^3 p(f), p minimax for the relative error: 5.9e-9. ln 2 is divided into two parts, as in exp.
    floats p = fill(-7.859619707e-2f);
    p = multiply_add(p, f, fill(1.288165152e-1f));
    p = multiply_add(p, f, fill(-1.312875450e-1f));
    p = multiply_add(p, f, fill(1.418119073e-1f));
    p = multiply_add(p, f, fill(-1.662455350e-1f));
    p = multiply_add(p, f, fill(2.000228614e-1f));
    p = multiply_add(p, f, fill(-2.500081062e-1f));
    p = multiply_add(p, f, fill(3.333331645e-1f));
    const floats square = f * f;
    floats correction = (p * square) * f;
    correction = multiply_add(k, fill(-2.12194440e-4f), correction);
    correction = multiply_add(-square, fill(0.5f), correction);
    const floats result = multiply_add(k, fill(0.693359375f), f + correction);
    const floats none = fill(-std::numeric_limits<float>::infinity());
    const floats normal = x < (std::numeric_limits<float>::min)() ? none : result;
    return x != x ? x : normal;
}

/// x[i] = cap * tanh(x[i] / cap), the logit soft-capping of Gemma 2. Absolute error below 3e-7 * cap; NaN stays NaN.
inline void softcap(std::span<float> x, float cap) noexcept {
    transform(x, 0, [=](floats v) {
        // tanh(y) = 1 - 2 / (e^2y + 1); beyond |y| = 20 it is 1 in float32
        const floats y = v * (1 / cap), most = fill(20.0f), least = fill(-20.0f);
        const floats below = y < most ? y : most, bounded = below > least ? below : least;
        const floats tanh = 1.0f - 2.0f / (exp(bounded + bounded) + 1.0f);
        return v != v ? v : tanh * cap;
    });
}

}}}  // namespace multistate::MULTISTATE_TARGET::simd
