#pragma once

// citrus: forgets, after each block, what the tokens of that block attended to least.
//
//   paper    "CItruS: Chunked Instruction-aware State Eviction for Long Sequence Modeling", arXiv 2406.12018
//   rule     score[j] = mean of a[i][t][j] over all query heads i of the layer and all tokens t since the last
//            decision. The score kept is the sum, which orders the states alike.
//   reads    the attention probabilities of every token
//   forgets  for the layer; no state is guarded. Token by token this is tova.
//   cost     one addition per probability, one pass to decide
//   differs  the authors' standard eviction keeps the best k of what came before a chunk, and the chunk: that is
//            `block` prefill here with blocks of the chunk's length c, states = k + c and recent = c. Their positions
//            are indices in the cache; here they stay. Their instruction-aware eviction is citrus_probe.
#include <algorithm>
#include <utility>

#include "multistate/policy.hpp"

namespace multistate::inline MULTISTATE_TARGET {

struct citrus {
    static constexpr std::string_view name = "citrus";
    static constexpr std::string_view paper = "arXiv 2406.12018";
    static constexpr per forgets() noexcept { return per::layer; }
    /// Not 0 when a decision fell after the last attention.
    static constexpr std::size_t floats_per_table(const table_shape&) noexcept { return 1; }

    void on_attention(rows probabilities, view states) const noexcept {
        if (std::exchange(states.own[0], 0.0f) != 0) std::ranges::fill(states.score, 0.0f);
        add(probabilities, states.score);
    }
    void on_forget(view states) const noexcept { states.own[0] = 1; }
};
static_assert(policy<citrus> && remembers_more<citrus> && observes_attention<citrus> && decides_from_memory<citrus>);

}  // namespace multistate::inline MULTISTATE_TARGET
