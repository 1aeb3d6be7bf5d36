#pragma once

// snapkv: morphkv's window with neighbours pooled; with the prompt in one block, SnapKV.
//
//     ms::prefill(cache, layer, 0, q, k, v, out, ms::prefill_mode::block);   // the whole prompt, `block` that large
//     cache.forget(layer);                                                   // the paper's one decision
//
//   paper    "SnapKV: LLM Knows What You are Looking for Before Generation", arXiv 2404.14469
//   rule     score[j] = mean, over the states around j in the text that are not guarded, of the attention that the last
//            `window` tokens gave them, summed over the query heads of the group
//   reads    the attention probabilities of every token
//   forgets  for each KV head; the newest min(window, states / 2) are guarded unless the user names another `recent`
//   cost     morphkv's, and `width` operations per state to decide
//   differs  the paper decides once, after the prompt, and then lets the cache grow; here decoding goes on by the same
//            rule, with the window moving along. The authors' code decides for each query head on repeated keys, and
//            pools with zeros beyond the ends. Its class has window 64, its runs 32.
#include "multistate/modifiers/pool.hpp"
#include "multistate/policies/morphkv.hpp"

namespace multistate::inline MULTISTATE_TARGET {

struct snapkv : modified<morphkv, pool> {
    static constexpr std::string_view name = "snapkv";
    static constexpr std::string_view paper = "arXiv 2404.14469";

    constexpr snapkv() noexcept : modified{.base = {.window = 32}, .modifiers = {}} {}
};
static_assert(policy<snapkv> && names_guards<snapkv> && observes_attention<snapkv> && decides_from_memory<snapkv>);

}  // namespace multistate::inline MULTISTATE_TARGET
