#pragma once

// observed_attention: forgets the state with the least attention on average over its life.
//
//     ms::cache<ms::observed_attention> cache(shape);         // no guards: set shape.recent to keep new states
//
//   paper    none: ObservedAttentionPress of NVIDIA kvpress
//   rule     score[j] = sum of a[i][t][j] over the query heads i of the group and all tokens t since j's own, divided
//            by the number of these tokens
//   reads    the attention probabilities of every token
//   forgets  for each KV head
//   cost     one addition per probability, one float per state, one division per state and decision
//   differs  kvpress decides once, at the end of the prompt (that is `block` prefill here). The number of tokens is
//            newest - position + 1, so a gap in the positions counts as tokens. The sum over the group is not divided
//            by its size, which gives the same order. The sum stops growing as in h2o; then the mean of a kept state
//            falls with its age.
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct observed_attention {
    static constexpr std::string_view name = "observed_attention";
    static constexpr std::string_view paper = "NVIDIA kvpress";
    static constexpr per forgets() noexcept { return per::head; }
    struct memory {
        per_state<float> sum;  // of the attention so far
    };
    static void lay_out(memory& m, layout& l) noexcept { l(m.sum); }

    void on_attention(rows probabilities, view states) const noexcept { add(probabilities, states.memory(*this).sum); }
    void on_forget(view states) const noexcept {
        const auto sum = states.memory(*this).sum;
        for (std::size_t j = 0; j < states.size(); ++j) {
            states.score[j] = sum[j] / static_cast<float>(states.newest - states.position[j] + 1);
        }
    }
};
static_assert(policy<observed_attention> && hooks_of<observed_attention> == (hook::on_attention | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
