#pragma once

// citrus: after each block, forgets the states that received the least attention from this block.
//
//     // one decision per block:
//     bool done = ms::prefill(layer, first, {.q = q, .k = k, .v = v}, out, scratch, ms::prefill_mode::block);
//
//   paper    "CItruS: Chunked Instruction-aware State Eviction for Long Sequence Modeling", arXiv 2406.12018
//   rule     score[j] = mean of a[i][t][j] over all query heads i of the layer and the tokens t of the block that
//            arrived last. The score kept is the sum, which gives the same order.
//   reads    the attention probabilities of every token
//   forgets  for the layer; no state is guarded. A token that arrives alone is a block of one, so this is tova token by
//            token and in an exact prefill. With slack, a decision waits but still uses only the last block.
//   cost     one addition per probability, one pass to decide
//   differs  the authors' standard eviction keeps the best k states before a chunk, and the chunk. Here that is `block`
//            prefill with blocks of the chunk's length c, states = k + c and recent = c. Their positions are indices in
//            the cache; here they never change. Their instruction-aware eviction is citrus_probe.
#include <algorithm>

#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct citrus {
    static constexpr std::string_view name = "citrus";
    static constexpr std::string_view paper = "arXiv 2406.12018";
    static constexpr per forgets() noexcept { return per::layer; }

    void on_attention(rows probabilities, view states) const noexcept {
        if (states.newest == states.block_begin) std::ranges::fill(states.score, 0.0f);
        add(probabilities, states.score);
    }
};
static_assert(policy<citrus> && hooks_of<citrus> == hook::on_attention);

}}  // namespace multistate::MULTISTATE_TARGET
