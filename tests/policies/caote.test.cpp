// caote: hand-checked decisions.
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/caote.hpp>
#include <multistate/table/table.hpp>

#include "reference/numbers.hpp"
#include "reference/rule.hpp"
#include "support/micro.hpp"
#include "support/stored.hpp"

namespace caote_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// A table with the values of its states; all tokens but the last attend evenly.
template <class Policy = ms::caote>
struct stored_table {
    stored_table(const ms::table_shape& s, const std::vector<support::vectors>& values,
                 const std::vector<std::vector<float>>& given)
        : table(s), stored(s) {
        for (std::size_t p = 0; p < values.size(); ++p) {
            place(static_cast<int>(p), values[p]);
            const std::vector<float> even(table.size(), 1 / static_cast<float>(table.size()));
            support::observe(table, p + 1 < values.size() ? std::vector<std::vector<float>>(s.heads, even) : given);
        }
    }
    void place(int position, const support::vectors& values) {
        stored.place(table, position, support::vectors(values.size(), {0.0f}), values);
    }
    positions forget() {
        stored.forget(table);
        return support::forgotten(table);
    }
    ms::table<Policy> table;
    support::stored_floats stored;
};

ms::table_shape shape_of(std::size_t states, std::size_t heads = 1, std::size_t kv_heads = 1,
                         std::size_t value_dim = 1) {
    return {.states = states, .heads = heads, .kv_heads = kv_heads, .head_dim = 1, .value_dim = value_dim};
}

/// o = 2.1, so the errors are 1.65 .0429 .767: state 2 has the least attention and a value far from the others'.
TEST(caote, forgets_what_moves_the_output_least) {
    stored_table<> states(shape_of(2), {{{1}}, {{2}}, {{9}}}, {{0.6f, 0.3f, 0.1f}});
    states.place(3, {{5}});
    EXPECT_EQ(support::forgotten(states.table), positions{1});
    EXPECT_NEAR(states.table.scores()[0], 1.65f * 1.65f, 1e-5);
    EXPECT_NEAR(states.table.scores()[2], 0.766667f * 0.766667f, 1e-5);
}

TEST(caote, the_values_decide) {
    EXPECT_EQ(stored_table<>(shape_of(2), {{{1}}, {{9}}, {{2}}}, {{0.6f, 0.3f, 0.1f}}).forget(), positions{2});
    EXPECT_EQ(stored_table<>(shape_of(2), {{{4}}, {{9}}, {{2}}}, {{0.4f, 0.3f, 0.3f}}).forget(), positions{0});
}

/// The distance is over all dimensions: from o = (1, 1) they are sqrt 2, sqrt 2, 1 and 1 with equal attention.
TEST(caote, values_of_several_dimensions) {
    EXPECT_EQ(
        stored_table<>(shape_of(3, 1, 1, 2), {{{0, 0}}, {{2, 2}}, {{1, 2}}, {{1, 0}}}, {{0.25f, 0.25f, 0.25f, 0.25f}})
            .forget(),
        positions{2});
}

TEST(caote, squares_are_summed_over_the_heads_of_a_group) {
    // First head: o = 2.1, errors 1.65 .0429 .767; second: o = 2.75, errors .25 .75 * |2 - 5| = 2.25 .893.
    stored_table<> states(shape_of(2, 2), {{{1}}, {{2}}, {{9}}}, {{0.6f, 0.3f, 0.1f}, {0.125f, 0.75f, 0.125f}});
    states.place(3, {{0}});
    EXPECT_EQ(support::forgotten(states.table), positions{2});  // alone they would forget positions 1 and 0
    EXPECT_NEAR(states.table.scores()[0], 1.65f * 1.65f + 0.0625f, 1e-5);
    EXPECT_NEAR(states.table.scores()[1], 0.0018367f + 2.25f * 2.25f, 1e-5);
}

TEST(caote, a_layer_sums_over_its_kv_heads) {
    using layer = ms::composed<ms::caote, ms::per_layer>;
    const std::vector<support::vectors> values = {{{1}, {0}}, {{2}, {8}}, {{9}, {0}}};
    stored_table<layer> states(shape_of(2, 2, 2), values, {{0.6f, 0.3f, 0.1f}, {0.25f, 0.25f, 0.5f}});
    states.place(3, {{0}, {0}});
    // First KV head: 1.65 .0429 .767; second: o = 2, .667 2 2.
    EXPECT_EQ(support::forgotten(states.table), positions{0});  // 3.17 4.00 4.59
    EXPECT_NEAR(states.table.scores()[1], 0.0018367f + 4, 1e-5);
}

TEST(caote, a_state_with_all_attention_stays) {
    for (const float rest : {0.0f, std::numeric_limits<float>::denorm_min(), 1e-38f}) {
        stored_table<> states(shape_of(2), {{{3}}, {{3}}, {{3}}}, {{0.0f, rest, 1.0f}});
        EXPECT_EQ(states.forget(), positions{0});
        for (const float score : states.table.scores()) EXPECT_FALSE(std::isnan(score));
    }
    stored_table<> states(shape_of(2), {{{0}}, {{5}}, {{7}}}, {{1.0f, 0.0f, 0.0f}});
    EXPECT_EQ(states.forget(), positions{1});  // not the first, though its value is 0
}

/// 1 - a and v - o are lost in the rounding of a and o, but the others alone would give (2 + 6) / 2: the error is 3.
TEST(caote, nearly_all_attention_is_no_loss_of_precision) {
    stored_table<> states(shape_of(2), {{{1}}, {{2}}, {{6}}}, {{1.0f, 1e-12f, 1e-12f}});
    states.place(3, {{0}});
    EXPECT_EQ(support::forgotten(states.table), positions{1});
    EXPECT_NEAR(states.table.scores()[0], 9.0f, 1e-5);
    EXPECT_NEAR(states.table.scores()[2], 25e-24f, 1e-27f);
}

TEST(caote, two_heads_that_are_certain_of_different_states) {
    stored_table<> states(shape_of(2, 2), {{{1}}, {{2}}, {{9}}}, {{1.0f, 0.0f, 0.0f}, {0.0f, 1.0f, 0.0f}});
    EXPECT_EQ(states.forget(), positions{2});
    stored_table<> same(shape_of(1, 2), {{{1}}, {{2}}}, {{0.0f, 1.0f}, {1.0f, 0.0f}});
    EXPECT_EQ(same.forget(), positions{0});  // both infinite, and the first is older
}

TEST(caote, equal_values_and_zero_values_forget_the_oldest) {
    for (const float value : {2.0f, 0.0f}) {
        stored_table<> states(shape_of(2), {{{value}}, {{value}}, {{value}}}, {{0.5f, 0.25f, 0.25f}});
        EXPECT_EQ(states.forget(), positions{0});
    }
}

TEST(caote, one_state) {
    stored_table<> states(shape_of(1), {{{1}}, {{4}}}, {{0.75f, 0.25f}});
    states.place(2, {{0}});
    EXPECT_EQ(support::forgotten(states.table), positions{1});  // 1 * 3 * .25 = .75 and .75 * 3
    EXPECT_NEAR(states.table.scores()[0], 2.25f * 2.25f, 1e-5);
}

TEST(caote, several_may_go_at_once) {
    ms::table_shape s = shape_of(2);
    s.slack = 2;
    stored_table<> states(s, {{{1}}, {{2}}, {{9}}, {{2}}}, {{0.5f, 0.25f, 0.125f, 0.125f}});
    EXPECT_EQ(states.forget(), (positions{1, 3}));  // o = 2.375: errors 1.375 .125 .946 .0536
    EXPECT_EQ(support::held(states.table), (positions{0, 2}));
}

/// An error of 0 is a difference of equal numbers, whose rounding may have either sign.
TEST(caote, no_error_is_negative) {
    for (int i = 1; i < 200; ++i) {
        const float value = 0.1f * static_cast<float>(i);
        stored_table<> states(shape_of(3), {{{value}}, {{value}}, {{value}}, {{value}}}, {{0.3f, 0.3f, 0.3f, 0.1f}});
        states.forget();
        for (const float score : states.table.scores()) EXPECT_GE(score, 0.0f);
    }
}

TEST(caote, a_second_decision_without_attention_knows_the_same) {
    stored_table<> states(shape_of(3), {{{1}}, {{2}}, {{9}}, {{2}}}, {{0.75f, 0.125f, 0.0625f, 0.0625f}});
    EXPECT_EQ(states.forget(), positions{3});
    static_cast<void>(states.table.rebudget(1, states.stored.edit()));
    EXPECT_EQ(support::held(states.table), positions{0});
}

TEST(caote, a_copy_continues_alike) {
    stored_table<> states(shape_of(2), {{{1}}, {{2}}, {{9}}}, {{0.6f, 0.3f, 0.1f}});
    auto copy = states;
    for (auto* one : {&states, &copy}) {
        one->place(3, {{5}});
        support::observe(one->table, {{0.25f, 0.25f, 0.5f}});
        EXPECT_EQ(one->forget(), positions{3});  // rows 0 3 2; o = 6: errors 5/3 1/3 .5 * |9 - 3| = 3
    }
}

}  // namespace caote_test

namespace reference::caote {

/// How far the output of each head moves when a state is left out and the others' probabilities are made to sum to 1.
numbers errors(const evidence& e) {
    const token& now = e.past.back();
    numbers scores(e.states().size());
    for (std::size_t i = e.first_head(); i < e.end_head(); ++i) {
        const auto& states = e.held[i / e.shape.group()];
        const auto output_without = [&](std::size_t gone) {
            numbers output(e.shape.value_dim);
            double total = 0;
            for (std::size_t j = 0; j < states.size(); ++j) {
                if (j == gone) continue;
                const double a = e.attention(now, i, states[j].position);
                for (std::size_t c = 0; c < output.size(); ++c) output[c] += a * states[j].value[c];
                total += a;
            }
            for (double& x : output) x = total > 0 ? x / total : std::numeric_limits<double>::infinity();
            return output;
        };
        const numbers output = output_without(states.size());
        for (std::size_t j = 0; j < states.size(); ++j) {
            numbers error = output_without(j);
            for (std::size_t c = 0; c < error.size(); ++c) error[c] -= output[c];
            scores[j] += dot(error, error);
        }
    }
    return scores;
}

const registered rule{{.name = "caote", .score = errors}};

}  // namespace reference::caote
