#pragma once

// Budgets of KV heads, computed from the scores of the states that each head holds after the prompt.
//
//     ms::cache<ms::snapkv> cache(shape);                     // shape.block at least the prompt
//     for (layers) ms::prefill(cache.layer(i), 0, {.q = q, .k = k, .v = v}, out, scratch, ms::prefill_mode::block);
//     cache.rebudget(ms::adaptive_budget(cache, 512));        // then continue with 512 states in the mean
//
// Heads are compared by their scores, which must mean the same in all heads (see policy.hpp):
//
//     shares of attention    tova_head, the h2o family, observed_attention, scissorhands (a count), keyformer,
//                            morphkv, snapkv, cake, cake_prompt, cam, d2o, value_merge; r_kv (less a share of
//                            redundancy)
//     the same times |v|     vatp, caote (squared), noncausal, expected_attention: what a state adds to the output
//                            of attention, which all heads of a layer share
//     with two stages        defensivekv: shares of attention times shares of |v|; states that a head's first stage
//                            keeps are above all of these
//     without a unit         cur, leverage, capkv (shares), keydiff (a cosine), lagkv (ranks), random. Ranks and random
//                            numbers do not distinguish heads; neither does window per head
//     not their own scores   criticalkv uses snapkv's; roco uses mean attention
//     your scores            given: supply scores that are comparable
//     refused                knorm and q_filters (each head's keys have their own scale), compactor and triattention
//                            (deviations of each head)
//     per layer, or never    refused: full, window, tova, tova_kvpress, h2o_layer, h2o_normalized, chunkkv, citrus,
//                            citrus_probe
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "multistate/budgets/whole_shares.hpp"
#include "multistate/table/tables.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

/// The score of a state that may be forgotten. A NaN counts as less than all other scores.
struct pooled_score {
    float score;
    multistate::position position;
    std::size_t kv_head;

    /// Whether it outlasts `other`: the library's order; at equal positions, the lower head number stays.
    bool outlasts(const pooled_score& other) const noexcept {
        if (score != other.score) return score > other.score;
        if (position != other.position) return position > other.position;
        return kv_head < other.kv_head;
    }
};

/// Adds to `pool` the scores by which one KV head would forget down to `states`. Excludes guarded states.
template <class Layer>
void pool_scores(const Layer& layer, std::size_t kv_head, std::size_t states, guards fixed,
                 std::vector<pooled_score>& pool) {
    const auto scores = layer.tables()[kv_head].scores_at(states, layer.stored(kv_head));
    const auto positions = layer.positions(kv_head);
    std::vector<std::size_t> order(positions.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, {}, [&](std::size_t row) { return positions[row]; });
    for (std::size_t i = fixed.sinks; i + fixed.recent < order.size(); ++i) {
        const float score = scores[order[i]];
        pool.push_back(
            {std::isnan(score) ? -std::numeric_limits<float>::infinity() : score, positions[order[i]], kv_head});
    }
}

/// Counts, for each KV head, its states among the layer's greatest scores (`free` per KV head in the mean).
template <class Layer>
std::vector<std::size_t> count_by_head(const Layer& layer, std::size_t states, guards fixed) {
    std::vector<std::size_t> result(layer.shape().kv_heads);
    std::vector<pooled_score> pool;
    for (std::size_t h = 0; h < result.size(); ++h) pool_scores(layer, h, states, fixed, pool);
    const std::size_t count = (std::min)(result.size() * (states - fixed.sinks - fixed.recent), pool.size());
    std::ranges::nth_element(pool, pool.begin() + static_cast<std::ptrdiff_t>(count),
                             [](const auto& a, const auto& b) { return a.outlasts(b); });
    for (std::size_t i = 0; i < count; ++i) ++result[pool[i].kv_head];
    return result;
}

}  // namespace detail

/// A budget for each KV head, with mean `states` over each layer, according to where the layer's greatest scores lie.
/// Use it after a prompt (in one block or in steps) under a policy that forgets per head and has forgotten nothing.
///
///   paper    "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM Inference", arXiv
///            2407.11550
///   rule     (1 - alpha) count + alpha free, and the guards (sinks, recent) for each; free = states - guards, count =
///            how many of the layer's kv_heads * free greatest scores are this head's
///   numbers  alpha 0.2: each head gets at least this share of an even budget
///   differs  the authors round each head by itself; here the sum of a layer is exact. They let a cache grow from
///            there. Their option to weigh a head's scores by the sum of its best is left out. kvpress uses
///            alpha only as a minimum: it adds nothing to heads above it.
///
/// Every head keeps the guards of `states`, whatever its own budget, so the authors' window stays whole; cache.rebudget
/// ensures this. Layers that hold at most `states` get `states` for each head. Throws std::invalid_argument for
/// policies whose scores cannot be compared (see above). Costs a copy of each table and a decision.
template <class Cache>
guarded_budget adaptive_budget(const Cache& cache, std::size_t states, float alpha = 0.2f) {
    const auto& policy = cache.policy();  // checks that the cache was not moved from
    const shape& s = cache.shape();
    table_shape wanted = cache.layer(0).tables().front().shape();
    if (policy.forgets() != per::head) {
        detail::refuse("adaptive_budget", "policy", "one that forgets for each KV head", "one that forgets otherwise");
    }
    if (!multistate::scores_are_comparable(policy)) {
        detail::refuse("adaptive_budget", "policy", "one that scores all KV heads on one scale",
                       "one with a scale for each");
    }
    detail::require(alpha >= 0 && alpha <= 1, "adaptive_budget", "alpha", "from 0 to 1", alpha);
    wanted.states = states;
    wanted.guarded = {};
    guarded_budget result{.states = {}, .guarded = guards_in_force(wanted, policy)};
    const std::size_t guarded = result.guarded.sinks + result.guarded.recent;
    const std::size_t free = states - guarded;
    for (std::size_t i = 0; i < s.layers; ++i) {
        const auto layer = cache.layer(i);
        std::vector<double> shares(s.kv_heads, static_cast<double>(states));
        if (layer.size() > states) {
            const auto counts = detail::count_by_head(layer, states, result.guarded);
            std::ranges::transform(counts, shares.begin(), [&](std::size_t count) {
                return static_cast<double>(guarded) + static_cast<double>(1 - alpha) * static_cast<double>(count) +
                       static_cast<double>(alpha) * static_cast<double>(free);
            });
        }
        const auto whole = detail::whole_shares(shares, s.kv_heads * states, guarded + 1);
        result.states.insert(result.states.end(), whole.begin(), whole.end());
    }
    return result;
}

}}  // namespace multistate::MULTISTATE_TARGET
