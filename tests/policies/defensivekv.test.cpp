// defensivekv: hand-checked decisions.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/budgets/adaptive.hpp>
#include <multistate/cache/cache.hpp>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/defensivekv.hpp>
#include <multistate/table/table.hpp>

#include "reference/numbers.hpp"
#include "reference/rule.hpp"
#include "support/compressed_prompt.hpp"
#include "support/micro.hpp"
#include "support/stored.hpp"

namespace defensivekv_test {

namespace ms = multistate;
using positions = std::vector<int>;
using matrix = std::vector<std::vector<float>>;

/// Of the newest token alone, without neighbors.
ms::defensivekv with(float first_share) {
    ms::defensivekv policy;
    policy.window = 1;
    policy.width = 1;
    policy.first_share = first_share;
    return policy;
}

/// As many states as values; all tokens attend evenly but the last ones, which gave `given`.
template <class Policy = ms::defensivekv>
struct stored_table {
    stored_table(const ms::table_shape& s, const Policy& policy, const std::vector<support::vectors>& values,
                 const std::vector<matrix>& given, float key = 0)
        : table(s, policy), stored(s) {
        for (std::size_t p = 0; p < values.size(); ++p) {
            const float k = p == 1 ? key : 0;
            stored.place(table, static_cast<int>(p), support::vectors(values[p].size(), {k}), values[p]);
            const std::vector<float> even(table.size(), 1 / static_cast<float>(table.size()));
            const std::size_t left = values.size() - p;
            support::observe(table, left > given.size() ? matrix(s.heads, even) : given[given.size() - left]);
        }
    }
    positions forget() {
        stored.forget(table);
        return support::forgotten(table);
    }
    float score(std::size_t row) const { return table.scores()[row]; }
    ms::table<Policy> table;
    support::stored_floats stored;
};

constexpr ms::table_shape shape{.states = 4, .recent = 0, .head_dim = 1, .value_dim = 1};
const std::vector<support::vectors> values = {{{0}}, {{-8}}, {{0}}, {{1}}, {{1}}};
const std::vector<support::vectors> ones = {{{1}}, {{1}}, {{1}}, {{1}}, {{1}}};
const std::vector<matrix> given = {{{0.375f, 0.0625f, 0.25f, 0.1875f, 0.125f}}};

/// What the authors' formulas give on the same numbers.
TEST(defensivekv, a_prompt_as_published) {
    ms::defensivekv policy;
    policy.window = 4;
    policy.width = 3;
    support::expect_prompt(support::compress_prompt(policy),
                           {0, 4, 5, 8, 9, 10, 12, 13, 14, 17, 18, 19, 20, 21, 22, 23},
                           {1.05025759, 1.0550043, 1.04979973, 1.05368262, 1.05565047, 1.04944155, 1.04932595});
    policy.first_share = 0.6f;
    support::expect_prompt(
        support::compress_prompt(policy), {0, 4, 5, 7, 8, 9, 11, 13, 14, 16, 18, 19, 20, 21, 22, 23},
        {0.00397083028, 1.0550043, 0.00445560406, 0.00435950454, 1.05368262, 1.05565047, 0.0040119522});
}

/// The same of two heads, one with sharp attention, that compete for 112 states. Each takes its own attention off.
TEST(defensivekv, heads_compete_as_published) {
    constexpr std::size_t n = 64;
    auto queries = support::prompt_numbers(1, n * 16), keys = support::prompt_numbers(50000, n * 8);
    for (float& q : queries) q *= 2;
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] *= i / 4 % 2 == 0 ? 30.0f : 0.05f;
    ms::defensivekv policy;
    policy.window = 8;
    policy.width = 3;
    ms::cache<ms::defensivekv> cache(
        {.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 4, .value_dim = 3, .states = n, .block = n}, policy);
    ms::workspace scratch(cache.shape());
    std::vector<float> out(n * 12);
    EXPECT_TRUE(ms::prefill(cache.layer(0), 0, {queries, keys, support::prompt_numbers(90000, n * 6)}, out, scratch,
                            ms::prefill_mode::block));
    EXPECT_EQ(ms::adaptive_budget(cache, 56, 0).states, (std::vector<std::size_t>{62, 50}));
}

/// The attention is floored at its mean of 0.2, and the effects are shares of 10.
TEST(defensivekv, attention_that_is_floored_times_the_share_of_the_effect) {
    stored_table<> states(shape, with(0), values, given);
    EXPECT_EQ(states.forget(), positions{0});
    EXPECT_FLOAT_EQ(states.score(1), 0.2f * 8 / 10);
    EXPECT_FLOAT_EQ(states.score(2), 0);
    EXPECT_FLOAT_EQ(states.score(3), 0.2f / 10);
}

/// What the newest has, 0.125, is taken off first: 0 and 2 hold less than 0.775, with 3 less than 0.875.
TEST(defensivekv, most_of_the_attention_stays_whatever_the_values) {
    stored_table<> most(shape, with(0.9f), values, given);
    EXPECT_EQ(most.forget(), positions{3});
    EXPECT_FLOAT_EQ(most.score(0), 1.375f);
    EXPECT_FLOAT_EQ(most.score(2), 1.25f);
    EXPECT_LT(most.score(1), 1);
    EXPECT_EQ((stored_table<>(shape, with(1), values, given).forget()), positions{4});
}

/// Of six states one is a sink and one recent: no more than four of the other five.
TEST(defensivekv, the_first_stage_leaves_one_to_go) {
    const ms::table_shape guarded{.states = 6, .sinks = 1, .recent = 1, .head_dim = 1, .value_dim = 1};
    const std::vector<support::vectors> seven = {{{0}}, {{0}}, {{0}}, {{0}}, {{9}}, {{0}}, {{0}}};
    const std::vector<matrix> sharp = {{{0.25f, 0.1875f, 0.125f, 0.0625f, 0.03125f, 0.0f, 0.34375f}}};
    EXPECT_EQ((stored_table<>(guarded, with(1), seven, sharp).forget()), positions{5});
}

TEST(defensivekv, of_equals_the_newest_are_spared) {
    const std::vector<matrix> even = {{{0.25f, 0.1875f, 0.1875f, 0.1875f, 0.1875f}}};
    const std::vector<support::vectors> rising = {{{5}}, {{4}}, {{3}}, {{2}}, {{1}}};
    EXPECT_EQ((stored_table<>(shape, with(0.85f), rising, even).forget()), positions{2});  // 0, 4 and 3 are safe
}

/// 0.5 once counts more than 0.25 twice.
TEST(defensivekv, the_maximum_of_tokens_counts) {
    ms::table_shape later = shape;
    later.states = 3;
    later.slack = 1;
    ms::defensivekv policy = with(0);
    policy.window = 2;
    const std::vector<support::vectors> four = {{{3}}, {{1}}, {{3}}, {{1}}};
    stored_table<> states(later, policy, four, {{{0.5f, 0.25f, 0.25f}}, {{0.0f, 0.25f, 0.25f, 0.5f}}});
    EXPECT_EQ(states.forget(), positions{1});
    EXPECT_FLOAT_EQ(states.score(0), 0.5f * 3 / 8);
    EXPECT_FLOAT_EQ(states.score(2), 0.375f * 3 / 8);  // the floor
}

TEST(defensivekv, neighbors_are_pooled_and_the_sum_stays) {
    ms::defensivekv policy = with(0);
    policy.width = 3;
    stored_table<> states(shape, policy, ones, {{{0.0f, 0.5f, 0.0f, 0.25f, 0.25f}}});
    EXPECT_EQ(states.forget(), positions{0});
    EXPECT_FLOAT_EQ(states.score(2), 0.75f / 2.75f / 5);
    EXPECT_FLOAT_EQ(states.score(1), 0.2f / 5);
    policy.width = 2;  // the older half
    stored_table<> older(shape, policy, ones, {{{0.0f, 0.5f, 0.0f, 0.25f, 0.25f}}});
    older.forget();
    EXPECT_FLOAT_EQ(older.score(1), 0.5f / 1.75f / 5);
    EXPECT_FLOAT_EQ(older.score(2), 0.5f / 1.75f / 5);
    policy.width = 99;
    stored_table<> wide(shape, policy, ones, {{{0.0f, 0.5f, 0.0f, 0.25f, 0.25f}}});
    wide.forget();
    EXPECT_FLOAT_EQ(wide.score(1), 0.2f / 5);
}

TEST(defensivekv, a_group_and_a_layer_take_the_maximum) {
    ms::table_shape two = shape;
    two.states = 1;
    two.heads = 2;
    stored_table<> group(two, with(0), {{{1}}, {{1}}}, {{{0.625f, 0.375f}, {0.125f, 0.875f}}});
    EXPECT_EQ(group.forget(), positions{0});
    EXPECT_FLOAT_EQ(group.score(0), 0.875f / 2);

    ms::composed<ms::defensivekv, ms::per_layer> layer;
    layer.get<ms::defensivekv>() = with(0);
    two.kv_heads = 2;
    stored_table<ms::composed<ms::defensivekv, ms::per_layer>> all(two, layer, {{{1}, {2}}, {{1}, {4}}},
                                                                   {{{0.625f, 0.375f}, {0.125f, 0.875f}}});
    EXPECT_EQ(all.forget(), positions{0});
    EXPECT_FLOAT_EQ(all.score(0), 0.875f * 5 / 8);
}

TEST(defensivekv, a_projection_says_what_counts_of_a_value) {
    const ms::table_shape wide{.states = 2, .recent = 0, .head_dim = 1, .value_dim = 2};
    const std::vector<support::vectors> three = {{{0, 9}}, {{1, 0}}, {{2, 0}}};
    const std::vector<matrix> even = {{{0.25f, 0.25f, 0.5f}}};
    EXPECT_EQ((stored_table<>(wide, with(0), three, even).forget()), positions{1});
    const std::vector<float> first_only = {1, 0};
    const ms::rows projections[] = {{first_only.data(), 1, 2, 2}};
    ms::defensivekv projected = with(0);
    projected.output.projection = projections;
    EXPECT_EQ((stored_table<>(wide, projected, three, even).forget()), positions{0});
}

TEST(defensivekv, zeros_give_numbers) {
    const std::vector<support::vectors> zeros(5, {{0}});
    EXPECT_EQ((stored_table<>(shape, ms::defensivekv{}, zeros, {{{0, 0, 0, 0, 0}}}).forget()), positions{0});
    stored_table<> blind(shape, with(0.5f), ones, {{{0, 0, 0, 0, 0}}});
    EXPECT_EQ(blind.forget(), positions{0});
    for (const float score : blind.table.scores()) EXPECT_EQ(score, 0);
}

TEST(defensivekv, guards_leave_a_candidate) {
    for (std::size_t states = 1; states < 100; ++states) {
        EXPECT_LE(ms::defensivekv{}.default_guards(states).recent, states - 1);
    }
}

}  // namespace defensivekv_test

namespace reference::defensivekv {

/// The maximum over 32 tokens and all heads of what is pooled over five and scaled back, floored at its mean, times the
/// share of |v|_1; before, most of 90 % of the attention whatever the values.
numbers greatest_effects(const evidence& e) {
    const std::size_t recent = e.shape.recent.value_or(at_most<32, 2>(e.shape.states));
    const std::size_t sinks = e.shape.sinks, n = e.states().size() - sinks - recent;
    const auto window = e.newest(32);
    numbers most(n), mean(n);
    for (const token& t : window) {
        for (std::size_t i = e.first_head(); i < e.end_head(); ++i) {
            numbers given, pooled;
            for (std::size_t j = 0; j < n; ++j) given.push_back(e.attention(t, i, e.states()[sinks + j].position));
            for (std::size_t j = 0; j < n; ++j) {
                double five = 0;
                for (std::size_t k = j < 2 ? 0 : j - 2; k < std::min(n, j + 3); ++k) five += given[k];
                pooled.push_back(five / 5);
            }
            const double sum = std::accumulate(given.begin(), given.end(), 0.0);
            const double pooled_sum = std::accumulate(pooled.begin(), pooled.end(), 0.0);
            for (std::size_t j = 0; j < n; ++j) {
                if (pooled_sum > 0) most[j] = std::max(most[j], pooled[j] / pooled_sum * sum);
                mean[j] += given[j] / static_cast<double>(window.size() * (e.end_head() - e.first_head()));
            }
        }
    }
    numbers effects(n);
    for (std::size_t h = e.first_kv_head; h < e.first_kv_head + e.kv_heads; ++h) {
        for (std::size_t j = 0; j < n; ++j) {
            for (const double x : e.held[h][sinks + j].value) effects[j] += std::abs(x);
        }
    }
    const double all = std::accumulate(effects.begin(), effects.end(), 0.0);
    const double least = std::accumulate(most.begin(), most.end(), 0.0) / static_cast<double>(n);
    numbers scores(e.states().size());
    for (std::size_t j = 0; j < n; ++j) scores[sinks + j] = std::max(most[j], least) * effects[j] / all;

    const double total = std::accumulate(mean.begin(), mean.end(), 0.0);
    if (total == 0) return scores;
    const auto before = static_cast<std::ptrdiff_t>(std::min<std::size_t>(32, n));
    const double wanted = double(0.9f) - std::accumulate(mean.end() - before, mean.end(), 0.0);
    std::vector<std::size_t> ranked(n);
    std::iota(ranked.begin(), ranked.end(), std::size_t{0});
    std::sort(ranked.begin(), ranked.end(),
              [&](std::size_t a, std::size_t b) { return mean[a] != mean[b] ? mean[a] > mean[b] : a > b; });
    double held = 0;
    std::size_t first = 0;
    for (; first < e.shape.states - sinks - recent; ++first) {
        held += mean[ranked[first]] / total;
        e.compare(held, wanted);
        if (held >= wanted) break;
        scores[sinks + ranked[first]] = std::numeric_limits<double>::infinity();
    }
    if (first > 0 && first < n && mean[ranked[first - 1]] != mean[ranked[first]]) {
        e.compare(mean[ranked[first - 1]], mean[ranked[first]]);
    }
    return scores;
}

const registered rule{{.name = "defensivekv", .score = greatest_effects, .recent = at_most<32, 2>}};

}  // namespace reference::defensivekv
