#pragma once

// Conversions between floats and the elements of codecs: f16, bf16, 8-bit and 4-bit integers.
//
//     simd::store_float16(x, n, row);                     // a row of n floats, padded with zeros
//     const auto v = simd::load_float16(row + c);         // columns [c, c + lanes) as floats, c a multiple of lanes
//
// Except in dot products (formats.hpp), the library computes in floats: it only stores and loads these numbers.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "multistate/simd/highway.hpp"
#include "multistate/simd/vector.hpp"

// Whether Highway converts f16 with instructions. If not, its own code truncates and loses NaN. The compiler's __F16C__
// does not tell: -mf16c alone defines it, but Highway's target may still be SSE4.
#if (HWY_ARCH_X86 && HWY_TARGET < HWY_SSE4 && !defined(HWY_DISABLE_F16C)) || HWY_ARCH_ARM
#define MULTISTATE_CONVERTS_F16 1
#else
#define MULTISTATE_CONVERTS_F16 0
#endif

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

MULTISTATE_INLINE float_vector load_float32(const float* x) noexcept { return hn::LoadU(float_tag{}, x); }

/// IEEE binary16, as bits.
MULTISTATE_INLINE float_vector load_float16(const std::uint16_t* x) noexcept {
    const hn::Rebind<hwy::float16_t, float_tag> d;
    const auto wide = hn::PromoteTo(float_tag{}, hn::LoadU(d, reinterpret_cast<const hwy::float16_t*>(x)));
#if MULTISTATE_CONVERTS_F16
    return wide;
#else
    // Without instructions, Highway 1.0.3 converts an infinity to 65536, and a NaN to a greater number.
    const auto beyond = hn::Set(float_tag{}, 65536.0f);
    const auto infinity = hn::CopySign(hn::Set(float_tag{}, std::numeric_limits<float>::infinity()), wide);
    const auto nan = hn::Set(float_tag{}, std::numeric_limits<float>::quiet_NaN());
    const auto special = hn::IfThenElse(hn::Eq(hn::Abs(wide), beyond), infinity, nan);
    return hn::IfThenElse(hn::Lt(hn::Abs(wide), beyond), wide, special);
#endif
}

/// bfloat16, as bits: the upper half of a float.
MULTISTATE_INLINE float_vector load_bfloat16(const std::uint16_t* x) noexcept {
    const hn::Rebind<std::uint16_t, float_tag> d;
    const auto bits = hn::PromoteTo(hn::RebindToUnsigned<float_tag>{}, hn::LoadU(d, x));
    return hn::BitCast(float_tag{}, hn::ShiftLeft<16>(bits));
}

MULTISTATE_INLINE float_vector load_int8(const std::int8_t* x) noexcept {
    const hn::Rebind<std::int8_t, float_tag> d;
    return hn::ConvertTo(float_tag{}, hn::PromoteTo(integer_tag{}, hn::LoadU(d, x)));
}

/// Columns c, c + 1, … of 64 integers of 4 bits, c a multiple of the lanes of D, of which there are at most 16: bits 4k
/// to 4k + 3 of word i are column 16k + i.
template <class D>
MULTISTATE_INLINE hn::Vec<D> load_int4(D d, const std::uint8_t* words, std::size_t c) noexcept {
#if HWY_TARGET == HWY_SCALAR
    std::int16_t word;
    std::memcpy(&word, words + c % 16 * 2, sizeof word);
    const auto some = hn::Set(d, word);
#else
    const auto some = hn::BitCast(d, hn::LoadU(hn::Repartition<std::uint8_t, D>{}, words + c % 16 * 2));
#endif
    return hn::ShiftRight<12>(hn::ShiftLeftSame(some, static_cast<int>(12 - c / 16 * 4)));
}

/// `lanes` of these columns, times `scale`.
MULTISTATE_INLINE float_vector load_int4(const std::uint8_t* words, std::size_t c, std::int8_t scale) noexcept {
    const hn::Rebind<std::int16_t, float_tag> d;
    const auto wide = hn::ConvertTo(float_tag{}, hn::PromoteTo(integer_tag{}, load_int4(d, words, c)));
    return hn::Mul(wide, hn::Set(float_tag{}, static_cast<float>(scale)));
}

/// Calls f(i, vector of x[i], x[i + 1], …) for i = 0, lanes, … below padded(n). Columns after the n floats are zeros.
template <class F>
MULTISTATE_INLINE void for_padded(const float* x, std::size_t n, F f) noexcept {
    const float_tag d;
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) f(i, hn::LoadU(d, x + i));
    for (; i < padded(n); i += lanes) {
        alignas(64) float buffer[lanes] = {};
        if (i < n) std::copy_n(x + i, n - i, buffer);
        f(i, hn::Load(d, buffer));
    }
}

struct row_peak {
    float peak;    ///< the greatest magnitude
    float poison;  ///< 0; NaN if an element is not finite
};
inline row_peak peak_of(const float* x, std::size_t n) noexcept {
    const float_tag d;
    auto peaks = hn::Zero(d);
    auto poison = hn::Zero(d);  // 0 * x is NaN if x is not finite
    for_padded(x, n, [&](std::size_t, auto v) {
        peaks = hn::Max(peaks, hn::Abs(v));
        poison = hn::MulAdd(v, hn::Zero(d), poison);
    });
    return {hn::GetLane(hn::MaxOfLanes(d, peaks)), sum(poison)};
}

/// v, clamped to ±greatest; infinities and NaN stay.
MULTISTATE_INLINE float_vector saturated(float_vector v, float greatest) noexcept {
    const float_tag d;
    const auto most = hn::Set(d, greatest);
    const auto finite = hn::Lt(hn::Abs(v), hn::Set(d, std::numeric_limits<float>::infinity()));
    return hn::IfThenElse(finite, hn::Max(hn::Min(v, most), hn::Neg(most)), v);
}

/// Rounds floats to bf16, to nearest, ties to even; NaN stays NaN.
MULTISTATE_INLINE auto to_bfloat16(float_vector v) noexcept {
    const hn::RebindToUnsigned<float_tag> d;
    const auto bits = hn::BitCast(d, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1u));
    const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(d, 0x7fffu)));
    const auto quiet = hn::Or(bits, hn::Set(d, 0x400000u));
    const auto result = hn::IfThenElse(hn::RebindMask(d, hn::IsNaN(v)), quiet, rounded);
    const hn::Rebind<std::uint16_t, float_tag> narrow;
    return hn::DemoteTo(narrow, hn::BitCast(integer_tag{}, hn::ShiftRight<16>(result)));
}

/// Rounds to nearest, ties to even, with integer arithmetic: without F16C, Highway 1.0.3 truncates.
inline std::uint16_t to_float16(float x) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = bits >> 16 & 0x8000;
    const std::uint32_t magnitude = bits & 0x7fffffff;
    const auto with_sign = [=](std::uint32_t rest) { return static_cast<std::uint16_t>(sign | rest); };
    if (magnitude > 0x7f800000) return with_sign(0x7e00);   // NaN
    if (magnitude == 0x7f800000) return with_sign(0x7c00);  // infinity
    if (magnitude >= 0x477ff000) return with_sign(0x7bff);  // saturates at 65504
    if (magnitude < 0x38800000) {  // subnormal in f16: adding 0.5 rounds its bits into the last bits of the float
        const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
        return with_sign(std::bit_cast<std::uint32_t>(shifted) - 0x3f000000);
    }
    const std::uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000;
    return with_sign(rounded >> 13);
}

/// Stores n floats, padded with zeros.
inline void store_float32(const float* x, std::size_t n, float* row) noexcept {
    for_padded(x, n, [=](std::size_t i, auto v) { hn::StoreU(v, float_tag{}, row + i); });
}
/// Finite numbers beyond ±65504 become ±65504.
inline void store_float16(const float* x, std::size_t n, std::uint16_t* row) noexcept {
    for_padded(x, n, [=](std::size_t i, auto v) {
#if MULTISTATE_CONVERTS_F16
        const hn::Rebind<hwy::float16_t, float_tag> d;
        hn::StoreU(hn::DemoteTo(d, saturated(v, 65504)), d, reinterpret_cast<hwy::float16_t*>(row + i));
#else
        alignas(64) float buffer[lanes];
        hn::Store(v, float_tag{}, buffer);
        std::transform(buffer, buffer + lanes, row + i, to_float16);
#endif
    });
}
/// Finite numbers beyond ±3.3895e38 become ±3.3895e38.
inline void store_bfloat16(const float* x, std::size_t n, std::uint16_t* row) noexcept {
    for_padded(x, n, [=](std::size_t i, auto v) {
        const hn::Rebind<std::uint16_t, float_tag> d;
        hn::StoreU(to_bfloat16(saturated(v, 0x1.fep127f)), d, row + i);
    });
}
/// Stores x[i] * factor, rounded to 8-bit integers.
inline void store_int8(const float* x, std::size_t n, float factor, std::int8_t* row) noexcept {
    for_padded(x, n, [=](std::size_t i, auto v) {
        const hn::Rebind<std::int8_t, float_tag> d;
        const auto scaled = hn::Mul(v, hn::Set(float_tag{}, factor));
        hn::StoreU(hn::DemoteTo(d, hn::NearestInt(scaled)), d, row + i);
    });
}
/// Packs 64 integers into the words that load_int4 reads.
inline void pack_int4(const std::int8_t* x, std::uint8_t* words) noexcept {
    const hn::CappedTag<std::uint8_t, 16> d;
    alignas(16) std::uint8_t bytes[2][16];  // the lower bytes of the words, the upper bytes
    for (std::size_t i = 0; i < 32; i += hn::Lanes(d)) {
        const std::int8_t* const low = x + i / 16 * 32 + i % 16;
        const auto a = hn::LoadU(d, reinterpret_cast<const std::uint8_t*>(low));
        const auto b = hn::LoadU(d, reinterpret_cast<const std::uint8_t*>(low + 16));
        hn::Store(hn::Or(hn::And(a, hn::Set(d, std::uint8_t{15})), hn::ShiftLeft<4>(b)), d, &bytes[0][0] + i);
    }
#if HWY_TARGET == HWY_SCALAR
    for (std::size_t i = 0; i < 32; ++i) words[i] = bytes[i % 2][i / 2];
#else
    const auto lower = hn::Load(d, bytes[0]), upper = hn::Load(d, bytes[1]);
    hn::StoreU(hn::InterleaveLower(d, lower, upper), d, words);
    hn::StoreU(hn::InterleaveUpper(d, lower, upper), d, words + 16);
#endif
}

}}}  // namespace multistate::MULTISTATE_TARGET::simd
