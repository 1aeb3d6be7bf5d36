#pragma once

// Shared by the budgets: checks of their arguments, and rounding that keeps the total exact.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "multistate/core/errors.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/core/types.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

/// Rounds shares to whole numbers that sum to `total`, each at least `least`. Shares below `least` are raised to it,
/// and the others shrink in proportion. Then the largest remainders are rounded up (ties: the lower index). The order
/// of the shares is preserved. Requires shares.size() * least <= total; the shares must sum to about `total`.
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

/// Requires that `window` states, which are always kept, leave at least one of `states`.
inline void require_window(const char* who, std::size_t states, std::size_t window) {
    require_size(who, "states", states);
    require(window < states, who, "window", "at most states - 1 = " + std::to_string(states - 1), window);
}

/// Requires at least one weight, and all of them finite and not negative.
inline void require_weights(const char* who, const char* argument, std::span<const float> weights) {
    require(!weights.empty(), who, argument, "at least one number", weights.size());
    for (const float w : weights) require(std::isfinite(w) && w >= 0, who, argument, "finite and not negative", w);
}

/// `each` for every weight, and the rest of the total (a mean of `states`) in proportion to the weights. If all weights
/// are 0, the rest is divided evenly.
inline std::vector<std::size_t> in_proportion(std::span<const float> weights, std::size_t states, double each,
                                              std::size_t least) {
    const double count = static_cast<double>(weights.size());
    const double pool = (static_cast<double>(states) - each) * count;
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<double> shares;
    for (const float w : weights) shares.push_back(each + pool * (sum > 0 ? static_cast<double>(w) / sum : 1 / count));
    return whole_shares(shares, weights.size() * states, least);
}

/// Requires that a full budget is at least as large as sinks and recent.
inline void require_full(const char* who, std::size_t full, guards kept) {
    require_size(who, "sinks + recent", kept.sinks + kept.recent);
    const std::string bound = "at least sinks + recent = " + std::to_string(kept.sinks + kept.recent);
    require(full >= kept.sinks + kept.recent, who, "full", bound, full);
}

}}}  // namespace multistate::MULTISTATE_TARGET::detail
