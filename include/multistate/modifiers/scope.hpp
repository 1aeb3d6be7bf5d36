#pragma once

// per_layer and per_head: the policy decides for all heads of a layer, or for each KV head.
//
//     ms::cache<ms::composed<ms::knorm, ms::per_layer>> cache(shape);   // norms of keys, summed over the KV heads
//
//   rule     a table of several heads sums over them: probabilities over query heads, everything else over KV heads
//   cost     a layer decides once instead of once per KV head
#include <string_view>

#include "multistate/policy/composed.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct per_layer {
    static constexpr std::string_view name = "per_layer";
    static constexpr per forgets() noexcept { return per::layer; }

    template <policy P>
    static consteval void check_policy() noexcept {
        static_assert(!detail::always_forgets_per<P, per::layer>,
                      "per_layer has no effect on a policy that forgets for all heads of a layer already");
    }
};

struct per_head {
    static constexpr std::string_view name = "per_head";
    static constexpr per forgets() noexcept { return per::head; }

    template <policy P>
    static consteval void check_policy() noexcept {
        static_assert(!detail::always_forgets_per<P, per::head>,
                      "per_head has no effect on a policy that forgets for each KV head already");
    }
};

}}  // namespace multistate::MULTISTATE_TARGET
