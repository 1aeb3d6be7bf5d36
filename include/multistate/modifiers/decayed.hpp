#pragma once

// decayed: what a policy sums over tokens fades, so that a state lives by what it was worth lately.
//
//     ms::cache<ms::decayed<ms::keyformer>> cache(shape);
//     using fading_vatp = ms::modified<ms::decayed<ms::h2o>, ms::value_norm>;  // inside: what sums is h2o
//
//   paper    "A2SF: Accumulative Attention Scoring with Forgetting Factor for Token Pruning in Transformer Decoder",
//            arXiv 2407.20485
//   rule     score[j] = decay * score[j] before the policy adds what a token attended to; for policies that sum there
//            and score nothing else when they decide
//   reads    what the policy reads
//   cost     one multiplication per state and token
//   differs  see h2o_decayed, which is decayed<h2o> with a name. A sum is at most 1 / (1 - decay) per query head, so
//            unless decay is 1 it keeps its resolution however long the text
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

template <policy P>
requires(observes_attention<P> && !observes_decision<P>) struct decayed : P {
    float decay = 0.98f;  ///< what is left of a score after one token

    template <class F>
    void for_each_parameter(F&& f) {
        multistate::for_each_parameter(static_cast<P&>(*this), f);
        f("decay", decay, 0.0f, 1.0f);
    }
    template <class F>
    void for_each_parameter(F&& f) const {
        multistate::for_each_parameter(static_cast<const P&>(*this), f);
        f("decay", decay, 0.0f, 1.0f);
    }

    void on_attention(rows probabilities, view states) noexcept {
        simd::scale(states.score, decay);
        P::on_attention(probabilities, states);
    }
};

}}  // namespace multistate::MULTISTATE_TARGET
