#pragma once

// Products of 16-bit numbers, summed in pairs: what narrow codecs are multiplied with. The one file with intrinsics,
// because Highway 1.0.3 has none of these instructions: VNNI and bf16 on x86, bf16 on ARM. Elsewhere the same integers
// come out of multiplications of pairs; without bf16 instructions, bf16 is widened to float32 instead (meeting.hpp).
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "multistate/simd/vector.hpp"

#if HWY_TARGET != HWY_SCALAR
#define MULTISTATE_DOTS_INTEGERS 1
#else
#define MULTISTATE_DOTS_INTEGERS 0
#endif
#if (HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86 && defined(__AVX512BF16__)) || \
    (HWY_ARCH_ARM_A64 && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC))
#define MULTISTATE_DOTS_BRAINS 1
#else
#define MULTISTATE_DOTS_BRAINS 0
#endif

#if MULTISTATE_DOTS_INTEGERS
namespace multistate::inline MULTISTATE_TARGET::simd {

using short_tag = hn::Repartition<std::int16_t, float_tag>;
using short_vector = hn::Vec<short_tag>;
using integer_vector = hn::Vec<integer_tag>;

/// Whether a pair is lanes i and i + 4 of eight, for sums of this type; else it is lanes 2i and 2i + 1. ARM multiplies
/// halves of vectors and adds in one instruction; with neighbours it would take two more.
template <class Sum>
inline constexpr bool pairs_lie_apart = HWY_ARCH_ARM_A64 != 0 && std::is_same_v<Sum, integer_vector>;

/// sum + a * b, pair by pair
HWY_INLINE integer_vector add_pairs(integer_vector sum, short_vector a, short_vector b) noexcept {
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

#if MULTISTATE_DOTS_BRAINS
/// The same for bf16, given as bits.
HWY_INLINE float_vector add_pairs(float_vector sum, short_vector a, short_vector b) noexcept {
#if HWY_ARCH_X86
    return float_vector{
        _mm512_dpbf16_ps(sum.raw, reinterpret_cast<__m512bh>(a.raw), reinterpret_cast<__m512bh>(b.raw))};
#else
    return float_vector{vbfdotq_f32(sum.raw, vreinterpretq_bf16_s16(a.raw), vreinterpretq_bf16_s16(b.raw))};
#endif
}
#endif

/// A vector of one pair.
template <class Sum>
HWY_INLINE short_vector same_pair(const std::int16_t* pair) noexcept {
    const short_tag d;
    if constexpr (pairs_lie_apart<Sum>) {
        return hn::ConcatLowerLower(d, hn::Set(d, pair[1]), hn::Set(d, pair[0]));
    } else {
        std::int32_t bits;
        std::memcpy(&bits, pair, sizeof bits);
        return hn::BitCast(d, hn::Set(integer_tag{}, bits));
    }
}

/// Two rows become pairs of a column: of every 8 columns the first 4, and the last 4.
template <class Sum>
HWY_INLINE void make_pairs(short_vector (&rows)[2]) noexcept {
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

/// Rounds n floats to integers within ±most, n a multiple of 2 * lanes; returns what one of them means. NaN where a
/// float is not finite.
inline float to_shorts(const float* x, std::size_t n, float most, std::int16_t* to) noexcept {
    const float_tag d;
    auto peaks = hn::Zero(d);
    auto poison = hn::Zero(d);  // 0 * x is NaN where x is not finite
    for (std::size_t i = 0; i < n; i += lanes) {
        const auto v = hn::LoadU(d, x + i);
        peaks = hn::Max(peaks, hn::Abs(v));
        poison = hn::MulAdd(v, hn::Zero(d), poison);
    }
    const float peak = hn::GetLane(hn::MaxOfLanes(d, peaks));
    const auto inverse = hn::Set(d, peak > 1e-33f ? most / peak : 0);  // else most / peak may overflow
    const hn::Rebind<std::int16_t, float_tag> narrow;
    for (std::size_t i = 0; i < n; i += lanes) {
        hn::StoreU(hn::DemoteTo(narrow, hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), inverse))), narrow, to + i);
    }
    return peak / most + sum(poison);
}

#if MULTISTATE_DOTS_BRAINS
/// Rounds n floats to bf16, n a multiple of 2 * lanes.
inline void to_brains(const float* x, std::size_t n, std::int16_t* to) noexcept {
    const hn::Rebind<std::uint16_t, float_tag> d;
    for (std::size_t i = 0; i < n; i += lanes) {
        hn::StoreU(to_brains(hn::LoadU(float_tag{}, x + i)), d, reinterpret_cast<std::uint16_t*>(to + i));
    }
}
#endif

/// Columns [c, c + 2 * lanes) of a stored row in 16 bits, c a multiple of that. Reads up to 16 columns behind the row.
HWY_INLINE short_vector load_shorts(const std::int8_t* row, std::size_t c) noexcept {
    return hn::PromoteTo(short_tag{}, hn::LoadU(hn::Rebind<std::int8_t, short_tag>{}, row + c));
}
HWY_INLINE short_vector load_shorts(const brain* row, std::size_t c) noexcept {
    return hn::LoadU(short_tag{}, reinterpret_cast<const std::int16_t*>(row + c));
}
/// The same, with zeros from column `end` on: what lies behind a row may be a NaN, and 0 * NaN is one.
HWY_INLINE short_vector load_shorts(const brain* row, std::size_t c, std::size_t end) noexcept {
    if constexpr (padding % (2 * lanes) == 0) return load_shorts(row, c);
    const short_tag d;
    return hn::MaskedLoad(hn::FirstN(d, end - c), d, reinterpret_cast<const std::int16_t*>(row + c));
}
/// A nibble stands in the upper 4 of 16 bits: the upper half of its product with 16 * scale is nibble * scale.
HWY_INLINE short_vector load_shorts(const nibbles* row, std::size_t c) noexcept {
    const short_tag d;
    const nibbles& block = row[c / 64];
    const std::size_t group = c % 64 / 32;
    const auto bytes = hn::PromoteTo(d, hn::LoadU(hn::Rebind<std::uint8_t, short_tag>{}, block.bytes + c % 32));
    const auto mask = hn::Set(d, static_cast<std::int16_t>(0xf000));
    const auto raised = group == 0 ? hn::ShiftLeft<12>(bytes) : hn::And(hn::ShiftLeft<8>(bytes), mask);
    return hn::MulHigh(raised, hn::Set(d, static_cast<std::int16_t>(block.scales[group] * 16)));
}

}  // namespace multistate::inline MULTISTATE_TARGET::simd
#endif
