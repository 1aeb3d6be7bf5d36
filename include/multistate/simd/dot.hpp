#pragma once

// Products of 16-bit numbers, summed in pairs, and of bytes, summed in fours: the multiplication of narrow codecs.
//
// This is the one file with intrinsics, because Highway 1.0.3 has none of these instructions: VNNI and bf16 on x86,
// bf16 and products of bytes on ARM. Elsewhere multiplications of pairs give the same integers; without bf16
// instructions bf16 is widened to float32 instead (formats.hpp).
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "multistate/simd/highway.hpp"
#include "multistate/simd/vector.hpp"

#if HWY_TARGET != HWY_SCALAR
#define MULTISTATE_DOTS_INTEGERS 1
#else
#define MULTISTATE_DOTS_INTEGERS 0
#endif
#if HWY_ARCH_ARM_A64 && defined(__ARM_FEATURE_DOTPROD)
#define MULTISTATE_DOTS_BYTES 1
#else
#define MULTISTATE_DOTS_BYTES 0
#endif
#if (HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86 && defined(__AVX512BF16__)) || \
    (HWY_ARCH_ARM_A64 && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC))
#define MULTISTATE_DOTS_BFLOAT16 1
#else
#define MULTISTATE_DOTS_BFLOAT16 0
#endif

#if MULTISTATE_DOTS_INTEGERS
namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

using short_tag = hn::Repartition<std::int16_t, float_tag>;
using short_vector = hn::Vec<short_tag>;
using integer_vector = hn::Vec<integer_tag>;

/// Whether a pair is lanes i and i + 4 of eight, for sums of this type; else it is lanes 2i and 2i + 1. ARM multiplies
/// halves of vectors and adds in one instruction; with neighbors it would take two more.
template <class Sum>
inline constexpr bool pairs_lie_apart = HWY_ARCH_ARM_A64 != 0 && std::is_same_v<Sum, integer_vector>;

/// sum + a * b, pair by pair
MULTISTATE_INLINE integer_vector add_pairs(integer_vector sum, short_vector a, short_vector b) noexcept {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3 && defined(__AVX512VNNI__) && !defined(__clang__)
    // Around the intrinsic GCC 12 copies every sum before and after: a quarter of the time of an int8 step.
    asm("vpdpwssd %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
    return sum;
#elif HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3 && defined(__AVX512VNNI__)
    return integer_vector{_mm512_dpwssd_epi32(sum.raw, a.raw, b.raw)};
#elif HWY_ARCH_X86 && HWY_TARGET == HWY_AVX2 && defined(__AVXVNNI__)
    return integer_vector{_mm256_dpwssd_avx_epi32(sum.raw, a.raw, b.raw)};
#elif HWY_ARCH_ARM_A64
    const int32x4_t low = vmlal_s16(sum.raw, vget_low_s16(a.raw), vget_low_s16(b.raw));
    return integer_vector{vmlal_high_s16(low, a.raw, b.raw)};
#else
    auto unused = hn::Zero(integer_tag{});
    return hn::ReorderWidenMulAccumulate(integer_tag{}, a, b, sum, unused);
#endif
}

#if MULTISTATE_DOTS_BFLOAT16
/// The same for bf16, given as bits.
MULTISTATE_INLINE float_vector add_pairs(float_vector sum, short_vector a, short_vector b) noexcept {
#if HWY_ARCH_X86
    return float_vector{
        _mm512_dpbf16_ps(sum.raw, reinterpret_cast<__m512bh>(a.raw), reinterpret_cast<__m512bh>(b.raw))};
#else
    return float_vector{vbfdotq_f32(sum.raw, vreinterpretq_bf16_s16(a.raw), vreinterpretq_bf16_s16(b.raw))};
#endif
}
#endif

/// A vector of the 32 bits at x.
MULTISTATE_INLINE integer_vector same_bits(const std::int16_t* x) noexcept {
    std::int32_t bits;
    std::memcpy(&bits, x, sizeof bits);
    return hn::Set(integer_tag{}, bits);
}
/// A vector of one pair.
template <class Sum>
MULTISTATE_INLINE short_vector same_pair(const std::int16_t* pair) noexcept {
    const short_tag d;
    if constexpr (pairs_lie_apart<Sum>) {
        return hn::ConcatLowerLower(d, hn::Set(d, pair[1]), hn::Set(d, pair[0]));
    } else {
        return hn::BitCast(d, same_bits(pair));
    }
}

/// Two rows become pairs of a column: of every 8 columns the first 4, and the last 4.
template <class Sum>
MULTISTATE_INLINE void make_pairs(short_vector (&rows)[2]) noexcept {
    const short_tag d;
    const auto [x, y] = rows;
    if constexpr (pairs_lie_apart<Sum>) {
        rows[0] = hn::ConcatLowerLower(d, y, x);
        rows[1] = hn::ConcatUpperUpper(d, y, x);
    } else {
        rows[0] = hn::InterleaveLower(d, x, y);
        rows[1] = hn::InterleaveUpper(d, x, y);
    }
}

/// Rounds n floats of `Rows` rows to integers within ±most, n a multiple of 2 * lanes: to[i * to_stride + j] from
/// x[i * stride + j]. units[i] = what one of them means; NaN where a float of the row is not finite.
template <std::size_t Rows>
void to_shorts(const float* x, std::size_t stride, std::size_t n, float most, std::int16_t* to, std::size_t to_stride,
               float* units) noexcept {
    const float_tag d;
    const integer_tag bits;
    integer_vector peaks[Rows];  // magnitudes as bits: NaN > infinity > all others
    for (auto& peak : peaks) peak = hn::Zero(bits);
    for (std::size_t j = 0; j < n; j += lanes) {
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Rows; ++i) {
            peaks[i] = hn::Max(peaks[i], hn::BitCast(bits, hn::Abs(hn::LoadU(d, x + i * stride + j))));
        }
    }
    float inverse[Rows];
    MULTISTATE_UNROLL
    for (std::size_t i = 0; i < Rows; ++i) {
        const float peak = std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(bits, peaks[i])));
        inverse[i] = peak > 1e-33f ? most / peak : 0;  // else most / peak may overflow
        units[i] = peak / most + (peak - peak);
    }
    const hn::Rebind<std::int16_t, float_tag> narrow;
    for (std::size_t j = 0; j < n; j += lanes) {
        MULTISTATE_UNROLL
        for (std::size_t i = 0; i < Rows; ++i) {
            const auto scaled = hn::Mul(hn::LoadU(d, x + i * stride + j), hn::Set(d, inverse[i]));
            hn::StoreU(hn::DemoteTo(narrow, hn::NearestInt(scaled)), narrow, to + i * to_stride + j);
        }
    }
}

/// 2 * lanes stored integers in 16 bits.
MULTISTATE_INLINE short_vector load_shorts(const std::int8_t* x) noexcept {
    return hn::PromoteTo(short_tag{}, hn::LoadU(hn::Rebind<std::int8_t, short_tag>{}, x));
}
/// The bits of 2 * lanes bf16 numbers.
MULTISTATE_INLINE short_vector load_shorts(const std::uint16_t* x) noexcept {
    return hn::LoadU(short_tag{}, reinterpret_cast<const std::int16_t*>(x));
}
/// The same with zeros from number n on: what lies behind a row may be a NaN, and 0 * NaN is NaN.
MULTISTATE_INLINE short_vector load_shorts(const std::uint16_t* x, std::size_t n) noexcept {
    if constexpr (padding % (2 * lanes) == 0) return load_shorts(x);
    const short_tag d;
    return hn::MaskedLoad(hn::FirstN(d, n), d, reinterpret_cast<const std::int16_t*>(x));
}
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
/// 32 bytes, twice.
MULTISTATE_INLINE short_vector load_twice(const std::uint8_t* x) noexcept {
    const auto half = hn::LoadU(hn::Half<hn::Repartition<std::uint8_t, short_tag>>{}, x);
    return short_vector{_mm512_broadcast_i64x4(half.raw)};
}
#endif

/// `lanes` pairs of words of two rows.
template <class Sum>
MULTISTATE_INLINE short_vector load_pairs(const std::uint8_t* a, const std::uint8_t* b) noexcept {
    const short_tag d;
    const hn::Half<hn::Repartition<std::uint8_t, short_tag>> bytes;
    const auto x = hn::BitCast(hn::Half<short_tag>{}, hn::LoadU(bytes, a));
    const auto y = hn::BitCast(hn::Half<short_tag>{}, hn::LoadU(bytes, b));
    if constexpr (pairs_lie_apart<Sum>) {
        return hn::Combine(d, y, x);
    } else {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
        alignas(64) static constexpr std::int16_t by_turns[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                                  21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                                  11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
        return short_vector{_mm512_permutexvar_epi16(hn::Load(d, by_turns).raw, hn::Combine(d, y, x).raw)};
#else
        const auto upper = hn::ShiftLeft<16>(hn::PromoteTo(integer_tag{}, y));
        const auto lower = hn::And(hn::PromoteTo(integer_tag{}, x), hn::Set(integer_tag{}, 0xffff));
        return hn::BitCast(d, hn::Or(upper, lower));
#endif
    }
}

#if MULTISTATE_DOTS_BYTES
using byte_tag = hn::Repartition<std::int8_t, float_tag>;
using byte_vector = hn::Vec<byte_tag>;

/// Numbers of 16 bits, or sums of products with them, in two pieces: 256 * upper + lower.
template <class V>
struct in_two {
    V upper, lower;
};

/// sum + a * b, four products in each lane
MULTISTATE_INLINE in_two<integer_vector> add_fours(in_two<integer_vector> sum, byte_vector a,
                                                   in_two<byte_vector> b) noexcept {
    return {integer_vector{vdotq_s32(sum.upper.raw, a.raw, b.upper.raw)},
            integer_vector{vdotq_s32(sum.lower.raw, a.raw, b.lower.raw)}};
}
/// Exact where the result has 32 bits, even if 256 * upper has more.
MULTISTATE_INLINE integer_vector in_one(in_two<integer_vector> sum) noexcept {
    return hn::Add(hn::ShiftLeft<8>(sum.upper), sum.lower);
}
MULTISTATE_INLINE void store_sums(const in_two<integer_vector> (&v)[4], float* out) noexcept {
    const integer_vector sums[] = {in_one(v[0]), in_one(v[1]), in_one(v[2]), in_one(v[3])};
    store_sums(sums, out);
}

/// The greatest number whose two bytes both have a sign: 256 * 127 + 127.
inline constexpr float most_in_two = 32639;
/// Cuts n numbers within ±most_in_two in two, n a multiple of 16: of every 16 the upper bytes, then the lower.
inline void cut_in_two(std::int16_t* x, std::size_t n) noexcept {
    for (; n > 0; x += 16, n -= 16) {
        const int16x8_t a = vld1q_s16(x);
        const int16x8_t b = vld1q_s16(x + 8);
        const int16x8_t half = vdupq_n_s16(128);  // rounds the upper byte, for the lower one may be negative
        const auto bytes = [](int16x8_t v) { return vreinterpretq_s8_s16(v); };
        vst1q_s16(x, vreinterpretq_s16_s8(vuzp2q_s8(bytes(vaddq_s16(a, half)), bytes(vaddq_s16(b, half)))));
        vst1q_s16(x + 8, vreinterpretq_s16_s8(vuzp1q_s8(bytes(a), bytes(b))));
    }
}

/// Four rows become fours of a column: four columns in each vector.
MULTISTATE_INLINE void make_fours(byte_vector (&rows)[4]) noexcept {
    const byte_tag d;
    const byte_vector even[] = {hn::InterleaveLower(d, rows[0], rows[2]), hn::InterleaveUpper(d, rows[0], rows[2])};
    const byte_vector odd[] = {hn::InterleaveLower(d, rows[1], rows[3]), hn::InterleaveUpper(d, rows[1], rows[3])};
    for (std::size_t i = 0; i < 2; ++i) {
        rows[2 * i] = hn::InterleaveLower(d, even[i], odd[i]);
        rows[2 * i + 1] = hn::InterleaveUpper(d, even[i], odd[i]);
    }
}
#endif

}}}  // namespace multistate::MULTISTATE_TARGET::simd
#endif
