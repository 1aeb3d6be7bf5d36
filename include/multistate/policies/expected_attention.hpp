#pragma once

// expected_attention: keeps states that future queries would attend to, if these were drawn from a normal distribution
// with the mean and covariance of past queries.
//
//     ms::expected_attention policy;
//     policy.rope.base = 500000;                              // rotary positions (rope.hpp): they must be the model's
//
//   paper    "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries Distribution",
//            arXiv 2510.00636
//   rule     score[j] = (epsilon + mean over the group of softmax_j(c k . mu + c^2 k . Sigma k / 2)) * |v[j]|_2, where
//            k = R^T k[j]; mu and Sigma are of a head's queries before rotation; R = mean of the rotations to the next
//            `future` positions; c = the scale of attention
//   reads    queries; new values; the stored keys
//   forgets  for each KV head; the first min(4, states / 8) are guarded, and excluded from the softmax
//   cost     head_dim^2 operations per query, n head_dim^2 per query head and decision: measured (Zen 5), 13 to 21
//            times the cost of attention; with a slack of 31, 0.8 to 1 times. Products with Sigma cannot be kept from
//            step to step, because R turns each pair of dimensions by its own angle. Set `covariance` to false to
//            avoid them. 4 head_dim^2 + 64 head_dim bytes per query head.
//   differs  kvpress, by the authors, compresses a prompt once, from the queries of all its tokens but the first 4.
//            Here mean and covariance are updated, over all tokens so far (see count_token for more than a million; a
//            spoiled query counts as zeros). A layer (per_layer) sums over its KV heads.
#include <algorithm>
#include <array>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/math/packed_products.hpp"
#include "multistate/math/rope.hpp"
#include "multistate/math/softmax.hpp"
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct expected_attention {
    static constexpr std::string_view name = "expected_attention";
    static constexpr std::string_view paper = "arXiv 2510.00636";
    static constexpr per forgets() noexcept { return per::head; }

    multistate::rope rope = {};  ///< the model's rotary positions
    std::size_t future = 512;    ///< positions
    std::size_t skipped = 4;     ///< the number of first positions whose queries do not count
    float epsilon = 0;
    bool covariance = true;
    static constexpr auto member_with_parameters = &expected_attention::rope;
    static constexpr parameter<expected_attention> parameters[] = {
        {"future", &expected_attention::future, 1, 1 << 20},
        {"skipped", &expected_attention::skipped, 0, 1 << 20},
        {"epsilon", &expected_attention::epsilon, 0.0f, 1.0f},
        {"covariance", &expected_attention::covariance}};

    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = (std::min<std::size_t>)(4, states / 8), .recent = 0};
    }
    struct memory {
        per_state_array<float> norms;       // [KV heads]: of the values
        per_state_array<float> logits;      // scratch: [group]
        per_state<float> sum;               // scratch: over the group
        per_table<std::uint64_t> count;     // of the tokens whose queries count; see count_token
        per_table_array<float> means;       // [query heads][head_dim]
        per_table_array<float> squares;     // [query heads][head_dim, head_dim]: squared deviations from the mean,
                                            // summed, without those of the last tokens:
        per_table<std::uint32_t> pending;   // how many these are
        per_table<float> factors;           // [most_pending]
        per_table_array<float> deviations;  // [most_pending * query heads][head_dim]
        per_table<float> turns;             // scratch: cosines and sines
        per_table<float> scratch;           // of add_squares; keys, the same side by side, and their products
    };
    void lay_out(memory& m, layout& l) const noexcept {
        const table_shape& s = l.shape();
        const std::size_t d = s.head_dim;
        l(m.norms, s.kv_heads);
        l(m.logits, s.group());
        l(m.sum);
        l(m.count);
        l(m.means, s.heads, d);
        l(m.squares, covariance ? s.heads : 0, d * d);
        l(m.pending);
        l(m.factors, most_pending);
        l(m.deviations, (covariance ? most_pending : 1) * s.heads, d);
        l(m.turns, d);
        l(m.scratch, (2 * d + panel_width) * panel_width);
    }

    void check_shape(const table_shape& s) const { rope.check_shape(s); }

    void on_insert(rows, rows values, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "values", values, states);
        const memory mine = states.memory(*this);
        for (std::size_t h = 0; h < values.count; ++h) mine.norms[h][row] = norm(values[h]);
    }
    void on_query(rows queries, view states) const noexcept {
        if (states.newest < static_cast<position>(skipped)) return;
        const memory mine = states.memory(*this);
        const bool halve = count_token(mine.count[0]);
        if (covariance && (halve || mine.pending[0] == most_pending)) {
            add_pending(mine, 0, queries.count);
            mine.pending[0] = 0;
        }
        const auto n = static_cast<float>(mine.count[0]);
        const std::size_t slot = covariance ? mine.pending[0]++ : 0;
        mine.factors[slot] = 1 - 1 / n;
        rope.find_turns(states.newest, mine.turns);
        for (std::size_t i = 0; i < queries.count; ++i) {
            const auto deviation = mine.deviations[slot * queries.count + i];
            std::ranges::copy(queries[i], deviation.begin());
            rope.turn_back(mine.turns, deviation);
            simd::add_scaled(-1, mine.means[i], deviation);
            simd::add_scaled(1 / n, deviation, mine.means[i]);
            if (covariance && halve) simd::scale(mine.squares[i], 0.5f);
        }
    }
    void on_forget(const reader& stored, view states) const noexcept {
        const table_shape& s = states.shape;
        const memory mine = states.memory(*this);
        const std::size_t sinks = states.guarded.sinks;  // the first rows
        std::ranges::fill(states.score, 0.0f);
        rope.find_mean_turns(states.newest + 1, future, mine.turns);
        for (std::size_t h = 0; h < s.kv_heads; ++h) {
            if (covariance) add_pending(mine, h * s.group(), s.group());
            find_logits(stored, states, h);
            std::ranges::fill(mine.sum, epsilon);
            for (std::size_t i = 0; i < s.group(); ++i) {
                const auto logits = mine.logits[i].subspan(sinks);
                softmax(logits);
                simd::add_scaled(1 / static_cast<float>(s.group()), logits, mine.sum.subspan(sinks));
            }
            simd::multiply(mine.norms[h], mine.sum);
            simd::add(mine.sum, states.score);
        }
        mine.pending[0] = 0;
    }

  private:
    /// The number of tokens whose deviations wait for the sum of squares: it exceeds a core's own caches, so a pass
    /// over it costs as much as attention.
    static constexpr std::size_t most_pending = panel_width / 2;

    /// Adds the pending deviations of `count` query heads.
    static void add_pending(const memory& mine, std::size_t first, std::size_t count) noexcept {
        const std::size_t heads = mine.means.size(), d = mine.means.length(), pending = mine.pending[0];
        for (std::size_t i = first; i < first + count; ++i) {
            if (pending == 1) {
                add_square(mine.factors[0], mine.deviations[i], mine.squares[i]);
            } else if (pending > 1) {
                add_squares(mine.factors, {mine.deviations[i].data(), pending, d, heads * d}, mine.squares[i],
                            mine.scratch);
            }
        }
    }
    /// The logits of the future queries, for each query head of the group.
    void find_logits(const reader& stored, view states, std::size_t h) const noexcept {
        const table_shape& s = states.shape;
        const memory mine = states.memory(*this);
        const std::size_t d = s.head_dim, group = s.group();
        const auto count = static_cast<float>(mine.count[0]);
        const auto keys = mine.scratch.first(d * panel_width), panel = mine.scratch.subspan(keys.size(), keys.size());
        const auto tile = mine.scratch.subspan(2 * keys.size());
        std::array<float, panel_width> forms;
        for (std::size_t row = states.guarded.sinks; row < states.size(); row += panel_width) {
            const std::size_t some = (std::min)(panel_width, states.size() - row);
            for (std::size_t k = 0; k < some; ++k) stored.key(h, row + k, keys.subspan(k * d, d));
            stand({keys.data(), some, d, d}, panel);
            rope.turn_columns_back(mine.turns, panel, panel_width);
            for (std::size_t i = 0; i < group; ++i) {
                const auto logits = mine.logits[i].subspan(row, some);
                const std::size_t of_tile = i % panel_width;
                if (of_tile == 0) {
                    const rows means{mine.means[h * group + i].data(), (std::min)(panel_width, group - i), d, d};
                    products(means, panel, tile, panel_width);
                }
                for (std::size_t k = 0; k < some; ++k) logits[k] = s.scale * tile[of_tile * panel_width + k];
            }
            for (std::size_t i = 0; covariance && count > 0 && i < group; ++i) {
                const auto logits = mine.logits[i].subspan(row, some);
                quadratic_forms(mine.squares[h * group + i], d, panel, forms, tile);
                for (std::size_t k = 0; k < some; ++k) logits[k] += s.scale * s.scale / (2 * count) * forms[k];
            }
        }
    }
};
static_assert(policy<expected_attention> &&
              hooks_of<expected_attention> ==
                  (hook::check_shape | hook::default_guards | hook::on_insert | hook::on_query | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
