#pragma once

// tova_kvpress: tova whose newest state always stays.
//
//   paper    TOVAPress of NVIDIA kvpress, after "Transformers are Multi-State RNNs", arXiv 2401.06104
//   rule     score[j] = mean of a[i][t][j] over all query heads i of the layer, for the current token t only. The
//            score kept is the sum, which orders the states alike.
//   reads    the attention probabilities of the newest token
//   forgets  for the layer; the newest state is guarded unless the user names another `recent`
//   cost     one addition per probability, one pass to decide
//   differs  kvpress decides once, at the end of the prompt (that is `block` prefill here) or every so many tokens, and
//            gives the newest state the greatest score in place of a guard. With one state there is nothing to guard.
#include <algorithm>

#include "multistate/policies/tova.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct tova_kvpress : tova {
    static constexpr std::string_view name = "tova_kvpress";
    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = 0, .recent = (std::min<std::size_t>)(1, states - 1)};
    }
};
static_assert(policy<tova_kvpress> && names_guards<tova_kvpress> && observes_attention<tova_kvpress>);

}}  // namespace multistate::MULTISTATE_TARGET
