#pragma once

// r_kv: keeps states that the last tokens ask for and that are unlike the others, for long reasoning.
//
//     // the authors' use: a decision every 128 tokens
//     ms::cache<ms::r_kv> cache({.layers = 32, …, .states = 1024, .slack = 127});
//
//   paper    "R-KV: Redundancy-aware KV Cache Compression for Reasoning Models", arXiv 2505.24133
//   rule     score[j] = lambda * I[j] - (1 - lambda) * R[j]. Over the states that are not the newest guarded ones,
//            I = maximum over 7 neighbours in the text of the mean over the last `window` queries of softmax_j(maximum
//            over the group of scale * q . k[j]); over all states, R = softmax_j(mean over all i of cos(k[i], k[j])),
//            where in each row i the diagonal and the newest j with cos > `threshold` count 0
//   reads    queries; the stored keys
//   forgets  for each KV head; the newest min(8, states / 2) are guarded unless the user names another `recent`
//   cost     n^2 head_dim per decision and KV head, as much as n queries: measured, 50 times what attention costs with
//            512 states, 330 times with 4096, divided by slack + 1 where there is slack. Three floats per state;
//            `window` queries, 96 keys and their products per table.
//   differs  read in the authors' code. It never sorts the cache again after a decision, so neighbours, the newest of
//            similar states and the oldest are there those in the order of the last scores; here in that of the text.
//            Where in a row no cos exceeds the threshold, it sets the oldest state's to 0; here nothing. lambda is 0.1
//            as in the paper, 0.07 in the code. A layer (per_layer) sums over its KV heads.
#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <tuple>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/math/packed_products.hpp"
#include "multistate/math/softmax.hpp"
#include "multistate/modifiers/pool.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct r_kv {
    static constexpr std::string_view name = "r_kv";
    static constexpr std::string_view paper = "arXiv 2505.24133";
    static constexpr per forgets() noexcept { return per::head; }

    float lambda = 0.1f;     ///< weight of importance; the rest is that of redundancy
    std::size_t window = 8;  ///< queries
    float threshold = 0.5f;  ///< of the cosine; of the states above it in a row, the newest is not held redundant
    static constexpr auto parameters = std::tuple{parameter{"lambda", &r_kv::lambda, 0.0f, 1.0f},
                                                  parameter{"window", &r_kv::window, std::size_t{1}, std::size_t{1024}},
                                                  parameter{"threshold", &r_kv::threshold, 0.0f, 1.0f}};

    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = 0, .recent = (std::min<std::size_t>)(8, states / 2)};
    }
    static constexpr std::size_t floats_per_state(const table_shape&) noexcept { return 3; }
    constexpr std::size_t floats_per_table(const table_shape& s) const noexcept {
        const auto sizes = memory(s);
        return std::accumulate(sizes.begin(), sizes.end(), std::size_t{0});
    }

    void on_query(rows queries, view states) const noexcept {
        const auto [counter, ring, keys, other, panel, cosines] = cut(states.own, memory(states.shape));
        const auto count = static_cast<std::size_t>(counter[0]);
        for (std::size_t i = 0; i < queries.count; ++i) {
            std::ranges::copy(queries[i], query(ring, states.shape, count % window, i).begin());
        }
        counter[0] = static_cast<float>(count + 1 < 2 * window ? count + 1 : window);
    }
    void on_forget(const reader& stored, view states) const noexcept {
        std::ranges::fill(states.score, 0.0f);
        for (std::size_t h = 0; h < states.shape.kv_heads; ++h) {
            add_importance(stored, states, h);
            subtract_redundancy(stored, states, h);
        }
    }

  private:
    /// Keys that meet a panel of others.
    static constexpr std::size_t tile = 64;
    /// How many queries came (counted round, from window to 2 * window - 1) and a ring of them; keys, one more, others
    /// side by side, and the cosines of both.
    constexpr std::array<std::size_t, 6> memory(const table_shape& s) const noexcept {
        const std::size_t d = s.head_dim;
        return {1, window * s.heads * d, tile * d, d, d * panel_width, tile * panel_width};
    }
    static std::span<float> query(std::span<float> ring, const table_shape& s, std::size_t place,
                                  std::size_t head) noexcept {
        return ring.subspan((place * s.heads + head) * s.head_dim, s.head_dim);
    }

    void add_importance(const reader& stored, view states, std::size_t h) const noexcept {
        const table_shape& s = states.shape;
        const auto [counter, ring, keys, other, panel, cosines] = cut(states.own, memory(s));
        const auto logits = states.memory(0), most = states.memory(1), importance = states.memory(2);
        const auto older = states.by_position.first(states.size() - (std::min)(states.guarded.recent, states.size()));
        const std::size_t queries = (std::min)(window, static_cast<std::size_t>(counter[0]));
        std::ranges::fill(importance, 0.0f);
        for (std::size_t t = 0; t < queries; ++t) {
            std::ranges::fill(most, -std::numeric_limits<float>::infinity());
            for (std::size_t i = h * s.group(); i < (h + 1) * s.group(); ++i) {
                stored.dot_keys(h, query(ring, s, t, i), logits);
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
        const auto [counter, ring, keys, other, panel, cosines] = cut(states.own, memory(states.shape));
        const auto order = states.by_position;
        const auto sums = states.memory(0);  // in the order of the text
        std::ranges::fill(sums, 0.0f);
        for (std::size_t first = 0; first < n; first += tile) {
            const rows some{keys.data(), (std::min)(tile, n - first), d, d};
            for (std::size_t i = 0; i < some.count; ++i)
                load_direction(stored, h, order[first + i], keys.subspan(i * d, d));
            std::array<bool, tile> spared{};
            for (std::size_t end = n; end > 0; end -= (std::min)(end, panel_width)) {  // the newest first
                const std::size_t others = (std::min)(end, panel_width), begin = end - others;
                for (std::size_t k = 0; k < others; ++k) {
                    load_direction(stored, h, order[begin + k], other);
                    stand(other, panel, k);
                }
                products(some, panel, cosines, panel_width);
                for (std::size_t i = 0; i < some.count; ++i) {
                    const auto row = cosines.subspan(i * panel_width, others);
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
    /// Of the states that say the same, the newest says it for all. Returns whether there is one.
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
