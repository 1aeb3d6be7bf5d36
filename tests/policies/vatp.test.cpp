// vatp: hand-checked products of attention and value.
#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/vatp.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"

namespace vatp_test {

namespace ms = multistate;
using positions = std::vector<int>;

template <class Table>
std::size_t place(Table& table, int position, const std::vector<float>& value) {
    return table.place(position, {}, {value.data(), 1, value.size(), value.size()});
}

/// Sums 1.9 .7 .6 .3 and values of size 1 2 4 8: 1.9 1.4 2.4 2.4. h2o would forget position 2.
TEST(vatp, weighs_attention_by_the_size_of_the_value) {
    ms::table<ms::vatp> table({.states = 3, .recent = 1});
    place(table, 0, {0.5f, -0.5f});
    support::observe(table, {{1.0f}});
    place(table, 1, {-2, 0});
    support::observe(table, {{0.5f, 0.5f}});
    place(table, 2, {1, 3});
    support::observe(table, {{0.0f, 0.1f, 0.4f}});
    place(table, 3, {-4, -4});
    support::observe(table, {{0.4f, 0.1f, 0.2f, 0.3f}});
    EXPECT_EQ(place(table, 4, {1, 1}), 1u);
    EXPECT_FLOAT_EQ(table.scores()[0], 1.9f);
    EXPECT_FLOAT_EQ(table.scores()[2], 2.4f);
    EXPECT_FLOAT_EQ(table.scores()[3], 2.4f);
    // The sums go on: 2.0 .1 .7 .3 (and the row of position 4 has a new value) times 1 2 4 8.
    support::observe(table, {{0.1f, 0.1f, 0.1f, 0.0f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{0}) << "position 4, with .2, is guarded";
    EXPECT_FLOAT_EQ(table.scores()[2], 2.8f);
}

TEST(vatp, a_value_of_zeros_is_worth_nothing_and_a_number) {
    ms::table<ms::vatp> table({.states = 2});
    place(table, 0, {1, 1});
    support::observe(table, {{1.0f}});
    place(table, 1, {0, 0});
    support::observe(table, {{0.0f, 1.0f}});
    place(table, 2, {0, 0});
    support::observe(table, {{0.0f, 1.0f, 0.0f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{1});
    EXPECT_TRUE(std::ranges::all_of(table.scores(), [](float s) { return std::isfinite(s); }));
}

TEST(vatp, guards_twenty_sinks_where_they_fit) {
    EXPECT_EQ(ms::vatp{}.default_guards(512).sinks, 20u);
    EXPECT_EQ(ms::vatp{}.default_guards(512).recent, 256u);
    EXPECT_EQ(ms::vatp{}.default_guards(16).sinks, 2u);
    for (std::size_t states = 1; states < 1000; ++states) {
        const ms::guards guards = ms::vatp{}.default_guards(states);
        ASSERT_LT(guards.sinks + guards.recent, states);
        ASSERT_EQ(guards.recent, states / 2);
    }
    EXPECT_EQ(ms::vatp{}.forgets(), ms::per::head);
}

}  // namespace vatp_test

namespace reference::vatp {

numbers weighed_by_value(const evidence& e) {
    numbers scores = summed(e);
    for (std::size_t j = 0; j < scores.size(); ++j) {
        double norm = 0;
        for (std::size_t h = e.first_kv_head; h < e.first_kv_head + e.kv_heads; ++h) {
            for (const double x : e.held[h][j].value) norm += std::abs(x);
        }
        scores[j] *= norm;
    }
    return scores;
}

const registered rule{{.name = "vatp", .score = weighed_by_value, .sinks = at_most<20, 8>, .recent = half}};

}  // namespace reference::vatp
