// into_following: values left to the states that follow, by hand.
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/mergers/into_following.hpp>
#include <multistate/policies/cam.hpp>
#include <multistate/policy/composed.hpp>

#include "support/by_hand.hpp"
#include "support/micro.hpp"
#include "support/stored.hpp"

namespace into_following_test {

namespace ms = multistate;
using policy = ms::composed<support::by_hand, ms::into_following>;
using numbers = std::vector<float>;

policy into(std::size_t survivors, std::size_t seed = 0) {
    policy p;
    p.get<ms::into_following>().survivors = survivors;
    p.get<ms::into_following>().seed = seed;
    return p;
}

/// A table of one KV head whose states 0, 1, … have the values given, and are worth the scores given.
struct setting {
    setting(ms::table_shape s, const policy& p, const numbers& values, const numbers& scores)
        : table(complete(s), p), stored(complete(s)) {
        static_cast<void>(table.append(0, values.size(), stored.edit()));
        for (std::size_t i = 0; i < values.size(); ++i) *stored.value(0, i) = values[i];
        support::score(table, scores);
    }
    static ms::table_shape complete(ms::table_shape s) {
        s.head_dim = s.value_dim = 1;
        return s;
    }
    /// The value of each position held, in the order of the text.
    numbers values() const {
        numbers result;
        for (const int p : support::held(table)) {
            const auto row =
                static_cast<std::size_t>(std::ranges::find(table.positions(), p) - table.positions().begin());
            result.push_back(*stored.value(0, row));
        }
        return result;
    }

    ms::table<policy> table;
    support::stored_floats stored;
};

/// The second of five goes, and is worth more than those after it: certain to be merged.
setting certain(const policy& p) {
    return {{.states = 4, .block = 5, .recent = 2}, p, {10, 6, 1, 2, 3}, {5, 2, 2.5f, 1, 0.75f}};
}

TEST(into_following, shares_a_value_among_those_that_follow) {
    auto s = certain(into(2));
    s.stored.place(s.table, 5, {{0}}, {{7}});
    EXPECT_EQ(support::held(s.table), (std::vector{0, 2, 3, 4, 5}));
    EXPECT_EQ(s.values(), (numbers{10, 1 + 3, 2 + 3, 3, 7}));
}

TEST(into_following, has_no_more_targets_than_there_are) {
    auto s = certain(into(32));
    s.stored.forget(s.table);
    EXPECT_EQ(s.values(), (numbers{10, 1 + 2, 2 + 2, 3 + 2}));
}

TEST(into_following, follows_the_text_and_not_the_rows) {
    auto s = certain(into(2));
    s.stored.place(s.table, 5, {{0}}, {{7}});  // in row 1, behind all others
    support::score(s.table, {9, 0.5f, 3, 1.25f, 1});
    s.stored.place(s.table, 6, {{0}}, {{8}});  // of positions 0 2 3 with recent 4 5, 3 is worth the least
    EXPECT_EQ(support::held(s.table), (std::vector{0, 2, 4, 5, 6}));
    EXPECT_EQ(s.values(), (numbers{10, 4, 3 + 2.5f, 7 + 2.5f, 8}));
}

TEST(into_following, never_merges_what_no_one_attended_to) {
    setting s({.states = 4, .block = 5}, into(2), {10, 6, 1, 2, 3}, {5, 0, 1, 1, 1});
    s.stored.forget(s.table);
    EXPECT_EQ(s.values(), (numbers{10, 1, 2, 3}));
}

TEST(into_following, compares_with_nothing_without_nan) {
    setting some({.states = 4, .block = 5, .recent = 3}, into(2), {10, 6, 1, 2, 3}, {1, 0.5f, 0, 0, 0});
    some.stored.forget(some.table);
    EXPECT_EQ(some.values(), (numbers{10, 4, 5, 3})) << "all the more than nothing";
    setting none({.states = 4, .block = 5, .recent = 3}, into(2), {10, 6, 1, 2, 3}, {1, 0, 0, 0, 0});
    none.stored.forget(none.table);
    EXPECT_EQ(none.values(), (numbers{10, 1, 2, 3})) << "nothing as nothing";
}

TEST(into_following, leaves_all_as_it_is_when_the_newest_goes) {
    setting s({.states = 2, .block = 3}, into(2), {10, 6, 1}, {2, 2, 1});
    s.stored.forget(s.table);
    EXPECT_EQ(s.values(), (numbers{10, 6}));
}

TEST(into_following, may_have_one_survivor_only) {
    setting s({.states = 1, .block = 3, .sinks = 0, .recent = 0}, into(2), {10, 6, 1}, {1, 2, 3});
    s.table.policy().get<ms::into_following>().survivors = 1;
    for (std::size_t seed = 0;; ++seed) {  // some seed merges both
        ASSERT_LT(seed, 100u);
        auto copy = s;
        copy.table.policy().get<ms::into_following>().seed = seed;
        copy.stored.forget(copy.table);
        if (copy.values() == numbers{17}) break;
    }
}

/// Positions 1 and 2 go together. Neither takes the other's value, nor is it compared with the other: both reach 3, 4
/// and 5, which are worth less, whatever the draw.
TEST(into_following, merges_all_that_go_at_once_into_those_that_stay) {
    for (std::size_t seed = 0; seed < 50; ++seed) {
        setting s({.states = 5, .block = 7, .recent = 4}, into(3, seed), {1, 60, 6, 100, 200, 300, 400},
                  {9, 2, 5, 1, 1, 1, 1});
        s.stored.forget(s.table);
        ASSERT_EQ(support::held(s.table), (std::vector{0, 3, 4, 5, 6}));
        ASSERT_EQ(s.values(), (numbers{1, 122, 222, 322, 400}));
    }
    setting apart({.states = 5, .block = 7, .sinks = 1, .recent = 1}, into(2), {1, 60, 100, 6, 200, 300, 400},
                  {9, 4, 5, 4, 4.5f, 4.25f, 0});
    // 60 goes to 100 and, past 6, to 200; 6 to 200 and 300
    for (apart.table.policy().get<ms::into_following>().seed = 0;;
         ++apart.table.policy().get<ms::into_following>().seed) {
        ASSERT_LT(apart.table.policy().get<ms::into_following>().seed, 100u);
        auto copy = apart;
        copy.stored.forget(copy.table);
        if (copy.values() == numbers{1, 130, 233, 303, 400}) break;
    }
}

TEST(into_following, merges_with_the_probability_of_its_share) {
    int merged = 0;
    constexpr int draws = 2000;
    for (std::size_t seed = 0; seed < draws; ++seed) {
        setting s({.states = 4, .block = 5, .recent = 3}, into(2, seed), {10, 6, 1, 2, 3}, {1, 0.3f, 0.5f, 1.5f, 0});
        s.stored.forget(s.table);
        ASSERT_TRUE(s.values()[1] == 1 || s.values()[1] == 4);
        merged += s.values()[1] == 4;
    }
    EXPECT_NEAR(merged / double{draws}, 0.3, 4 * std::sqrt(0.3 * 0.7 / draws));
}

TEST(into_following, draws_by_seed_layer_head_and_position) {
    const auto merges = [](std::size_t seed, std::size_t layer, std::size_t kv_head, int first) {
        const ms::table_shape s{
            .states = 4, .block = 5, .recent = 3, .layer = layer, .kv_head = kv_head, .head_dim = 1, .value_dim = 1};
        ms::table<policy> table(s, into(2, seed));
        support::stored_floats stored(s);
        static_cast<void>(table.append(first, 5, stored.edit()));
        *stored.value(0, 1) = 1;
        support::score(table, {1, 0.5f, 1, 1, 0});
        stored.forget(table);
        return *stored.value(0, 2) != 0;
    };
    const bool one = merges(1, 0, 0, 0);
    int differ[4] = {};
    for (int i = 1; i <= 64; ++i) {
        EXPECT_EQ(merges(1, 0, 0, 0), one);
        differ[0] += merges(1 + static_cast<std::size_t>(i), 0, 0, 0) != one;
        differ[1] += merges(1, static_cast<std::size_t>(i), 0, 0) != one;
        differ[2] += merges(1, 0, static_cast<std::size_t>(i), 0) != one;
        differ[3] += merges(1, 0, 0, i) != one;
    }
    for (const int d : differ) {
        EXPECT_GT(d, 12);
        EXPECT_LT(d, 52);
    }
}

TEST(into_following, merges_each_kv_head_of_a_table_alike) {
    const ms::table_shape s{
        .states = 2, .block = 3, .recent = 1, .heads = 2, .kv_heads = 2, .head_dim = 1, .value_dim = 2};
    ms::table<policy> table(s, into(5));
    support::stored_floats stored(s);
    static_cast<void>(table.append(0, 3, stored.edit()));
    for (std::size_t h = 0; h < 2; ++h) {
        for (std::size_t row = 0; row < 3; ++row) {
            stored.value(h, row)[0] = static_cast<float>(1 + row);
            stored.value(h, row)[1] = static_cast<float>(10 * (1 + row) * (1 + h));
        }
    }
    support::score(table, {5, 4, 1});
    stored.forget(table);
    EXPECT_EQ(support::held(table), (std::vector{0, 2}));
    EXPECT_EQ(numbers(stored.value(0, 1), stored.value(0, 1) + 2), (numbers{3 + 2, 30 + 20}));
    EXPECT_EQ(numbers(stored.value(1, 1), stored.value(1, 1) + 2), (numbers{3 + 2, 60 + 40}));
}

TEST(cam, is_h2o_that_merges) {
    ms::table<ms::cam> table({.states = 4, .head_dim = 1, .value_dim = 1});
    EXPECT_EQ(table.policy().get<ms::into_following>().survivors, 32u);
    EXPECT_EQ(ms::cam{}.default_guards(9).recent, 4u);
    support::stored_floats stored({.states = 4, .head_dim = 1, .value_dim = 1});
    for (int p = 0; p < 5; ++p) {
        stored.place(table, p, {{0}}, {{1.0f + static_cast<float>(p)}});
        // after five tokens the sums are 2, 1, 1, .5, .5
        const std::vector<numbers> attention{{1}, {0, 1}, {0, 0, 1}, {0.5f, 0, 0, 0.5f}, {0.5f, 0, 0, 0, 0.5f}};
        support::observe(table, {attention[static_cast<std::size_t>(p)]});
    }
    // 1 and 2 are worth the same, the older goes; the mean of those after it is 2 / 3: merged for certain
    stored.place(table, 5, {{0}}, {{9}});
    EXPECT_EQ(support::forgotten(table), (std::vector{1}));
    EXPECT_FLOAT_EQ(*stored.value(0, 0), 1);
    for (std::size_t row = 2; row < 5; ++row) {
        EXPECT_FLOAT_EQ(*stored.value(0, row), 1.0f + static_cast<float>(row) + 2.0f / 3);
    }
}

}  // namespace into_following_test
