#pragma once

// All states for KV heads that retrieve, few for heads that stream (DuoAttention).
//
//     const float threshold = ms::retrieval_threshold(scores, 0.5f);  // scores [layers * kv_heads]: half of the heads
//     ms::cache<ms::composed<ms::window, ms::per_head>> duo(shape, {}, ms::duo_budget(scores, threshold, 32768));
//
// Scores: the authors' trained tables, or attention_profile.hpp.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "multistate/budgets/whole_shares.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The threshold for duo_budget at which about `share` of the heads retrieve: round(share * count) heads; more only if
/// scores are equal. Infinite if that count is 0.
inline float retrieval_threshold(std::span<const float> scores, float share) {
    constexpr const char* who = "retrieval_threshold";
    detail::require_weights(who, "scores", scores);
    detail::require(share >= 0 && share <= 1, who, "share", "from 0 to 1", share);
    const auto count = static_cast<std::size_t>(std::lround(share * static_cast<float>(scores.size())));
    if (count == 0) return std::numeric_limits<float>::infinity();
    std::vector<float> sorted(scores.begin(), scores.end());
    std::ranges::sort(sorted, std::greater());
    return sorted[count - 1];
}

/// A budget for each KV head: heads that retrieve keep `full`, others only sinks and recent. For composed<window,
/// per_head> with shape.sinks = kept.sinks: its states after the sinks are the newest, so a head that streams needs no
/// more memory.
///
///   paper    "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads", arXiv 2410.10819
///   rule     score >= threshold ? full : sinks + recent
///   numbers  scores [layers * kv_heads] from the authors' trained tables, or attention_profile::retrieval(); sinks
///            128, recent 256
///   differs  the authors break ties of scores at random, so that the share of heads is exact
inline std::vector<std::size_t> duo_budget(std::span<const float> scores, float threshold, std::size_t full,
                                           guards kept = {.sinks = 128, .recent = 256}) {
    constexpr const char* who = "duo_budget";
    detail::require_weights(who, "scores", scores);
    detail::require(!std::isnan(threshold), who, "threshold", "a number", threshold);
    detail::require_full(who, full, kept);
    std::vector<std::size_t> result;
    for (const float score : scores) result.push_back(score >= threshold ? full : kept.sinks + kept.recent);
    return result;
}

}}  // namespace multistate::MULTISTATE_TARGET
