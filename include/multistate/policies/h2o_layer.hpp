#pragma once

// h2o_layer: h2o with one decision for the whole layer.
//
//     ms::cache<ms::h2o_layer> cache(shape);                  // one table per layer
//
//   paper    the H2O-layer row of "Transformers are Multi-State RNNs", arXiv 2401.06104, table 3
//   rule     score[j] = sum of a[i][t][j] over all query heads i of the layer and all tokens t since j's own
//   reads    the attention probabilities of every token
//   forgets  for the layer; the newest floor(states / 2) are guarded unless the user names another `recent`
//   cost     one addition per probability, one pass to decide
//   differs  that row of the paper equals its Window+1 row in every column, probably a slip: not a target for parity.
//            Sums stop growing as in h2o: after half a million tokens with 32 heads.
#include "multistate/modifiers/scope.hpp"
#include "multistate/policies/h2o.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct h2o_layer : composed<h2o, per_layer> {
    static constexpr std::string_view name = "h2o_layer";
    static constexpr std::string_view paper = "arXiv 2401.06104";
};
static_assert(policy<h2o_layer> && hooks_of<h2o_layer> == (hook::default_guards | hook::on_attention));

}}  // namespace multistate::MULTISTATE_TARGET
