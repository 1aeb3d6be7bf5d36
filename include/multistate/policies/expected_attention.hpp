#pragma once

// expected_attention: keeps what queries to come would attend to, if they were drawn from a normal distribution with
// the mean and the covariance of those that came.
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
//   forgets  for each KV head; the first min(4, states / 8) are guarded, and left out of the softmax
//   cost     head_dim^2 operations per query, n head_dim^2 per query head and decision: measured, 20 times what
//            attention costs, with a slack of 31 0.9 to 1.6 times; or set `covariance` to false. head_dim^2 floats per
//            query head.
//   differs  kvpress, by the authors, compresses a prompt once, from the queries of all its tokens but the first 4.
//            Here mean and covariance run along, of all tokens so far (see count_token for more than a million; a
//            spoiled query counts as zeros). A layer (per_layer) sums over its KV heads.
#include <algorithm>
#include <array>
#include <numeric>
#include <tuple>

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
    std::size_t skipped = 4;     ///< the first positions, whose queries do not count
    float epsilon = 0;
    bool covariance = true;
    static constexpr auto parameters =
        std::tuple{member_parameters{&expected_attention::rope},
                   parameter{"future", &expected_attention::future, std::size_t{1}, std::size_t{1} << 20},
                   parameter{"skipped", &expected_attention::skipped, std::size_t{0}, std::size_t{1} << 20},
                   parameter{"epsilon", &expected_attention::epsilon, 0.0f, 1.0f},
                   parameter{"covariance", &expected_attention::covariance, false, true}};

    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = (std::min<std::size_t>)(4, states / 8), .recent = 0};
    }
    /// The norm of each KV head's value; the sum over the group, the logits of its query heads.
    static std::size_t floats_per_state(const table_shape& s) noexcept { return s.kv_heads + 1 + s.group(); }
    constexpr std::size_t floats_per_table(const table_shape& s) const noexcept {
        const auto sizes = memory(s);
        return std::accumulate(sizes.begin(), sizes.end(), std::size_t{0});
    }

    void check_shape(const table_shape& s) const { rope.check_shape(s); }

    void on_insert(rows, rows values, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "values", values, states);
        for (std::size_t h = 0; h < values.count; ++h) states.memory(h)[row] = norm(values[h]);
    }
    void on_query(rows queries, view states) const noexcept {
        if (states.newest < static_cast<position>(skipped)) return;
        const auto [count, turns, deviation, panel, scratch, heads] = cut(states.own, memory(states.shape));
        const bool halve = count_token(count[0]);
        const float n = count[0];
        rope.find_turns(states.newest, turns);
        for (std::size_t i = 0; i < queries.count; ++i) {
            const auto [mean, squares] = of_head(heads, queries.width, i);
            if (halve) simd::scale(squares, 0.5f);
            std::ranges::copy(queries[i], deviation.begin());
            rope.turn_back(turns, deviation);
            simd::add_scaled(-1, mean, deviation);
            simd::add_scaled(1 / n, deviation, mean);
            if (covariance) add_square(1 - 1 / n, deviation, squares);
        }
    }
    void on_forget(const reader& stored, view states) const noexcept {
        const table_shape& s = states.shape;
        const auto free = [&](std::size_t plane) { return states.memory(plane).subspan(states.guarded.sinks); };
        std::ranges::fill(states.score, 0.0f);
        for (std::size_t h = 0; h < s.kv_heads; ++h) {
            find_logits(stored, states, h);
            const auto sum = states.memory(s.kv_heads);
            std::ranges::fill(sum, epsilon);
            for (std::size_t i = 0; i < s.group(); ++i) {
                const auto logits = free(s.kv_heads + 1 + i);  // sinks are the first rows
                softmax(logits);
                simd::add_scaled(1 / static_cast<float>(s.group()), logits, free(s.kv_heads));
            }
            simd::multiply(states.memory(h), sum);
            simd::add(sum, states.score);
        }
    }

  private:
    /// How many queries came; cosines and sines; a query's deviation from the mean, or a key; keys side by side, and
    /// scratch for their products; for each query head the mean and the sum of squared deviations from it.
    constexpr std::array<std::size_t, 6> memory(const table_shape& s) const noexcept {
        const std::size_t d = s.head_dim;
        return {1, d, d, d * panel_width, panel_width * panel_width, s.heads * (covariance ? d + d * d : d)};
    }
    std::array<std::span<float>, 2> of_head(std::span<float> heads, std::size_t d, std::size_t i) const noexcept {
        const std::size_t squares = covariance ? d * d : 0;
        return cut<2>(heads.subspan(i * (d + squares)), {d, squares});
    }
    /// Of the queries to come, for each query head of the group.
    void find_logits(const reader& stored, view states, std::size_t h) const noexcept {
        const table_shape& s = states.shape;
        const std::size_t d = s.head_dim, group = s.group();
        const auto [count, turns, key, panel, scratch, heads] = cut(states.own, memory(s));
        rope.find_mean_turns(states.newest + 1, future, turns);
        std::array<float, panel_width> of_tile;
        for (std::size_t row = states.guarded.sinks; row < states.size(); row += panel_width) {
            const std::size_t keys = (std::min)(panel_width, states.size() - row);
            for (std::size_t k = 0; k < keys; ++k) {
                stored.key(h, row + k, key);
                rope.turn_back(turns, key);
                stand(key, panel, k);
            }
            for (std::size_t i = 0; i < group; ++i) {
                const auto [mean, squares] = of_head(heads, d, h * group + i);
                const auto logits = states.memory(s.kv_heads + 1 + i).subspan(row, keys);
                products({mean.data(), 1, d, d}, panel, of_tile, panel_width);
                for (std::size_t k = 0; k < keys; ++k) logits[k] = s.scale * of_tile[k];
                if (!covariance || count[0] == 0) continue;
                quadratic_forms(squares, d, panel, of_tile, scratch);
                for (std::size_t k = 0; k < keys; ++k) logits[k] += s.scale * s.scale / (2 * count[0]) * of_tile[k];
            }
        }
    }
};
static_assert(policy<expected_attention> &&
              hooks_of<expected_attention> ==
                  (hook::check_shape | hook::default_guards | hook::on_insert | hook::on_query | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
