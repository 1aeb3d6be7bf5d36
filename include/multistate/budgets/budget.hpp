#pragma once

// How many states each layer, or each KV head, may keep: the third argument of cache's constructor, or what rebudget
// takes after the prompt.
//
//     ms::cache<ms::snapkv> cache(shape, {}, ms::pyramid_budget(32, 512));                     // by layer
//     ms::cache<ms::per_head<ms::window>> duo(shape, {}, ms::duo_budget(scores, 0.5f, 32768)); // by KV head
//
// Budgets of layers are for every policy, budgets of KV heads for those that forget per head. Where the mean is given,
// the sum is exact. All throw std::invalid_argument that names the argument, its bound and the value given.
//
// What depends on a prompt: adaptive.hpp. Scores for duo_budget and lazy_layers_budget: attention_profile.hpp.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "multistate/core/shape.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

/// Whole numbers that sum to `total`, none below `least`, as near to the shares as that allows: shares below it are
/// raised and the others give way in proportion, then the largest remainders are rounded up, of equals the first. The
/// greater of two shares gets no smaller number. Needs shares.size() * least <= total, and shares that sum to about
/// that.
inline std::vector<std::size_t> whole_shares(std::vector<double> shares, std::size_t total, std::size_t least) {
    const std::size_t spare = total - shares.size() * least;
    double above = 0;
    for (double& share : shares) above += share = (std::max)(share - static_cast<double>(least), 0.0);
    std::vector<std::size_t> result;
    std::size_t left = spare;
    for (double& share : shares) {
        share = above > 0 ? share / above * static_cast<double>(spare)
                          : static_cast<double>(spare) / static_cast<double>(shares.size());
        const auto whole = (std::min)(left, static_cast<std::size_t>(share));
        result.push_back(least + whole);
        share -= static_cast<double>(whole);
        left -= whole;
    }
    std::vector<std::size_t> order(shares.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, std::greater(), [&](std::size_t i) { return shares[i]; });
    for (std::size_t i = 0; left > 0; ++i, --left) ++result[order[i % order.size()]];
    return result;
}

/// The check that `window` states, kept in any case, leave at least one of `states`.
inline void require_window(const char* who, std::size_t states, std::size_t window) {
    require_size(who, "states", states);
    require(window < states, who, "window", "at most states - 1 = " + std::to_string(states - 1), window);
}

/// Weights to divide by: at least one, finite and not negative.
inline void require_weights(const char* who, const char* argument, std::span<const float> weights) {
    require(!weights.empty(), who, argument, "at least one number", weights.size());
    for (const float w : weights) require(std::isfinite(w) && w >= 0, who, argument, "finite and not negative", w);
}

/// `each` for all, and what is left of `states` for each in proportion to the weights; evenly where all are 0.
inline std::vector<std::size_t> in_proportion(std::span<const float> weights, std::size_t states, double each,
                                              std::size_t least) {
    const double count = static_cast<double>(weights.size());
    const double pool = (static_cast<double>(states) - each) * count;
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<double> shares;
    for (const float w : weights) shares.push_back(each + pool * (sum > 0 ? static_cast<double>(w) / sum : 1 / count));
    return whole_shares(shares, weights.size() * states, least);
}

/// The check that a budget of all is no smaller than one of sinks and recent alone.
inline void require_full(const char* who, std::size_t full, guards kept) {
    require_size(who, "sinks + recent", kept.sinks + kept.recent);
    const std::string bound = "at least sinks + recent = " + std::to_string(kept.sinks + kept.recent);
    require(full >= kept.sinks + kept.recent, who, "full", bound, full);
}

}  // namespace detail

/// A budget for each layer that falls with depth: lower layers attend widely, higher ones to few states.
///
///   paper    "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling", arXiv 2406.02069
///   rule     linear from most (first layer) to least (last layer), least = (states - window) / beta and most =
///            2 (states - window) - least, and `window` more for each: the mean is `states`
///   numbers  beta 20, from the authors' code, at least 1 (all alike); window is what each layer keeps in any case, the
///            guards of the policy (SnapKV's `window`): with shape.recent = window they stay whole in small layers, too
///   differs  the authors round the step from layer to layer down, so their sum is greater: by 208 for 32 layers of 512
///            in the mean. They cap `most` at the length of the prompt, and raise `least` for it; prompts of less than
///            twice the budget get the same in every layer. None gets less than window + 1 here.
inline std::vector<std::size_t> pyramid_budget(std::size_t layers, std::size_t states, float beta = 20,
                                               std::size_t window = 0) {
    constexpr const char* who = "pyramid_budget";
    detail::require(layers >= 1, who, "layers", "at least 1", layers);
    detail::require_window(who, states, window);
    detail::require(beta >= 1 && std::isfinite(beta), who, "beta", "finite and at least 1", beta);
    const double mean = static_cast<double>(states - window);
    const double slope =
        layers == 1 ? 0 : 2 * (mean - mean / static_cast<double>(beta)) / static_cast<double>(layers - 1);
    std::vector<double> shares;
    for (std::size_t layer = 0; layer < layers; ++layer) {
        const double from_middle = static_cast<double>(layers - 1) / 2 - static_cast<double>(layer);
        shares.push_back(static_cast<double>(window) + mean + slope * from_middle);
    }
    return detail::whole_shares(shares, layers * states, window + 1);
}

/// How much a layer wants, for cake_budget: high where attention is spread and where it changes from token to token.
///
///   paper    "CAKE: Cascading and Adaptive KV Cache Eviction with Layer Preferences", arXiv 2503.12491
///   rule     H^(1 / tau1) * V^(1 / tau2); H = the sum of -a log a, V = the sum over query heads and states of the
///            variance of a over the last tokens of the prompt, both over the first `prefix` states only
///   numbers  tau1 = tau2 = 1, where the authors' code has nothing better; it has a table by model and budget
///
/// tokens[t] holds the probabilities of token t, [query heads, at least `prefix`], all in the same order of rows; two
/// tokens at least, the authors take 32 and as prefix the rest of the prompt.
inline float cake_preference(std::span<const rows> tokens, std::size_t prefix, float tau1 = 1, float tau2 = 1) {
    constexpr const char* who = "cake_preference";
    detail::require(tokens.size() >= 2, who, "tokens", "at least 2", tokens.size());
    detail::require(std::isfinite(tau1) && tau1 > 0, who, "tau1", "finite and greater than 0", tau1);
    detail::require(std::isfinite(tau2) && tau2 > 0, who, "tau2", "finite and greater than 0", tau2);
    const std::size_t heads = tokens.front().count;
    for (const rows& token : tokens) {
        detail::require(token.count == heads, who, "tokens", "rows of " + std::to_string(heads) + " heads",
                        token.count);
        detail::require(token.width >= prefix, who, "tokens", "at least prefix wide, " + std::to_string(prefix),
                        token.width);
    }
    double entropy = 0;
    double variance = 0;
    for (std::size_t head = 0; head < heads; ++head) {
        for (std::size_t j = 0; j < prefix; ++j) {
            double sum = 0;
            for (const rows& token : tokens) {
                const double a = static_cast<double>(token[head][j]);
                sum += a;
                if (a > 0) entropy -= a * std::log(a);
            }
            const double mean = sum / static_cast<double>(tokens.size());
            for (const rows& token : tokens) {
                const double from_mean = static_cast<double>(token[head][j]) - mean;
                variance += from_mean * from_mean / static_cast<double>(tokens.size() - 1);
            }
        }
    }
    return static_cast<float>(std::pow((std::max)(entropy, 0.0), 1 / tau1) * std::pow(variance, 1 / tau2));
}

/// A budget for each layer in proportion to its preference, and `window` more for each; the mean is `states`.
///
///   paper    CAKE, as above
///   numbers  window as in pyramid_budget
///   differs  the authors adjust lower layers' budgets while later layers come in, to need less memory on the way; the
///            last adjustment is this one. They cap a layer at the length of the prompt.
inline std::vector<std::size_t> cake_budget(std::span<const float> preferences, std::size_t states,
                                            std::size_t window = 32) {
    detail::require_window("cake_budget", states, window);
    detail::require_weights("cake_budget", "preferences", preferences);
    return detail::in_proportion(preferences, states, static_cast<double>(window), window + 1);
}

/// A budget for each KV head, from a table of how much each head retrieves; the mean over all layers is `states`.
///
///   paper    "Not All Heads Matter: A Head-Level KV Cache Compression Method with Integrated Retrieval and Reasoning"
///            (HeadKV), arXiv 2410.19258
///   rule     b - b / beta + (score / sum of scores) (b / beta) count, b = states - window, and `window` more for each
///   numbers  scores [layers * kv_heads] from the authors' tables or attention_profile; beta from 1.005 (nearly all
///            by score) to 10, as in their runs; window as in pyramid_budget, for every head
///   differs  the authors round b / beta down and each head by itself; the tables are of query heads, which here must
///            be averaged over each group
inline std::vector<std::size_t> head_budget(std::span<const float> scores, std::size_t states, float beta,
                                            std::size_t window = 32) {
    constexpr const char* who = "head_budget";
    detail::require_window(who, states, window);
    detail::require_weights(who, "scores", scores);
    detail::require(beta >= 1 && std::isfinite(beta), who, "beta", "finite and at least 1", beta);
    const double shared = static_cast<double>(states - window) / static_cast<double>(beta);
    return detail::in_proportion(scores, states, static_cast<double>(states) - shared, window + 1);
}

/// The score from which on about `share` of the heads retrieve, for duo_budget: round(share * count) of them, and more
/// only where scores are equal. Infinite for none.
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

/// A budget for each KV head: heads that retrieve keep `full`, the others only sinks and recent. For per_head<window>
/// with shape.sinks = kept.sinks, whose states beyond the sinks are the newest: a head that streams takes no more
/// memory.
///
///   paper    "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads", arXiv 2410.10819
///   rule     score >= threshold ? full : sinks + recent
///   numbers  scores [layers * kv_heads] from the authors' trained tables, or attention_profile::retrieval(); sinks
///            128, recent 256
///   differs  the authors draw equal scores apart at random, so that a share of the heads is met exactly
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

/// A budget for each layer: lazy ones, whose attention stays near the ends of the text, keep only sinks and recent, the
/// others `full`. For window with shape.sinks = kept.sinks.
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
