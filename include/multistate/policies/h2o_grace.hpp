#pragma once

// h2o_grace: h2o with a short grace for new states in place of the recent half, and old attention that fades.
//
//   paper    none: VeloxQuant-MLX, pull request 141, after H2O (arXiv 2306.14048)
//   rule     score[j] = sum of decay^n a[i][t][j] over the query heads i of the group and all tokens t since j's own,
//            n of which came after t
//   reads    the attention probabilities of every token
//   forgets  for each KV head; the newest min(16, states / 2) are guarded unless the user names another `recent`
//   cost     h2o's, and one multiplication per state and token
//   differs  only the pull request's description was read: a new state was forgotten at once, so that the prompt stayed
//            for ever, until 16 states of grace and decay 0.98 mended it. Below 32 states the grace is half of them
//            here: 16 of 17 would be a window.
#include <algorithm>

#include "multistate/policies/h2o_decayed.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct h2o_grace : h2o_decayed {
    static constexpr std::string_view name = "h2o_grace";
    static constexpr std::string_view paper = "VeloxQuant-MLX, pull request 141";
    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = 0, .recent = (std::min<std::size_t>)(16, states / 2)};
    }
};
static_assert(policy<h2o_grace> && names_guards<h2o_grace> && observes_attention<h2o_grace>);
static_assert(has_parameters<h2o_grace>);

}}  // namespace multistate::MULTISTATE_TARGET
