// tova: hand-checked decisions.
#include <algorithm>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/tova.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"

namespace tova_test {

namespace ms = multistate;
using positions = std::vector<int>;

TEST(tova, forgets_the_least_mean_over_all_heads_then_perhaps_the_newest) {
    ms::table<ms::tova> table({.states = 3});
    support::fill(table, 3, 2);
    EXPECT_EQ(table.place(3), 3u);
    support::observe(table, {{0.4f, 0.1f, 0.2f, 0.3f}, {0.3f, 0.3f, 0.1f, 0.3f}});  // mean .35 .20 .15 .30
    EXPECT_EQ(table.place(4), 2u) << "the row of the state forgotten";
    EXPECT_EQ(support::held(table), (positions{0, 1, 3, 4}));
    EXPECT_EQ(support::forgotten(table), positions{2});

    // The same with rows in the order of positions 0 1 4 3: mean .55 .20 .075 .175, so the newest goes.
    support::observe(table, {{0.5f, 0.2f, 0.1f, 0.2f}, {0.6f, 0.2f, 0.05f, 0.15f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), (positions{0, 1, 3}));
    EXPECT_EQ(support::forgotten(table), positions{4});
}

TEST(tova, remembers_nothing_of_earlier_tokens) {
    ms::table<ms::tova> table({.states = 2});
    support::fill(table, 2, 1);
    EXPECT_NE(table.place(2), ms::no_row);
    support::observe(table, {{0.8f, 0.1f, 0.1f}});
    support::observe(table, {{0.1f, 0.5f, 0.4f}});  // shown again: only the last row counts
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), (positions{1, 2}));
}

TEST(tova, of_equals_the_oldest_goes_whatever_its_row) {
    ms::table<ms::tova> table({.states = 3});
    support::fill(table, 3, 1);
    EXPECT_NE(table.place(3), ms::no_row);
    support::observe(table, {{0.1f, 0.3f, 0.3f, 0.3f}});
    EXPECT_EQ(table.place(4), 0u);  // row 0 now holds position 4
    support::observe(table, {{0.25f, 0.25f, 0.25f, 0.25f}});
    EXPECT_EQ(table.place(5), 1u);
    EXPECT_EQ(support::forgotten(table), positions{1});
}

TEST(tova, a_guard_on_the_newest_gives_kvpress_s_variant) {
    ms::table<ms::tova> table({.states = 3, .recent = 1});
    support::fill(table, 3, 2);
    EXPECT_NE(table.place(3), ms::no_row);
    support::observe(table, {{0.4f, 0.1f, 0.2f, 0.3f}, {0.3f, 0.3f, 0.1f, 0.3f}});
    EXPECT_NE(table.place(4), ms::no_row);
    support::observe(table, {{0.5f, 0.2f, 0.1f, 0.2f}, {0.6f, 0.2f, 0.05f, 0.15f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), (positions{0, 1, 4}));
}

TEST(tova, one_state_is_a_recurrent_network) {
    ms::table<ms::tova> table({.states = 1});
    EXPECT_EQ(table.place(0), 0u);
    support::observe(table, {{1}});
    EXPECT_EQ(table.place(1), 1u);
    support::observe(table, {{0.7f, 0.3f}});
    EXPECT_EQ(table.place(2), 1u);
    EXPECT_EQ(support::held(table), (positions{0, 2}));
    support::observe(table, {{0.2f, 0.8f}});
    EXPECT_EQ(table.place(3), 0u);
    EXPECT_EQ(support::held(table), (positions{2, 3}));
}

}  // namespace tova_test

namespace reference::tova {

const registered rule{{.name = "tova", .forgets = unit::layer, .score = current}};

}  // namespace reference::tova
