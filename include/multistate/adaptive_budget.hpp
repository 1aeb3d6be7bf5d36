#pragma once

// Budgets of KV heads by what each holds after the prompt.
//
//     ms::cache<ms::snapkv> cache(shape);                     // shape.block at least the prompt
//     for (layers) ms::prefill(cache, layer, 0, q, k, v, out, ms::prefill_mode::block);
//     cache.rebudget(ms::adaptive_budget(cache, 512));        // and go on with 512 states in the mean
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "multistate/budget.hpp"
#include "multistate/cache_access.hpp"

namespace multistate::inline MULTISTATE_TARGET {

namespace detail {

/// The score of a state that may be forgotten; a NaN counts as less than all others.
struct pooled_score {
    float score;
    multistate::position position;
    std::size_t kv_head;

    /// Stays rather than `other`: the library's order, and of one position the first head.
    bool outlasts(const pooled_score& other) const noexcept {
        if (score != other.score) return score > other.score;
        if (position != other.position) return position > other.position;
        return kv_head < other.kv_head;
    }
};

/// The scores that one KV head holds, but for those of guarded states, behind those that `pool` has; where one state
/// was forgotten to learn them, it counts as much as the least.
template <class C>
void pool_scores(const C& cache, std::size_t layer, std::size_t kv_head, guards fixed, bool one_is_gone,
                 std::vector<pooled_score>& pool) {
    const auto positions = cache.positions(layer, kv_head);
    std::vector<std::size_t> order(positions.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, {}, [&](std::size_t row) { return positions[row]; });
    pooled_score least{std::numeric_limits<float>::infinity(), -1, kv_head};
    for (std::size_t i = fixed.sinks; i + fixed.recent < order.size(); ++i) {
        float score = cache.scores(layer, kv_head)[order[i]];
        if (std::isnan(score)) score = -std::numeric_limits<float>::infinity();
        pool.push_back({score, positions[order[i]], kv_head});
        least.score = std::min(least.score, score);
    }
    if (one_is_gone) pool.push_back(least);
}

/// How many of the layer's `count` greatest scores belong to each KV head.
template <class C>
std::vector<std::size_t> count_by_head(const C& cache, std::size_t layer, guards fixed, bool one_is_gone,
                                       std::size_t count) {
    std::vector<std::size_t> result(cache.shape().kv_heads);
    std::vector<pooled_score> pool;
    for (std::size_t h = 0; h < result.size(); ++h) pool_scores(cache, layer, h, fixed, one_is_gone, pool);
    count = std::min(count, pool.size());
    std::ranges::nth_element(pool, pool.begin() + static_cast<std::ptrdiff_t>(count),
                             [](const auto& a, const auto& b) { return a.outlasts(b); });
    for (std::size_t i = 0; i < count; ++i) ++result[pool[i].kv_head];
    return result;
}

/// A copy of the cache whose scores are those of a decision, for policies that score only when one is due: each KV head
/// that holds more than `states` forgets the least that it may. Costs a copy of the cache.
template <policy P, codec K, codec V>
cache<P, K, V> judged(const cache<P, K, V>& given, std::size_t states) {
    auto result = given.clone();
    std::vector<std::size_t> one_less;
    for (std::size_t layer = 0; layer < given.shape().layers; ++layer) {
        for (std::size_t h = 0; h < given.shape().kv_heads; ++h) {
            const std::size_t size = given.size(layer, h);
            one_less.push_back(size > states ? size - 1 : given.states(layer, h));
        }
    }
    result.rebudget(one_less);
    return result;
}

}  // namespace detail

/// A budget for each KV head, of `states` in the mean over each layer, by where the layer's greatest scores lie. For
/// what is held after a prompt in one block, or in steps, under a policy that forgets per head and has forgotten
/// nothing.
///
///   paper    "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM Inference", arXiv
///            2407.11550
///   rule     (1 - alpha) count + alpha free, and the guards (sinks, recent) for each; free = states - guards, count =
///            how many of the layer's kv_heads * free greatest scores are this head's
///   numbers  alpha 0.2: no head falls below that share of what all would have evenly
///   differs  the authors round each head by itself, here the sum of a layer is exact; they let a cache grow from there
///
/// Guards are those of `states`; where a policy names others for other numbers (h2o: half), a head's own decide what it
/// forgets. Layers that hold no more than `states` get `states` for each head. Policies that score at a decision only
/// are judged on a copy of the cache; the state that each head forgets there counts as much as the least that stays.
template <policy P, codec K, codec V>
std::vector<std::size_t> adaptive_budget(const cache<P, K, V>& cache, std::size_t states, float alpha = 0.2f) {
    const shape& s = cache.shape();
    table_shape wanted = detail::cache_access::tables(cache, 0).front().shape();
    const P policy = table<P>(detail::cache_access::tables(cache, 0).front()).policy();  // const tables do not show it
    if (policy.forgets() != per::head) {
        throw std::invalid_argument("adaptive_budget: policy must forget for each KV head, forgets otherwise");
    }
    detail::require(alpha >= 0 && alpha <= 1, "adaptive_budget", "alpha", "from 0 to 1", alpha);
    wanted.states = states;
    const guards fixed = guards_in_force(wanted, policy);
    const std::size_t guarded = fixed.sinks + fixed.recent;
    const std::size_t free = states - guarded;

    std::vector<std::size_t> result;
    const auto divide = [&](const auto& scored, bool one_is_gone) {
        for (std::size_t layer = 0; layer < s.layers; ++layer) {
            std::vector<double> shares(s.kv_heads, static_cast<double>(states));
            if (cache.size(layer) > states) {
                const auto counts = detail::count_by_head(scored, layer, fixed, one_is_gone, s.kv_heads * free);
                std::ranges::transform(counts, shares.begin(), [&](std::size_t count) {
                    return static_cast<double>(guarded) + (1 - alpha) * static_cast<double>(count) +
                           alpha * static_cast<double>(free);
                });
            }
            const auto whole = detail::whole_shares(shares, s.kv_heads * states, guarded + 1);
            result.insert(result.end(), whole.begin(), whole.end());
        }
    };
    if (multistate::reads_order(policy)) {
        divide(detail::judged(cache, states), true);
    } else {
        divide(cache, false);
    }
    return result;
}

}  // namespace multistate::inline MULTISTATE_TARGET
