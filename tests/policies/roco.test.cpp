// roco: hand-checked means and variances.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/roco.hpp>
#include <multistate/table/table.hpp>

#include "reference/numbers.hpp"
#include "reference/rule.hpp"
#include "support/hand_held.hpp"
#include "support/micro.hpp"

namespace roco_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// Five states that two tokens saw, with the means .3 .05 .1 .1 .45 and the variances .04 .0025 0 0 .0625.
ms::table<ms::roco> five(ms::table_shape shape, float unstable) {
    shape.states = 4;
    shape.block = 5;
    ms::table<ms::roco> table(shape, {.unstable = unstable});
    static_cast<void>(table.append(0, 5));
    support::observe(table, {{0.5f, 0.1f, 0.1f, 0.1f, 0.2f}});
    support::observe(table, {{0.1f, 0.0f, 0.1f, 0.1f, 0.7f}});
    return table;
}

/// `unstable` of 4 states and one: two are spared, 0 and 4; then three, and of the others, both .1, the oldest goes.
TEST(roco, spares_what_varies_most) {
    auto two = five({.states = 4, .recent = 0}, 0.25f);
    static_cast<void>(two.forget());
    EXPECT_EQ(support::forgotten(two), positions{1});
    auto three = five({.states = 4, .recent = 0}, 0.5f);
    static_cast<void>(three.forget());
    EXPECT_EQ(support::forgotten(three), positions{2});
    EXPECT_FLOAT_EQ(three.scores()[0], 2.3f);
    EXPECT_FLOAT_EQ(three.scores()[1], 2.05f);
}

/// The newest is guarded and counts as one of two, or three, that are spared.
TEST(roco, the_guarded_count_as_spared) {
    auto table = five({.states = 4, .recent = 1}, 0.25f);
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{1});
    EXPECT_FLOAT_EQ(table.scores()[0], 2.3f);
    EXPECT_FLOAT_EQ(table.scores()[3], 0.1f);
    auto more = five({.states = 4, .recent = 1}, 0.5f);
    static_cast<void>(more.forget());
    EXPECT_EQ(support::forgotten(more), positions{2});
}

/// Three of five are to be spared, and with a sink and two recent only two remain: one of these must go.
TEST(roco, leaves_enough_to_forget) {
    auto table = five({.states = 4, .sinks = 1, .recent = 2}, 0.9f);
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{2});
    EXPECT_FLOAT_EQ(table.scores()[1], 2.05f);
}

TEST(roco, averages_over_the_life_of_a_state_and_the_group) {
    ms::table<ms::roco> table({.states = 2, .recent = 0, .heads = 2}, {.unstable = 0});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}, {1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.5f, 0.5f}, {0.75f, 0.25f}});
    EXPECT_NE(table.place(2), ms::no_row);
    support::observe(table, {{0.25f, 0.5f, 0.25f}, {0.25f, 0.25f, 0.5f}});
    // Position 0: 1, .625, .25 varies most; 1: .375, .375; 2: .375.
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{1});
    EXPECT_FLOAT_EQ(table.scores()[0], 2.625f);
    // Row 1 now holds position 2, with all that is known of it.
    EXPECT_NE(table.place(3), ms::no_row);
    support::observe(table, {{0.0f, 1.0f, 0.0f}, {0.0f, 1.0f, 0.0f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{3}) << "means .46875 .6875 0";
    EXPECT_FLOAT_EQ(table.scores()[0], 2.46875f);
    EXPECT_FLOAT_EQ(table.scores()[1], 0.6875f) << "varies less";
}

/// A constant has no variance, whatever its size: the running variance is no difference of large numbers.
TEST(roco, nothing_is_spared_where_nothing_varies) {
    ms::table<ms::roco> table({.states = 2, .block = 3, .recent = 0}, {.unstable = 0.5f});
    static_cast<void>(table.append(0, 3));
    for (int i = 0; i < 1000; ++i) support::observe(table, {{0.4f, 0.3f, 0.3f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{1});
    EXPECT_FLOAT_EQ(table.scores()[0], 0.4f);
}

TEST(roco, one_state_and_saturated_softmax) {
    ms::table<ms::roco> table({.states = 1});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    for (int p = 1; p < 40; ++p) {
        EXPECT_NE(table.place(p), ms::no_row);
        support::observe(table, {{1.0f, 0.0f}});
        EXPECT_TRUE(std::ranges::all_of(table.scores(), [](float s) { return std::isfinite(s); }));
    }
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), positions{0});
}

/// What cannot be compared must not reach the sort; NaN goes first, as everywhere.
TEST(roco, survives_attention_that_is_no_number) {
    ms::table<ms::roco> table({.states = 40, .block = 41}, {.unstable = 0.5f});
    static_cast<void>(table.append(0, 41));
    std::vector<float> seen(41, 0.01f);
    for (std::size_t j = 0; j < seen.size(); ++j) seen[j] += static_cast<float>(j % 7) * 0.001f;
    support::observe(table, {seen});
    for (std::size_t j = 3; j < seen.size(); j += 5) seen[j] = std::nanf("");
    support::observe(table, {seen});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{3});
}

TEST(roco, a_copy_continues_alike) {
    auto table = five({.states = 4, .recent = 0}, 0.25f);
    auto copy = table;
    for (auto* one : {&table, &copy}) {
        support::observe(*one, {{0.3f, 0.4f, 0.1f, 0.1f, 0.1f}});
        static_cast<void>(one->forget());
    }
    EXPECT_EQ(support::held(table), support::held(copy));
    EXPECT_TRUE(std::ranges::equal(table.scores(), copy.scores()));
}

TEST(roco, guards_ten_of_its_share) {
    EXPECT_EQ(ms::roco{}.default_guards(512).recent, 10u);
    EXPECT_EQ(ms::roco{}.default_guards(30).recent, 9u);
    EXPECT_EQ(ms::roco{}.default_guards(3).recent, 0u);
    for (std::size_t states = 1; states < 100; ++states) {
        ASSERT_LT(ms::roco{.unstable = 0.9f}.default_guards(states).recent, states);
        ASSERT_EQ(ms::roco{}.default_guards(states).recent, std::min<std::size_t>(10, states * 3 / 10));
    }
    EXPECT_THROW(ms::table<ms::roco>({.states = 2}, {.unstable = 0.95f}), std::invalid_argument);
}

/// Memory set to that of a state that has seen 2^20 - 1 tokens, beside one that has seen 3.
TEST(roco, endless_texts_keep_their_moments) {
    support::hand_held held(ms::roco{}, {.states = 2}, 2);
    const ms::view states = held.states();
    const auto [mean, squares, count, sorted] = states.memory(ms::roco{});
    std::ranges::fill(mean, 0.5f);
    count[0] = (1 << 20) - 1;
    count[1] = 3;
    squares[0] = 0.01f * static_cast<float>(count[0]);
    squares[1] = 0.03f;
    const auto variance = [squares = squares, count = count](std::size_t row) {
        return squares[row] / static_cast<float>(count[row]);
    };
    const std::vector<float> seen{0.6f, 0.5f};
    ms::roco{}.on_attention({seen.data(), 1, 2, 2}, states);
    EXPECT_LT(count[0], 1 << 20);
    EXPECT_EQ(count[1], 4);
    EXPECT_NEAR(variance(0), 0.01f, 1e-5f);
    EXPECT_FLOAT_EQ(variance(1), 0.03f / 4);
    for (int i = 0; i < (1 << 20); ++i) ms::roco{}.on_attention({seen.data(), 1, 2, 2}, states);
    EXPECT_NEAR(mean[0], 0.58f, 0.03f) << "most of its tokens gave 0.6";
    EXPECT_LT(variance(0), 0.006f);
}

}  // namespace roco_test

namespace reference::roco {

std::size_t three_tenths(std::size_t states) { return states * 3 / 10; }
std::size_t ten_of_three_tenths(std::size_t states) { return std::min<std::size_t>(10, three_tenths(states)); }

/// Mean attention, beyond any mean for the states whose attention varies most.
numbers robust(const evidence& e) {
    const auto heads = static_cast<double>(e.end_head() - e.first_head());
    numbers means, variances;
    for (const state& s : e.states()) {
        numbers life;
        for (const token& t : e.past) {
            if (t.position >= s.position) life.push_back(e.attention(t, s.position) / heads);
        }
        double mean = 0, variance = 0;
        for (const double a : life) mean += a / static_cast<double>(life.size());
        for (const double a : life) variance += (a - mean) * (a - mean) / static_cast<double>(life.size());
        means.push_back(mean);
        variances.push_back(variance);
    }
    // All but (states - sinks - three tenths) cannot go: the guarded ones, and of the others those that vary most.
    const std::size_t held = means.size(), states = e.shape.states, sinks = e.shape.sinks;
    const std::size_t recent = e.shape.recent.value_or(ten_of_three_tenths(states));
    const std::size_t open = held - sinks - recent;
    std::size_t spared = three_tenths(states) + held - states;
    spared = spared > recent ? spared - recent : 0;
    spared = std::min(spared, open - (held - states));
    numbers ordered(variances.begin() + static_cast<std::ptrdiff_t>(sinks),
                    variances.end() - static_cast<std::ptrdiff_t>(recent));
    std::sort(ordered.rbegin(), ordered.rend());
    if (spared > 0) e.compare(ordered[spared - 1], ordered[spared]);
    for (std::size_t j = sinks; j < sinks + open; ++j) {
        if (variances[j] > ordered[spared]) means[j] += 2;
    }
    return means;
}

const registered rule{{.name = "roco", .score = robust, .recent = ten_of_three_tenths}};

}  // namespace reference::roco
