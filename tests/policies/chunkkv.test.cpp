// chunkkv: hand-checked decisions.
#include <algorithm>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/chunkkv.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"

namespace chunkkv_test {

namespace ms = multistate;
using positions = std::vector<int>;

ms::chunkkv with(std::size_t window, std::size_t length) {
    ms::chunkkv policy;
    policy.get<ms::morphkv>().window = window;
    policy.get<ms::chunk>().length = length;
    return policy;
}

/// Seven tokens in a block, the last of which gives `given`; forgets down to `states`.
positions kept(const ms::chunkkv& policy, std::size_t states, const std::vector<std::vector<float>>& given,
               std::size_t recent = 0) {
    ms::table<ms::chunkkv> table({.states = states, .block = 7, .recent = recent, .heads = given.size()}, policy);
    static_cast<void>(table.append(0, 7));
    for (std::size_t n = 1; n <= 6; ++n) {
        const std::vector<float> even(n * given.size(), 1 / static_cast<float>(n));
        table.observe({even.data(), given.size(), n, n});
    }
    support::observe(table, given);
    static_cast<void>(table.forget());
    return support::held(table);
}

const std::vector<std::vector<float>> given = {{0.5f, 0.0f, 0.0625f, 0.0625f, 0.125f, 0.125f, 0.125f}};

TEST(chunkkv, the_least_chunk_goes_oldest_first) {
    EXPECT_EQ(kept(with(1, 2), 6, given), (positions{0, 1, 3, 4, 5, 6}));  // .25 .0625 .125 .125
    EXPECT_EQ(kept(with(1, 2), 5, given), (positions{0, 1, 4, 5, 6}));
    EXPECT_EQ(kept(with(1, 2), 4, given), (positions{0, 1, 5, 6}));  // of equal chunks the oldest, in part
    EXPECT_EQ(kept(with(1, 2), 2, given), (positions{0, 1}));
}

TEST(chunkkv, the_length_decides) {
    EXPECT_EQ(kept(with(1, 1), 6, given), (positions{0, 2, 3, 4, 5, 6}));
    EXPECT_EQ(kept(with(1, 3), 6, given), (positions{0, 1, 2, 4, 5, 6}));  // .1875 .104 .125
}

TEST(chunkkv, the_window_decides) {
    // With the token before, .667 .167 .229 .229 .292 .292 .125: the last chunk, a single state, is the least.
    EXPECT_EQ(kept(with(2, 2), 6, given), (positions{0, 1, 2, 3, 4, 5}));
    EXPECT_EQ(kept(with(2, 2), 6, given, 1), (positions{0, 1, 3, 4, 5, 6}));
}

TEST(chunkkv, sums_over_the_heads_of_the_layer) {
    EXPECT_EQ(ms::chunkkv().forgets(), ms::per::layer);
    const std::vector<std::vector<float>> two = {given[0], {0.0f, 0.0f, 0.5f, 0.5f, 0.0f, 0.0f, 0.0f}};
    EXPECT_EQ(kept(with(1, 2), 6, two), (positions{0, 1, 2, 3, 5, 6}));  // .25 .5625 .125 .125
}

TEST(chunkkv, guards_its_window_as_far_as_half_of_the_states_allows) {
    for (const std::size_t states : {1u, 2u, 3u, 63u, 64u, 500u}) {
        EXPECT_EQ(ms::chunkkv().default_guards(states).recent, std::min<std::size_t>(32, states / 2));
    }
}

TEST(chunkkv, every_number_can_be_set) {
    std::string text;
    const ms::chunkkv policy;
    ms::for_each_parameter(policy, [&](auto name, auto value, auto...) {
        text.append(name).append(" ").append(std::to_string(value)).append(" ");
    });
    EXPECT_EQ(text, "window 32 maximum 0 length 20 ");
}

TEST(chunkkv, one_state_and_certain_attention) {
    ms::table<ms::chunkkv> table({.states = 1});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{1.0f, 0.0f}});
    EXPECT_NE(table.place(2), ms::no_row);
    EXPECT_EQ(support::forgotten(table), positions{0});  // both in one chunk
}

TEST(chunkkv, a_copy_continues_alike) {
    ms::table<ms::chunkkv> table({.states = 3}, with(2, 2));
    support::fill(table, 3, 1);
    auto copy = table;
    for (auto* one : {&table, &copy}) {
        EXPECT_NE(one->place(3), ms::no_row);
        support::observe(*one, {{0.125f, 0.5f, 0.125f, 0.25f}});
        static_cast<void>(one->forget());
    }
    EXPECT_EQ(support::forgotten(copy), support::forgotten(table));
    for (std::size_t j = 0; j < 3; ++j) EXPECT_EQ(copy.scores()[j], table.scores()[j]);
}

}  // namespace chunkkv_test

namespace reference::chunkkv {

numbers scores(const evidence& e) {
    const numbers single = sum_over(e, e.newest(32));
    numbers result;
    for (std::size_t first = 0; first < single.size(); first += 20) {
        const std::size_t count = std::min<std::size_t>(20, single.size() - first);
        const auto begin = single.begin() + static_cast<std::ptrdiff_t>(first);
        const double sum = std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(count), 0.0);
        result.insert(result.end(), count, sum / static_cast<double>(count));
    }
    return result;
}

// The states of a chunk share one score.
const registered rule{
    {.name = "chunkkv", .forgets = unit::layer, .score = scores, .recent = at_most<32, 2>, .ties_are_exact = true}};

}  // namespace reference::chunkkv
