// into_nearest: values merged by likeness and length, by hand.
#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/mergers/into_nearest.hpp>
#include <multistate/policies/value_merge.hpp>
#include <multistate/policy/composed.hpp>

#include "support/by_hand.hpp"
#include "support/micro.hpp"
#include "support/stored.hpp"

namespace into_nearest_test {

namespace ms = multistate;
using policy = ms::composed<support::by_hand, ms::into_nearest>;
using numbers = std::vector<float>;

struct state {
    numbers key;
    numbers value;
    float worth;
};

/// What becomes of the values of states 0, 1, … of which the least worth go at once; those that go are empty.
std::vector<numbers> after(std::size_t states, const std::vector<state>& given, float threshold = 0) {
    const ms::table_shape shape{.states = states, .block = given.size(), .head_dim = 2, .value_dim = 2};
    policy p;
    p.get<ms::into_nearest>().threshold = threshold;
    ms::table<policy> table(shape, p);
    support::stored_floats stored(shape);
    static_cast<void>(table.append(0, given.size(), stored.edit()));
    numbers worth;
    for (std::size_t row = 0; row < given.size(); ++row) {
        std::ranges::copy(given[row].key, stored.key(0, row));
        std::ranges::copy(given[row].value, stored.value(0, row));
        worth.push_back(given[row].worth);
    }
    support::score(table, worth);
    stored.forget(table);
    std::vector<numbers> result(given.size());
    for (std::size_t row = 0; row < table.size(); ++row) {
        const auto position = static_cast<std::size_t>(table.positions()[row]);
        result[position] = {stored.value(0, row), stored.value(0, row) + 2};
        EXPECT_EQ(numbers(stored.key(0, row), stored.key(0, row) + 2), given[position].key) << "keys stay";
    }
    return result;
}

TEST(into_nearest, weighs_by_cosine_and_by_length) {
    // .8 with the first; lengths 10 and 5: w = .8 * 10 / 15
    const auto values = after(2, {{{1, 0}, {3, 4}, 5}, {{4, 3}, {0, 10}, 1}, {{0, 2}, {7, 7}, 5}});
    const float w = 0.8f * 10 / 15;
    EXPECT_FLOAT_EQ(values[0][0], 3 / (1 + w));
    EXPECT_FLOAT_EQ(values[0][1], (4 + w * 10) / (1 + w));
    EXPECT_EQ(values[2], (numbers{7, 7}));
}

TEST(into_nearest, merges_whatever_is_not_behind) {
    const std::vector<state> nearly_across{{{1, 0}, {1, 0}, 5}, {{1, 50}, {1, 0.5f}, 1}, {{0, -1}, {7, 7}, 5}};
    EXPECT_NE(after(2, nearly_across)[0], (numbers{1, 0}));
    EXPECT_EQ(after(2, nearly_across, 0.1f)[0], (numbers{1, 0}));
    const auto behind = after(1, {{{1, 0}, {1, 0}, 5}, {{-1, 0}, {9, 9}, 1}});
    EXPECT_EQ(behind[0], (numbers{1, 0}));
    const auto across = after(1, {{{1, 0}, {1, 0}, 5}, {{0, 1}, {9, 9}, 1}});
    EXPECT_EQ(across[0], (numbers{1, 0}));
}

TEST(into_nearest, has_a_threshold) {
    const std::vector<state> two{{{1, 0}, {1, 0}, 5}, {{4, 3}, {0, 1}, 1}};
    EXPECT_NE(after(1, two, 0.79f)[0], (numbers{1, 0}));
    EXPECT_EQ(after(1, two, 0.81f)[0], (numbers{1, 0}));
}

TEST(into_nearest, divides_by_all_that_is_merged_at_once) {
    const auto values = after(
        2,
        {{{1, 0}, {2, 0}, 5}, {{4, 3}, {0, 6}, 1}, {{3, -4}, {2, 0}, 1}, {{-1, 0}, {5, 5}, 5}, {{-6, 8}, {0, 5}, 1}});
    const float a = 0.8f * 6 / 8, b = 0.6f * 2 / 4;
    EXPECT_FLOAT_EQ(values[0][0], (2 + b * 2) / (1 + a + b));
    EXPECT_FLOAT_EQ(values[0][1], a * 6 / (1 + a + b));
    const float c = 0.6f * 5 / (5 + std::sqrt(50.0f));
    EXPECT_FLOAT_EQ(values[3][0], 5 / (1 + c));
    EXPECT_FLOAT_EQ(values[3][1], (5 + c * 5) / (1 + c));
}

TEST(into_nearest, has_no_nan_for_zeros) {
    EXPECT_EQ(after(1, {{{1, 0}, {0, 0}, 5}, {{1, 0}, {0, 0}, 1}})[0], (numbers{0, 0}));
    EXPECT_EQ(after(1, {{{1, 0}, {0, 0}, 5}, {{1, 0}, {4, 2}, 1}})[0], (numbers{2, 1})) << "w = 1";
    EXPECT_EQ(after(1, {{{1, 0}, {4, 2}, 5}, {{1, 0}, {0, 0}, 1}})[0], (numbers{4, 2})) << "w = 0";
    EXPECT_EQ(after(1, {{{0, 0}, {4, 2}, 5}, {{0, 0}, {1, 1}, 1}})[0], (numbers{4, 2}));
}

TEST(value_merge, is_h2o_that_merges) {
    EXPECT_EQ(ms::value_merge{}.default_guards(9).recent, 4u);
    const ms::table_shape shape{.states = 2, .head_dim = 1, .value_dim = 1};
    ms::table<ms::value_merge> table(shape);
    support::stored_floats stored(shape);
    stored.place(table, 0, {{1}}, {{2}});
    support::observe(table, {{1}});
    stored.place(table, 1, {{1}}, {{6}});
    support::observe(table, {{1, 0}});
    stored.place(table, 2, {{-1}}, {{4}});
    support::observe(table, {{0.5f, 0, 0.5f}});
    stored.place(table, 3, {{1}}, {{0}});
    EXPECT_EQ(support::held(table), (std::vector{0, 2, 3}));
    EXPECT_FLOAT_EQ(*stored.value(0, 0), (2 + 0.75f * 6) / 1.75f);
}

}  // namespace into_nearest_test
