#pragma once

// Fewer states for deeper layers (PyramidKV).
//
//     ms::cache<ms::snapkv> cache(shape, {}, ms::pyramid_budget(32, 512));  // 32 layers, 512 states in the mean
#include <cmath>
#include <cstddef>
#include <vector>

#include "multistate/budgets/whole_shares.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// A budget for each layer, linear in its depth: lower layers attend to many states, higher layers to few.
///
///   paper    "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling", arXiv 2406.02069
///   rule     linear from most (first layer) to least (last layer), least = (states - window) / beta and most = 2
///            (states - window) - least, plus `window` for each: the mean is `states`
///   numbers  beta 20, from the authors' code, at least 1 (all layers equal); `window` is what every layer keeps: the
///            guards of the policy (SnapKV's `window`). Set shape.recent = window so that small layers also guard all
///            of it
///   differs  the authors round the step between layers down, so their sum is greater by 208 for 32 layers of 512 in
///            the mean. They cap `most` at the length of the prompt, and raise `least` for it; prompts shorter than
///            twice the budget get equal layers. Here every layer gets at least window + 1.
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

}}  // namespace multistate::MULTISTATE_TARGET
