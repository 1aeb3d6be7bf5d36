#pragma once

// decayed: old attention fades, so that recent attention determines a state's worth.
//
//     ms::composed<ms::keyformer, ms::decayed> policy;
//     policy.get<ms::decayed>().decay = 0.95f;
//
//   paper    "A2SF: Accumulative Attention Scoring with Forgetting Factor for Token Pruning in Transformer Decoder",
//            arXiv 2407.20485
//   rule     score[j] = decay * score[j] before the policy adds what a token attended to
//   reads    the attention probabilities
//   cost     one multiplication per state and token
//   differs  only the abstract and the formula of the paper were read; its factors are not known here. h2o_grace has
//            0.98; EasyKV once had 0.96. A sum is at most 1 / (1 - decay) per query head, so it keeps its resolution in
//            endless texts, unless decay is 1. Policies that score in on_forget are refused: their sums are not in the
//            scores; and so is tova, which has no sums.
#include <string_view>

#include "multistate/policy/composed.hpp"
#include "multistate/simd/elementwise.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct decayed {
    static constexpr std::string_view name = "decayed";
    float decay = 0.98f;  ///< the factor of a score per token
    static constexpr parameter<decayed> parameters[] = {{"decay", &decayed::decay, 0.0f, 1.0f}};

    template <policy P>
    static consteval void check_policy() noexcept {
        static_assert(!has_on_forget<P>, "decayed needs a policy that sums attention in its scores: without on_forget");
        static_assert(!detail::replaces_scores<P>, "decayed has no effect on a policy that scores by one token alone");
    }

    rows before_attention(rows probabilities, view states) const noexcept {
        simd::scale(states.score, decay);
        return probabilities;
    }
};
static_assert(hooks_of<decayed> == hook::before_attention);

}}  // namespace multistate::MULTISTATE_TARGET
