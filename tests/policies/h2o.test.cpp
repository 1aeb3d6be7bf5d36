// h2o: hand-checked decisions.
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/h2o.hpp>
#include <multistate/policies/list.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"

namespace h2o_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// Three states whose sums are 1.5 .6 .4, then a fourth token with the probabilities .4 .1 .2 .3.
ms::table<ms::h2o> after_four_tokens(std::size_t recent) {
    ms::table<ms::h2o> table({.states = 3, .recent = recent});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.5f, 0.5f}});
    EXPECT_NE(table.place(2), ms::no_row);
    support::observe(table, {{0.0f, 0.1f, 0.4f}});
    EXPECT_NE(table.place(3), ms::no_row);
    support::observe(table, {{0.4f, 0.1f, 0.2f, 0.3f}});
    return table;
}

TEST(h2o, sums_over_the_life_of_a_state) {
    const auto table = after_four_tokens(1);
    const float expected[] = {1.9f, 0.7f, 0.6f, 0.3f};
    for (std::size_t j = 0; j < 4; ++j) EXPECT_FLOAT_EQ(table.scores()[j], expected[j]);
}

TEST(h2o, protects_the_recent_states) {
    auto table = after_four_tokens(1);
    EXPECT_EQ(table.place(4), 2u);
    EXPECT_EQ(support::held(table), (positions{0, 1, 3, 4}));
}

/// Nothing protects the newest, and its sum is the shortest: the known way in which H2O freezes.
TEST(h2o, without_recent_states_the_newest_goes) {
    auto table = after_four_tokens(0);
    EXPECT_EQ(table.place(4), 3u);
    EXPECT_EQ(support::held(table), (positions{0, 1, 2, 4}));
}

/// Averages over ages 4 3 2 1 would be .475 .233 .30 .30 and forget position 1.
TEST(h2o, does_not_divide_by_age) {
    auto table = after_four_tokens(0);
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{3});
}

TEST(h2o, protects_half_of_its_states_rounded_down) {
    for (const std::size_t states : {1u, 2u, 3u, 8u, 9u})
        EXPECT_EQ(ms::h2o{}.default_guards(states).recent, states / 2);
    ms::table<ms::h2o> table({.states = 5});
    support::fill(table, 5, 1);
    EXPECT_NE(table.place(5), ms::no_row);
    // The three newest have the least sums; the two newest held are protected.
    support::observe(table, {{0.2f, 0.2f, 0.2f, 0.0f, 0.0f, 0.0f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{3});
}

TEST(h2o, sums_over_the_heads_of_a_group) {
    ms::table<ms::h2o> table({.states = 4, .recent = 0});
    support::fill(table, 2, 2);
    EXPECT_FLOAT_EQ(table.scores()[0], 3.0f);
    EXPECT_FLOAT_EQ(table.scores()[1], 1.0f);
}

TEST(h2o, a_row_that_is_reused_starts_at_zero) {
    auto table = after_four_tokens(1);
    EXPECT_NE(table.place(4), ms::no_row);
    support::observe(table, {{0.25f, 0.25f, 0.25f, 0.25f}});
    EXPECT_FLOAT_EQ(table.scores()[2], 0.25f);
}

/// The horizon that policy.hpp names: with steady attention, 2^24 tokens for one head; and what keeps going.
TEST(h2o, sums_tell_steady_attention_from_none_up_to_the_horizon) {
    const auto moves = [](auto policy, float tokens) {
        ms::table<decltype(policy)> table({.states = 4}, policy);
        support::fill(table, 2, 1);
        for (float& score : table.scores()) score = 0.45f * tokens;
        support::observe(table, {{0.45f, 0.0f}});
        return table.scores()[0] > table.scores()[1];
    };
    EXPECT_TRUE(moves(ms::h2o{}, 0x1p20f));
    EXPECT_TRUE(moves(ms::h2o{}, 0x1p23f));
    EXPECT_FALSE(moves(ms::h2o{}, 0x1p26f)) << "then the headers say too little";
    EXPECT_TRUE(moves(ms::h2o_decayed::make(), 50)) << "1 / (1 - decay) of them, however many there were";
}

}  // namespace h2o_test

namespace reference::h2o {

const registered rule{{.name = "h2o", .score = summed, .recent = half}};

}  // namespace reference::h2o
