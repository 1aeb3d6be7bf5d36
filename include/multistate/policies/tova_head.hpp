#pragma once

// tova_head: tova with a decision for each KV head.
//
//     ms::cache<ms::tova_head> cache(shape);                  // one table per KV head
//
//   paper    the TOVA-head row of "Transformers are Multi-State RNNs", arXiv 2401.06104, table 3
//   rule     score[j] = mean of a[i][t][j] over the query heads i of the group, for the current token t only
//   reads    the attention probabilities of the newest token
//   forgets  for each KV head; the newest state is a candidate like any other
//   cost     one addition per probability, one pass per KV head to decide
//   differs  no code by the authors is known for this row
#include "multistate/modifiers/scope.hpp"
#include "multistate/policies/tova.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct tova_head : composed<tova, per_head> {
    static constexpr std::string_view name = "tova_head";
};
static_assert(policy<tova_head> && hooks_of<tova_head> == (hook::default_guards | hook::on_attention));

}}  // namespace multistate::MULTISTATE_TARGET
