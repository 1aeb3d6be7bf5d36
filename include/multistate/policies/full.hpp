#pragma once

// full: forgets nothing. The unbounded multi-state RNN; all other policies are compared with it.
//
//     ms::cache<ms::full> cache({.layers = 32, …, .states = 4096});
//     if (!cache.layer(i).append(position, k, v)) …           // false: the rows are used up
//
//   paper    none
//   rule     no state is scored
//   reads    nothing
//   forgets  never: when the rows are used up, append returns false and changes nothing
//   cost     none; memory grows with the text
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct full {
    static constexpr std::string_view name = "full";
    static constexpr per forgets() noexcept { return per::never; }
};
static_assert(policy<full> && hooks_of<full> == hook::none);

}}  // namespace multistate::MULTISTATE_TARGET
