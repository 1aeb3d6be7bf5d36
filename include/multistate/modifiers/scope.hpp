#pragma once

// per_layer and per_head: the same policy, deciding for all heads of a layer or for each KV head.
//
//     ms::cache<ms::per_layer<ms::knorm>> cache(shape);       // keys' norms summed over the KV heads
//
//   rule     a table of several heads sums over them: probabilities over query heads, the rest over KV heads
//   cost     a layer decides once instead of once per KV head
#include <string_view>

#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

template <policy P>
struct per_layer : P {
    static constexpr per forgets() noexcept { return per::layer; }
};

template <policy P>
struct per_head : P {
    static constexpr per forgets() noexcept { return per::head; }
};

}}  // namespace multistate::MULTISTATE_TARGET
