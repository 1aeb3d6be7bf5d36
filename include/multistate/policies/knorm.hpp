#pragma once

// knorm: forgets the state with the longest key, because states with short keys receive much attention.
//
//     // as the authors do, more states for the first two of four layers:
//     ms::cache<ms::knorm> cache(shape, {}, std::vector<std::size_t>{2048, 2048, 512, 512});
//
//   paper    "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression", arXiv 2406.11430
//   rule     score[j] = -|k[j]|_2
//   reads    new keys
//   forgets  for each KV head; no state is guarded
//   cost     one product per float of a new key; a decision costs nothing
//   differs  the authors spare the first two layers and begin to prune at 2048 tokens. Here both are budgets: give
//            these layers more states. Their code leaves the cache sorted by norm. A layer (per_layer) sums over its KV
//            heads. If a model normalizes its keys (QK-norm), norms say little.
#include "multistate/math/linear_algebra.hpp"
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct knorm {
    static constexpr std::string_view name = "knorm";
    static constexpr std::string_view paper = "arXiv 2406.11430";
    static constexpr per forgets() noexcept { return per::head; }
    /// Each head's keys have their own scale.
    static constexpr bool scores_are_comparable() noexcept { return false; }

    void on_insert(rows keys, rows, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "keys", keys, states);
        for (std::size_t h = 0; h < keys.count; ++h) states.score[row] -= norm(keys[h]);
    }
};
static_assert(policy<knorm> && hooks_of<knorm> == (hook::scores_are_comparable | hook::on_insert));

}}  // namespace multistate::MULTISTATE_TARGET
