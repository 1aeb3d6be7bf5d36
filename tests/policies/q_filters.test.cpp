// q_filters: filters that are given, and directions found by hand.
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/q_filters.hpp>
#include <multistate/table/table.hpp>

#include "reference/numbers.hpp"
#include "reference/rule.hpp"
#include "support/hand_held.hpp"
#include "support/micro.hpp"
#include "support/queries.hpp"
#include "support/random.hpp"
#include "support/stored.hpp"

namespace q_filters_test {

namespace ms = multistate;
using positions = std::vector<int>;

constexpr ms::table_shape shape{.states = 3, .head_dim = 2, .value_dim = 1};

template <class P>
struct driven {
    explicit driven(const ms::table_shape& s, P policy = {}) : table(s, policy), stored(s) {}
    void step(const std::vector<float>& key, const std::vector<std::vector<float>>& queries) {
        stored.place(table, table.next_position(), support::vectors(table.shape().kv_heads, key),
                     support::vectors(table.shape().kv_heads, {0}));
        support::ask(table, queries);
    }
    std::vector<float> forget() {
        stored.forget(table);
        return {table.scores().begin(), table.scores().end()};
    }
    ms::table<P> table;
    support::stored_floats stored;
};

TEST(q_filters, given_filters_are_those_of_the_layer_and_head) {
    // [2 layers][2 KV heads][2]
    const std::vector<float> filters{9, 9, 9, 9, 9, 9, 2, -1};
    ms::table_shape last = shape;
    last.layer = 1;
    last.kv_head = 1;
    ms::table<ms::q_filters> table(last, {.filters = filters, .kv_heads = 2});
    support::stored_floats stored(last);
    EXPECT_FALSE(table.reads_queries());
    EXPECT_FALSE(table.reads_stored());
    const std::vector<std::vector<float>> keys{{1, 0}, {0, 1}, {3, 5}, {-1, 0}};
    for (int p = 0; p < 4; ++p) stored.place(table, p, {keys[static_cast<std::size_t>(p)]}, {{0}});
    const float expected[] = {-2, 1, -1, 2};
    for (std::size_t j = 0; j < 4; ++j) EXPECT_FLOAT_EQ(table.scores()[j], expected[j]);
    static_cast<void>(table.forget());  // without a way to read keys
    EXPECT_EQ(support::forgotten(table), positions{0});
}

TEST(q_filters, a_layer_sums_over_its_heads) {
    const std::vector<float> filters{1, 0, 0, 1};
    ms::table<ms::composed<ms::q_filters, ms::per_layer>> table(
        {.states = 3, .heads = 2, .kv_heads = 2, .head_dim = 2, .value_dim = 1},
        {{.filters = filters, .kv_heads = 2}, {}});
    support::stored_floats stored(table.shape());
    stored.place(table, 0, {{3, 100}, {100, 4}}, {{0}, {0}});
    EXPECT_FLOAT_EQ(table.scores()[0], -7.0f);
}

TEST(q_filters, filters_need_no_memory) {
    const std::vector<float> filters(2);
    const auto bytes = [](const ms::q_filters& policy) {
        return ms::detail::policy_memory::bytes_for(policy, shape, 3);
    };
    EXPECT_EQ(bytes({.filters = filters, .kv_heads = 1}), 0u);
    EXPECT_GT(bytes({}), 0u);
}

TEST(q_filters, without_filters_the_queries_give_the_direction) {
    driven<ms::q_filters> d(shape);
    for (const std::vector<float>& key : {std::vector<float>{5, 1}, {1, 5}, {-5, 0}, {0, -5}}) d.step(key, {{-3, 0}});
    const auto scores = d.forget();
    EXPECT_EQ(support::forgotten(d.table), positions{0}) << "(5, 1) is the least along (-1, 0)";
    EXPECT_FLOAT_EQ(scores[1], -1.0f);
    EXPECT_FLOAT_EQ(scores[2], 5.0f);
}

/// The mean of these queries is (1, .5), the principal direction is almost (0, 1): along them the key has -0.4 and 9.
TEST(q_filters, power_iteration_turns_the_mean_to_the_principal_direction) {
    for (const std::size_t steps : {0u, 1u, 4u, 30u}) {
        driven<ms::q_filters> d(shape, {.steps = steps});
        for (const float y : {9.0f, -8.0f, 9.0f, -8.0f}) d.step({-5, 9}, {{1, y}});
        double x = 4, y = 2;  // the sum of the queries; that of their squares is ((4, 2), (2, 290))
        for (std::size_t i = 0; i < steps; ++i) {
            const double next = 4 * x + 2 * y;
            y = 2 * x + 290 * y;
            x = next;
        }
        EXPECT_NEAR(d.forget()[0], (-5 * x + 9 * y) / std::hypot(x, y), 1e-4) << steps;
    }
}

TEST(q_filters, all_queries_of_a_group_count) {
    driven<ms::q_filters> d({.states = 3, .heads = 2, .head_dim = 2, .value_dim = 1}, {.steps = 0});
    for (const std::vector<float>& key : {std::vector<float>{1, 0}, {0, 1}, {1, 1}, {2, 2}})
        d.step(key, {{1, 0}, {0, 1}});
    const auto scores = d.forget();
    EXPECT_EQ(support::forgotten(d.table), positions{0});
    EXPECT_NEAR(scores[2], std::sqrt(2), 1e-6);
}

/// Head 0 asks along (1, 0), head 1 along (0, 1): each key is seen by its own head's direction.
TEST(q_filters, each_head_of_a_layer_has_a_direction) {
    driven<ms::composed<ms::q_filters, ms::per_layer>> d(
        {.states = 1, .heads = 2, .kv_heads = 2, .head_dim = 2, .value_dim = 1});
    for (int i = 0; i < 2; ++i) {
        d.stored.place(d.table, i, {{3, 100}, {1000, 4}}, {{0}, {0}});
        support::ask(d.table, {{5, 0}, {0, 5}});
    }
    EXPECT_FLOAT_EQ(d.forget()[0], 7.0f);
}

TEST(q_filters, queries_of_the_past_count_whatever_is_held) {
    driven<ms::q_filters> d({.states = 1, .head_dim = 2, .value_dim = 1});
    for (int i = 0; i < 20; ++i) d.step({0, 1}, {{2, 0}});
    d.step({1, -9}, {{0, 0.1f}});
    d.forget();
    EXPECT_EQ(support::forgotten(d.table), positions{19}) << "(1, -9) is more along (1, 0) than (0, 1)";
}

TEST(q_filters, without_a_direction_the_oldest_goes) {
    driven<ms::q_filters> zeros(shape), cancelled(shape);
    for (int i = 0; i < 4; ++i) {
        zeros.step({static_cast<float>(i), 1}, {{0, 0}});
        cancelled.step({static_cast<float>(i), 1}, {{i % 2 == 0 ? 1.0f : -1.0f, 0}});
    }
    for (const float score : zeros.forget()) EXPECT_EQ(score, 0.0f);
    for (const float score : cancelled.forget()) EXPECT_EQ(score, 0.0f);
    EXPECT_EQ(support::forgotten(zeros.table), positions{0});
}

TEST(q_filters, a_copy_continues_alike_and_clear_forgets_the_queries) {
    support::random_numbers random(4);
    driven<ms::q_filters> d(shape);
    for (int i = 0; i < 4; ++i) d.step(random.floats(2, 1), {random.floats(2, 1)});
    driven<ms::q_filters> copy = d;
    const auto key = random.floats(2, 1), query = random.floats(2, 1);
    d.step(key, {query});
    copy.step(key, {query});
    EXPECT_EQ(d.forget(), copy.forget());
    d.table.clear();
    for (int i = 0; i < 4; ++i) d.step({1, static_cast<float>(i)}, {{0, -1}});
    d.forget();
    EXPECT_EQ(support::forgotten(d.table), positions{3});
}

/// Queries are multiples of (.6, .8), and something smaller across.
TEST(q_filter, is_minus_the_principal_direction_on_the_side_of_most_queries) {
    std::vector<float> queries;
    for (const float along : {1.0f, 1.0f, 1.0f, -9.0f, 1.0f}) {
        for (const float across : {0.1f, -0.1f}) {
            queries.push_back(0.6f * along - 0.8f * across);
            queries.push_back(0.8f * along + 0.6f * across);
        }
    }
    const auto filter = ms::q_filter({queries.data(), queries.size() / 2, 2, 2});
    EXPECT_NEAR(filter[0], -0.6, 1e-4) << "though the mean points the other way";
    EXPECT_NEAR(filter[1], -0.8, 1e-4);
}

TEST(q_filter, of_no_query_is_zero) { EXPECT_EQ(ms::q_filter({nullptr, 0, 3, 3}), std::vector<float>(3)); }

/// After a million tokens all sums are halved, which changes no direction: bit for bit.
TEST(q_filters, endless_texts_keep_their_direction) {
    const auto after = [](std::uint64_t counted, float factor) {
        const ms::q_filters policy;
        support::hand_held held(policy, shape, 1);
        const ms::view states = held.states();
        const auto memory = states.memory(policy);
        memory.count[0] = counted;
        for (std::size_t i = 0; i < 2; ++i) memory.queries[0][i] = factor * static_cast<float>(i + 5);
        for (std::size_t i = 0; i < 4; ++i) memory.squares[0][i] = factor * static_cast<float>(i + 7);
        const float query[] = {0.5f, -1};
        policy.on_query({query, 1, 2, 2}, states);
        std::vector<float> sums(memory.queries[0].begin(), memory.queries[0].end());
        sums.insert(sums.end(), memory.squares[0].begin(), memory.squares[0].end());
        return sums;
    };
    EXPECT_EQ(after((1 << 20) - 1, 0x1p21f), after(5, 0x1p20f));
}

/// One bad query used to turn the policy into a window until clear().
TEST(q_filters, a_bad_query_counts_for_nothing) {
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity(), 1e30f}) {
        const auto scores = [&](bool with) {
            driven<ms::q_filters> d({.states = 3, .head_dim = 2, .value_dim = 1});
            d.step({1, 2}, {{1, 1}});
            d.step({3, -1}, {{1, 0}});
            d.step({0, 1}, {{with ? bad : 0, 0}});
            d.step({2, 2}, {{2, 1}});
            return d.forget();
        };
        EXPECT_EQ(scores(true), scores(false));
    }
}

}  // namespace q_filters_test

namespace reference::q_filters {

/// A^4 m, where m is the mean of the group's queries and A the sum of their q q^T.
numbers along_the_queries(const evidence& e) {
    numbers scores(e.states().size());
    const std::size_t group = e.shape.group();
    for (std::size_t h = e.first_kv_head; h < e.end_kv_head(); ++h) {
        std::vector<numbers> queries;
        for (const token& t : e.past) {
            for (std::size_t i = h * group; i < (h + 1) * group; ++i) queries.push_back(t.queries[i]);
        }
        numbers direction;
        for (const numbers& q : queries) add(q, direction);
        for (int step = 0; step < 4; ++step) {
            numbers next;
            for (const numbers& q : queries) add(scaled(q, dot(q, direction)), next);
            direction = scaled(next, 1 / norm(next));
        }
        for (std::size_t j = 0; j < scores.size(); ++j) scores[j] += dot(direction, e.held[h][j].key);
    }
    return scores;
}

const registered rule{{.name = "q_filters", .score = along_the_queries}};

}  // namespace reference::q_filters
