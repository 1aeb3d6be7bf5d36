// citrus: hand-checked decisions.
#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/citrus.hpp>
#include <multistate/table.hpp>

#include "support/micro.hpp"

namespace citrus_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// Two states after a decision, then a third token.
ms::table<ms::citrus> after_a_decision() {
    ms::table<ms::citrus> table({.states = 2});
    table.place(0);
    support::observe(table, {{1.0f}});
    table.place(1);
    support::observe(table, {{0.25f, 0.75f}});
    table.place(2);
    support::observe(table, {{0.5f, 0.25f, 0.25f}});
    table.place(3);
    return table;
}

TEST(citrus, before_the_first_decision_all_tokens_count) {
    const auto table = after_a_decision();
    EXPECT_EQ(support::forgotten(table), positions{2});  // 1.75 1 .25
    EXPECT_FLOAT_EQ(table.scores()[0], 1.75f);
}

TEST(citrus, after_a_decision_the_tokens_since_count) {
    auto table = after_a_decision();
    support::observe(table, {{0.25f, 0.5f, 0.25f}});
    EXPECT_FLOAT_EQ(table.scores()[0], 0.25f);
    table.place(4);
    EXPECT_EQ(support::forgotten(table), positions{0});  // .25 as position 3, and older
}

/// Blocks of 2 with states = 2 + 2 and recent = 2: the best two of what came before a block, and the block.
TEST(citrus, a_block_decides_about_what_came_before_it) {
    ms::table<ms::citrus> table({.states = 4, .block = 2, .recent = 2});
    const auto block = [&](int first, const std::vector<std::vector<float>>& tokens) {
        table.append(first, 2);
        for (const auto& given : tokens) table.observe({given.data(), 1, given.size(), given.size()});
    };
    block(0, {{1.0f}, {1.0f, 0.0f}});
    block(2, {{0.75f, 0.0f, 0.25f}, {0.5f, 0.0f, 0.25f, 0.25f}});
    block(4, {{0.0f, 0.25f, 0.0f, 0.0f, 0.75f}, {0.0f, 0.0f, 0.5f, 0.0f, 0.25f, 0.25f}});
    table.forget();
    EXPECT_EQ(support::held(table), (positions{0, 2, 4, 5}));  // 3.25 .25 1 .25, and the block
    block(6, {{0.125f, 0.125f, 0.5f, 0.125f, 0.125f}, {0.0f, 0.125f, 0.5f, 0.25f, 0.0f, 0.125f}});
    // Rows hold 0 4 2 5 6 7: of what came before this block, .125 .25 1 .375 to 0 4 2 5.
    EXPECT_EQ(table.positions()[1], 4);
    table.forget();
    EXPECT_EQ(support::held(table), (positions{2, 5, 6, 7}));
}

TEST(citrus, sums_over_the_heads_of_the_layer) {
    EXPECT_EQ(ms::citrus::forgets(), ms::per::layer);
    ms::table<ms::citrus> table({.states = 1, .heads = 2});
    support::fill(table, 2, 2);
    EXPECT_FLOAT_EQ(table.scores()[0], 3.0f);
    EXPECT_FLOAT_EQ(table.scores()[1], 1.0f);
}

TEST(citrus, one_state_and_certain_attention) {
    ms::table<ms::citrus> table({.states = 1});
    table.place(0);
    support::observe(table, {{1.0f}});
    table.place(1);
    support::observe(table, {{0.0f, 1.0f}});
    table.place(2);
    EXPECT_EQ(support::forgotten(table), positions{0});
    for (const float score : table.scores()) EXPECT_FALSE(std::isnan(score));
}

TEST(citrus, a_copy_between_decision_and_attention_continues_alike) {
    auto table = after_a_decision();
    auto copy = table;
    support::observe(copy, {{0.25f, 0.5f, 0.25f}});
    EXPECT_FLOAT_EQ(copy.scores()[0], 0.25f);
    EXPECT_FLOAT_EQ(table.scores()[0], 1.75f);
}

TEST(citrus, clear_begins_anew) {
    auto table = after_a_decision();
    support::observe(table, {{0.25f, 0.5f, 0.25f}});
    table.forget();
    table.clear();
    table.place(9);
    support::observe(table, {{1.0f}});
    table.place(10);
    support::observe(table, {{0.5f, 0.5f}});
    EXPECT_FLOAT_EQ(table.scores()[0], 1.5f);
}

}  // namespace citrus_test
