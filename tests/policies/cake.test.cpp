// cake: hand-checked decisions.
#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/cake.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"

namespace cake_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// Six states of which the newest token gives .5 0 .25 0 0 .25; means of five: .25 .1875 .15 .1 .125 .083;
/// where that token is guarded, of the others .25 .1875 .15 .0625 .083. The tokens
/// before, which do not count, gave all to the newest then.
positions first_to_go(const ms::cake& policy, std::size_t recent) {
    ms::table<ms::cake> table({.states = 5, .recent = recent}, policy);
    for (int p = 0; p < 5; ++p) {
        EXPECT_NE(table.place(p), ms::no_row);
        std::vector<float> itself(table.size(), 0.0f);
        itself.back() = 1;
        support::observe(table, {itself});
    }
    EXPECT_NE(table.place(5), ms::no_row);
    support::observe(table, {{0.5f, 0.0f, 0.25f, 0.0f, 0.0f, 0.25f}});
    static_cast<void>(table.forget());
    return support::forgotten(table);
}

/// The authors' zeros beyond the ends weigh on the state that left the guard last. Eight states of which the newest
/// token gives .25 .125 .125 .125 .125 .125 .0625 .0625, the last two guarded.
TEST(cake, may_count_zeros_beyond_the_ends) {
    for (const bool zero_padded : {false, true}) {
        ms::cake policy;
        policy.get<ms::pool>().zero_padded = zero_padded;
        ms::table<ms::cake> table({.states = 7, .recent = 2}, policy);
        support::fill(table, 7, 1);
        static_cast<void>(table.place(7));
        support::observe(table, {{0.25f, 0.125f, 0.125f, 0.125f, 0.125f, 0.125f, 0.0625f, 0.0625f}});
        static_cast<void>(table.forget());
        // means of those that exist .167 .156 .15 .125 .125 .125, with zeros .1 .125 .15 .125 .1 .075
        EXPECT_EQ(support::forgotten(table), std::vector<int>{zero_padded ? 5 : 3});
    }
}

TEST(cake, the_newest_token_decides_and_neighbors_share) {
    EXPECT_EQ(first_to_go({}, 0), positions{5});
    EXPECT_EQ(first_to_go({}, 1), positions{3});
}

TEST(cake, the_width_decides) {
    ms::cake policy;
    policy.get<ms::pool>().width = 1;
    EXPECT_EQ(first_to_go(policy, 0), positions{1});
}

TEST(cake, guards_the_newest_32_as_far_as_half_of_the_states_allows) {
    for (const std::size_t states : {1u, 2u, 3u, 63u, 64u, 500u}) {
        EXPECT_EQ(ms::cake::default_guards(states).recent, std::min<std::size_t>(32, states / 2));
    }
}

TEST(cake, each_kv_head_sums_over_its_group) {
    EXPECT_EQ(ms::cake().forgets(), ms::per::head);
    ms::cake policy;
    policy.get<ms::pool>().width = 1;
    ms::table<ms::cake> table({.states = 2, .recent = 0, .heads = 2}, policy);
    support::fill(table, 2, 2);
    EXPECT_NE(table.place(2), ms::no_row);
    support::observe(table, {{0.5f, 0.25f, 0.25f}, {0.0f, 0.625f, 0.375f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{0});  // .5 .875 .625
}

TEST(cake, one_state_and_certain_attention) {
    ms::table<ms::cake> table({.states = 1});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{1.0f, 0.0f}});
    EXPECT_NE(table.place(2), ms::no_row);
    EXPECT_EQ(support::forgotten(table), positions{0});  // two states have the same mean
    for (const float score : table.scores()) EXPECT_FALSE(std::isnan(score));
}

}  // namespace cake_test

namespace reference::cake {

numbers scores(const evidence& e) { return mean_of_five(e, current(e)); }

// Of few states, two may have the same mean.
const registered rule{{.name = "cake", .score = scores, .recent = at_most<32, 2>, .ties_are_exact = true}};

}  // namespace reference::cake
