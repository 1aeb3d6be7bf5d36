// h2o_decayed: hand-checked sums that fade, and the two policies that it is at its ends.
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/list.hpp>
#include <multistate/policies/tova_head.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"
#include "support/random.hpp"

namespace h2o_decayed_test {

namespace ms = multistate;
using positions = std::vector<int>;
using h2o_decayed = decltype(ms::h2o_decayed::make());

h2o_decayed with(float decay) { return {ms::h2o{}, ms::decayed{decay}}; }

TEST(h2o_decayed, old_attention_fades) {
    ms::table<h2o_decayed> table({.states = 3, .recent = 0}, with(0.5f));
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.5f, 0.5f}});
    EXPECT_NE(table.place(2), ms::no_row);
    support::observe(table, {{0.25f, 0.25f, 0.5f}});
    EXPECT_EQ(table.scores()[0], 0.75f);  // 1 / 4 + .5 / 2 + .25
    EXPECT_EQ(table.scores()[1], 0.5f);   // .5 / 2 + .25
    EXPECT_EQ(table.scores()[2], 0.5f);
    EXPECT_NE(table.place(3), ms::no_row);
    support::observe(table, {{0.0f, 0.125f, 0.375f, 0.5f}});
    static_cast<void>(table.forget());  // .375 .375 .625 .5: the oldest of two; the plain sum, 1.75, would have kept it
    EXPECT_EQ(support::forgotten(table), positions{0});
}

TEST(h2o_decayed, sums_over_the_heads_of_a_group) {
    ms::table<h2o_decayed> table({.states = 2, .heads = 2}, with(0.5f));
    support::fill(table, 2, 2);
    EXPECT_EQ(table.scores()[0], 2.0f);
    EXPECT_EQ(table.scores()[1], 1.0f);
}

/// The positions held after each of 60 tokens of two heads.
template <class Table>
std::vector<positions> history(Table table) {
    support::random_numbers random(5);
    std::vector<positions> result;
    for (int p = 0; p < 60; ++p) {
        EXPECT_NE(table.place(p), ms::no_row);
        std::vector<std::vector<float>> heads(2, std::vector<float>(table.size()));
        for (auto& head : heads) {
            for (float& a : head) a = 0.1f + random.within(0.1f);
        }
        support::observe(table, heads);
        result.push_back(support::held(table));
    }
    return result;
}

TEST(h2o_decayed, lies_between_tova_head_and_h2o) {
    const ms::table_shape halved{.states = 8, .heads = 2};
    const ms::table_shape open{.states = 8, .recent = 0, .heads = 2};
    const auto all = history(ms::table<ms::h2o>(halved));
    EXPECT_EQ(history(ms::table<h2o_decayed>(halved, with(1))), all);
    EXPECT_NE(history(ms::table<h2o_decayed>(halved, with(0.5f))), all);
    EXPECT_EQ(history(ms::table<h2o_decayed>(open, with(0))), history(ms::table<ms::tova_head>(open)));
}

TEST(h2o_decayed, refuses_a_decay_that_is_none) {
    EXPECT_THROW(ms::table<h2o_decayed>({.states = 2}, with(1.01f)), std::invalid_argument);
    EXPECT_THROW(ms::table<h2o_decayed>({.states = 2}, with(-0.01f)), std::invalid_argument);
}

}  // namespace h2o_decayed_test

namespace reference::h2o_decayed {

const registered rule{{.name = "h2o_decayed", .score = decayed, .recent = half}};

}  // namespace reference::h2o_decayed
