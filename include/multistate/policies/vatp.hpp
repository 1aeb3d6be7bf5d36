#pragma once

// vatp: h2o with sums multiplied by the size of the values: much attention to a small value adds little.
//
//     ms::cache<ms::vatp> cache(shape);                       // any policy: ms::composed<P, ms::value_norm>
//
//   paper    "Attention Score is Not All You Need for Token Importance Indicator in KV Cache Reduction: Value Also
//            Matters" (VATP), arXiv 2406.12335
//   rule     score[j] = |v_j|_1 * sum of a[i][t][j] over the query heads i of the group and all tokens t since j's own
//   reads    the attention probabilities of every token, new values
//   forgets  for each KV head; the first min(20, states / 8) and the newest floor(states / 2) are guarded
//   cost     h2o's, an addition per float of a new value, two floats per state, a product per state and decision
//   differs  the authors guard the 20 first, at any size (their value vectors are small, so they would be lost);
//            here, below 160 states, it is an eighth. Their code for h2o is the masked simulation of h2o.hpp. Their
//            other variant is composed<scissorhands, value_norm>.
#include <algorithm>

#include "multistate/modifiers/value_norm.hpp"
#include "multistate/policies/h2o.hpp"
#include "multistate/policy/composed.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct vatp : composed<h2o, value_norm> {
    static constexpr std::string_view name = "vatp";
    static constexpr std::string_view paper = "arXiv 2406.12335";
    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = (std::min<std::size_t>)(20, states / 8), .recent = states / 2};
    }
};
static_assert(policy<vatp> &&
              hooks_of<vatp> == (hook::default_guards | hook::on_insert | hook::on_attention | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
