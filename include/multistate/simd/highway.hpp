#pragma once

// Includes Google Highway, and defines the vectors that the kernels of attention are written in.
//
//     const simd::float_tag d;
//     const auto x = hn::LoadU(d, row);                      // lanes floats
//     const float total = simd::sum(hn::Mul(x, x));
//
// This is the only file that includes Highway. Static dispatch: the flags of the including translation unit choose the
// instructions, and no library is linked. Policies and tables use vector.hpp instead, which compiles faster.
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "multistate/core/target.hpp"

// Settings for Highway 1.0.3:
//   - With -march=sapphirerapids it stops with an error unless HWY_WANT_AVX3_DL is defined.
//   - Without AES, as with -march=x86-64-v3, it would use SSSE3, with which f16 takes ten times as long.
//   - SVE vectors have no size at compile time, so the kernels' arrays cannot hold them. Such processors use NEON.
//   - On ARM it compiles for AES, against the flags, if it thinks that GCC can choose a target at run time.
//   - Without flags, some compilers get EMU128, whose maximum of infinities is finite. The scalar target replaces it.
#if defined(__AVX512BITALG__) && defined(__AVXVNNI__) && !defined(HWY_WANT_AVX3_DL)
#define HWY_WANT_AVX3_DL
#endif
#if !(defined(__AES__) && defined(__PCLMUL__)) && !defined(HWY_DISABLE_PCLMUL_AES)
#define HWY_DISABLE_PCLMUL_AES
#endif
#if defined(__ARM_FEATURE_SVE) && !defined(HWY_DISABLED_TARGETS)
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif
#if defined(__aarch64__) && !defined(TOOLCHAIN_MISS_SYS_AUXV_H)
#define TOOLCHAIN_MISS_SYS_AUXV_H
#endif
#ifndef HWY_BROKEN_EMU128
#define HWY_BROKEN_EMU128 1
#endif
#include <hwy/cache_control.h>
#include <hwy/highway.h>
// Highway may have been included before, without these settings, and may have chosen another target, or none.
#if HWY_HAVE_SCALABLE || HWY_TARGET == HWY_EMU128 || HWY_TARGET != HWY_STATIC_TARGET || \
    (HWY_TARGETS & HWY_STATIC_TARGET) == 0
#error "multistate cannot use the target that Highway chose: include multistate before <hwy/highway.h>"
#include "multistate/comes_before_highway"  // no such file: the compiler stops here
#endif
// The name of the inline namespace comes from the compiler's flags. If Highway chose a weaker target (a greater number
// is a weaker target), other code would have the same name.
#if HWY_TARGET > MULTISTATE_JOIN_TWO(HWY_, MULTISTATE_TARGET_LEVEL)
#error "multistate: choose the target by compiler flags alone, without HWY_DISABLED_TARGETS or HWY_COMPILE_ONLY_SCALAR"
#include "multistate/chooses_the_target_by_flags"  // no such file: the compiler stops here
#endif

// Unrolls a loop completely, so that an array of vectors stays in registers.
#if defined(__clang__)
#define MULTISTATE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define MULTISTATE_UNROLL _Pragma("GCC unroll 16")
#endif

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

namespace hn = hwy::HWY_NAMESPACE;

using float_tag = hn::CappedTag<float, 16>;
using integer_tag = hn::RebindToSigned<float_tag>;
using float_vector = hn::Vec<float_tag>;
inline constexpr std::size_t lanes = hn::MaxLanes(float_tag{});

/// x, kept in a register for several uses. Otherwise GCC 12 loads it for each use, or spills it.
template <class V>
MULTISTATE_INLINE V in_register(V x) noexcept {
#if HWY_ARCH_X86 && !defined(__clang__)
    if constexpr (requires { x.raw; }) asm("" : "+v"(x.raw));
#endif
    return x;
}

/// The first n <= lanes elements at p, then `fill`. Does not read past them.
template <class D, class T = hn::TFromD<D>>
MULTISTATE_INLINE hn::Vec<D> load_first(D d, const T* p, std::size_t n, T fill) noexcept {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
    const auto first = hn::FirstN(d, n);
    return hn::IfThenElse(first, hn::MaskedLoad(first, d, p), hn::Set(d, fill));
#else  // Highway's masked load may read past them
    alignas(64) T buffer[lanes];
    for (std::size_t i = 0; i < lanes; ++i) buffer[i] = i < n ? p[i] : fill;
    return hn::Load(d, buffer);
#endif
}
/// Stores the first n <= lanes elements. Does not write past them.
template <class D, class T = hn::TFromD<D>>
MULTISTATE_INLINE void store_first(D d, hn::Vec<D> v, T* p, std::size_t n) noexcept {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
    hn::BlendedStore(v, hn::FirstN(d, n), d, p);
#else
    alignas(64) T buffer[lanes];
    hn::Store(v, d, buffer);
    for (std::size_t i = 0; i < n; ++i) p[i] = buffer[i];
#endif
}

MULTISTATE_INLINE float sum(float_vector v) noexcept { return hn::GetLane(hn::SumOfLanes(float_tag{}, v)); }

#if HWY_TARGET == HWY_SCALAR
/// out[i] = v[i]
MULTISTATE_INLINE void store_sums(const float_vector (&v)[4], float* out) noexcept {
    for (std::size_t i = 0; i < 4; ++i) out[i] = sum(v[i]);
}
#else
/// Adds the upper half of a vector to its lower half, until four lanes are left.
template <class V>
MULTISTATE_INLINE auto fold_to_four(V v) noexcept {
    const hn::DFromV<V> d;
    if constexpr (hn::MaxLanes(d) == 4) {
        return v;
    } else {
        const hn::Half<decltype(d)> half_d;
        return fold_to_four(hn::Add(hn::LowerHalf(half_d, v), hn::UpperHalf(half_d, v)));
    }
}

/// out[i] = the sum of the lanes of v[i], floats or integers. Half the instructions of four separate sums.
template <class V>
MULTISTATE_INLINE void store_sums(const V (&v)[4], float* out) noexcept {
    const hn::DFromV<V> d;
    const hn::RepartitionToWide<decltype(d)> pairs;
    const auto low = hn::Add(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1]));
    const auto high = hn::Add(hn::InterleaveLower(d, v[2], v[3]), hn::InterleaveUpper(d, v[2], v[3]));
    const auto a = hn::InterleaveLower(pairs, hn::BitCast(pairs, low), hn::BitCast(pairs, high));
    const auto b = hn::InterleaveUpper(pairs, hn::BitCast(pairs, low), hn::BitCast(pairs, high));
    const auto four = fold_to_four(hn::Add(hn::BitCast(d, a), hn::BitCast(d, b)));
    const hn::RebindToFloat<hn::DFromV<decltype(four)>> float_d;
    if constexpr (std::is_same_v<hn::TFromD<decltype(d)>, float>) {
        hn::StoreU(four, float_d, out);
    } else {
        hn::StoreU(hn::ConvertTo(float_d, four), float_d, out);
    }
}
#endif

#if HWY_TARGET == HWY_SCALAR
/// to[i * stride + r] = v[r][i] for all lanes i
MULTISTATE_INLINE void store_columns(const float_vector (&v)[4], float* to, std::size_t) noexcept {
    for (std::size_t r = 0; r < 4; ++r) to[r] = hn::GetLane(v[r]);
}
#else
/// Stores four lanes at a time, `stride` floats apart.
template <class V>
MULTISTATE_INLINE void store_fours(V v, float* to, std::size_t stride) noexcept {
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
MULTISTATE_INLINE void store_columns(const float_vector (&v)[4], float* to, std::size_t stride) noexcept {
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

}}}  // namespace multistate::MULTISTATE_TARGET::simd
