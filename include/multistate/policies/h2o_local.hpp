#pragma once

// h2o_local: h2o without a recent half: the heavy hitters alone, and the token that attends.
//
//   paper    local_heavy_hitter_mask in the authors' code for "H2O: Heavy-Hitter Oracle for Efficient Generative
//            Inference of Large Language Models", arXiv 2306.14048
//   rule     score[j] = sum of a[i][t][j] over the query heads i of the group and all tokens t since j's own
//   reads    the attention probabilities of every token
//   forgets  for each KV head; nothing is guarded
//   cost     one addition per probability, one pass to decide
//   differs  that mask lets a token see itself and the heavy_budget - 1 states of the greatest sums: `states` is
//            heavy_budget - 1, and the state that attended last may go at once, as there. So new states rarely stay,
//            and what is kept freezes: it is here to show that. The code sums probabilities of attention to all tokens,
//            kept or not, for each query head, and joins the mask with a window (`recent`). Sums come to a standstill as
//            h2o's do.
#include "multistate/policies/h2o.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct h2o_local : h2o {
    static constexpr std::string_view name = "h2o_local";
    static constexpr guards default_guards(std::size_t) noexcept { return {}; }
};
static_assert(policy<h2o_local> && names_guards<h2o_local> && observes_attention<h2o_local>);

}}  // namespace multistate::MULTISTATE_TARGET
