// cake_prompt: hand-checked decisions.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/cake_prompt.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"

namespace cake_prompt_test {

namespace ms = multistate;
using positions = std::vector<int>;

ms::cake_prompt with(float gamma, std::size_t width = 1, std::size_t window = 2) {
    ms::cake_prompt policy;
    policy.get<ms::mean_and_variance>().gamma = gamma;
    policy.get<ms::mean_and_variance>().window = window;
    policy.get<ms::pool>().width = width;
    return policy;
}

/// The last two tokens gave .5 .25 .25 and .25 .25 .25 .25: means .375 .25 .25 .125, variances 1/32 0 0 1/32.
ms::table<ms::cake_prompt> after_four_tokens(const ms::cake_prompt& policy, std::size_t heads = 1) {
    ms::table<ms::cake_prompt> table({.states = 3, .recent = 0, .heads = heads}, policy);
    const auto all = [&](const std::vector<float>& given) {
        support::observe(table, std::vector<std::vector<float>>(heads, given));
    };
    EXPECT_NE(table.place(0), ms::no_row);
    all({1.0f});
    EXPECT_NE(table.place(1), ms::no_row);
    all({0.0f, 1.0f});
    EXPECT_NE(table.place(2), ms::no_row);
    all({0.5f, 0.25f, 0.25f});
    EXPECT_NE(table.place(3), ms::no_row);
    all({0.25f, 0.25f, 0.25f, 0.25f});
    return table;
}

positions first_to_go(const ms::cake_prompt& policy) {
    auto table = after_four_tokens(policy);
    static_cast<void>(table.forget());
    return support::forgotten(table);
}

TEST(cake_prompt, gamma_decides) {
    EXPECT_EQ(first_to_go(with(0)), positions{3});
    EXPECT_EQ(first_to_go(with(8)), positions{1});  // .625 .25 .25 .375
}

TEST(cake_prompt, the_score_is_the_number_of_heads_times_mean_and_variance) {
    for (const std::size_t heads : {1u, 2u, 4u}) {
        auto table = after_four_tokens(with(8), heads);
        EXPECT_NE(table.place(4), ms::no_row);
        EXPECT_FLOAT_EQ(table.scores()[0], 0.625f * static_cast<float>(heads));
        EXPECT_FLOAT_EQ(table.scores()[2], 0.25f * static_cast<float>(heads));
        EXPECT_FLOAT_EQ(table.scores()[3], 0.375f * static_cast<float>(heads));
    }
}

TEST(cake_prompt, the_width_and_the_window_decide) {
    EXPECT_EQ(first_to_go(with(8, 3)), positions{2});     // means .4375 .375 .2917 .3125
    EXPECT_EQ(first_to_go(with(0, 1, 1)), positions{0});  // the newest token gave the same to all
    EXPECT_EQ(first_to_go(with(8, 1, 4)), positions{3});  // means .4375 .375 .125 .0625, variances .182 .188 .021 .016
}

TEST(cake_prompt, of_one_token_the_variance_is_0) {
    auto table = after_four_tokens(with(1000, 1, 1));
    static_cast<void>(table.forget());
    for (const float score : table.scores()) EXPECT_EQ(score, 0.25f);
}

/// Means over the four tokens so far, though the window has room for ten.
TEST(cake_prompt, a_window_that_is_not_full) {
    auto table = after_four_tokens(with(0, 1, 10));
    EXPECT_NE(table.place(4), ms::no_row);
    EXPECT_EQ(support::forgotten(table), positions{3});
    EXPECT_FLOAT_EQ(table.scores()[0], 0.4375f);
    EXPECT_FLOAT_EQ(table.scores()[1], 0.375f);
}

TEST(cake_prompt, guards_its_window_as_far_as_half_of_the_states_allows) {
    for (const std::size_t states : {1u, 2u, 3u, 63u, 64u, 500u}) {
        EXPECT_EQ(ms::cake_prompt().default_guards(states).recent, std::min<std::size_t>(32, states / 2));
    }
}

TEST(cake_prompt, every_number_can_be_set) {
    std::string names;
    const ms::cake_prompt policy;
    ms::for_each_parameter(policy, [&](auto name, auto...) { names.append(name).append(" "); });
    EXPECT_EQ(names, "window gamma width greatest zero_padded ");
}

TEST(cake_prompt, one_state_and_certain_attention) {
    ms::table<ms::cake_prompt> table({.states = 1}, with(200));
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{1.0f, 0.0f}});
    EXPECT_NE(table.place(2), ms::no_row);
    EXPECT_EQ(support::forgotten(table), positions{1});
    for (const float score : table.scores()) EXPECT_FALSE(std::isnan(score));
}

TEST(cake_prompt, a_copy_continues_alike) {
    auto table = after_four_tokens(with(8));
    auto copy = table;
    for (auto* one : {&table, &copy}) {
        EXPECT_NE(one->place(4), ms::no_row);
        support::observe(*one, {{0.125f, 0.5f, 0.125f, 0.25f}});
        EXPECT_NE(one->place(5), ms::no_row);
    }
    EXPECT_EQ(support::forgotten(copy), support::forgotten(table));
    for (std::size_t j = 0; j < 4; ++j) EXPECT_EQ(copy.scores()[j], table.scores()[j]);
}

}  // namespace cake_prompt_test

namespace reference::cake_prompt {

/// mean + 200 variance of what a head gives on average.
numbers mean_and_variance(const evidence& e) {
    const auto window = e.newest(32);
    const auto n = static_cast<double>(window.size());
    const auto heads = static_cast<double>(e.end_head() - e.first_head());
    numbers scores;
    for (const state& s : e.states()) {
        numbers given;
        for (const token& t : window) given.push_back(e.attention(t, s.position) / heads);
        const double mean = std::accumulate(given.begin(), given.end(), 0.0) / n;
        double squares = 0;
        for (const double a : given) squares += (a - mean) * (a - mean);
        scores.push_back(mean + (n > 1 ? 200 * squares / (n - 1) : 0));
    }
    return mean_of_five(e, scores);
}

// Of few states, two may have the same mean.
const registered rule{
    {.name = "cake_prompt", .score = mean_and_variance, .recent = at_most<32, 2>, .ties_are_exact = true}};

}  // namespace reference::cake_prompt
