#pragma once

// d2o: h2o with sinks that merges forgotten states into similar ones.
//
//     ms::d2o policy;
//     policy.get<ms::into_similar>().alpha = 0.9f;            // the threshold of similarity changes slowly
//
//   paper    "D2O: Dynamic Discriminative Operations for Efficient Long-Context Inference of Large Language Models",
//            arXiv 2406.13035
//   rule     h2o's; a forgotten state i is merged into the survivor j with the most similar key, if the cosine s_i is
//            not below a moving mean of such cosines: v_j = (v_j + sum of s_i v_i) / (1 + sum of s_i)
//   reads    the attention probabilities of every token, stored keys and values
//   forgets  for each KV head; the first 4 and the newest floor(states / 2) are guarded; fewer sinks if states are few
//   cost     h2o's, and one reading of the stored keys for four states forgotten together; 7 floats per state
//   differs  see mergers/into_similar.hpp; only values, unless `keys` is set
#include <algorithm>

#include "multistate/mergers/into_similar.hpp"
#include "multistate/policies/h2o.hpp"
#include "multistate/policy/composed.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct d2o : composed<h2o, into_similar> {
    static constexpr std::string_view name = "d2o";
    static constexpr std::string_view paper = "arXiv 2406.13035";
    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = (std::min<std::size_t>)(4, (states - 1) / 2), .recent = states / 2};
    }
};
static_assert(policy<d2o> && hooks_of<d2o> == (hook::default_guards | hook::on_attention | hook::merge));

}}  // namespace multistate::MULTISTATE_TARGET
