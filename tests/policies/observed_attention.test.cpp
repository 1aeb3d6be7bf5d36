// observed_attention: hand-checked averages.
#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/observed_attention.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"

namespace observed_attention_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// Three states whose sums are 1.5 .6 .4, then a fourth token with the probabilities .4 .1 .2 .3.
ms::table<ms::observed_attention> after_four_tokens() {
    ms::table<ms::observed_attention> table({.states = 3});
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

void expect_scores(const ms::table<ms::observed_attention>& table, const std::vector<float>& expected) {
    for (std::size_t j = 0; j < expected.size(); ++j) EXPECT_FLOAT_EQ(table.scores()[j], expected[j]) << "row " << j;
}

/// Ages 4 3 2 1: where the sum would forget the newest, the average forgets position 1.
TEST(observed_attention, divides_by_age) {
    auto table = after_four_tokens();
    EXPECT_EQ(table.place(4), 1u);
    EXPECT_EQ(support::held(table), (positions{0, 2, 3, 4}));
    support::observe(table, {{0.1f, 0.1f, 0.2f, 0.6f}});
    static_cast<void>(table.forget());  // ages 5 1 3 2, and the row that was reused starts anew
    EXPECT_EQ(support::forgotten(table), positions{4});
}

TEST(observed_attention, scores_when_a_decision_is_due) {
    auto table = after_four_tokens();
    EXPECT_NE(table.place(4), ms::no_row);
    expect_scores(table, {0.475f, 0.0f, 0.3f, 0.3f});  // row 1 was .7 / 3 and is placed anew
}

TEST(observed_attention, counts_positions_whatever_the_gaps) {
    ms::table<ms::observed_attention> table({.states = 1});
    EXPECT_NE(table.place(2), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(9), ms::no_row);
    support::observe(table, {{0.9f, 0.1f}});  // 1.9 / 8 is more than .1 / 1
    EXPECT_NE(table.place(10), ms::no_row);
    EXPECT_EQ(support::forgotten(table), positions{9});
    expect_scores(table, {1.9f / 8});
}

TEST(observed_attention, sums_over_the_group) {
    ms::table<ms::observed_attention> table({.states = 2, .heads = 2});
    support::fill(table, 3, 2);
    static_cast<void>(table.forget());
    expect_scores(table, {2 * (1 + 1.0f / 2 + 1.0f / 3) / 3, 2 * (1.0f / 2 + 1.0f / 3) / 2});
}

/// Each token of a block counts for the states that it saw.
TEST(observed_attention, a_block_is_as_old_as_its_tokens) {
    ms::table<ms::observed_attention> table({.states = 2, .block = 3});
    static_cast<void>(table.append(0, 3));
    for (const auto& seen : std::vector<std::vector<float>>{{1.0f}, {0.5f, 0.5f}, {0.1f, 0.3f, 0.6f}}) {
        table.observe({seen.data(), 1, seen.size(), seen.size()});
    }
    static_cast<void>(table.forget());  // 1.6 / 3, .8 / 2, .6
    EXPECT_EQ(support::forgotten(table), positions{1});
}

TEST(observed_attention, is_a_number_on_saturated_softmax_and_for_one_state) {
    ms::table<ms::observed_attention> table({.states = 1});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    for (int p = 1; p < 50; ++p) {
        EXPECT_NE(table.place(p), ms::no_row);
        support::observe(table, {{1.0f, 0.0f}});
        EXPECT_TRUE(std::ranges::all_of(table.scores(), [](float s) { return std::isfinite(s); }));
    }
    EXPECT_EQ(support::held(table), (positions{0, 49}));
}

}  // namespace observed_attention_test

namespace reference::observed_attention {

const registered rule{{.name = "observed_attention", .score = averaged}};

}  // namespace reference::observed_attention
