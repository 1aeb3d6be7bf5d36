#pragma once

// A number of states for each layer: more if its attention in the prompt was spread out and changeable (CAKE).
//
//     preferences.push_back(ms::cake_preference(probabilities_of_the_last_32_tokens, prefix));  // for each layer
//     cache.rebudget(ms::cake_budget(preferences, 512));                                        // 512 in the mean
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "multistate/budgets/whole_shares.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The preference of a layer for a large budget, for cake_budget: high if its attention is spread out and changes from
/// token to token.
///
///   paper    "CAKE: Cascading and Adaptive KV Cache Eviction with Layer Preferences", arXiv 2503.12491
///   rule     H^(1 / tau1) * V^(1 / tau2); H = the sum of -a log a, V = the sum over query heads and states of the
///            variance of a over the last tokens of the prompt, both over the first `prefix` states only
///   numbers  tau1 = tau2 = 1, the authors' default; their code has a table by model and budget
///
/// tokens[t] holds the probabilities of token t, [query heads, at least `prefix`], all in the same order of rows. Give
/// at least two tokens; the authors use 32, with the rest of the prompt as prefix.
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

/// A budget for each layer in proportion to its preference, plus `window` for each; the mean is `states`.
///
///   paper    CAKE, as above
///   numbers  window as in pyramid_budget
///   differs  the authors adjust lower layers' budgets while later layers arrive, to save memory meanwhile; their last
///            adjustment is this budget. They cap a layer at the length of the prompt.
inline std::vector<std::size_t> cake_budget(std::span<const float> preferences, std::size_t states,
                                            std::size_t window = 32) {
    detail::require_window("cake_budget", states, window);
    detail::require_weights("cake_budget", "preferences", preferences);
    return detail::in_proportion(preferences, states, static_cast<double>(window), window + 1);
}

}}  // namespace multistate::MULTISTATE_TARGET
