#pragma once

// cake: tova_head with neighbors pooled and the newest guarded, as in CAKE's decoding.
//
//     ms::cake policy;
//     policy.get<ms::pool>().width = 7;                       // states whose scores are averaged
//
//   paper    "CAKE: Cascading and Adaptive KV Cache Eviction with Layer Preferences", arXiv 2503.12491
//   rule     score[j] = mean, over the states around j in the text that are not guarded, of a[i][t][j] summed over the
//            query heads i of the group, for the current token t only
//   reads    the attention probabilities of the newest token
//   forgets  for each KV head; the newest min(32, states / 2) are guarded unless the user names another `recent`
//   cost     tova's, one float per state, and `width` operations per state to decide
//   differs  this is the authors' rule for decoding (CakeDecodingKVCache_LayerWise); their rule for the prompt is
//            cake_prompt. Their code never sorts the cache again after a decision, so its neighbors are in the order of
//            the last scores; here, in the order of the text. It counts zeros beyond the ends (zero_padded). Every
//            state that leaves the guard then has two zeros among five neighbors and is mostly forgotten at once.
#include <algorithm>

#include "multistate/modifiers/pool.hpp"
#include "multistate/modifiers/scope.hpp"
#include "multistate/policies/tova.hpp"
#include "multistate/policy/composed.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct cake : composed<tova, per_head, pool> {
    static constexpr std::string_view name = "cake";
    static constexpr std::string_view paper = "arXiv 2503.12491";
    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = 0, .recent = (std::min<std::size_t>)(32, states / 2)};
    }
};
static_assert(policy<cake> && hooks_of<cake> == (hook::default_guards | hook::on_attention | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
