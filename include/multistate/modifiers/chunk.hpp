#pragma once

// chunk: states that are consecutive in the text share one score, so that a phrase stays or goes as a whole.
//
//     ms::composed<ms::snapkv, ms::chunk> policy;
//     policy.get<ms::chunk>().length = 10;                    // states
//
//   paper    "ChunkKV: Semantic-Preserving KV Cache Compression", arXiv 2502.00299
//   rule     score[j] = mean of score[i] over j's chunk: `length` states held, counted from the oldest
//   cost     two passes per decision
//   differs  the paper keeps whole chunks; here the count is exact, so the last chunk may go in part, oldest first
#include <algorithm>
#include <string_view>

#include "multistate/policy/composed.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct chunk {
    static constexpr std::string_view name = "chunk";
    static constexpr bool needs_scores = true;
    std::size_t length = 20;
    static constexpr parameter<chunk> parameters[] = {{"length", &chunk::length, 1, 4096}};

    void modify(view states) const noexcept {
        const auto order = states.by_position;
        for (std::size_t first = 0; first < order.size(); first += length) {
            const auto rows = order.subspan(first, (std::min)(length, order.size() - first));
            float sum = 0;
            for (const std::uint32_t row : rows) sum += states.score[row];
            for (const std::uint32_t row : rows) states.score[row] = sum / static_cast<float>(rows.size());
        }
    }
};
static_assert(hooks_of<chunk> == hook::modify);

}}  // namespace multistate::MULTISTATE_TARGET
