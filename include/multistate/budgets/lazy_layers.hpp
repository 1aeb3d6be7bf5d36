#pragma once

// All states for layers that look far, few for lazy layers (SimLayerKV).
//
//     cache.rebudget(ms::lazy_layers_budget(profile.laziness(), 32768));  // attention_profile.hpp measures laziness
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "multistate/budgets/whole_shares.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// A budget for each layer. Lazy layers, whose attention stays near both ends of the text, keep only sinks and recent;
/// other layers keep `full`. For window with shape.sinks = kept.sinks.
///
///   paper    "SimLayerKV: A Simple Framework for Layer-Level KV Cache Reduction", arXiv 2410.13846
///   rule     laziness > threshold ? sinks + recent : full
///   numbers  laziness [layers], the share of attention that the last tokens of the prompt, or the first after it, give
///            to sinks and recent: attention_profile::laziness(); sinks 4, recent 1024; threshold 0.9 for Llama 3, 0.65
///            for Llama 2, 0.8 for Mistral, 0.85 for Qwen
inline std::vector<std::size_t> lazy_layers_budget(std::span<const float> laziness, std::size_t full,
                                                   float threshold = 0.9f, guards kept = {.sinks = 4, .recent = 1024}) {
    constexpr const char* who = "lazy_layers_budget";
    detail::require_weights(who, "laziness", laziness);
    detail::require(!std::isnan(threshold), who, "threshold", "a number", threshold);
    detail::require_full(who, full, kept);
    std::vector<std::size_t> result;
    for (const float lazy : laziness) result.push_back(lazy > threshold ? kept.sinks + kept.recent : full);
    return result;
}

}}  // namespace multistate::MULTISTATE_TARGET
