#pragma once

// h2o_decayed: h2o whose old attention fades, so that a state lives by what it was worth lately.
//
//   paper    "A2SF: Accumulative Attention Scoring with Forgetting Factor for Token Pruning in Transformer Decoder",
//            arXiv 2407.20485
//   rule     score[j] = sum of decay^n a[i][t][j] over the query heads i of the group and all tokens t since j's own,
//            n of which came after t
//   reads    the attention probabilities of every token
//   forgets  for each KV head; the newest floor(states / 2) are guarded unless the user names another `recent`
//   cost     h2o's, and one multiplication per state and token
//   differs  of the paper only the abstract and the formula were read: its factors and what it guards are not known
//            here. EasyKV once had 0.96 and guarded the newest 0.3 of the states; 0.98 is h2o_grace's. The guard is
//            h2o's, so that decay 1 is h2o; decay 0 with recent 0 is tova_head.
#include <tuple>

#include "multistate/policies/h2o.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct h2o_decayed {
    static constexpr std::string_view name = "h2o_decayed";
    static constexpr std::string_view paper = "arXiv 2407.20485";
    static constexpr per forgets() noexcept { return per::head; }
    static constexpr guards default_guards(std::size_t states) noexcept { return h2o::default_guards(states); }

    float decay = 0.98f;  ///< what is left of a score after one token
    static constexpr auto parameters = std::tuple{parameter{"decay", &h2o_decayed::decay, 0.0f, 1.0f}};

    void on_attention(rows probabilities, view states) const noexcept {
        simd::scale(states.score, decay);
        add(probabilities, states.score);
    }
};
static_assert(policy<h2o_decayed> && names_guards<h2o_decayed> && observes_attention<h2o_decayed>);
static_assert(has_parameters<h2o_decayed>);

}}  // namespace multistate::MULTISTATE_TARGET
