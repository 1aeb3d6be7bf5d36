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
//   cost     n^2 head_dim per decision and KV head, as much as n queries: measured, 50 times the cost of attention with
//            512 states, 330 times with 4096; with slack, divided by slack + 1. 12 bytes per state; `window` queries,
//            96 keys and their products per table.
//   differs  read in the authors' code. It never sorts the cache again after a decision, so there, neighbors, the
//            newest of similar states and the oldest follow the order of the last scores; here, the order of the text.
//            If no cos in a row exceeds the threshold, it sets the oldest state's to 0; here nothing is set. lambda is
//            0.1 as in the paper, 0.07 in the code. A layer (per_layer) sums over its KV heads.
#include <algorithm>
#include <array>
#include <limits>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/math/packed_products.hpp"
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
        per_state<float> logits, most, importance;  // scratch
        per_table<std::uint64_t> tokens;            // so far
        per_table_array<float> queries;             // a ring [window * query heads][head_dim]
        per_table_array<float> keys;                // scratch: [tile][head_dim]
        per_table<float> other, panel;              // scratch: a key; others side by side
        per_table_array<float> cosines;             // scratch: [tile][panel_width]
    };
    void lay_out(memory& m, layout& l) const noexcept {
        const std::size_t d = l.shape().head_dim;
        l(m.logits);
        l(m.most);
        l(m.importance);
        l(m.tokens);
        l(m.queries, window * l.shape().heads, d);
        l(m.keys, tile, d);
        l(m.other, d);
        l(m.panel, d * panel_width);
        l(m.cosines, tile, panel_width);
    }

    void on_query(rows queries, view states) const noexcept {
        const memory mine = states.memory(*this);
        const std::size_t first = mine.tokens[0]++ % window * states.shape.heads;
        for (std::size_t i = 0; i < queries.count; ++i) {
            std::ranges::copy(queries[i], mine.queries[first + i].begin());
        }
    }
    void on_forget(const reader& stored, view states) const noexcept {
        std::ranges::fill(states.score, 0.0f);
        for (std::size_t h = 0; h < states.shape.kv_heads; ++h) {
            add_importance(stored, states, h);
            subtract_redundancy(stored, states, h);
        }
    }

  private:
    /// The number of keys that are multiplied with a panel of others together.
    static constexpr std::size_t tile = 64;

    void add_importance(const reader& stored, view states, std::size_t h) const noexcept {
        const table_shape& s = states.shape;
        const memory mine = states.memory(*this);
        const std::span logits = mine.logits, most = mine.most, importance = mine.importance;
        const auto older = states.by_position.first(states.size() - (std::min)(states.guarded.recent, states.size()));
        const auto queries = static_cast<std::size_t>((std::min<std::uint64_t>)(window, mine.tokens[0]));
        std::ranges::fill(importance, 0.0f);
        for (std::size_t t = 0; t < queries; ++t) {
            std::ranges::fill(most, -std::numeric_limits<float>::infinity());
            for (std::size_t i = h * s.group(); i < (h + 1) * s.group(); ++i) {
                stored.dot_keys(h, mine.queries[t * s.heads + i], logits);
                simd::scale(logits, s.scale);
                for (const std::uint32_t row : older) most[row] = (std::max)(most[row], logits[row]);
            }
            softmax(most);
            simd::add(most, importance);
        }
        view pooled = states;
        pooled.score = importance;
        pooled.by_position = older;
        pooled.guarded = {};
        pool{.width = 7, .greatest = true}.modify(pooled);
        simd::scale(importance, lambda / static_cast<float>((std::max<std::size_t>)(queries, 1)));
        simd::add(importance, states.score);
    }

    void subtract_redundancy(const reader& stored, view states, std::size_t h) const noexcept {
        const std::size_t d = states.shape.head_dim, n = states.size();
        const memory mine = states.memory(*this);
        const auto order = states.by_position;
        const auto sums = mine.logits;  // in the order of the text
        std::ranges::fill(sums, 0.0f);
        for (std::size_t first = 0; first < n; first += tile) {
            const rows some{mine.keys.data(), (std::min)(tile, n - first), d, d};
            for (std::size_t i = 0; i < some.count; ++i) load_direction(stored, h, order[first + i], mine.keys[i]);
            std::array<bool, tile> spared{};
            for (std::size_t end = n; end > 0; end -= (std::min)(end, panel_width)) {  // the newest first
                const std::size_t others = (std::min)(end, panel_width), begin = end - others;
                for (std::size_t k = 0; k < others; ++k) {
                    load_direction(stored, h, order[begin + k], mine.other);
                    stand(mine.other, mine.panel, k);
                }
                products(some, mine.panel, {mine.cosines.data(), tile * panel_width}, panel_width);
                for (std::size_t i = 0; i < some.count; ++i) {
                    const auto row = mine.cosines[i].first(others);
                    if (first + i >= begin && first + i < end) row[first + i - begin] = 0;
                    if (!spared[i]) spared[i] = spare_newest(row);
                    simd::add(row, sums.subspan(begin, others));
                }
            }
        }
        simd::scale(sums, 1 / static_cast<float>(n));
        softmax(sums);
        for (std::size_t i = 0; i < n; ++i) states.score[order[i]] -= (1 - lambda) * sums[i];
    }
    static void load_direction(const reader& stored, std::size_t h, std::size_t row, std::span<float> key) noexcept {
        stored.key(h, row, key);
        simd::scale(key, 1 / (norm(key) + 1e-8f));
    }
    /// Among similar states, the newest is not redundant. Returns whether there is one.
    bool spare_newest(std::span<float> cosines) const noexcept {
        for (std::size_t i = cosines.size(); i-- > 0;) {
            if (cosines[i] <= threshold) continue;
            cosines[i] = 0;
            return true;
        }
        return false;
    }
};
static_assert(policy<r_kv> && hooks_of<r_kv> == (hook::default_guards | hook::on_query | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
