#pragma once

// The list of hooks: the members that the library calls on a policy, or on a part of a composition.
//
//     static_assert(ms::hooks_of<decayed> == ms::hook::on_attention);   // checks that no hook of yours is misspelled
//     if constexpr (ms::has_on_query<P>) policy.on_query(queries, states);
//     ms::call_hook<ms::hook::on_forget>(policy, stored, states);       // does nothing if there is no such hook
//     ms::reads_of(policy).attention                                    // whether it reads attention probabilities
//
// Everything else is derived from the list: the concepts has_on_insert, has_on_query, …; the check that each hook has
// the listed form; the hooks that one_of and composed forward; reads_of. To add a hook, add an enumerator and an entry
// here, and call it from the table.
//
// A member with the name of a hook but another form would never be called. So it does not compile, neither in a table
// nor in a wrapper. Other forms are: another signature, not noexcept, not const although the list says const,
// overloaded, private, a data member. If the first argument of a hook is `const reader& stored`, the hook may omit it.
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "multistate/core/types.hpp"
#include "multistate/policy/hook_forms.hpp"
#include "multistate/policy/memory.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct view;  // view.hpp
struct reader;
struct editor;

/// Which heads lose a state together: all heads of a layer, one KV head, or none (never forgets).
enum class per { layer, head, never };

/// The hooks as a set of bits. policy.hpp explains them; composed.hpp explains `modify` and `before_attention`.
enum class hook : std::uint32_t {
    none = 0,
    forgets = 1 << 0,
    what_is_read = 1 << 1,
    lay_out = 1 << 2,
    check_shape = 1 << 3,
    default_guards = 1 << 4,
    scores_are_comparable = 1 << 5,
    on_insert = 1 << 6,
    on_query = 1 << 7,
    on_attention = 1 << 8,
    on_forget = 1 << 9,
    on_compare = 1 << 10,
    merge = 1 << 11,
    finish_prompt = 1 << 12,
    of_policies = (1 << 13) - 1,
    modify = 1 << 13,
    before_attention = 1 << 14,
    every = (1 << 15) - 1,
};
constexpr hook operator|(hook a, hook b) noexcept {
    return hook{static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b)};
}
constexpr hook operator&(hook a, hook b) noexcept {
    return hook{static_cast<std::uint32_t>(a) & static_cast<std::uint32_t>(b)};
}
/// The hooks of `a` that `b` does not contain.
constexpr hook operator-(hook a, hook b) noexcept {
    return hook{static_cast<std::uint32_t>(a) & ~static_cast<std::uint32_t>(b)};
}
/// Whether the set contains all of `some`.
constexpr bool contains(hook set, hook some) noexcept { return (set & some) == some; }

/// What a policy needs to see, or may do.
struct reads {
    bool attention = false;  ///< attention probabilities
    bool queries = false;
    bool arrivals = false;  ///< each new key and value
    bool stored = false;    ///< stored keys and values, at decisions
    bool order = false;     ///< the states from the oldest to the newest (view::by_position)
    bool writes = false;    ///< changes stored keys and values

    bool operator==(const reads&) const = default;
    constexpr reads operator|(const reads& other) const noexcept {
        return {attention || other.attention, queries || other.queries, arrivals || other.arrivals,
                stored || other.stored,       order || other.order,     writes || other.writes};
    }
};

/// Whether P has the hook, in exactly one of its forms.
template <class P, hook H>
concept has_hook = int{detail::has_listed_form<P, H>} + int{detail::has_short_form<P, H>} == 1;

/// An entry of the list: name, result, parameters, qualifiers, and what a policy with the hook reads.
///
/// `bearer` has a member with the hook's name. A class that inherits from both it and a policy has an ambiguous name
/// exactly if the policy has any member of that name. `forwarder` is the hook as a member of one_of and composed.
#define MULTISTATE_HOOK(NAME, RESULT, PARAMETERS, QUALIFIERS, ...)                                             \
    template <>                                                                                                \
    struct detail::hook_entry<hook::NAME> {                                                                    \
        using form = hook_form<RESULT PARAMETERS QUALIFIERS>;                                                  \
        static constexpr reads what{__VA_ARGS__};                                                              \
        struct bearer {                                                                                        \
            int NAME;                                                                                          \
        };                                                                                                     \
        template <class P>                                                                                     \
        static constexpr bool is_named = !requires {                                                           \
            &P::NAME;                                                                                          \
        };                                                                                                     \
        template <class P, class... A>                                                                         \
        static constexpr auto call(P& p, A&&... a) noexcept(noexcept(p.NAME(std::forward<A>(a)...)))           \
            -> decltype(p.NAME(std::forward<A>(a)...)) {                                                       \
            return p.NAME(std::forward<A>(a)...);                                                              \
        }                                                                                                      \
        template <class Self, class = RESULT PARAMETERS>                                                       \
        struct forwarder;                                                                                      \
        template <class Self, class R, class... A>                                                             \
        struct forwarder<Self, R(A...)> {                                                                      \
            constexpr R NAME(A... a) QUALIFIERS {                                                              \
                return Self::template forward<hook::NAME>(most_derived<Self>(this), a...);                     \
            }                                                                                                  \
        };                                                                                                     \
        template <class P, bool Fits>                                                                          \
        static consteval bool check() noexcept {                                                               \
            static_assert(Fits, "the hook " #NAME " must be one public, unambiguous member: " #RESULT          \
                                " " #NAME #PARAMETERS " " #QUALIFIERS ", otherwise it would never be called"); \
            return Fits;                                                                                       \
        }                                                                                                      \
    };                                                                                                         \
    template <class P>                                                                                         \
    concept has_##NAME = has_hook<P, hook::NAME>

// The list.
MULTISTATE_HOOK(forgets, per, (), const noexcept);
MULTISTATE_HOOK(what_is_read, reads, (), const noexcept);
MULTISTATE_HOOK(check_shape, void, (const table_shape& shape), const);
MULTISTATE_HOOK(default_guards, guards, (std::size_t states), const noexcept);
MULTISTATE_HOOK(scores_are_comparable, bool, (), const noexcept);
MULTISTATE_HOOK(on_insert, void, (rows keys, rows values, view states, std::size_t row), noexcept, .arrivals = true);
MULTISTATE_HOOK(on_query, void, (rows queries, view states), noexcept, .queries = true);
MULTISTATE_HOOK(on_attention, void, (rows probabilities, view states), noexcept, .attention = true);
MULTISTATE_HOOK(on_forget, void, (const reader& stored, view states), noexcept, .stored = true, .order = true);
MULTISTATE_HOOK(on_compare, void, (view states), noexcept, .order = true);
MULTISTATE_HOOK(merge, void, (const editor& stored, std::span<const std::uint32_t> gone, view states), noexcept,
                .stored = true, .order = true, .writes = true);
MULTISTATE_HOOK(finish_prompt, void, (const reader& stored, view states), noexcept);
// Hooks that only parts have.
MULTISTATE_HOOK(modify, void, (view states), noexcept, .order = true);
MULTISTATE_HOOK(before_attention, rows, (rows probabilities, view states), noexcept, .attention = true);
#undef MULTISTATE_HOOK

/// lay_out is written by hand: it takes the policy's own type P::memory (memory.hpp).
template <>
struct detail::hook_entry<hook::lay_out> {
    struct form {
        using result = void;
        static constexpr bool never_throws = true;
        template <class P, hook>
        static constexpr bool fits = has_memory<P>;
        template <class P, hook>
        static constexpr bool fits_short = false;
    };
    static constexpr reads what{};
    struct bearer {
        int lay_out;
    };
    template <class P>
    static constexpr bool is_named = !requires {
        &P::lay_out;
    }
    || requires { typename P::memory; };
    template <class P, bool Fits>
    static consteval bool check() noexcept {
        static_assert(Fits,
                      "a policy that remembers has a struct memory and the public hook "
                      "void lay_out(memory& m, layout& l) const noexcept, or neither");
        return Fits;
    }
};

namespace detail {

inline constexpr std::size_t hook_count = std::bit_width(static_cast<std::uint32_t>(hook::every));
inline constexpr std::size_t hook_count_of_policies = std::bit_width(static_cast<std::uint32_t>(hook::of_policies));
constexpr hook hook_at(std::size_t i) noexcept { return hook{std::uint32_t{1} << i}; }

/// What a policy reads because it has this hook.
template <class P, hook H>
constexpr reads read_by_hook() noexcept {
    reads result;
    if constexpr (has_hook<P, H>) {
        result = hook_entry<H>::what;
        if (has_short_form<P, H>) result.stored = false;
    }
    return result;
}

template <class P, class Index = std::make_index_sequence<hook_count>>
struct found_hooks;
template <class P, std::size_t... I>
struct found_hooks<P, std::index_sequence<I...>> {
    static constexpr hook all = (hook::none | ... | (has_hook<P, hook_at(I)> ? hook_at(I) : hook::none));
    static constexpr reads what = (reads{} | ... | read_by_hook<P, hook_at(I)>());
};

}  // namespace detail

/// The hooks that a policy or part has, as a set, without `forgets`, lay_out and what_is_read. All policies have
/// `forgets`; a misspelled lay_out or what_is_read does not compile or changes no decision.
template <class P>
inline constexpr hook hooks_of = detail::found_hooks<std::remove_const_t<P>>::all -
                                 (hook::forgets | hook::what_is_read | hook::lay_out);

/// What a policy reads: the answer of its what_is_read, or else what its hooks imply.
template <class P>
constexpr reads reads_of(const P& policy) noexcept {
    if constexpr (has_what_is_read<P>) {
        return policy.what_is_read();
    } else {
        return detail::found_hooks<P>::what;
    }
}

namespace detail {

/// The answer of a policy that lacks the hook: true, or a value of zeros.
template <hook H>
constexpr hook_result<H> absent_answer() noexcept {
    if constexpr (std::same_as<hook_result<H>, bool>) return true;
    return hook_result<H>();
}

}  // namespace detail

/// Calls the hook. If there is none, it does nothing, or returns true, or a value of zeros.
template <hook H, class P, class... A>
constexpr auto call_hook(P& policy, A&&... a) noexcept(detail::hook_entry<H>::form::never_throws)
    -> detail::hook_result<H> {
    using result = detail::hook_result<H>;
    if constexpr (detail::has_listed_form<P, H>) {
        return detail::hook_entry<H>::call(policy, std::forward<A>(a)...);
    } else if constexpr (detail::has_short_form<P, H>) {
        return [&](auto&&, auto&&... rest) -> result { return detail::hook_entry<H>::call(policy, rest...); }(a...);
    } else {
        return detail::absent_answer<H>();
    }
}

namespace detail {

template <class Index>
struct hook_names;
template <std::size_t... I>
struct hook_names<std::index_sequence<I...>> : hook_entry<hook_at(I)>::bearer... {};
/// Has the name of every hook once, in addition to the members of P.
template <class P>
struct hook_probe : P, hook_names<std::make_index_sequence<hook_count>> {};

template <class P, hook H>
consteval bool check_hook() noexcept {
    using entry = hook_entry<H>;
    return entry::template check < P, has_hook<P, H> || !entry::template is_named < hook_probe < P >>> ();
}
/// Whether all members of P with the name of a hook have its form. If not, compilation stops and names the hook.
template <class P, std::size_t... I>
consteval bool check_hooks(std::index_sequence<I...>) noexcept {
    static_assert(!std::is_final_v<P>, "a policy or part must not be final: its hooks could not be checked");
    if constexpr (!std::is_final_v<P>) return (true && ... && check_hook<P, hook_at(I)>());
    return true;
}

/// The hooks of the set as members; each calls Self::forward<hook>(self, arguments). For one_of and composed.
template <class Self, hook H, bool Forwards>
struct forwards_one {};
template <class Self, hook H>
struct forwards_one<Self, H, true> : hook_entry<H>::template forwarder<Self> {};
template <class Self, hook Set, class Index = std::make_index_sequence<hook_count>>
struct forwards;
template <class Self, hook Set, std::size_t... I>
struct forwards<Self, Set, std::index_sequence<I...>> : forwards_one<Self, hook_at(I), contains(Set, hook_at(I))>... {};

}  // namespace detail

/// True if every hook of a policy has the listed form; otherwise compilation stops and names the hook.
template <class P>
inline constexpr bool hooks_are_checked =
    detail::check_hooks<P>(std::make_index_sequence<detail::hook_count_of_policies>());
/// The same for a part of a composition.
template <class Part>
inline constexpr bool part_is_checked = detail::check_hooks<Part>(std::make_index_sequence<detail::hook_count>());

/// A policy is a copyable struct with forgets(), which may depend on the object (one_of).
template <class P>
concept policy = std::is_class_v<P> && std::copyable<P> && has_forgets<P>;

}}  // namespace multistate::MULTISTATE_TARGET
