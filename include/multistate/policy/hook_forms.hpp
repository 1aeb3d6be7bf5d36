#pragma once

// Details of hooks.hpp: whether a policy has a hook in the listed form. Only hooks.hpp includes this header.
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "multistate/core/target.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct reader;
enum class hook : std::uint32_t;

namespace detail {

/// The entry of a hook in the list: see MULTISTATE_HOOK.
template <hook H>
struct hook_entry;

/// Whether a call with arguments of the listed types compiles, has the listed result and is noexcept if required.
template <class P, hook H, bool NoThrow, class R, class... A>
concept callable_hook = requires(P& p, A... a) {
    { hook_entry<H>::call(p, a...) } -> std::same_as<R>;
    requires !NoThrow || noexcept(hook_entry<H>::call(p, a...));
};

/// The listed form of a hook, and the form without its leading `stored`.
template <class Form>
struct hook_form;
template <class R, class... A>
struct hook_form<R(A...) const> {
    using result = R;
    static constexpr bool never_throws = false;
    template <class P, hook H, bool NoThrow = false>
    static constexpr bool fits = callable_hook<const P, H, NoThrow, R, A...>;
    template <class P, hook H>
    static constexpr bool fits_short = false;
};
template <class R, class... A>
struct hook_form<R(A...) const noexcept> : hook_form<R(A...) const> {
    static constexpr bool never_throws = true;
    template <class P, hook H>
    static constexpr bool fits = hook_form<R(A...) const>::template fits<P, H, true>;
};
template <class R, class... A>
struct hook_form<R(A...) noexcept> {
    using result = R;
    static constexpr bool never_throws = true;
    template <class P, hook H>
    static constexpr bool fits = callable_hook<P, H, true, R, A...>;
    template <class P, hook H>
    static constexpr bool fits_short = false;
};
template <class R, class... A>
struct hook_form<R(const reader&, A...) noexcept> {
    using result = R;
    static constexpr bool never_throws = true;
    template <class P, hook H>
    static constexpr bool fits = callable_hook<P, H, true, R, const reader&, A...>;
    template <class P, hook H>
    static constexpr bool fits_short = callable_hook<P, H, true, R, A...>;
};

template <hook H>
using hook_result = typename hook_entry<H>::form::result;

template <class P, hook H>
concept has_listed_form = hook_entry<H>::form::template fits<std::remove_const_t<P>, H>;
template <class P, hook H>
concept has_short_form = hook_entry<H>::form::template fits_short<std::remove_const_t<P>, H>;

/// The most derived object, given its forwarder base.
template <class Self, class Forwarder>
constexpr auto& most_derived(Forwarder* self) noexcept {
    return *static_cast<std::conditional_t<std::is_const_v<Forwarder>, const Self, Self>*>(self);
}

}  // namespace detail

}}  // namespace multistate::MULTISTATE_TARGET
