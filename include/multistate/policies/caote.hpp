#pragma once

// caote: forgets the state whose removal would have changed the attention's output least.
//
//     ms::cache<ms::caote> cache({.layers = 32, …, .states = 512, .slack = 31});// one decision every 32 tokens
//
//   paper    "CAOTE: KV Cache Selection for LLMs via Attention Output Error-Based Token Eviction", arXiv 2504.14051
//   rule     score[j] = sum over the query heads i of the group of e[i][j]^2, e[i][j] = a / (1 - a) * |v_j - o|_2 with
//            a = a[i][t][j] for the current token t and o = sum of a v: how far the output moves if only j is removed
//            and the other probabilities are rescaled to sum to 1
//   reads    the attention probabilities of the newest token, new values, the stored values
//   forgets  for each KV head; the newest state is a candidate like any other
//   cost     for each query head two passes over the stored values to decide, three if a state has more than half of
//            the attention; per state, one float per query head, one per KV head, and one more
//   differs  the abstract was read; the formula is derived here. The paper also applies it to other policies' scores,
//            rescaled to sum to 1, and has a cheaper form with the mean value instead of o. If several states are
//            forgotten at once, each is scored as if it were removed alone. A state with all the attention is never
//            forgotten first. |v|^2 is that of the value before a codec rounds it.
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
    struct memory {
        per_state_array<float> attention;  // [query heads]: from the newest token
        per_state_array<float> squares;    // [KV heads]: |v|^2
        per_state<float> products;         // scratch: v . o
        per_table<float> output;           // scratch: o
        per_table<float> value;            // scratch
    };
    static void lay_out(memory& m, layout& l) noexcept {
        l(m.attention, l.shape().heads);
        l(m.squares, l.shape().kv_heads);
        l(m.products);
        l(m.output, l.shape().value_dim);
        l(m.value, l.shape().value_dim);
    }

    void on_insert(rows, rows values, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "values", values, states);
        const auto squares = states.memory(*this).squares;
        for (std::size_t h = 0; h < values.count; ++h) squares[h][row] = simd::dot(values[h], values[h]);
    }
    void on_attention(rows probabilities, view states) const noexcept {
        const auto attention = states.memory(*this).attention;
        for (std::size_t i = 0; i < probabilities.count; ++i) {
            std::ranges::copy(probabilities[i], attention[i].begin());
        }
    }
    void on_forget(const reader& stored, view states) const noexcept {
        const memory mine = states.memory(*this);
        std::ranges::fill(states.score, 0.0f);
        for (std::size_t i = 0; i < mine.attention.size(); ++i) {
            const std::size_t h = i / states.shape.group();
            const auto given = mine.attention[i];
            sum_values(stored, h, given, mine);
            stored.dot_values(h, mine.output, mine.products);
            const float square = simd::dot(mine.output, mine.output);
            const auto most = static_cast<std::size_t>(std::ranges::max_element(given) - given.begin());
            const float before = states.score[most];
            for (std::size_t j = 0; j < given.size(); ++j) {
                const float distance = (std::max)(0.0f, mine.squares[h][j] - 2 * mine.products[j] + square);
                const float ratio = given[j] / (1 - (std::min)(given[j], 0.5f));
                states.score[j] += ratio * ratio * distance;
            }
            if (given[most] > 0.5f) states.score[most] = before + without(stored, h, most, given, mine);
        }
    }

  private:
    /// output = the sum of given[j] times value j. A value that is not finite makes that sum NaN even without
    /// attention. In that case the values are added one by one, because `stored` reads spoiled ones as zeros.
    static void sum_values(const reader& stored, std::size_t h, std::span<const float> given,
                           const memory& mine) noexcept {
        stored.sum_values(h, given, mine.output);
        if (bounded(mine.output)) return;
        std::ranges::fill(mine.output, 0.0f);
        for (std::size_t j = 0; j < given.size(); ++j) {
            stored.value(h, j, mine.value);
            simd::add_scaled(given[j], mine.value, mine.output);
        }
    }
    /// e^2 of a state with more than half of the attention. There o is so close to v_j that v_j - o and 1 - a would be
    /// rounding errors. e^2 equals a^2 |v_j - o'|^2, where o' is the output of the other states alone.
    static float without(const reader& stored, std::size_t h, std::size_t j, std::span<float> given,
                         const memory& mine) noexcept {
        const float share = std::exchange(given[j], 0.0f);
        const float rest = simd::sum(given);
        sum_values(stored, h, given, mine);
        stored.value(h, j, mine.value);
        given[j] = share;
        if (rest < (std::numeric_limits<float>::min)()) return std::numeric_limits<float>::infinity();
        simd::scale(mine.output, -1 / rest);
        simd::add(mine.output, mine.value);
        return share * share * simd::dot(mine.value, mine.value);
    }
};
static_assert(policy<caote> && hooks_of<caote> == (hook::on_insert | hook::on_attention | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
