#pragma once

// snapkv: morphkv's window with pooling over neighbors. With the prompt in one block, this is SnapKV.
//
//     bool done = ms::prefill(layer, 0, {.q = q, .k = k, .v = v}, out, scratch, ms::prefill_mode::block);  // prompt
//     layer.forget();                                         // the paper's one decision
//
//     ms::cache<ms::snapkv> cache(shape, ms::snapkv::authors_class());        // by name: "snapkv:class"
//
//   paper    "SnapKV: LLM Knows What You are Looking for Before Generation", arXiv 2404.14469
//   rule     score[j] = maximum (or mean), over the `width` states around j in the text that are not guarded, of the
//            attention that the last `window` tokens gave them, summed over the query heads of the group
//   reads    the attention probabilities of every token
//   forgets  for each KV head; the newest min(window, states / 2) are guarded unless the user names another `recent`
//   cost     morphkv's, and `width` operations per state to decide
//   differs  the numbers are from the published runs: window 32, a maximum of 7. The default of the authors' class
//            differs: window 64, a mean of 5 with zeros beyond the ends. The paper decides once, after the prompt, and
//            then lets the cache grow; here decoding continues by the same rule, with a moving window. The authors'
//            code decides for each query head on repeated keys. With grouped queries, here the group is summed and then
//            pooled, as in Ada-KV's code. A mean does not depend on that order; a maximum does.
#include <array>

#include "multistate/modifiers/pool.hpp"
#include "multistate/policies/morphkv.hpp"
#include "multistate/policy/composed.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct snapkv : composed<morphkv, pool> {
    static constexpr std::string_view name = "snapkv";
    static constexpr std::string_view paper = "arXiv 2404.14469";

    constexpr snapkv() noexcept : snapkv(32, {.width = 7, .greatest = true}) {}

    /// The authors' settings for the paper (ablation_c*_w32_k7_maxpool); the default here.
    static constexpr snapkv published_runs() noexcept { return {}; }
    /// The defaults of the authors' class SnapKVCluster.
    static constexpr snapkv authors_class() noexcept { return {64, {.width = 5, .zero_padded = true}}; }
    static constexpr std::array<preset<snapkv>, 2> presets{{{"runs", &published_runs}, {"class", &authors_class}}};

  protected:
    constexpr snapkv(std::size_t window, pool neighbors) noexcept : composed({.window = window}, neighbors) {}
};
static_assert(policy<snapkv> && hooks_of<snapkv> == (hook::default_guards | hook::on_attention | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
