#pragma once

// Names the target instruction set of this translation unit, and gives the library its inline namespace.
//
//     std::cout << ms::target_name();                         // "AVX3_avx512_fma_f16c_dot"; "SCALAR": no vector code
//
// If one file of a program is compiled with AVX-512 and another without it, a header-only library would leave two
// different bodies under one symbol, and the linker may pick the wrong one for either caller. So everything in
// `multistate` is in an inline namespace whose name contains the target: users write `multistate::cache`, the linker
// sees `multistate::AVX3_avx512_fma_f16c_checks1::cache`.
//
// The name comes from the compiler's own macros, so this header includes nothing heavy. Its first part is the target
// that Highway derives from the same macros (simd/highway.hpp checks it). That part alone does not suffice: with -mavx2
// but without -mfma, Highway uses SSE4, but the compiler still emits AVX2.
//
// Every header of the library includes this one before its own code, so this header checks the compiler.
#if __cplusplus < 202002L && (!defined(_MSVC_LANG) || _MSVC_LANG < 202002L)
#error "multistate needs C++20: compile with -std=c++20 (GCC 12, Clang 14 or newer)"
#include "multistate/needs_c++20"  // no such file: the compiler stops here, not after a thousand errors
#endif

#include <string_view>

// Highway's conditions for each of its targets, without AES, which x86-64-v3 and -v4 do not have (simd/highway.hpp).
#if defined(__SSE4_1__) && defined(__SSE4_2__)
#define MULTISTATE_HAS_SSE4 1
#else
#define MULTISTATE_HAS_SSE4 0
#endif
#if MULTISTATE_HAS_SSE4 && defined(__AVX2__) && defined(__BMI2__) && defined(__FMA__) && defined(__F16C__)
#define MULTISTATE_HAS_AVX2 1
#else
#define MULTISTATE_HAS_AVX2 0
#endif
#if MULTISTATE_HAS_AVX2 && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && \
    defined(__AVX512VL__)
#define MULTISTATE_HAS_AVX3 1
#else
#define MULTISTATE_HAS_AVX3 0
#endif
#if MULTISTATE_HAS_AVX3 && defined(__AVXVNNI__) && defined(__VAES__) && defined(__VPCLMULQDQ__) && \
    defined(__AVX512VBMI__) && defined(__AVX512VBMI2__) && defined(__AVX512VPOPCNTDQ__) && defined(__AVX512BITALG__)
#define MULTISTATE_TARGET_LEVEL AVX3_DL
#elif MULTISTATE_HAS_AVX3
#define MULTISTATE_TARGET_LEVEL AVX3
#elif MULTISTATE_HAS_AVX2
#define MULTISTATE_TARGET_LEVEL AVX2
#elif MULTISTATE_HAS_SSE4
#define MULTISTATE_TARGET_LEVEL SSE4
#elif defined(__SSSE3__)
#define MULTISTATE_TARGET_LEVEL SSSE3
#elif defined(__ARM_NEON)
#define MULTISTATE_TARGET_LEVEL NEON
#else
#define MULTISTATE_TARGET_LEVEL SCALAR
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

// The check level (errors.hpp) and -fno-exceptions change the code of functions, as the instruction set does.
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
#define MULTISTATE_INSTRUCTIONS                                                                                      \
    MULTISTATE_JOIN(MULTISTATE_TARGET_LEVEL, MULTISTATE_TARGET_VECTOR, MULTISTATE_TARGET_FMA, MULTISTATE_TARGET_F16, \
                    MULTISTATE_TARGET_DOT, MULTISTATE_TARGET_BF16)
/// The inline namespace of this translation unit.
#define MULTISTATE_TARGET \
    MULTISTATE_JOIN(MULTISTATE_INSTRUCTIONS, _checks, MULTISTATE_CHECKS, MULTISTATE_TARGET_ERRORS, , )

// Functions that must be inlined, and functions that must not.
#define MULTISTATE_INLINE inline __attribute__((always_inline))
#define MULTISTATE_NOINLINE __attribute__((noinline))

#define MULTISTATE_QUOTE_EXPANDED(name) #name
#define MULTISTATE_QUOTE(name) MULTISTATE_QUOTE_EXPANDED(name)

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The instruction set of the vector code, e.g. "AVX3_avx512_fma_f16c_dot" or "NEON". "SCALAR" means that attention
/// uses no vector instructions: compile with -march=native or a similar flag.
inline std::string_view target_name() noexcept { return MULTISTATE_QUOTE(MULTISTATE_INSTRUCTIONS); }

}}  // namespace multistate::MULTISTATE_TARGET
