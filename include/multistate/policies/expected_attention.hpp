#pragma once

// expected_attention: keeps what queries to come would attend to, if they were drawn from a normal distribution with
// the mean and the covariance of those that came.
//
//     ms::expected_attention policy;
//     policy.base = 500000;                                   // rotary positions (rope.hpp): they must be the model's
//
//   paper    "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries Distribution",
//            arXiv 2510.00636
//   rule     score[j] = (epsilon + mean over the group of softmax_j(c k . mu + c^2 k . Sigma k / 2)) * |v[j]|_2, where
//            k = R^T k[j]; mu and Sigma are of a head's queries before rotation; R = mean of the rotations to the next
//            `future` positions; c = the scale of attention
//   reads    queries; new values; the stored keys
//   forgets  for each KV head; the first min(4, states / 8) are guarded, and left out of the softmax
//   cost     head_dim^2 operations per query, n head_dim^2 per query head and decision: measured, 50 times what attention
//            costs. Give the cache slack (127: 0.7 times), or set `covariance` to false. head_dim^2 floats per query head.
//   differs  kvpress, by the authors, compresses a prompt once, from the queries of all its tokens but the first 4. Here
//            mean and covariance run along, of all tokens so far. A layer (per_layer) sums over its KV heads.
#include <algorithm>
#include <array>
#include <tuple>

#include "multistate/linear_algebra.hpp"
#include "multistate/rope.hpp"
#include "multistate/softmax.hpp"

namespace multistate::inline MULTISTATE_TARGET {

struct expected_attention : rope {
    static constexpr std::string_view name = "expected_attention";
    static constexpr std::string_view paper = "arXiv 2510.00636";
    static constexpr per forgets() noexcept { return per::head; }

    std::size_t future = 512;  ///< positions
    std::size_t skipped = 4;   ///< the first positions, whose queries do not count
    float epsilon = 0;
    bool covariance = true;
    static constexpr auto parameters = std::tuple_cat(
        rope::parameters,
        std::tuple{parameter{"future", &expected_attention::future, std::size_t{1}, std::size_t{1} << 20},
                   parameter{"skipped", &expected_attention::skipped, std::size_t{0}, std::size_t{1} << 20},
                   parameter{"epsilon", &expected_attention::epsilon, 0.0f, 1.0f},
                   parameter{"covariance", &expected_attention::covariance, false, true}});

    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = std::min<std::size_t>(4, states / 8), .recent = 0};
    }
    /// The norm of each KV head's value; the sum over the group, the logits of its query heads.
    static std::size_t floats_per_state(const table_shape& s) noexcept { return s.kv_heads + 1 + s.group(); }
    constexpr std::size_t floats_per_table(const table_shape& s) const noexcept {
        return 1 + (1 + at_once) * s.head_dim + s.heads * floats_per_head(s);
    }

    void on_insert(rows, rows values, view states, std::size_t row) const noexcept {
        for (std::size_t h = 0; h < values.count; ++h) states.memory(h)[row] = norm(values[h]);
    }
    void on_query(rows queries, view states) const noexcept {
        if (states.newest < static_cast<position>(skipped)) return;
        for (std::size_t i = 0; i < queries.count; ++i) {
            const memory of = memory_of(states, i);
            if (i == 0) {
                find_turns(states.newest, of.turns);
                ++of.count;
            }
            std::ranges::copy(queries[i], of.vector.begin());
            turn_back(of.turns, of.vector);
            simd::add_scaled(-1, of.mean, of.vector);
            simd::add_scaled(1 / of.count, of.vector, of.mean);
            if (covariance) add_square(1 - 1 / of.count, of.vector, of.squares);
        }
    }
    void on_forget(const reader& stored, view states) const noexcept {
        std::ranges::fill(states.score, 0.0f);
        for (std::size_t h = 0; h < states.shape.kv_heads; ++h) {
            find_logits(stored, states, h);
            const auto sum = states.memory(states.shape.kv_heads);
            std::ranges::fill(sum, epsilon);
            for (std::size_t i = 0; i < states.shape.group(); ++i) {
                const auto logits = logits_of(states, i).subspan(states.guarded.sinks);  // sinks are the first rows
                softmax(logits);
                simd::add_scaled(1 / static_cast<float>(states.shape.group()), logits,
                                 sum.subspan(states.guarded.sinks));
            }
            simd::multiply(states.memory(h), sum);
            simd::add(sum, states.score);
        }
    }

  private:
    /// Keys that are loaded at once.
    static constexpr std::size_t at_once = 4;
    /// How many queries came; cosines and sines; a query, or keys; of a query head the mean and the sum of squared
    /// deviations from it.
    struct memory {
        float& count;
        std::span<float> turns, vector, keys, mean, squares;
    };
    constexpr std::size_t floats_per_head(const table_shape& s) const noexcept {
        return s.head_dim * (covariance ? s.head_dim + 1 : 1);
    }
    memory memory_of(view states, std::size_t head) const noexcept {
        const std::size_t d = states.shape.head_dim;
        const auto keys = states.own.subspan(1 + d, at_once * d);
        const auto of_head = states.own.subspan(1 + (1 + at_once) * d + head * floats_per_head(states.shape));
        return {states.own[0], states.own.subspan(1, d), keys.first(d),
                keys,          of_head.first(d),         of_head.subspan(d, covariance ? d * d : 0)};
    }
    static std::span<float> logits_of(view states, std::size_t i) noexcept {
        return states.memory(states.shape.kv_heads + 1 + i);
    }
    /// Of the queries to come, for each query head of the group.
    void find_logits(const reader& stored, view states, std::size_t h) const noexcept {
        const table_shape& s = states.shape;
        const std::size_t first = h * s.group();
        const memory any = memory_of(states, first);
        find_mean_turns(states.newest + 1, future, any.turns);
        for (std::size_t i = 0; i < s.group(); ++i) {
            std::ranges::copy(memory_of(states, first + i).mean, any.vector.begin());
            turn(any.turns, any.vector);
            simd::scale(any.vector, s.scale);
            stored.dot_keys(h, any.vector, logits_of(states, i));
        }
        if (!covariance || any.count == 0) return;
        for (std::size_t row = states.guarded.sinks; row < states.size(); row += at_once) {
            const std::size_t count = std::min(at_once, states.size() - row);
            for (std::size_t k = 0; k < count; ++k) {
                const auto key = any.keys.subspan(k * s.head_dim, s.head_dim);
                stored.key(h, row + k, key);
                turn_back(any.turns, key);
            }
            for (std::size_t i = 0; i < s.group(); ++i) {
                std::array<float, at_once> squares;
                simd::quadratic(memory_of(states, first + i).squares, any.keys, std::span(squares));
                for (std::size_t k = 0; k < count; ++k) {
                    logits_of(states, i)[row + k] += s.scale * s.scale * squares[k] / (2 * any.count);
                }
            }
        }
    }
};
static_assert(policy<expected_attention> && names_guards<expected_attention>);
static_assert(remembers_states<expected_attention> && remembers_more<expected_attention>);
static_assert(observes_insertion<expected_attention> && observes_queries<expected_attention>);
static_assert(decides_from_storage<expected_attention>);

}  // namespace multistate::inline MULTISTATE_TARGET
