// criticalkv: hand-checked decisions.
#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/criticalkv.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"
#include "support/stored.hpp"

namespace criticalkv_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// Scores of the newest token alone, without neighbors.
ms::criticalkv with(float first_share, float epsilon = 0) {
    ms::criticalkv policy;
    policy.get<ms::morphkv>().window = 1;
    policy.get<ms::pool>().width = 1;
    policy.first_share = first_share;
    policy.epsilon = epsilon;
    return policy;
}

/// As many states as values, the newest of which gave `given`.
template <class Policy = ms::criticalkv>
struct stored_table {
    stored_table(const ms::table_shape& s, const Policy& policy, const std::vector<support::vectors>& values,
                 const std::vector<std::vector<float>>& given)
        : table(s, policy), stored(s) {
        for (std::size_t p = 0; p < values.size(); ++p) {
            const std::size_t row =
                stored.place(table, static_cast<int>(p), support::vectors(values[p].size(), {0.0f}), values[p]);
            EXPECT_EQ(row, p);
            const std::vector<float> even(table.size(), 1 / static_cast<float>(table.size()));
            support::observe(table, p + 1 < values.size() ? std::vector<std::vector<float>>(s.heads, even) : given);
        }
    }
    positions forget() {
        stored.forget(table);
        return support::forgotten(table);
    }
    ms::table<Policy> table;
    support::stored_floats stored;
};

constexpr ms::table_shape shape{.states = 4, .recent = 0, .head_dim = 1, .value_dim = 1};
const std::vector<support::vectors> values = {{{0}}, {{-8}}, {{0}}, {{1}}, {{1}}};
const std::vector<std::vector<float>> given = {{0.375f, 0.0625f, 0.25f, 0.1875f, 0.125f}};

positions first_to_go(const ms::criticalkv& policy, const ms::table_shape& s = shape) {
    return stored_table<>(s, policy, values, given).forget();
}

TEST(criticalkv, half_by_attention_and_the_rest_by_attention_times_value) {
    EXPECT_EQ(first_to_go(with(0.5f)), positions{4});  // 0 and 2 are safe; the others .5 .1875 .125
}

TEST(criticalkv, the_share_decides) {
    EXPECT_EQ(first_to_go(with(0)), positions{0});      // 0 .5 0 .1875 .125
    EXPECT_EQ(first_to_go(with(0.25f)), positions{2});  // 0 is safe
    EXPECT_EQ(first_to_go(with(1)), positions{1});      // by attention alone
}

TEST(criticalkv, epsilon_decides) {
    EXPECT_EQ(first_to_go(with(0.5f, 0.125f)), positions{4});
    const std::vector<std::vector<float>> unseen = {{0.5f, 0.0f, 0.3125f, 0.125f, 0.0625f}};
    EXPECT_EQ(stored_table<>(shape, with(0.5f, 0), values, unseen).forget(), positions{1});      // 0 .125 .0625
    EXPECT_EQ(stored_table<>(shape, with(0.5f, 0.25f), values, unseen).forget(), positions{4});  // 2 .375 .3125
}

/// epsilon is as small beside the attention of several heads and tokens as beside that of one.
TEST(criticalkv, attention_is_a_mean_over_tokens_and_heads) {
    ms::table_shape two = shape;
    two.heads = 2;
    ms::criticalkv policy = with(0, 0.0625f);
    policy.get<ms::morphkv>().window = 2;
    stored_table<> states(two, policy, values, {given[0], given[0]});
    states.stored.place(states.table, 5, {{0}}, {{0}});
    EXPECT_FLOAT_EQ(states.table.scores()[1], ((0.25f + 0.0625f) / 2 + 0.0625f) * 8);
}

TEST(criticalkv, those_of_the_first_stage_keep_their_order_above_all_others) {
    stored_table<> states(shape, with(0.5f), values, given);
    states.stored.place(states.table, 5, {{0}}, {{0}});
    const auto scores = states.table.scores();
    EXPECT_GT(scores[0], scores[2]);
    EXPECT_GT(scores[2], scores[1]);
    EXPECT_FLOAT_EQ(scores[1], 0.5f);
}

TEST(criticalkv, of_equals_the_newest_are_in_the_first_stage) {
    const std::vector<std::vector<float>> even = {{0.2f, 0.2f, 0.2f, 0.2f, 0.2f}};
    const std::vector<support::vectors> rising = {{{5}}, {{4}}, {{3}}, {{2}}, {{1}}};
    EXPECT_EQ(stored_table<>(shape, with(0.5f), rising, even).forget(), positions{2});  // 3 and 4 are safe
    EXPECT_EQ(stored_table<>(shape, with(0), rising, even).forget(), positions{4});
}

/// Of six states one is a sink and one recent: two of the other four by attention.
TEST(criticalkv, the_halves_are_of_what_the_guards_leave) {
    const ms::table_shape guarded{.states = 6, .sinks = 1, .recent = 1, .head_dim = 1, .value_dim = 1};
    const std::vector<support::vectors> seven = {{{0}}, {{0}}, {{0}}, {{0}}, {{1}}, {{9}}, {{0}}};
    const std::vector<std::vector<float>> sharp = {{0.25f, 0.1875f, 0.125f, 0.0625f, 0.0625f, 0.0f, 0.3125f}};
    EXPECT_EQ(stored_table<>(guarded, with(0.5f), seven, sharp).forget(), positions{3});   // 1 2 safe; 0 .0625 0
    EXPECT_EQ(stored_table<>(guarded, with(0.25f), seven, sharp).forget(), positions{2});  // 1 safe
    EXPECT_EQ(stored_table<>(guarded, with(0.75f), seven, sharp).forget(), positions{3});  // 1 2 4 safe: the newest
}

/// The first value is (1, 0), the second (0, 3): a projection that drops the second column wants the first.
TEST(criticalkv, the_output_projection_says_what_a_value_is_worth) {
    const ms::table_shape two{.states = 2, .recent = 0, .head_dim = 1, .value_dim = 2};
    const std::vector<support::vectors> three = {{{1, 0}}, {{0, 3}}, {{9, 9}}};
    const std::vector<std::vector<float>> even = {{0.25f, 0.25f, 0.5f}};
    const float first[] = {4, 0, 0, 0, -1, 0}, second[] = {0, 1, 0, 0, 0, 0};
    const ms::rows matrices[] = {{first, 3, 2, 2}, {second, 3, 2, 2}};
    ms::criticalkv policy = with(0);
    EXPECT_EQ(stored_table<>(two, policy, three, even).forget(), positions{0});  // 1 3
    policy.output.projection = matrices;
    EXPECT_EQ(stored_table<>(two, policy, three, even).forget(), positions{1});  // 4 + 1 and 0
    ms::table_shape of_layer = two;
    of_layer.layer = 1;
    EXPECT_EQ(stored_table<>(of_layer, policy, three, even).forget(), positions{0});  // 0 3
}

/// One row of a projection of four query heads in two groups: columns 1 2 | 10 20 | 100 200 | 1000 2000.
TEST(criticalkv, each_query_head_has_its_columns) {
    const float row[] = {1, 2, 10, 20, 100, 200, 1000, 2000};
    const ms::rows matrices[] = {{row, 1, 8, 8}};
    ms::criticalkv policy = with(0);
    policy.output.projection = matrices;
    const auto score_of_first = [&](auto wrapped, const ms::table_shape& s, const support::vectors& value) {
        const std::vector<float> half(2, 0.5f);
        stored_table<decltype(wrapped)> states(s, wrapped, {value, value},
                                               std::vector<std::vector<float>>(s.heads, half));
        states.stored.place(states.table, 2, support::vectors(value.size(), {0.0f}), value);
        return states.table.scores()[1];
    };
    const ms::table_shape one{.states = 1, .recent = 0, .heads = 2, .head_dim = 1, .value_dim = 2};
    ms::table_shape second = one, layer = one;
    second.kv_head = 1;
    layer.heads = 4;
    layer.kv_heads = 2;
    EXPECT_FLOAT_EQ(score_of_first(policy, one, {{1, -1}}), 0.5f * (1 + 10));
    EXPECT_FLOAT_EQ(score_of_first(policy, second, {{1, -1}}), 0.5f * (100 + 1000));
    EXPECT_FLOAT_EQ(score_of_first(ms::composed{policy, ms::per_layer{}}, layer, {{1, 1}, {0, 1}}),
                    0.5f * (3 + 30 + 200 + 2000));
}

TEST(criticalkv, a_projection_of_many_columns) {
    const std::size_t n = 37;
    std::vector<float> matrix(n), value(n);
    for (std::size_t c = 0; c < n; ++c) {
        matrix[c] = c % 3 == 0 ? -1.0f : 2.0f;
        value[c] = static_cast<float>(c);
    }
    const ms::rows matrices[] = {{matrix.data(), 1, n, n}};
    ms::criticalkv policy = with(0);
    policy.output.projection = matrices;
    stored_table<> states({.states = 1, .recent = 0, .head_dim = 1, .value_dim = n}, policy, {{value}, {value}},
                          {{0.5f, 0.5f}});
    states.stored.place(states.table, 2, {{0}}, {value});
    EXPECT_FLOAT_EQ(states.table.scores()[1], 0.5f * (2 * 666 - 3 * 234));  // 0 + … + 36, and 0 + 3 + … + 36
}

TEST(criticalkv, every_number_can_be_set) {
    std::string names;
    ms::criticalkv policy;
    ms::for_each_parameter(policy, [&](auto name, auto& value, auto...) {
        names.append(name).append(" ");
        if constexpr (std::same_as<decltype(value), float&>) value = 0.25f;
    });
    EXPECT_EQ(names, "window maximum width greatest zero_padded first_share epsilon ");
    EXPECT_EQ(policy.first_share, 0.25f);
    EXPECT_EQ(policy.epsilon, 0.25f);
    policy.first_share = 2;
    EXPECT_THROW(ms::table<ms::criticalkv>(shape, policy), std::invalid_argument);
    EXPECT_EQ(ms::criticalkv().get<ms::morphkv>().window, 32u);
    EXPECT_EQ(ms::criticalkv().get<ms::pool>().width, 5u) << "its authors', not snapkv's";
    EXPECT_FALSE(ms::criticalkv().get<ms::pool>().greatest);
    EXPECT_FALSE(ms::has_presets<ms::criticalkv>) << "snapkv's are not its own";
    EXPECT_EQ(ms::criticalkv().default_guards(9).recent, 4u);
}

TEST(criticalkv, zero_values_and_one_state_and_certain_attention) {
    const std::vector<support::vectors> zeros(5, {{0}});
    EXPECT_EQ(stored_table<>(shape, with(0.5f), zeros, given).forget(), positions{1});  // 0 2 safe, then the oldest
    const std::vector<std::vector<float>> certain = {{0, 1, 0, 0, 0}};
    stored_table<> states(shape, ms::criticalkv(), values, certain);
    states.stored.place(states.table, 5, {{0}}, {{0}});
    for (const float score : states.table.scores()) EXPECT_FALSE(std::isnan(score));
    EXPECT_EQ(
        stored_table<>({.states = 1, .head_dim = 1, .value_dim = 1}, ms::criticalkv(), {{{1}}, {{2}}}, {{0.0f, 1.0f}})
            .forget(),
        positions{0});
}

TEST(criticalkv, a_copy_continues_alike) {
    ms::criticalkv policy = with(0.5f);
    policy.get<ms::morphkv>().window = 3;
    stored_table<> states(shape, policy, values, given);
    auto copy = states;
    for (auto* one : {&states, &copy}) {
        one->stored.place(one->table, 5, {{0}}, {{3}});
        support::observe(one->table, {{0.125f, 0.25f, 0.25f, 0.25f, 0.125f}});
        one->stored.forget(one->table);
    }
    EXPECT_EQ(support::forgotten(copy.table), support::forgotten(states.table));
    for (std::size_t j = 0; j < 4; ++j) EXPECT_EQ(copy.table.scores()[j], states.table.scores()[j]);
}

}  // namespace criticalkv_test

namespace reference::criticalkv {

/// SnapKV's score as a mean over tokens, heads and five neighbors; half of what the guards leave by that alone, the
/// rest times |v|_1.
numbers in_two_stages(const evidence& e) {
    const auto window = static_cast<double>(e.newest(32).size());
    numbers mean = mean_of_five(e, sum_over(e, e.newest(32)));
    for (double& s : mean) s /= window * static_cast<double>(e.end_head() - e.first_head());
    numbers scores;
    for (std::size_t j = 0; j < mean.size(); ++j) {
        double norm = 0;
        for (std::size_t h = e.first_kv_head; h < e.first_kv_head + e.kv_heads; ++h) {
            for (const double x : e.held[h][j].value) norm += std::abs(x);
        }
        scores.push_back((mean[j] + 1e-4) * norm);
    }
    const std::size_t recent = e.shape.recent.value_or(at_most<32, 2>(e.shape.states));
    std::vector<std::size_t> free(mean.size() - e.shape.sinks - recent);
    std::iota(free.begin(), free.end(), e.shape.sinks);
    std::sort(free.begin(), free.end(),
              [&](std::size_t a, std::size_t b) { return mean[a] != mean[b] ? mean[a] > mean[b] : a > b; });
    const std::size_t first = (e.shape.states - e.shape.sinks - recent) / 2;
    const double last_in = first > 0 ? mean[free[first - 1]] : 0, first_out = mean[free[first]];
    if (first > 0 && last_in != first_out)
        e.compare(last_in, first_out);  // equal means of the same states are no doubt
    for (std::size_t i = 0; i < first; ++i) scores[free[i]] = std::numeric_limits<double>::infinity();
    return scores;
}

const registered rule{{.name = "criticalkv", .score = in_two_stages, .recent = at_most<32, 2>}};

}  // namespace reference::criticalkv
