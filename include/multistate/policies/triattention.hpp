#pragma once

// triattention: keeps states that the mean query will attend to most at the next tens of thousands of positions.
//
//     ms::triattention policy;
//     policy.rope.base = 500000;                              // rotary positions (rope.hpp): they must be the model's
//     // the authors' use: a decision every 128 tokens
//     ms::cache<ms::triattention> cache({.layers = 32, …, .states = 2048, .slack = 127}, policy);
//
//   paper    "TriAttention: Efficient Long Reasoning with Trigonometric KV Compression", arXiv 2604.04921
//   rule     score[j] = maximum over the query heads of the group of z(x)[j]; x[j] = a . k[j] + sum over the pairs f of
//            dimensions of (E |q_f| - |E q_f|) |k_f[j]|; E = mean over all queries so far, before rotation; a = mean
//            over D = 1, 2, 4, … up to `future` of E q rotated to position newest + 1 + D; z(x) = (x - mean) /
//            deviation over the states that are not guarded
//   reads    queries; the stored keys
//   forgets  for each KV head; no state is guarded
//   cost     4 head_dim operations per query. A decision takes head_dim / 2 square roots per state, and 1.5 head_dim
//            operations per state and query head: measured (Zen 5), 7 times the cost of attention with 4096 states;
//            with a slack of 31, 0.3 to 0.4 times. 6 head_dim bytes per query head.
//   differs  The rule was read in the authors' code, and the abstract of the paper. The authors take E from a text that
//            the model reads once, beforehand; here E is updated as queries arrive. They never forget the prompt, for
//            which `sinks` can be set. In their published runs a KV head keeps the same states in all layers, by the
//            mean of the layers' scores; here each layer decides alone, as with their option per_layer_perhead. Their
//            vLLM plugin guards the newest 128. Dimensions that are not rotated contribute only their product. A layer
//            (per_layer) takes the maximum over all its query heads.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/math/packed_products.hpp"
#include "multistate/math/rope.hpp"
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct triattention {
    static constexpr std::string_view name = "triattention";
    static constexpr std::string_view paper = "arXiv 2604.04921";
    static constexpr per forgets() noexcept { return per::head; }

    multistate::rope rope = {};  ///< the model's rotary positions
    std::size_t future = 65536;  ///< positions: the greatest distance that counts
    bool normalized = true;      ///< whether z(x)[j] is used; if not, x[j] itself
    static constexpr auto member_with_parameters = &triattention::rope;
    static constexpr parameter<triattention> parameters[] = {{"future", &triattention::future, 1, 1 << 30},
                                                             {"normalized", &triattention::normalized}};

    /// Deviations belong to one head, and so do the keys behind x.
    static constexpr bool scores_are_comparable() noexcept { return false; }
    struct memory {
        per_state_array<float> products;  // scratch: x for each query head of the group
        per_table<std::uint64_t> count;   // of the queries, up to 2^20
        per_table_array<float> means;  // [query heads][head_dim + pairs]: of queries and of the lengths of their pairs
        per_table<bool> known;         // whether `ahead` is computed
        per_table<float> ahead;        // the mean rotation by the distances: cosines and sines
        per_table<float> turns;        // scratch: cosines and sines
        per_table<float> vector;       // scratch: a query or key, and the lengths of its pairs
        per_table_array<float> group;  // scratch: the multipliers of keys, for each query head of the group
        per_table_array<float> keys;   // scratch: keys and the lengths of their pairs, [panel_width]
        per_table<float> panel, tile;  // scratch: the same side by side, and their products
    };
    void lay_out(memory& m, layout& l) const noexcept {
        const table_shape& s = l.shape();
        const std::size_t d = s.head_dim, n = d + rope.pairs(d);
        l(m.products, s.group());
        l(m.count);
        l(m.means, s.heads, n);
        l(m.known);
        l(m.ahead, d);
        l(m.turns, d);
        l(m.vector, n);
        l(m.group, s.group(), n);
        l(m.keys, panel_width, n);
        l(m.panel, n * panel_width);
        l(m.tile, s.group() * panel_width);
    }

    void check_shape(const table_shape& s) const { rope.check_shape(s); }

    void on_query(rows queries, view states) const noexcept {
        const memory mine = states.memory(*this);
        const std::size_t d = queries.width;
        mine.count[0] = (std::min)(mine.count[0] + 1, most_counted);
        rope.find_turns(states.newest, mine.turns);
        for (std::size_t i = 0; i < queries.count; ++i) {
            std::ranges::copy(queries[i], mine.vector.begin());
            rope.find_lengths(queries[i], mine.vector.subspan(d));
            rope.turn_back(mine.turns, mine.vector.first(d));
            add_to_mean(static_cast<float>(mine.count[0]), mine.vector, mine.means[i]);
        }
    }
    void on_forget(const reader& stored, view states) const noexcept {
        std::ranges::fill(states.score, -std::numeric_limits<float>::infinity());
        for (std::size_t h = 0; h < states.shape.kv_heads; ++h) {
            look_ahead(states, h);
            multiply_keys(stored, states, h);
            const auto products = states.memory(*this).products;
            for (std::size_t i = 0; i < products.size(); ++i) raise_scores(products[i], states);
        }
    }

  private:
    /// The mean queries of the group, rotated to future positions.
    void look_ahead(view states, std::size_t h) const noexcept {
        const memory mine = states.memory(*this);
        const std::size_t d = states.shape.head_dim;
        if (!std::exchange(mine.known[0], true)) {
            float distances = 0;
            for (std::size_t distance = 1; distance <= future; distance *= 2, ++distances) {
                rope.find_turns(static_cast<position>(1 + distance), mine.turns);
                simd::add(mine.turns, mine.ahead);
            }
            simd::scale(mine.ahead, 1 / distances);
        }
        rope.find_turns(states.newest, mine.turns);
        for (std::size_t i = 0; i < mine.group.size(); ++i) {
            std::ranges::copy(mine.means[h * mine.group.size() + i], mine.group[i].begin());
            const auto query = mine.group[i].first(d), lengths = mine.group[i].subspan(d);
            rope.find_lengths(query, mine.vector);
            simd::add_scaled(-1, mine.vector, lengths);
            rope.turn(mine.ahead, query);
            rope.turn(mine.turns, query);
        }
    }
    void multiply_keys(const reader& stored, view states, std::size_t h) const noexcept {
        const memory mine = states.memory(*this);
        const std::size_t d = states.shape.head_dim, n = mine.keys.length(), group = states.shape.group();
        for (std::size_t row = 0; row < states.size(); row += panel_width) {
            const std::size_t keys = (std::min)(panel_width, states.size() - row);
            for (std::size_t k = 0; k < keys; ++k) {
                stored.key(h, row + k, mine.keys[k].first(d));
                rope.find_lengths(mine.keys[k].first(d), mine.keys[k].subspan(d));
            }
            stand({mine.keys.data(), keys, n, n}, mine.panel);
            products({mine.group.data(), group, n, n}, mine.panel, mine.tile, panel_width);
            for (std::size_t i = 0; i < group; ++i) {
                std::ranges::copy(mine.tile.subspan(i * panel_width, keys), mine.products[i].subspan(row).begin());
            }
        }
    }
    /// Updates the scores with one query head.
    void raise_scores(std::span<const float> x, view states) const noexcept {
        double mean = 0, squares = 0;
        const double count = (std::max)(1.0, static_cast<double>(states.unguarded().size()));
        for (const std::uint32_t row : states.unguarded()) mean += static_cast<double>(x[row]) / count;
        for (const std::uint32_t row : states.unguarded()) squares += std::pow(static_cast<double>(x[row]) - mean, 2);
        const double scale = 1 / (std::max)(1e-6, std::sqrt(squares / count));
        for (std::size_t row = 0; row < states.size(); ++row) {
            const auto z = static_cast<float>((static_cast<double>(x[row]) - mean) * scale);
            states.score[row] = (std::max)(states.score[row], normalized ? z : x[row]);
        }
    }
};
static_assert(policy<triattention> && hooks_of<triattention> == (hook::check_shape | hook::scores_are_comparable |
                                                                 hook::on_query | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
