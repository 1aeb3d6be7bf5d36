#pragma once

// How a row is stored: f32, f16, bf16, int8. Keys and values of a cache may use different codecs.
//
// A codec is a stateless struct: `element` is what lies in memory, `scaled` says whether a row also has a float scale,
// `store` encodes one row. Rows are padded with zeros to a multiple of 16 elements. Kernels widen elements to float32
// as they load them and accumulate in float32; only storage is narrow.
//
//     codec   bytes per element   relative error of an element   range
//     f32     4                   0                              all
//     f16     2                   2^-11                          beyond ±65504 saturates
//     bf16    2                   2^-8                           all
//     int8    1 (+ 4 per row)     1/254 of the row's peak        all
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "multistate/simd/vector.hpp"

namespace multistate::inline MULTISTATE_TARGET {

template <class C>
concept codec = requires(const float* x, std::size_t n, typename C::element* row, float& scale) {
    { C::name } -> std::convertible_to<std::string_view>;
    { C::scaled } -> std::convertible_to<bool>;
    { C::store(x, n, row) }
    noexcept->std::same_as<float>;  // the row's scale: 1 unless `scaled`
};

namespace detail {

/// Calls f(i, vector of x[i] …) for i = 0, lanes, … up to padded(n), with zeros behind the n floats of x.
template <class F>
HWY_INLINE void for_padded(const float* x, std::size_t n, F f) noexcept {
    const simd::float_tag d;
    std::size_t i = 0;
    for (; i + simd::lanes <= n; i += simd::lanes) f(i, simd::hn::LoadU(d, x + i));
    for (; i < simd::padded(n); i += simd::lanes) {
        alignas(64) float buffer[simd::lanes] = {};
        if (i < n) std::copy_n(x + i, n - i, buffer);
        f(i, simd::hn::Load(d, buffer));
    }
}

/// Round to nearest, ties to even, in plain integers: Highway 1.0.3 truncates where F16C is missing.
inline half to_half(float x) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
    const std::uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return {static_cast<std::uint16_t>(sign | 0x7e00)};   // NaN
    if (magnitude >= 0x477ff000) return {static_cast<std::uint16_t>(sign | 0x7bff)};  // saturates at 65504
    if (magnitude < 0x38800000) {  // subnormal in f16: adding 0.5 leaves its bits, rounded, at the end of the float
        const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
        return {static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000))};
    }
    const std::uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000;
    return {static_cast<std::uint16_t>(sign | rounded >> 13)};
}

}  // namespace detail

struct f32 {
    static constexpr std::string_view name = "f32";
    static constexpr bool scaled = false;
    using element = float;

    static float store(const float* x, std::size_t n, element* row) noexcept {
        detail::for_padded(x, n, [=](std::size_t i, auto v) { simd::hn::StoreU(v, simd::float_tag{}, row + i); });
        return 1;
    }
};

/// IEEE binary16. Finite values beyond ±65504 are stored as ±65504, so that a large key cannot become an infinity.
struct f16 {
    static constexpr std::string_view name = "f16";
    static constexpr bool scaled = false;
    using element = half;

    static float store(const float* x, std::size_t n, element* row) noexcept {
        detail::for_padded(x, n, [=](std::size_t i, auto v) {
            namespace hn = simd::hn;
            const simd::float_tag d;
#if MULTISTATE_CONVERTS_F16
            const auto greatest = hn::Set(d, 65504.0f);
            const auto bounded = hn::IfThenElse(hn::IsNaN(v), v, hn::Max(hn::Min(v, greatest), hn::Neg(greatest)));
            const hn::Rebind<hwy::float16_t, simd::float_tag> halves;
            hn::StoreU(hn::DemoteTo(halves, bounded), halves, reinterpret_cast<hwy::float16_t*>(row + i));
#else
            alignas(64) float buffer[simd::lanes];
            hn::Store(v, d, buffer);
            std::transform(buffer, buffer + simd::lanes, row + i, detail::to_half);
#endif
        });
        return 1;
    }
};

/// The upper half of a float, rounded to nearest, ties to even; NaN stays NaN.
struct bf16 {
    static constexpr std::string_view name = "bf16";
    static constexpr bool scaled = false;
    using element = brain;

    static float store(const float* x, std::size_t n, element* row) noexcept {
        detail::for_padded(x, n, [=](std::size_t i, auto v) {
            namespace hn = simd::hn;
            const simd::integer_tag integers;
            const hn::RebindToUnsigned<simd::float_tag> d;
            const hn::Rebind<std::uint16_t, simd::float_tag> narrow;
            const auto bits = hn::BitCast(d, v);
            const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1u));
            const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(d, 0x7fffu)));
            const auto quiet = hn::Or(bits, hn::Set(d, 0x400000u));
            const auto result = hn::IfThenElse(hn::RebindMask(d, hn::IsNaN(v)), quiet, rounded);
            const auto upper = hn::BitCast(integers, hn::ShiftRight<16>(result));
            hn::StoreU(hn::DemoteTo(narrow, upper), narrow, reinterpret_cast<std::uint16_t*>(row + i));
        });
        return 1;
    }
};

/// 8-bit integers, symmetric, one float scale per row: the row's peak is ±127. A row with an infinity or NaN gets the
/// scale NaN, so that the error shows; one whose peak is below 1e-36 reads as zeros.
struct int8 {
    static constexpr std::string_view name = "int8";
    static constexpr bool scaled = true;
    using element = std::int8_t;

    static float store(const float* x, std::size_t n, element* row) noexcept {
        namespace hn = simd::hn;
        const simd::float_tag d;
        auto peaks = hn::Zero(d);
        auto poison = hn::Zero(d);  // 0 * x is NaN where x is not finite
        detail::for_padded(x, n, [&](std::size_t, auto v) {
            peaks = hn::Max(peaks, hn::Abs(v));
            poison = hn::MulAdd(v, hn::Zero(d), poison);
        });
        const float peak = hn::GetLane(hn::MaxOfLanes(d, peaks));
        const auto inverse = hn::Set(d, peak > 1e-36f ? 127 / peak : 0);  // else 127 / peak may overflow
        detail::for_padded(x, n, [=](std::size_t i, auto v) {
            const hn::Rebind<std::int8_t, simd::float_tag> bytes;
            hn::StoreU(hn::DemoteTo(bytes, hn::NearestInt(hn::Mul(v, inverse))), bytes, row + i);
        });
        return peak / 127 + simd::sum(poison);
    }
};

static_assert(codec<f32> && codec<f16> && codec<bf16> && codec<int8>);

}  // namespace multistate::inline MULTISTATE_TARGET
