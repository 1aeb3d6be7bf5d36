#pragma once

// All errors of the library take this path.
//
//     constructors, budgets        throw std::invalid_argument: "cache: layers must be at least 1, is 0"
//     steps, which are noexcept    a failed check goes to the failure handler, then the program aborts
//     with -fno-exceptions         the errors of constructors go to the failure handler too
//
//     ms::set_failure_handler([](const ms::failure& f) { my_log(f.who, f.argument, f.bound, f.value); });
//
// MULTISTATE_CHECKS selects the checks of steps. Define it before the first multistate header, or for the whole build:
//
//     0    nothing: misuse is undefined behavior
//     1    the borders (the default, with and without NDEBUG): sizes of spans, layers, heads, positions; whether the
//          policy has seen everything that it reads. A few comparisons per layer and token
//     2    also the data that the library and policies hand to each other: every row and plane that is read or written
//
// Checks guard against misuse by the calling engine, never against data. One program may contain files with different
// levels: the level is part of the inline namespace.
#include <concepts>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "multistate/core/target.hpp"

namespace multistate {

// Outside the inline namespace, so that all levels and targets of a program share one handler. Data only: a function
// here would be compiled for several instruction sets under one name.

/// "append: k must be [tokens, kv_heads, head_dim], a multiple of 1024 floats, is 1000". Lives as long as the call.
struct failure {
    const char* who;       ///< the function or class that reports the error
    const char* argument;  ///< the wrong argument or condition
    const char* bound;     ///< the requirement on it
    const char* value;     ///< its value
};

/// Called once, on the thread whose call failed. When it returns, the program aborts. It must not throw.
using failure_handler = void (*)(const failure&);

/// Null means the default. Accessed with atomic builtins: <atomic> would be a third of this header's compile time.
inline failure_handler current_failure_handler = nullptr;

}  // namespace multistate

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Replaces the handler of the whole program and returns the previous one. Null means the default handler, which prints
/// one line to stderr.
inline failure_handler set_failure_handler(failure_handler handler) noexcept {
    return __atomic_exchange_n(&current_failure_handler, handler, __ATOMIC_SEQ_CST);
}

namespace detail {

/// Tells the handler, then aborts.
[[noreturn]] MULTISTATE_NOINLINE inline void fail(const char* who, const char* argument, const std::string& bound,
                                                  const std::string& value) noexcept {
    if (const failure_handler handler = __atomic_load_n(&current_failure_handler, __ATOMIC_SEQ_CST)) {
        handler({who, argument, bound.c_str(), value.c_str()});
    } else {
        std::fprintf(stderr, "multistate: %s: %s must be %s, is %s\n", who, argument, bound.c_str(), value.c_str());
    }
    std::abort();
}

/// Reports a wrong argument of a constructor.
[[noreturn]] MULTISTATE_NOINLINE inline void refuse(const char* who, const char* argument, const std::string& bound,
                                                    const std::string& value) {
#if defined(__cpp_exceptions)
    throw std::invalid_argument(std::string(who) + ": " + argument + " must be " + bound + ", is " + value);
#else
    fail(who, argument, bound, value);
#endif
}

/// A bound in words, followed by a number.
template <std::integral Number>
struct bound {
    const char* words;
    Number number;
};
template <std::integral Number>
bound(const char*, Number) -> bound<Number>;  // Clang 14 does not deduce it

inline std::string in_words(std::string limit) { return limit; }
template <std::integral Number>
std::string in_words(bound<Number> limit) {
    return limit.words + std::to_string(limit.number);
}

template <class Bound, class Value>
[[noreturn]] MULTISTATE_NOINLINE void refuse_value(const char* who, const char* argument, const Bound& limit,
                                                   Value given) {
    refuse(who, argument, in_words(limit), std::to_string(given));
}
/// Reports a wrong argument of a constructor unless the condition holds. The message is built only on failure.
template <class Bound, class Value>
MULTISTATE_INLINE void require(bool holds, const char* who, const char* argument, Bound limit, Value given) {
    if (!holds) [[unlikely]]
        refuse_value(who, argument, limit, given);
}

[[noreturn]] MULTISTATE_NOINLINE inline void fail_check(const char* who, const char* argument, const char* words,
                                                        const char* value) noexcept {
    fail(who, argument, words, value);
}
template <std::integral Given>
[[noreturn]] MULTISTATE_NOINLINE void fail_check(const char* who, const char* argument, const char* words,
                                                 Given given) noexcept {
    fail(who, argument, words, std::to_string(given));
}
template <std::integral Number, std::integral Given>
[[noreturn]] MULTISTATE_NOINLINE void fail_check(const char* who, const char* argument, bound<Number> limit,
                                                 Given given) noexcept {
    fail(who, argument, in_words(limit), std::to_string(given));
}

/// A check in a step, which must not throw: ends the program unless the condition holds. The message is built only on
/// failure. Does nothing if MULTISTATE_CHECKS is lower than Level.
template <int Level = 1, class Bound, class Given>
MULTISTATE_INLINE void check(bool holds, const char* who, const char* argument, Bound limit, Given given) noexcept {
    if constexpr (MULTISTATE_CHECKS >= Level) {
        if (!holds) [[unlikely]]
            fail_check(who, argument, limit, given);
    }
}

}  // namespace detail
}}  // namespace multistate::MULTISTATE_TARGET
