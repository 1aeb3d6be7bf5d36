#pragma once

// r_kv: keeps states that recent queries attend to and whose keys differ from the others; for long reasoning.
//
//     // the authors' use: a decision every 128 tokens
//     ms::cache<ms::r_kv> cache({.layers = 32, …, .states = 1024, .slack = 127});
//
//   paper    "R-KV: Redundancy-aware KV Cache Compression for Reasoning Models", arXiv 2505.24133
//   rule     score[j] = lambda * I[j] - (1 - lambda) * R[j]. Over the states that are not the newest guarded ones,
//            I = maximum over 7 neighbors in the text of the mean over the last `window` queries of softmax_j(maximum
//            over the group of scale * q . k[j]); over all states, R = softmax_j(mean over all i of cos(k[i], k[j])),
//            where in each row i the diagonal and the newest j with cos > `threshold` count 0
//   reads    queries; the stored keys
//   forgets  for each KV head; the newest min(8, states / 2) are guarded unless the user names another `recent`
//   cost     n head_dim operations per KV head and decision, once more for each new query, each new state and each
//            state whose newest similar state was forgotten; n `window` exponentials. Measured on random keys (Zen 5),
//            2.5 to 3 times the cost of attention; with a slack of 31, 0.3 to 0.4 times. If a part writes stored rows
//            (mergers/), all states are new at every decision: n^2 head_dim. 32 + 4 `window` bytes per state; `window`
//            queries and 4 keys per table.
//   differs  read in the authors' code. It never sorts the cache again after a decision, so there, neighbors, the
//            newest of similar states and the oldest follow the order of the last scores; here, the order of the text.
//            If no cos in a row exceeds the threshold, it sets the oldest state's to 0; here nothing is set. lambda is
//            0.1 as in the paper, 0.07 in the code. A layer (per_layer) sums over its KV heads.
#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <utility>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/math/softmax.hpp"
#include "multistate/modifiers/pool.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct r_kv {
    static constexpr std::string_view name = "r_kv";
    static constexpr std::string_view paper = "arXiv 2505.24133";
    static constexpr per forgets() noexcept { return per::head; }

    float lambda = 0.1f;     ///< weight of importance; redundancy has weight 1 - lambda
    std::size_t window = 8;  ///< queries
    float threshold = 0.5f;  ///< of the cosine; among the states above it in a row, the newest is not redundant
    static constexpr parameter<r_kv> parameters[] = {{"lambda", &r_kv::lambda, 0.0f, 1.0f},
                                                     {"window", &r_kv::window, 1, 1024},
                                                     {"threshold", &r_kv::threshold, 0.0f, 1.0f}};

    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = 0, .recent = (std::min<std::size_t>)(8, states / 2)};
    }
    struct memory {
        per_state_array<float> scratch;              // [scratch_planes]
        per_state_array<float> logits;               // [window][KV heads]: the greatest of the group
        per_state_array<float> lengths;              // [KV heads]: of the keys, + tiny; 0 if the state is new
        per_state_array<std::uint32_t> similar;      // [KV heads]: the row of the newest similar state,
        per_state_array<position> similar_position;  // [KV heads]: its position + 1, or none, unknown, is_new
        per_state_array<float> cosines;              // [KV heads]: and the cosine with it
        per_table<std::uint64_t> tokens, asked;      // so far; of these, those whose logits are known
        per_table_array<float> queries;              // a ring [window * query heads][head_dim]
        per_table_array<float> directions;           // scratch: [compared_at_once][head_dim]
    };
    void lay_out(memory& m, layout& l) const noexcept {
        const table_shape& s = l.shape();
        l(m.scratch, scratch_planes);
        l(m.logits, window * s.kv_heads);
        l(m.lengths, s.kv_heads);
        l(m.similar, s.kv_heads);
        l(m.similar_position, s.kv_heads);
        l(m.cosines, s.kv_heads);
        l(m.tokens);
        l(m.asked);
        l(m.queries, window * s.heads, s.head_dim);
        l(m.directions, compared_at_once, s.head_dim);
    }

    void on_query(rows queries, view states) const noexcept {
        const memory mine = states.memory(*this);
        const std::size_t first = mine.tokens[0]++ % window * states.shape.heads;
        for (std::size_t i = 0; i < queries.count; ++i) {
            std::ranges::copy(queries[i], mine.queries[first + i].begin());
        }
    }
    void on_forget(const reader& stored, view states) const noexcept {
        const memory mine = states.memory(*this);
        std::ranges::fill(states.score, 0.0f);
        for (std::size_t h = 0; h < states.shape.kv_heads; ++h) {
            if (stored.keys_may_change) std::ranges::fill(mine.lengths[h], 0.0f);
            find_logits(stored, states, mine, h);
            find_similar(stored, states, mine, h);
            add_importance(states, mine, h);
            subtract_redundancy(stored, states, mine, h);
        }
        mine.asked[0] = mine.tokens[0];
    }

  private:
    /// Vectors that dot_keys multiplies at once.
    static constexpr std::size_t compared_at_once = 4, scratch_planes = 4;
    static constexpr float tiny = 1e-8f;  ///< added to lengths, as in the authors' code
    /// Instead of a position + 1.
    static constexpr position none = 0, unknown = -1, is_new = -2;

    /// The logits of new queries with all keys, and of the older queries with new keys.
    void find_logits(const reader& stored, view states, const memory& mine, std::size_t h) const noexcept {
        const auto lengths = mine.lengths[h];
        const auto added = static_cast<std::size_t>(std::ranges::count(lengths, 0.0f));
        const std::uint64_t tokens = mine.tokens[0], first = tokens - (std::min<std::uint64_t>)(window, tokens);
        const bool many = added > states.size() / 8;
        const std::uint64_t unasked = many ? first : (std::max)(first, mine.asked[0]);
        for (std::uint64_t t = unasked; t < tokens; ++t) ask_all(stored, states, mine, h, t % window);
        if (first == unasked) return;
        for (std::size_t row = 0; row < states.size(); ++row) {
            if (lengths[row] != 0) continue;
            const auto key = mine.directions[0];
            stored.key(h, row, key);
            for (std::uint64_t t = first; t < unasked; ++t) ask(key, states, mine, h, t % window, row);
        }
    }
    /// The logits of one token, `slot` of the ring, with all keys.
    static void ask_all(const reader& stored, view states, const memory& mine, std::size_t h,
                        std::size_t slot) noexcept {
        const table_shape& s = states.shape;
        const auto logits = mine.logits[slot * s.kv_heads + h];
        std::ranges::fill(logits, -std::numeric_limits<float>::infinity());
        for (std::size_t i = 0; i < s.group(); i += scratch_planes) {
            const std::size_t count = (std::min)(scratch_planes, s.group() - i);
            const auto queries = mine.queries[slot * s.heads + h * s.group() + i];
            stored.dot_keys(h, {queries.data(), count, s.head_dim, s.head_dim}, mine.scratch[0], mine.scratch.stride());
            for (std::size_t k = 0; k < count; ++k) {
                simd::combine(mine.scratch[k], logits, [scale = s.scale](simd::floats most, simd::floats dot) {
                    const simd::floats logit = dot * scale;
                    return logit > most ? logit : most;
                });
            }
        }
    }
    /// The logit of one token with one key.
    static void ask(std::span<const float> key, view states, const memory& mine, std::size_t h, std::size_t slot,
                    std::size_t row) noexcept {
        const table_shape& s = states.shape;
        float most = -std::numeric_limits<float>::infinity();
        for (std::size_t i = h * s.group(); i < (h + 1) * s.group(); ++i) {
            most = (std::max)(most, s.scale * simd::dot_in_one_sum(mine.queries[slot * s.heads + i], key));
        }
        mine.logits[slot * s.kv_heads + h][row] = most;
    }

    void add_importance(view states, const memory& mine, std::size_t h) const noexcept {
        const std::span most = mine.scratch[0], importance = mine.scratch[1];
        const std::size_t recent = (std::min)(states.guarded.recent, states.size());
        const auto queries = static_cast<std::size_t>((std::min<std::uint64_t>)(window, mine.tokens[0]));
        std::ranges::fill(importance, 0.0f);
        for (std::size_t t = 0; t < queries; ++t) {
            std::ranges::copy(mine.logits[t * states.shape.kv_heads + h], most.begin());
            for (const std::uint32_t row : states.by_position.last(recent)) {
                most[row] = -std::numeric_limits<float>::infinity();
            }
            softmax(most);
            simd::add(most, importance);
        }
        view pooled = states;  // the pool's memory is scratch[0]
        pooled.score = importance;
        pooled.by_position = states.by_position.first(states.size() - recent);
        pooled.guarded = {};
        pool{.width = 7, .greatest = true}.modify(pooled);
        simd::add_scaled(lambda / static_cast<float>((std::max<std::size_t>)(queries, 1)), importance, states.score);
    }

    /// Finds the newest similar state of each state that is new or whose newest similar state was forgotten, and makes
    /// new states the newest similar ones of others.
    void find_similar(const reader& stored, view states, const memory& mine, std::size_t h) const noexcept {
        const auto lengths = mine.lengths[h];
        const auto similar = mine.similar[h];
        const auto similar_position = mine.similar_position[h];
        const auto position_of = [&](std::uint32_t row) { return states.position[row] + 1; };
        for (std::uint32_t row = 0; row < states.size(); ++row) {
            position& wanted = similar_position[row];
            if (lengths[row] == 0) {
                stored.key(h, row, mine.directions[0]);
                lengths[row] = norm(mine.directions[0]) + tiny;
                wanted = is_new;
            } else if (wanted != none && (similar[row] >= states.size() || position_of(similar[row]) != wanted)) {
                const auto found = std::ranges::lower_bound(states.by_position, wanted, {}, position_of);  // it moved
                const bool held = found != states.by_position.end() && position_of(*found) == wanted;
                if (held) {
                    similar[row] = *found;
                } else {
                    wanted = unknown;
                }
            }
        }
        std::array<std::uint32_t, compared_at_once> some;
        std::size_t count = 0;
        for (const std::uint32_t row : states.by_position) {  // from the oldest
            if (similar_position[row] >= none) continue;
            stored.key(h, row, mine.directions[count]);
            simd::scale(mine.directions[count], 1 / lengths[row]);
            some[count++] = row;
            if (count == compared_at_once)
                compare(stored, states, mine, h, std::span(some).first(std::exchange(count, 0)));
        }
        compare(stored, states, mine, h, std::span(some).first(count));
    }
    /// Compares `some` states, whose directions are loaded, with all.
    void compare(const reader& stored, view states, const memory& mine, std::size_t h,
                 std::span<const std::uint32_t> some) const noexcept {
        const std::size_t d = states.shape.head_dim;
        if (some.empty()) return;
        stored.dot_keys(h, {mine.directions.data(), some.size(), d, d}, mine.scratch[0], mine.scratch.stride());
        const auto lengths = mine.lengths[h], cosines = mine.cosines[h];
        const auto similar = mine.similar[h];
        const auto similar_position = mine.similar_position[h];
        for (std::size_t k = 0; k < some.size(); ++k) {
            const std::uint32_t row = some[k];
            const auto products = mine.scratch[k];
            const position mine_plus_1 = states.position[row] + 1;
            const bool added = similar_position[row] == is_new;
            std::uint32_t newest = row;
            position newest_position = none;
            for (std::uint32_t j = 0; j < states.size(); ++j) {
                if (products[j] <= threshold * lengths[j] || j == row) continue;
                if (states.position[j] >= newest_position) {
                    newest = j;
                    newest_position = states.position[j] + 1;
                }
                if (added && similar_position[j] >= none) {
                    similar[j] = row;
                    similar_position[j] = mine_plus_1;
                    cosines[j] = products[j] / lengths[j];
                }
            }
            similar[row] = newest;
            similar_position[row] = newest_position;
            cosines[row] = products[newest] / lengths[newest];
        }
    }

    /// The sum of a column of cosines is the product of its key with the sum of all directions, less what counts 0.
    void subtract_redundancy(const reader& stored, view states, const memory& mine, std::size_t h) const noexcept {
        const auto n = static_cast<float>(states.size());
        const std::span means = mine.scratch[0], spared = mine.scratch[1];
        std::ranges::fill(means, 0.0f);
        if (states.size() > 2) {  // of two, each is as redundant as the other; rounding must not decide
            const auto key = mine.directions[0], sum = mine.directions[1];
            std::ranges::fill(sum, 0.0f);
            for (std::size_t row = 0; row < states.size(); ++row) {
                stored.key(h, row, key);
                simd::add_scaled(1 / mine.lengths[h][row], key, sum);
            }
            stored.dot_keys(h, sum, means);
            std::ranges::fill(spared, 0.0f);
            for (std::size_t row = 0; row < states.size(); ++row) {
                if (mine.similar_position[h][row] != none) spared[mine.similar[h][row]] += mine.cosines[h][row];
            }
            for (std::size_t row = 0; row < states.size(); ++row) {
                const float length = mine.lengths[h][row], cosine_with_itself = 1 - tiny / length;
                means[row] = (means[row] / length - cosine_with_itself * cosine_with_itself - spared[row]) / n;
            }
        }
        softmax(means);
        simd::add_scaled(lambda - 1, means, states.score);
    }
};
static_assert(policy<r_kv> && hooks_of<r_kv> == (hook::default_guards | hook::on_query | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
