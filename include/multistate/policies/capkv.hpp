#pragma once

// capkv: keeps states whose values are far from the span of the other values, weighted by the similarity of their keys
// to the mean future query.
//
//     ms::capkv policy;
//     policy.rope.base = 500000;                              // rotary positions (rope.hpp): they must be the model's
//
//   paper    "Rethinking KV Cache Eviction via a Unified Information-Theoretic Objective" (CapKV), arXiv 2604.25975
//   rule     score[j] = mean over the query heads of the group of w[j] v[j] . A^-1 v[j], where A = I + sum over j of
//            (w[j] + epsilon) v[j] v[j]^T, w[j] = exp(tau (cos(k[j], R mu) - the greatest such cos)), mu = the mean of
//            the head's queries before rotation, R = mean of the rotations to the next `future` positions
//   reads    queries; new keys; the stored keys and values
//   forgets  for each KV head; the first min(4, states / 8) are guarded, and excluded from the sums
//   cost     head_dim operations per query. A decision takes n value_dim^2 + value_dim^3 / 6 operations per query head:
//            measured (Zen 5), 40 (512 states) to 60 times (4096) the cost of attention; with a slack of 31, 1.9 (512).
//            4 value_dim^2 bytes per table and 4 head_dim per query head.
//   differs  The rule was read in kvpress, and the abstract of the paper. kvpress compresses a prompt once, from the
//            queries of all tokens but the first 4; here the mean is updated. kvpress says that the paper has k . mu
//            instead of the cosine, and no R. If float32 cannot compute the inverse, I grows tenfold. A layer
//            (per_layer) sums over its KV heads.
#include <algorithm>
#include <array>
#include <cmath>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/math/packed_products.hpp"
#include "multistate/math/rope.hpp"
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct capkv {
    static constexpr std::string_view name = "capkv";
    static constexpr std::string_view paper = "arXiv 2604.25975";
    static constexpr per forgets() noexcept { return per::head; }

    multistate::rope rope = {};  ///< the model's rotary positions
    float tau = 5;               ///< how strongly the weights differ between keys
    std::size_t future = 512;    ///< positions
    std::size_t skipped = 4;     ///< the number of first positions whose queries do not count
    float epsilon = 1e-6f;
    static constexpr auto member_with_parameters = &capkv::rope;
    static constexpr parameter<capkv> parameters[] = {{"tau", &capkv::tau, 0.0f, 80.0f},
                                                      {"future", &capkv::future, 1, 1 << 20},
                                                      {"skipped", &capkv::skipped, 0, 1 << 20},
                                                      {"epsilon", &capkv::epsilon, 0.0f, 1.0f}};

    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = (std::min<std::size_t>)(4, states / 8), .recent = 0};
    }
    struct memory {
        per_state_array<float> norms;    // [KV heads]: of the keys
        per_state<float> weights;        // scratch: w of one query head
        per_table<std::uint64_t> count;  // of the tokens whose queries count, up to 2^20
        per_table_array<float> means;    // [query heads][head_dim]
        per_table<float> turns, query;   // scratch: cosines and sines; a query
        per_table<float> capacity;       // scratch: A, then L where A = L L^T
        per_table<float> values;         // scratch: values as rows
        per_table<float> scratch;        // of add_squares; values side by side, and their products
    };
    static void lay_out(memory& m, layout& l) noexcept {
        const table_shape& s = l.shape();
        const std::size_t d = s.head_dim, v = s.value_dim;
        l(m.norms, s.kv_heads);
        l(m.weights);
        l(m.count);
        l(m.means, s.heads, d);
        l(m.turns, d);
        l(m.query, d);
        l(m.capacity, v * v);
        l(m.values, v * panel_width);
        l(m.scratch, (2 * v + panel_width) * panel_width);
    }

    void check_shape(const table_shape& s) const { rope.check_shape(s); }

    void on_insert(rows keys, rows, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "keys", keys, states);
        const memory mine = states.memory(*this);
        for (std::size_t h = 0; h < keys.count; ++h) mine.norms[h][row] = norm(keys[h]);
    }
    void on_query(rows queries, view states) const noexcept {
        if (states.newest < static_cast<position>(skipped)) return;
        const memory mine = states.memory(*this);
        mine.count[0] = (std::min)(mine.count[0] + 1, most_counted);
        rope.find_turns(states.newest, mine.turns);
        for (std::size_t i = 0; i < queries.count; ++i) {
            std::ranges::copy(queries[i], mine.query.begin());
            rope.turn_back(mine.turns, mine.query);
            add_to_mean(static_cast<float>(mine.count[0]), mine.query, mine.means[i]);
        }
    }
    void on_forget(const reader& stored, view states) const noexcept {
        const table_shape& s = states.shape;
        std::ranges::fill(states.score, 0.0f);
        rope.find_mean_turns(states.newest + 1, future, states.memory(*this).turns);
        for (std::size_t i = 0; i < s.heads; ++i) {
            find_weights(stored, states, i);
            if (factor_capacity(stored, states, i / s.group())) add_leverages(stored, states, i / s.group());
        }
    }

  private:
    /// The rows that count, from the oldest to the newest.
    static std::span<const std::uint32_t> counted(view states) noexcept {
        return states.by_position.subspan((std::min)(states.guarded.sinks, states.size()));
    }
    void find_weights(const reader& stored, view states, std::size_t head) const noexcept {
        const memory mine = states.memory(*this);
        const std::size_t h = head / states.shape.group();
        const auto norms = mine.norms[h];
        const auto weights = mine.weights;
        std::ranges::copy(mine.means[head], mine.query.begin());
        rope.turn(mine.turns, mine.query);
        normalize(mine.query);
        stored.dot_keys(h, mine.query, weights);
        float most = -1;
        for (const std::uint32_t row : counted(states)) {
            weights[row] = norms[row] == 0 ? 0 : std::clamp(weights[row] / norms[row], -1.0f, 1.0f);
            most = (std::max)(most, weights[row]);
        }
        for (const std::uint32_t row : counted(states)) weights[row] = std::exp(tau * (weights[row] - most));
    }
    /// Calls f(some of the rows that count, their values): at most panel_width rows at a time.
    template <class F>
    static void for_values(const reader& stored, view states, std::size_t h, std::span<float> values, F f) noexcept {
        const std::size_t d = states.shape.value_dim;
        for (auto left = counted(states); !left.empty(); left = left.subspan((std::min)(panel_width, left.size()))) {
            const auto some = left.first((std::min)(panel_width, left.size()));
            for (std::size_t k = 0; k < some.size(); ++k) stored.value(h, some[k], values.subspan(k * d, d));
            f(some, rows{values.data(), some.size(), d, d});
        }
    }
    /// A becomes L, where A = L L^T.
    bool factor_capacity(const reader& stored, view states, std::size_t h) const noexcept {
        const memory mine = states.memory(*this);
        const std::size_t d = states.shape.value_dim;
        const auto add_all = [&](std::span<float> a) {
            for_values(stored, states, h, mine.values, [&](std::span<const std::uint32_t> some, rows x) {
                std::array<float, panel_width> factors;
                for (std::size_t k = 0; k < x.count; ++k) factors[k] = mine.weights[some[k]] + epsilon;
                add_squares(factors, x, a, mine.scratch);
            });
        };
        const auto factor = [&](std::span<float> a, std::size_t n) { return cholesky(a, n, mine.scratch); };
        return cholesky_with_ridge(1, mine.capacity, d, add_all, factor);
    }
    void add_leverages(const reader& stored, view states, std::size_t h) const noexcept {
        const memory mine = states.memory(*this);
        const std::size_t d = states.shape.value_dim;
        const auto panel = mine.scratch.first(mine.values.size()), products = mine.scratch.subspan(panel.size());
        for_values(stored, states, h, mine.values, [&](std::span<const std::uint32_t> some, rows x) {
            stand(x, panel);
            solve_lower({mine.capacity.data(), d, d, d}, panel, products);
            std::array<float, panel_width> leverages{};
            for (std::size_t c = 0; c < d; ++c) {  // v . A^-1 v = |L^-1 v|^2
                const auto row = panel.subspan(c * panel_width, panel_width);
                simd::combine(row, leverages, [](simd::floats sum, simd::floats y) { return sum + y * y; });
            }
            for (std::size_t k = 0; k < x.count; ++k) {
                states.score[some[k]] +=
                    mine.weights[some[k]] * leverages[k] / static_cast<float>(states.shape.group());
            }
        });
    }
};
static_assert(policy<capkv> && hooks_of<capkv> == (hook::check_shape | hook::default_guards | hook::on_insert |
                                                   hook::on_query | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
