#pragma once

// A number of states for each KV head, by how much it retrieves (HeadKV).
//
//     ms::cache<ms::snapkv> cache(shape, {}, ms::head_budget(scores, 512, 1.2f));  // scores [layers * kv_heads]
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "multistate/budgets/whole_shares.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// A budget for each KV head from a table of retrieval scores; the mean over all layers is `states`.
///
///   paper    "Not All Heads Matter: A Head-Level KV Cache Compression Method with Integrated Retrieval and Reasoning"
///            (HeadKV), arXiv 2410.19258
///   rule     b - b / beta + (score / sum of scores) (b / beta) count, b = states - window, plus `window` for each
///   numbers  scores [layers * kv_heads] from the authors' tables or attention_profile; beta from 1.005 (nearly all
///            by score) to 10, as in their runs; window as in pyramid_budget, for every head
///   differs  the authors round b / beta down and each head by itself; their tables have query heads; here, average
///            them over each group
inline std::vector<std::size_t> head_budget(std::span<const float> scores, std::size_t states, float beta,
                                            std::size_t window = 32) {
    constexpr const char* who = "head_budget";
    detail::require_window(who, states, window);
    detail::require_weights(who, "scores", scores);
    detail::require(beta >= 1 && std::isfinite(beta), who, "beta", "finite and at least 1", beta);
    const double shared = static_cast<double>(states - window) / static_cast<double>(beta);
    return detail::in_proportion(scores, states, static_cast<double>(states) - shared, window + 1);
}

}}  // namespace multistate::MULTISTATE_TARGET
