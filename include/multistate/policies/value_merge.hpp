#pragma once

// value_merge: h2o that merges the value of a forgotten state into the value of the survivor with the most similar key.
//
//     ms::value_merge policy;
//     policy.get<ms::into_nearest>().threshold = 0.5f;        // merge only if the cosine of the keys is at least this
//
//   paper    none; MergingPress of NVIDIA's kvpress
//   rule     h2o's; a forgotten state i is merged into the survivor j whose key has the greatest cosine c with its own:
//            v_j = (v_j + sum of w v_i) / (1 + sum of w), w = max(c, 0) |v_i| / (|v_i| + |v_j|); keys stay unchanged
//   reads    the attention probabilities of every token, stored keys and values
//   forgets  for each KV head; the newest floor(states / 2) are guarded unless the user names another `recent`
//   cost     h2o's, and one reading of the stored keys for four states forgotten together; 7 floats per state
//   differs  kvpress wraps any scorer: composed<any policy, into_nearest>. See mergers/into_nearest.hpp
#include "multistate/mergers/into_nearest.hpp"
#include "multistate/policies/h2o.hpp"
#include "multistate/policy/composed.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct value_merge : composed<h2o, into_nearest> {
    static constexpr std::string_view name = "value_merge";
    static constexpr std::string_view paper = "NVIDIA kvpress";
};
static_assert(policy<value_merge> &&
              hooks_of<value_merge> == (hook::default_guards | hook::on_attention | hook::merge));

}}  // namespace multistate::MULTISTATE_TARGET
