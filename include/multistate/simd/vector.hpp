#pragma once

// The vector type of the library and its basic moves: loading stored elements as floats, sums over lanes.
// All explicit vector code lives in this folder and is written in Google Highway, static dispatch: the flags of the
// including translation unit choose the instructions, and no library is linked.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include <hwy/highway.h>

#include "multistate/target.hpp"

// Full unrolling where an array of vectors must live in registers.
#if defined(__clang__)
#define MULTISTATE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define MULTISTATE_UNROLL _Pragma("GCC unroll 16")
#endif

// Whether Highway converts f16 with instructions; else its own code truncates and loses NaN. The compiler's __F16C__
// does not say: with -march=haswell alone it is defined, but Highway's target is SSSE3.
#if (HWY_ARCH_X86 && HWY_TARGET < HWY_SSE4 && !defined(HWY_DISABLE_F16C)) || HWY_ARCH_ARM
#define MULTISTATE_CONVERTS_F16 1
#else
#define MULTISTATE_CONVERTS_F16 0
#endif

namespace multistate::inline MULTISTATE_TARGET {

/// IEEE binary16 and bfloat16, as bits: the library stores and widens them, it never computes in them.
struct half {
    std::uint16_t bits;
};
struct brain {
    std::uint16_t bits;
};

namespace simd {

namespace hn = hwy::HWY_NAMESPACE;

using float_tag = hn::CappedTag<float, 16>;
using integer_tag = hn::RebindToSigned<float_tag>;
using float_vector = hn::Vec<float_tag>;
inline constexpr std::size_t lanes = hn::MaxLanes(float_tag{});

/// Rows are padded with zeros to a multiple of this many elements on every target, so that no kernel has a tail.
inline constexpr std::size_t padding = 16;
constexpr std::size_t padded(std::size_t n) noexcept { return (n + padding - 1) / padding * padding; }

/// `lanes` consecutive elements as floats.
HWY_INLINE float_vector load(const float* p) noexcept { return hn::LoadU(float_tag{}, p); }
HWY_INLINE float_vector load(const half* p) noexcept {
    const hn::Rebind<hwy::float16_t, float_tag> d;
    const auto wide = hn::PromoteTo(float_tag{}, hn::LoadU(d, reinterpret_cast<const hwy::float16_t*>(p)));
#if MULTISTATE_CONVERTS_F16
    return wide;
#else
    // Elsewhere Highway 1.0.3 reads a NaN as a number of 65536 and more; infinities are never stored.
    const auto nan = hn::Set(float_tag{}, std::numeric_limits<float>::quiet_NaN());
    return hn::IfThenElse(hn::Ge(hn::Abs(wide), hn::Set(float_tag{}, 65536.0f)), nan, wide);
#endif
}
HWY_INLINE float_vector load(const brain* p) noexcept {
    const hn::Rebind<std::uint16_t, float_tag> d;
    const hn::RebindToUnsigned<float_tag> wide;
    const auto bits = hn::PromoteTo(wide, hn::LoadU(d, reinterpret_cast<const std::uint16_t*>(p)));
    return hn::BitCast(float_tag{}, hn::ShiftLeft<16>(bits));
}
HWY_INLINE float_vector load(const std::int8_t* p) noexcept {
    const hn::Rebind<std::int8_t, float_tag> d;
    return hn::ConvertTo(float_tag{}, hn::PromoteTo(integer_tag{}, hn::LoadU(d, p)));
}

HWY_INLINE float sum(float_vector v) noexcept { return hn::GetLane(hn::SumOfLanes(float_tag{}, v)); }

#if HWY_TARGET == HWY_SCALAR
/// out[i] = v[i]
HWY_INLINE void store_sums(const float_vector (&v)[4], float* out) noexcept {
    for (std::size_t i = 0; i < 4; ++i) out[i] = sum(v[i]);
}
#else
/// Halves a vector by adding its upper to its lower half, down to four lanes.
template <class V>
HWY_INLINE auto fold_to_four(V v) noexcept {
    const hn::DFromV<V> d;
    if constexpr (hn::MaxLanes(d) == 4) {
        return v;
    } else {
        const hn::Half<decltype(d)> half_d;
        return fold_to_four(hn::Add(hn::LowerHalf(half_d, v), hn::UpperHalf(half_d, v)));
    }
}

/// out[i] = the sum of the lanes of v[i], four at a time: half the instructions of four separate sums.
HWY_INLINE void store_sums(const float_vector (&v)[4], float* out) noexcept {
    const float_tag d;
    const hn::RepartitionToWide<float_tag> pairs;
    const auto low = hn::Add(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1]));
    const auto high = hn::Add(hn::InterleaveLower(d, v[2], v[3]), hn::InterleaveUpper(d, v[2], v[3]));
    const auto a = hn::InterleaveLower(pairs, hn::BitCast(pairs, low), hn::BitCast(pairs, high));
    const auto b = hn::InterleaveUpper(pairs, hn::BitCast(pairs, low), hn::BitCast(pairs, high));
    const auto four = fold_to_four(hn::Add(hn::BitCast(d, a), hn::BitCast(d, b)));
    hn::StoreU(four, hn::DFromV<decltype(four)>{}, out);
}
#endif

}  // namespace simd
}  // namespace multistate::inline MULTISTATE_TARGET
