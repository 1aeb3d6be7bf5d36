#pragma once

// The vector type of the library and its basic moves: loading stored elements as floats, sums over lanes.
// All explicit vector code lives in this folder and is written in Google Highway, static dispatch: the flags of the
// including translation unit choose the instructions, and no library is linked.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "multistate/core/target.hpp"

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

namespace multistate { inline namespace MULTISTATE_TARGET {

/// IEEE binary16 and bfloat16, as bits: the library stores and widens them, it never computes in them.
struct half {
    std::uint16_t bits;
};
struct brain {
    std::uint16_t bits;
};
/// 64 columns in 4 bits: two groups of 32 integers within ±7, each with a scale of its own. Byte c holds column c in
/// its lower half and column c + 32 in its upper half.
struct nibbles {
    std::int8_t scales[2];
    std::uint8_t bytes[32];
};

namespace simd {

namespace hn = hwy::HWY_NAMESPACE;

using float_tag = hn::CappedTag<float, 16>;
using integer_tag = hn::RebindToSigned<float_tag>;
using float_vector = hn::Vec<float_tag>;
inline constexpr std::size_t lanes = hn::MaxLanes(float_tag{});

/// Rows are padded with zeros to a multiple of this many elements on every target, so that no kernel has a tail.
inline constexpr std::size_t padding = 16;
constexpr std::size_t padded(std::size_t n, std::size_t to = padding) noexcept { return (n + to - 1) / to * to; }

/// The first n <= lanes elements at p, then `fill`. Reads nothing behind them.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_first(D d, const T* p, std::size_t n, T fill) noexcept {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
    const auto first = hn::FirstN(d, n);
    return hn::IfThenElse(first, hn::MaskedLoad(first, d, p), hn::Set(d, fill));
#else  // Highway's masked load may read on
    alignas(64) T buffer[lanes];
    for (std::size_t i = 0; i < lanes; ++i) buffer[i] = i < n ? p[i] : fill;
    return hn::Load(d, buffer);
#endif
}
/// Stores the first n <= lanes elements. Writes nothing behind them.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void store_first(D d, hn::Vec<D> v, T* p, std::size_t n) noexcept {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
    hn::BlendedStore(v, hn::FirstN(d, n), d, p);
#else
    alignas(64) T buffer[lanes];
    hn::Store(v, d, buffer);
    for (std::size_t i = 0; i < n; ++i) p[i] = buffer[i];
#endif
}

/// Columns [c, c + lanes) of a stored row as floats, c a multiple of lanes; without the scale of the row.
HWY_INLINE float_vector load(const float* row, std::size_t c) noexcept { return hn::LoadU(float_tag{}, row + c); }
HWY_INLINE float_vector load(const half* row, std::size_t c) noexcept {
    const hn::Rebind<hwy::float16_t, float_tag> d;
    const auto wide = hn::PromoteTo(float_tag{}, hn::LoadU(d, reinterpret_cast<const hwy::float16_t*>(row + c)));
#if MULTISTATE_CONVERTS_F16
    return wide;
#else
    // Elsewhere Highway 1.0.3 reads an infinity as 65536, and a NaN as a greater number.
    const auto beyond = hn::Set(float_tag{}, 65536.0f);
    const auto infinity = hn::CopySign(hn::Set(float_tag{}, std::numeric_limits<float>::infinity()), wide);
    const auto nan = hn::Set(float_tag{}, std::numeric_limits<float>::quiet_NaN());
    const auto odd = hn::IfThenElse(hn::Eq(hn::Abs(wide), beyond), infinity, nan);
    return hn::IfThenElse(hn::Lt(hn::Abs(wide), beyond), wide, odd);
#endif
}
HWY_INLINE float_vector load(const brain* row, std::size_t c) noexcept {
    const hn::Rebind<std::uint16_t, float_tag> d;
    const hn::RebindToUnsigned<float_tag> wide;
    const auto bits = hn::PromoteTo(wide, hn::LoadU(d, reinterpret_cast<const std::uint16_t*>(row + c)));
    return hn::BitCast(float_tag{}, hn::ShiftLeft<16>(bits));
}
HWY_INLINE float_vector load(const std::int8_t* row, std::size_t c) noexcept {
    const hn::Rebind<std::int8_t, float_tag> d;
    return hn::ConvertTo(float_tag{}, hn::PromoteTo(integer_tag{}, hn::LoadU(d, row + c)));
}
HWY_INLINE float_vector load(const nibbles* row, std::size_t c) noexcept {
    const nibbles& block = row[c / 64];
    const std::size_t group = c % 64 / 32;
    const hn::Rebind<std::uint8_t, float_tag> d;
    const auto bytes = hn::PromoteTo(integer_tag{}, hn::LoadU(d, block.bytes + c % 32));
    const auto raised = group == 0 ? hn::ShiftLeft<28>(bytes) : hn::ShiftLeft<24>(bytes);
    const auto scale = hn::Set(float_tag{}, static_cast<float>(block.scales[group]));
    return hn::Mul(hn::ConvertTo(float_tag{}, hn::ShiftRight<28>(raised)), scale);
}

/// Rounds floats to bf16, to nearest, ties to even; NaN stays NaN.
HWY_INLINE auto to_brains(float_vector v) noexcept {
    const hn::RebindToUnsigned<float_tag> d;
    const auto bits = hn::BitCast(d, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1u));
    const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(d, 0x7fffu)));
    const auto quiet = hn::Or(bits, hn::Set(d, 0x400000u));
    const auto result = hn::IfThenElse(hn::RebindMask(d, hn::IsNaN(v)), quiet, rounded);
    const hn::Rebind<std::uint16_t, float_tag> narrow;
    return hn::DemoteTo(narrow, hn::BitCast(integer_tag{}, hn::ShiftRight<16>(result)));
}

/// bytes[c] = low[c] in its lower half and high[c] in its upper half, for 32 integers each.
inline void pack_nibbles(const std::int8_t* low, const std::int8_t* high, std::uint8_t* bytes) noexcept {
    const hn::CappedTag<std::uint8_t, 16> d;
    for (std::size_t c = 0; c < 32; c += hn::Lanes(d)) {
        const auto a = hn::LoadU(d, reinterpret_cast<const std::uint8_t*>(low + c));
        const auto b = hn::LoadU(d, reinterpret_cast<const std::uint8_t*>(high + c));
        hn::StoreU(hn::Or(hn::And(a, hn::Set(d, std::uint8_t{15})), hn::ShiftLeft<4>(b)), d, bytes + c);
    }
}

/// Whether stored rows also have a float scale each.
template <class Element>
inline constexpr bool scaled = std::is_same_v<Element, std::int8_t> || std::is_same_v<Element, nibbles>;

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

/// out[i] = the sum of the lanes of v[i], floats or integers, four at a time: half the instructions of four separate
/// sums.
template <class V>
HWY_INLINE void store_sums(const V (&v)[4], float* out) noexcept {
    const hn::DFromV<V> d;
    const hn::RepartitionToWide<decltype(d)> pairs;
    const auto low = hn::Add(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1]));
    const auto high = hn::Add(hn::InterleaveLower(d, v[2], v[3]), hn::InterleaveUpper(d, v[2], v[3]));
    const auto a = hn::InterleaveLower(pairs, hn::BitCast(pairs, low), hn::BitCast(pairs, high));
    const auto b = hn::InterleaveUpper(pairs, hn::BitCast(pairs, low), hn::BitCast(pairs, high));
    const auto four = fold_to_four(hn::Add(hn::BitCast(d, a), hn::BitCast(d, b)));
    const hn::RebindToFloat<hn::DFromV<decltype(four)>> floats;
    if constexpr (std::is_same_v<hn::TFromD<decltype(d)>, float>) {
        hn::StoreU(four, floats, out);
    } else {
        hn::StoreU(hn::ConvertTo(floats, four), floats, out);
    }
}
#endif

#if HWY_TARGET == HWY_SCALAR
/// to[i * stride + r] = v[r][i] for all lanes i
HWY_INLINE void store_columns(const float_vector (&v)[4], float* to, std::size_t) noexcept {
    for (std::size_t r = 0; r < 4; ++r) to[r] = hn::GetLane(v[r]);
}
#else
/// Stores four lanes at a time, `stride` floats apart.
template <class V>
HWY_INLINE void store_fours(V v, float* to, std::size_t stride) noexcept {
    const hn::DFromV<V> d;
    if constexpr (hn::MaxLanes(d) == 4) {
        hn::StoreU(v, d, to);
    } else {
        const hn::Half<decltype(d)> half_d;
        store_fours(hn::LowerHalf(half_d, v), to, stride);
        store_fours(hn::UpperHalf(half_d, v), to + hn::MaxLanes(half_d) / 4 * stride, stride);
    }
}

/// to[i * stride + r] = v[r][i] for all lanes i
HWY_INLINE void store_columns(const float_vector (&v)[4], float* to, std::size_t stride) noexcept {
    const float_tag d;
    const hn::RepartitionToWide<float_tag> pairs;
    const auto low = [=](auto a, auto b) { return hn::BitCast(pairs, hn::InterleaveLower(d, a, b)); };
    const auto high = [=](auto a, auto b) { return hn::BitCast(pairs, hn::InterleaveUpper(d, a, b)); };
    const auto a = low(v[0], v[1]);
    const auto b = low(v[2], v[3]);
    const auto e = high(v[0], v[1]);
    const auto f = high(v[2], v[3]);
    store_fours(hn::BitCast(d, hn::InterleaveLower(pairs, a, b)), to, 4 * stride);
    store_fours(hn::BitCast(d, hn::InterleaveUpper(pairs, a, b)), to + stride, 4 * stride);
    store_fours(hn::BitCast(d, hn::InterleaveLower(pairs, e, f)), to + 2 * stride, 4 * stride);
    store_fours(hn::BitCast(d, hn::InterleaveUpper(pairs, e, f)), to + 3 * stride, 4 * stride);
}
#endif

}  // namespace simd
}}  // namespace multistate::MULTISTATE_TARGET
