#pragma once

// Names the instruction set that this translation unit is compiled for, and gives the library its inline namespace.
//
// A header-only library compiled with AVX-512 in one file and without it in another would leave two different bodies
// under one symbol, and the linker may hand the wrong one to either caller. So everything in `multistate` sits in an
// inline namespace whose name carries the target: users write `multistate::cache`, the linker sees
// `multistate::N_AVX3_avx512_fma_f16c::cache`. Highway's own target is not enough of a name: -march=haswell without
// -maes is SSSE3 to Highway, but the compiler still emits AVX2 and FMA there.
//
// Every header of the library includes this one before its own code, so the compiler is checked here.
#if __cplusplus < 202002L && (!defined(_MSVC_LANG) || _MSVC_LANG < 202002L)
#error "multistate needs C++20: compile with -std=c++20 (GCC 12, Clang 14 or newer)"
#include "multistate/needs_c++20"  // no such file: the compiler stops here, before a thousand errors that follow
#endif

#include <string_view>

// What Highway 1.0.3 needs to be told. With -march=sapphirerapids it stops at an error of its own unless AVX3_DL is
// wanted. Its vectors of unknown size (SVE) cannot be kept in arrays, which is what the kernels do: such processors run
// NEON. On ARM it compiles for AES, whatever the flags, if it thinks that GCC could choose a target at run time: it
// must not think so. Without any flags some compilers get EMU128, whose maximum of infinities is finite: we take the
// scalar target.
#if defined(__AVX512BITALG__) && defined(__AVXVNNI__) && !defined(HWY_WANT_AVX3_DL)
#define HWY_WANT_AVX3_DL
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
#include <hwy/highway.h>
// Where Highway came first, it was told none of this and may have chosen another target, or none.
#if HWY_HAVE_SCALABLE || HWY_TARGET == HWY_EMU128 || HWY_TARGET != HWY_STATIC_TARGET || \
    (HWY_TARGETS & HWY_STATIC_TARGET) == 0
#error "multistate cannot use the target that Highway chose: include multistate before <hwy/highway.h>"
#include "multistate/comes_before_highway"  // no such file: the compiler stops here
#endif

#if defined(__AVX512F__)
#define MULTISTATE_TARGET_VECTOR _avx512
#elif defined(__AVX2__)
#define MULTISTATE_TARGET_VECTOR _avx2
#elif defined(__AVX__)
#define MULTISTATE_TARGET_VECTOR _avx
#elif defined(__ARM_FEATURE_SVE2)
#define MULTISTATE_TARGET_VECTOR _sve2
#elif defined(__ARM_FEATURE_SVE)
#define MULTISTATE_TARGET_VECTOR _sve
#else
#define MULTISTATE_TARGET_VECTOR
#endif
#if defined(__FMA__)
#define MULTISTATE_TARGET_FMA _fma
#else
#define MULTISTATE_TARGET_FMA
#endif
#if defined(__F16C__)
#define MULTISTATE_TARGET_F16 _f16c
#else
#define MULTISTATE_TARGET_F16
#endif
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__ARM_FEATURE_DOTPROD)
#define MULTISTATE_TARGET_DOT _dot
#else
#define MULTISTATE_TARGET_DOT
#endif
#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define MULTISTATE_TARGET_BF16 _bf16
#else
#define MULTISTATE_TARGET_BF16
#endif

// How much is checked (errors.hpp) and whether errors are thrown change what functions do, as instructions change how.
#ifndef MULTISTATE_CHECKS
#define MULTISTATE_CHECKS 1
#endif
#define MULTISTATE_CHECKS_IS_0 1
#define MULTISTATE_CHECKS_IS_1 1
#define MULTISTATE_CHECKS_IS_2 1
#define MULTISTATE_JOIN_TWO_EXPANDED(a, b) a##b
#define MULTISTATE_JOIN_TWO(a, b) MULTISTATE_JOIN_TWO_EXPANDED(a, b)
#if !MULTISTATE_JOIN_TWO(MULTISTATE_CHECKS_IS_, MULTISTATE_CHECKS)
#error "multistate: MULTISTATE_CHECKS must be 0 (none), 1 (borders) or 2 (everything)"
#endif
#if defined(__cpp_exceptions)
#define MULTISTATE_TARGET_ERRORS
#else
#define MULTISTATE_TARGET_ERRORS _noexceptions
#endif

#define MULTISTATE_JOIN_EXPANDED(a, b, c, d, e, f) a##b##c##d##e##f
#define MULTISTATE_JOIN(a, b, c, d, e, f) MULTISTATE_JOIN_EXPANDED(a, b, c, d, e, f)
#define MULTISTATE_INSTRUCTIONS                                                                            \
    MULTISTATE_JOIN(HWY_NAMESPACE, MULTISTATE_TARGET_VECTOR, MULTISTATE_TARGET_FMA, MULTISTATE_TARGET_F16, \
                    MULTISTATE_TARGET_DOT, MULTISTATE_TARGET_BF16)
/// The inline namespace of this translation unit.
#define MULTISTATE_TARGET \
    MULTISTATE_JOIN(MULTISTATE_INSTRUCTIONS, _checks, MULTISTATE_CHECKS, MULTISTATE_TARGET_ERRORS, , )

#define MULTISTATE_QUOTE_EXPANDED(name) #name
#define MULTISTATE_QUOTE(name) MULTISTATE_QUOTE_EXPANDED(name)

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The instruction set that the vector code was compiled for, e.g. "AVX3_avx512_fma_f16c_dot" or "NEON". "SCALAR"
/// means that no vector instructions are used: compile with -march=native or the like.
inline std::string_view target_name() noexcept {
    static constexpr std::string_view qualified = MULTISTATE_QUOTE(MULTISTATE_INSTRUCTIONS);
    return qualified.substr(2);  // without Highway's "N_"
}

}}  // namespace multistate::MULTISTATE_TARGET
