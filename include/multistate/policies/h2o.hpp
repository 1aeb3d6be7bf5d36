#pragma once

// h2o: forgets the state with the least attention summed over its life, outside a recent half.
//
//     ms::cache<ms::h2o> cache({.layers = 32, …, .states = 512});// 256 by attention and the 256 newest
//     ms::cache<ms::h2o> cache({.layers = 32, …, .states = 512, .recent = 64});// 448 and 64
//
//   paper    "H2O: Heavy-Hitter Oracle for Efficient Generative Inference", arXiv 2306.14048
//   rule     score[j] = sum of a[i][t][j] over the query heads i of the group and all tokens t since j's own
//   reads    the attention probabilities of every token
//   forgets  for each KV head; the newest floor(states / 2) are guarded unless the user names another `recent`
//   cost     one addition per probability, one pass to decide
//   differs  the authors' code exists in three versions that disagree: per query head (wrong with grouped queries),
//            summed over the batch, sizes as shares of the prompt, one row lost between the two halves. Here: per KV
//            head, the group's heads summed, the sum never divided by age. The sum stops growing after about 2^24 /
//            heads tokens (see policy.hpp): for longer texts use h2o_decayed.
#include <algorithm>

#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct h2o {
    static constexpr std::string_view name = "h2o";
    static constexpr std::string_view paper = "arXiv 2306.14048";
    static constexpr per forgets() noexcept { return per::head; }

    std::size_t recent_at_most = static_cast<std::size_t>(-1);  ///< maximum number of newest states that are guarded

    constexpr guards default_guards(std::size_t states) const noexcept {
        return {.sinks = 0, .recent = (std::min)(recent_at_most, states / 2)};
    }

    void on_attention(rows probabilities, view states) const noexcept { add(probabilities, states.score); }
};
static_assert(policy<h2o> && hooks_of<h2o> == (hook::default_guards | hook::on_attention));

}}  // namespace multistate::MULTISTATE_TARGET
