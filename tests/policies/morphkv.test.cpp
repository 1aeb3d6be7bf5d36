// morphkv: hand-checked decisions.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/morphkv.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"

namespace morphkv_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// Four tokens, of which the last two gave .5 .5 .875 .125 together, and the last three 1 1 .875 .125.
ms::table<ms::morphkv> after_four_tokens(const ms::morphkv& policy, std::size_t recent = 1) {
    ms::table<ms::morphkv> table({.states = 3, .recent = recent}, policy);
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.5f, 0.5f}});
    EXPECT_NE(table.place(2), ms::no_row);
    support::observe(table, {{0.0f, 0.25f, 0.75f}});
    EXPECT_NE(table.place(3), ms::no_row);
    support::observe(table, {{0.5f, 0.25f, 0.125f, 0.125f}});
    return table;
}

positions first_to_go(const ms::morphkv& policy, std::size_t recent = 1) {
    auto table = after_four_tokens(policy, recent);
    static_cast<void>(table.forget());
    return support::forgotten(table);
}

TEST(morphkv, sums_over_the_last_tokens) {
    auto table = after_four_tokens({.window = 2});
    EXPECT_NE(table.place(4), ms::no_row);
    EXPECT_FLOAT_EQ(table.scores()[1], 0.5f);
    EXPECT_FLOAT_EQ(table.scores()[2], 0.875f);
    EXPECT_FLOAT_EQ(table.scores()[3], 0.125f);
    EXPECT_EQ(support::forgotten(table), positions{0});  // .5 as position 1, and older
}

TEST(morphkv, the_window_decides) {
    EXPECT_EQ(first_to_go({.window = 1}), positions{2});
    EXPECT_EQ(first_to_go({.window = 2}), positions{0});
    EXPECT_EQ(first_to_go({.window = 3}), positions{2});
    EXPECT_EQ(first_to_go({.window = 4}), positions{2});
}

TEST(morphkv, the_maximum_decides_otherwise_than_the_sum) {
    EXPECT_EQ(first_to_go({.window = 2, .maximum = true}), positions{1});  // .5 .25 .75
}

TEST(morphkv, without_recent_states_the_newest_goes) { EXPECT_EQ(first_to_go({.window = 2}, 0), positions{3}); }

TEST(morphkv, guards_its_window_as_far_as_half_of_the_states_allows) {
    for (const std::size_t states : {1u, 2u, 3u, 8u, 59u, 60u, 500u}) {
        EXPECT_EQ(ms::morphkv{}.default_guards(states).recent, std::min<std::size_t>(30, states / 2));
    }
    EXPECT_EQ(ms::morphkv{.window = 3}.default_guards(8).recent, 3u);
    ms::table<ms::morphkv> table({.states = 5});
    support::fill(table, 5, 1);
    EXPECT_NE(table.place(5), ms::no_row);
    // The three newest have the least sums; the two newest are guarded.
    support::observe(table, {{0.2f, 0.2f, 0.2f, 0.0f, 0.0f, 0.4f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{3});
}

TEST(morphkv, sums_over_the_heads_of_a_group) {
    ms::table<ms::morphkv> table({.states = 1, .recent = 0}, {.window = 2});
    support::fill(table, 2, 2);
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{1});
    EXPECT_FLOAT_EQ(table.scores()[0], 3.0f);
}

TEST(morphkv, a_row_that_is_reused_starts_at_zero) {
    auto table = after_four_tokens({.window = 3});
    EXPECT_EQ(table.place(4), 2u);
    support::observe(table, {{0.25f, 0.25f, 0.25f, 0.25f}});
    EXPECT_NE(table.place(5), ms::no_row);
    EXPECT_EQ(support::forgotten(table), positions{3});  // .125 + .25; the reused row has .25 and is guarded
    EXPECT_FLOAT_EQ(table.scores()[0], 0.75f);
    EXPECT_FLOAT_EQ(table.scores()[2], 0.25f);
}

TEST(morphkv, of_a_block_longer_than_the_window_the_last_tokens_count) {
    ms::table<ms::morphkv> table({.states = 2, .block = 5, .recent = 0}, {.window = 2});
    static_cast<void>(table.append(0, 5));
    for (std::size_t n = 1; n <= 3; ++n) {
        std::vector<float> itself(n, 0.0f);
        itself.back() = 1;
        table.observe({itself.data(), 1, n, n});
    }
    const float fourth[] = {0.5f, 0.25f, 0.125f, 0.125f};
    const float fifth[] = {0.25f, 0.125f, 0.0f, 0.125f, 0.5f};
    table.observe({fourth, 1, 4, 4});
    table.observe({fifth, 1, 5, 5});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), (positions{1, 2, 3}));
}

TEST(morphkv, one_state_and_certain_attention) {
    ms::table<ms::morphkv> table({.states = 1});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.0f, 1.0f}});
    EXPECT_NE(table.place(2), ms::no_row);
    EXPECT_EQ(support::forgotten(table), positions{0});  // 1 as position 1, and older
    for (const float score : table.scores()) EXPECT_FALSE(std::isnan(score));
}

TEST(morphkv, a_copy_continues_alike) {
    auto table = after_four_tokens({.window = 3});
    auto copy = table;
    for (auto* one : {&table, &copy}) {
        EXPECT_NE(one->place(4), ms::no_row);
        support::observe(*one, {{0.125f, 0.5f, 0.125f, 0.25f}});
        EXPECT_NE(one->place(5), ms::no_row);
    }
    EXPECT_EQ(support::forgotten(copy), support::forgotten(table));
    for (std::size_t j = 0; j < 4; ++j) EXPECT_EQ(copy.scores()[j], table.scores()[j]);
}

TEST(morphkv, clear_begins_anew) {
    auto table = after_four_tokens({.window = 3});
    table.clear();
    EXPECT_NE(table.place(7), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(8), ms::no_row);
    support::observe(table, {{0.25f, 0.75f}});
    EXPECT_NE(table.place(9), ms::no_row);
    support::observe(table, {{0.25f, 0.25f, 0.5f}});
    EXPECT_NE(table.place(10), ms::no_row);
    support::observe(table, {{0.25f, 0.25f, 0.25f, 0.25f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{7});  // .75, then 1.25, .75 and the guarded newest
}

TEST(morphkv, refuses_a_window_of_nothing) {
    EXPECT_THROW(ms::table<ms::morphkv>({.states = 4}, {.window = 0}), std::invalid_argument);
}

}  // namespace morphkv_test

namespace reference::morphkv {

numbers scores(const evidence& e) { return sum_over(e, e.newest(30)); }

const registered rule{{.name = "morphkv", .score = scores, .recent = at_most<30, 2>}};

}  // namespace reference::morphkv
