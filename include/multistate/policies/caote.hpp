#pragma once

// caote: forgets the state whose absence would have changed the attention's output least.
//
//   paper    "CAOTE: KV Cache Selection for LLMs via Attention Output Error-Based Token Eviction", arXiv 2504.14051
//   rule     score[j] = sum over the query heads i of the group of e[i][j]^2, e[i][j] = a / (1 - a) * |v_j - o|_2 with
//            a = a[i][t][j] for the current token t and o = sum of a v: how far the output moves when j alone is
//            left out and the others' probabilities are made to sum to 1 again
//   reads    the attention probabilities of the newest token, new values, the stored values
//   forgets  for each KV head; the newest state is a candidate like any other
//   cost     for each query head two passes over the stored values to decide, three where a state has more than half of
//            the attention; a float per query head, one per KV head, and one, for each state
//   differs  the abstract was read; the formula is derived here. The paper also applies it to other policies' scores,
//            made to sum to 1, and has a cheaper form with the mean value in place of o. Where several states go at
//            once, each is judged as if it went alone. A state that has all the attention is never the first to go.
//            |v|^2 is of the value as it came, before a codec rounds it.
#include <algorithm>
#include <limits>
#include <utility>

#include "multistate/policy/policy.hpp"
#include "multistate/simd/elementwise.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct caote {
    static constexpr std::string_view name = "caote";
    static constexpr std::string_view paper = "arXiv 2504.14051";
    static constexpr per forgets() noexcept { return per::head; }
    /// Probabilities by query head, |v|^2 by KV head, and v . o.
    static constexpr std::size_t floats_per_state(const table_shape& s) noexcept { return s.heads + s.kv_heads + 1; }
    /// o and a value.
    static constexpr std::size_t floats_per_table(const table_shape& s) noexcept { return 2 * s.value_dim; }

    void on_insert(rows, rows values, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "values", values, states);
        for (std::size_t h = 0; h < values.count; ++h) {
            states.memory(states.shape.heads + h)[row] = simd::dot(values[h], values[h]);
        }
    }
    void on_attention(rows probabilities, view states) const noexcept {
        for (std::size_t i = 0; i < probabilities.count; ++i) {
            std::ranges::copy(probabilities[i], states.memory(i).begin());
        }
    }
    void on_forget(const reader& stored, view states) const noexcept {
        const table_shape& s = states.shape;
        const auto output = states.own.first(s.value_dim);
        const auto products = states.memory(s.heads + s.kv_heads);
        std::ranges::fill(states.score, 0.0f);
        for (std::size_t i = 0; i < s.heads; ++i) {
            const std::size_t h = i / s.group();
            const auto given = states.memory(i);
            const auto squares = states.memory(s.heads + h);
            sum_values(stored, h, given, states.own);
            stored.dot_values(h, output, products);
            const float square = simd::dot(output, output);
            const auto most = static_cast<std::size_t>(std::ranges::max_element(given) - given.begin());
            const float before = states.score[most];
            for (std::size_t j = 0; j < given.size(); ++j) {
                const float distance = (std::max)(0.0f, squares[j] - 2 * products[j] + square);
                const float ratio = given[j] / (1 - (std::min)(given[j], 0.5f));
                states.score[j] += ratio * ratio * distance;
            }
            if (given[most] > 0.5f) states.score[most] = before + without(stored, h, most, given, states.own);
        }
    }

  private:
    /// The first half of `own` = the sum of given[j] times value j. A value that is not finite spoils that sum, even with
    /// no attention: then one by one, which leaves out the spoiled. The second half is scratch.
    static void sum_values(const reader& stored, std::size_t h, std::span<const float> given,
                           std::span<float> own) noexcept {
        const auto sum = own.first(own.size() / 2), value = own.subspan(own.size() / 2);
        stored.sum_values(h, given, sum);
        if (bounded(sum)) return;
        std::ranges::fill(sum, 0.0f);
        for (std::size_t j = 0; j < given.size(); ++j) {
            stored.value(h, j, value);
            simd::add_scaled(given[j], value, sum);
        }
    }
    /// e^2 of a state with more than half of the attention: o is then so near to v_j that their difference, and 1 - a,
    /// would be rounding errors. It equals a^2 |v_j - o'|^2, o' being what the others alone would give.
    static float without(const reader& stored, std::size_t h, std::size_t j, std::span<float> given,
                         std::span<float> own) noexcept {
        const auto others = own.first(own.size() / 2);
        const auto value = own.subspan(own.size() / 2);
        const float share = std::exchange(given[j], 0.0f);
        const float rest = simd::sum(given);
        sum_values(stored, h, given, own);
        stored.value(h, j, value);
        given[j] = share;
        if (rest < (std::numeric_limits<float>::min)()) return std::numeric_limits<float>::infinity();
        simd::scale(others, -1 / rest);
        simd::add(others, value);
        return share * share * simd::dot(value, value);
    }
};
static_assert(policy<caote> && remembers_states<caote> && remembers_more<caote> && observes_insertion<caote> &&
              observes_attention<caote> && decides_from_storage<caote>);

}}  // namespace multistate::MULTISTATE_TARGET
