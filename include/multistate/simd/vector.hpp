#pragma once

// Vectors for policies and tables: the vector extension of GCC and Clang, at the widest size that the target has.
//
//     simd::floats sum = {};
//     for (std::size_t i = 0; i < n; i += simd::vector_width) sum += simd::load(x + i) * 0.5f;   // lane by lane
//     const simd::floats positive = sum > simd::floats{} ? sum : simd::floats{};                // also lane by lane
//
// A comparison gives integers: -1 in lanes where it holds, 0 in the others. Every user's file compiles policies and
// tables, and Highway alone would take longer than all of them, so this header does not include it. The kernels of
// attention need more than these operators and use Highway (highway.hpp).
#include <cstddef>
#include <cstdint>

#include "multistate/core/target.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

/// Floats in a vector.
#if MULTISTATE_HAS_AVX3
inline constexpr std::size_t vector_width = 16;
#elif defined(__AVX2__)
inline constexpr std::size_t vector_width = 8;
#else
inline constexpr std::size_t vector_width = 4;
#endif

using floats = float __attribute__((vector_size(4 * vector_width)));
using integers = std::int32_t __attribute__((vector_size(4 * vector_width)));
using naturals = std::uint32_t __attribute__((vector_size(4 * vector_width)));

/// Stored rows are padded with zeros to a multiple of this many columns, on every target. So kernels need no remainder
/// loop.
inline constexpr std::size_t padding = 16;
constexpr std::size_t padded(std::size_t n, std::size_t to = padding) noexcept { return (n + to - 1) / to * to; }

// Loads and stores of any alignment. Compilers turn each copy into one instruction.
MULTISTATE_INLINE floats load(const float* p) noexcept {
    floats v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
MULTISTATE_INLINE integers load(const std::int32_t* p) noexcept {
    integers v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
MULTISTATE_INLINE void store(floats v, float* p) noexcept { __builtin_memcpy(p, &v, sizeof v); }
MULTISTATE_INLINE void store(integers v, std::int32_t* p) noexcept { __builtin_memcpy(p, &v, sizeof v); }

/// All lanes x. The subtraction keeps -0, an addition would not.
MULTISTATE_INLINE floats fill(float x) noexcept { return x - floats{}; }
MULTISTATE_INLINE integers fill(std::int32_t x) noexcept { return x - integers{}; }

/// first, first + 1, …
MULTISTATE_INLINE integers count_from(std::int32_t first) noexcept {
#if MULTISTATE_HAS_AVX3
    return first + integers{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif defined(__AVX2__)
    return first + integers{0, 1, 2, 3, 4, 5, 6, 7};
#else
    return first + integers{0, 1, 2, 3};
#endif
}

/// Bit i is the mask of lane i.
MULTISTATE_INLINE unsigned bits_of(integers mask) noexcept {
#if MULTISTATE_HAS_AVX3
    return static_cast<unsigned>(__builtin_ia32_cvtd2mask512(mask)) & 0xffffu;
#elif defined(__AVX2__)
    return static_cast<unsigned>(__builtin_ia32_movmskps256(reinterpret_cast<floats>(mask)));
#elif defined(__SSE2__)
    return static_cast<unsigned>(__builtin_ia32_movmskps(reinterpret_cast<floats>(mask)));
#else
    unsigned bits = 0;
    for (std::size_t i = 0; i < vector_width; ++i) bits |= (mask[i] != 0 ? 1u : 0u) << i;
    return bits;
#endif
}
MULTISTATE_INLINE bool any(integers mask) noexcept {
#if defined(__x86_64__) || defined(__i386__)
    return bits_of(mask) != 0;
#else
    return (mask[0] | mask[1] | mask[2] | mask[3]) != 0;
#endif
}

MULTISTATE_INLINE bool all(integers mask) noexcept { return !any(~mask); }

/// The first n < vector_width elements at p, then `rest`. Does not read past them.
MULTISTATE_INLINE floats load_first(const float* p, std::size_t n, float rest) noexcept {
#if MULTISTATE_HAS_AVX3
    const auto mask = static_cast<std::uint16_t>((1u << n) - 1);
    return __builtin_ia32_loadups512_mask(p, fill(rest), mask);
#elif defined(__AVX2__)
    const integers mask = count_from(0) < static_cast<std::int32_t>(n);
    const floats x = __builtin_ia32_maskloadps256(reinterpret_cast<const floats*>(p), mask);
    return mask ? x : fill(rest);
#else
    floats result = fill(rest);
    for (std::size_t i = 0; i < vector_width; ++i) {
        if (i < n) result[i] = p[i];
    }
    return result;
#endif
}
MULTISTATE_INLINE integers load_first(const std::int32_t* p, std::size_t n, std::int32_t rest) noexcept {
#if MULTISTATE_HAS_AVX3
    const auto mask = static_cast<std::uint16_t>((1u << n) - 1);
    return __builtin_ia32_loaddqusi512_mask(p, fill(rest), mask);
#elif defined(__AVX2__)
    const integers mask = count_from(0) < static_cast<std::int32_t>(n);
    const integers x = __builtin_ia32_maskloadd256(reinterpret_cast<const integers*>(p), mask);
    return mask ? x : fill(rest);
#else
    integers result = fill(rest);
    for (std::size_t i = 0; i < vector_width; ++i) {
        if (i < n) result[i] = p[i];
    }
    return result;
#endif
}

/// Stores the first n < vector_width elements. Does not write past them.
MULTISTATE_INLINE void store_first(floats v, float* p, std::size_t n) noexcept {
#if MULTISTATE_HAS_AVX3
    __builtin_ia32_storeups512_mask(p, v, static_cast<std::uint16_t>((1u << n) - 1));
#elif defined(__AVX2__)
    __builtin_ia32_maskstoreps256(reinterpret_cast<floats*>(p), count_from(0) < static_cast<std::int32_t>(n), v);
#else
    for (std::size_t i = 0; i < vector_width; ++i) {
        if (i < n) p[i] = v[i];
    }
#endif
}

/// Writes first + i to p for each bit i that is set, ascending; returns how many there are.
MULTISTATE_INLINE std::size_t store_indices(unsigned bits, std::int32_t first, std::uint32_t* p) noexcept {
#if MULTISTATE_HAS_AVX3
    if (bits == 0) return 0;
    const auto count = static_cast<unsigned>(__builtin_popcount(bits)), written = (1u << count) - 1;
    const integers chosen =
        __builtin_ia32_compresssi512_mask(count_from(first), integers{}, static_cast<std::uint16_t>(bits));
    __builtin_ia32_storedqusi512_mask(reinterpret_cast<std::int32_t*>(p), chosen, static_cast<std::uint16_t>(written));
    return count;
#else
    std::size_t count = 0;
    for (; bits != 0; bits &= bits - 1) p[count++] = static_cast<std::uint32_t>(first + __builtin_ctz(bits));
    return count;
#endif
}

/// a * b + c; rounded once if the target has the instruction.
MULTISTATE_INLINE floats multiply_add(floats a, floats b, floats c) noexcept {
#if MULTISTATE_HAS_AVX3
#if defined(__clang__)
    constexpr std::uint16_t all = 0xffff;
#else
    constexpr std::int16_t all = -1;
#endif
    return __builtin_ia32_vfmaddps512_mask(a, b, c, all, 4);
#elif defined(__AVX2__) && defined(__FMA__)
    return __builtin_ia32_vfmaddps256(a, b, c);
#elif defined(__FMA__)
    return __builtin_ia32_vfmaddps(a, b, c);
#elif defined(__aarch64__)
    for (std::size_t i = 0; i < vector_width; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#else
    return a * b + c;
#endif
}

/// Reduces all lanes of v to one number: f combines the two halves until one lane is left. It takes two vectors or two
/// numbers.
template <class Vector, class F>
MULTISTATE_INLINE auto fold(Vector v, F f) noexcept {
#if MULTISTATE_HAS_AVX3
    const auto half = f(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
                        __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
    const auto x = f(__builtin_shufflevector(half, half, 0, 1, 2, 3), __builtin_shufflevector(half, half, 4, 5, 6, 7));
#elif defined(__AVX2__)
    const auto x = f(__builtin_shufflevector(v, v, 0, 1, 2, 3), __builtin_shufflevector(v, v, 4, 5, 6, 7));
#else
    const auto x = v;
#endif
#if defined(__aarch64__)
    return f(f(x[0], x[1]), f(x[2], x[3]));
#else
    const auto two = f(x, __builtin_shufflevector(x, x, 2, 3, 0, 1));
    return f(two, __builtin_shufflevector(two, two, 1, 0, 3, 2))[0];
#endif
}

MULTISTATE_INLINE float sum(floats v) noexcept {
    return fold(v, [](auto a, auto b) { return a + b; });
}

}}}  // namespace multistate::MULTISTATE_TARGET::simd
