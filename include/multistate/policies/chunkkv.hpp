#pragma once

// chunkkv: keeps or forgets whole phrases by the attention that the last tokens give them.
//
//     ms::chunkkv policy;
//     policy.get<ms::chunk>().length = 10;                    // states in a phrase
//
//   paper    "ChunkKV: Semantic-Preserving KV Cache Compression", arXiv 2502.00299
//   rule     score[j] = mean, over the chunk of `length` states to which j belongs, of the attention that the last
//            `window` tokens gave them, summed over the query heads of the layer
//   reads    the attention probabilities of every token
//   forgets  for the layer; the newest min(window, states / 2) are guarded unless the user names another `recent`
//   cost     morphkv's, and two passes to decide
//   differs  like the chunk modifier: the count is exact, so one chunk may go in part, oldest first. Chunks are counted
//            from the oldest state held. The paper decides once, for a prompt (see snapkv), and shares the choice
//            between neighboring layers; here each layer decides. Chunks are 20 long, as in kvpress; the paper finds 10
//            a robust choice. kvpress uses the scores of its SnapKV (window 64, a pooled mean of 5; with pooling:
//            composed<snapkv, per_layer, chunk>) and keeps every chunk that the window overlaps. Here only the window's
//            states are guarded; their scores count in the mean of their chunk.
#include "multistate/modifiers/chunk.hpp"
#include "multistate/modifiers/scope.hpp"
#include "multistate/policies/morphkv.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct chunkkv : composed<morphkv, per_layer, chunk> {
    static constexpr std::string_view name = "chunkkv";
    static constexpr std::string_view paper = "arXiv 2502.00299";

    constexpr chunkkv() noexcept : composed({.window = 32}, {}, {}) {}
};
static_assert(policy<chunkkv> && hooks_of<chunkkv> == (hook::default_guards | hook::on_attention | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
