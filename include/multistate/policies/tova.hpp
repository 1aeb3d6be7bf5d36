#pragma once

// tova: forgets the state to which the current token attends least.
//
//     ms::cache<ms::tova> cache({.layers = 32, …, .states = 512});
//     ms::cache<ms::tova> other(shape, {.recent_at_most = 1});// the newest state is never forgotten
//
//   paper    "Transformers are Multi-State RNNs", arXiv 2401.06104, algorithm 1 (Token Omission Via Attention)
//   rule     score[j] = mean of a[i][t][j] over all query heads i of the layer, for the current token t only. The score
//            kept is the sum, which gives the same order.
//   reads    the attention probabilities of the newest token
//   forgets  for the layer; the newest state is a candidate like any other; no sinks, no recent states
//   cost     one addition per probability, one pass to decide
//   differs  the authors' code reduces a prompt once, from its last row: that is `block` prefill here. torch.topk
//            breaks its ties; here the oldest state is forgotten.
#include <algorithm>

#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct tova {
    static constexpr std::string_view name = "tova";
    static constexpr std::string_view paper = "arXiv 2401.06104";
    static constexpr per forgets() noexcept { return per::layer; }
    static constexpr bool replaces_scores = true;  ///< there are no sums that `decayed` could scale

    std::size_t recent_at_most = 0;  ///< the maximum number of newest states that are guarded

    constexpr guards default_guards(std::size_t states) const noexcept {
        return {.sinks = 0, .recent = (std::min)(recent_at_most, states - 1)};
    }

    void on_attention(rows probabilities, view states) const noexcept {
        std::ranges::fill(states.score, 0.0f);
        add(probabilities, states.score);
    }
};
static_assert(policy<tova> && hooks_of<tova> == (hook::default_guards | hook::on_attention));

}}  // namespace multistate::MULTISTATE_TARGET
