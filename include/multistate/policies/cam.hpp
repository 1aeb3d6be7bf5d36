#pragma once

// cam: h2o that adds the values of some forgotten states, chosen at random, to the states that follow them.
//
//     ms::cam policy;
//     policy.get<ms::into_following>().survivors = 16;        // the number of states that share a forgotten value
//
//   paper    "CaM: Cache Merging for Memory-efficient LLMs Inference", ICML 2024 (PMLR 235:58840)
//   rule     h2o's; a forgotten state i is merged with probability min(1, score[i] / mean of score[j]): v_j = v_j + v_i
//            / n, for the first n survivors j after i in the text, n = `survivors`, or fewer if there are fewer
//   reads    the attention probabilities of every token, stored values
//   forgets  for each KV head; the newest floor(states / 2) are guarded unless the user names another `recent`
//   cost     h2o's, and for each forgotten state `survivors` values read and stored; one float per state
//   differs  see mergers/into_following.hpp. The authors merge under H2O and under StreamingLLM. For endless texts (see
//            h2o) use composed<h2o, decayed, into_following>
#include "multistate/mergers/into_following.hpp"
#include "multistate/policies/h2o.hpp"
#include "multistate/policy/composed.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct cam : composed<h2o, into_following> {
    static constexpr std::string_view name = "cam";
    static constexpr std::string_view paper = "ICML 2024";
};
static_assert(policy<cam> && hooks_of<cam> == (hook::default_guards | hook::on_attention | hook::merge));

}}  // namespace multistate::MULTISTATE_TARGET
