// citrus_probe: hand-checked decisions.
#include <cmath>
#include <span>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/citrus_probe.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"
#include "support/stored.hpp"

namespace citrus_probe_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// A table and the keys of its states.
template <class Policy>
struct stored_table {
    stored_table(const ms::table_shape& s, const Policy& policy) : table(s, policy), stored(s) {}

    void place(int position, const support::vectors& keys) {
        const support::vectors values(keys.size(), std::vector<float>(table.shape().value_dim));
        stored.place(table, position, keys, values);
    }
    ms::table<Policy> table;
    support::stored_floats stored;
};

constexpr ms::table_shape shape{.states = 3, .head_dim = 2, .value_dim = 1, .scale = 0.5f};

/// Keys (1, 0), (0, 1), (1, 1), (-1, 0); attention wants the last to stay.
template <class Policy = ms::citrus_probe>
stored_table<Policy> four_states(const Policy& policy, const ms::table_shape& s = shape) {
    stored_table<Policy> result(s, policy);
    const std::vector<std::vector<float>> keys = {{1, 0}, {0, 1}, {1, 1}, {-1, 0}};
    for (int p = 0; p < 4; ++p) {
        result.place(p, {keys[static_cast<std::size_t>(p)]});
        std::vector<float> itself(result.table.size(), 0.0f);
        itself.back() = 1;
        support::observe(result.table, std::vector<std::vector<float>>(s.heads, itself));
    }
    return result;
}
template <class Policy = ms::citrus_probe>
positions first_to_go(const Policy& policy, const ms::table_shape& s = shape) {
    auto states = four_states(policy, s);
    states.stored.forget(states.table);
    return support::forgotten(states.table);
}

TEST(citrus_probe, the_probe_decides) {
    const float query[] = {4, 0};  // logits 2 0 2 -2
    const ms::rows probe[] = {{query, 1, 2, 2}};
    EXPECT_EQ(first_to_go(ms::citrus_probe{}), positions{0});
    EXPECT_EQ(first_to_go(ms::citrus_probe{.probe = probe}), positions{3});
}

TEST(citrus_probe, the_score_is_the_sum_of_the_probe_s_attention) {
    const float queries[] = {4, 0, 0, 4};  // logits 2 0 2 -2, and 0 2 2 0
    const ms::rows probe[] = {{queries, 2, 2, 2}};
    auto states = four_states(ms::citrus_probe{.probe = probe});
    states.place(4, {{9, 9}});
    const double first = 2 * std::exp(2.0) + 1 + std::exp(-2.0), second = 2 * std::exp(2.0) + 2;
    const double expected[] = {std::exp(2.0) / first + 1 / second, 1 / first + std::exp(2.0) / second,
                               std::exp(2.0) / first + std::exp(2.0) / second, 0};
    EXPECT_EQ(support::forgotten(states.table), positions{3});
    for (std::size_t j = 0; j < 3; ++j) EXPECT_NEAR(states.table.scores()[j], expected[j], 1e-6);
}

/// Logits -2 0 -2 2 and 3 1 4 -3: a small scale adds them up, a great one asks who is the first.
TEST(citrus_probe, the_scale_of_the_logits_counts) {
    const float queries[] = {-2, 0, 3, 1};
    const ms::rows probe[] = {{queries, 2, 2, 2}};
    ms::table_shape flat = shape, steep = shape;
    flat.scale = 0.05f;
    steep.scale = 5;
    EXPECT_EQ(first_to_go(ms::citrus_probe{.probe = probe}, flat), positions{3});
    EXPECT_EQ(first_to_go(ms::citrus_probe{.probe = probe}, steep), positions{1});
}

TEST(citrus_probe, each_layer_has_its_queries) {
    const float first[] = {4, 0}, second[] = {-4, -1};  // the second: logits -2 -.5 -2.5 2
    const ms::rows probe[] = {{first, 1, 2, 2}, {second, 1, 2, 2}};
    ms::table_shape of_layer = shape;
    of_layer.layer = 1;
    EXPECT_EQ(first_to_go(ms::citrus_probe{.probe = probe}, of_layer), positions{2});
}

/// Two query heads for each of two KV heads; a table for the second KV head takes the third and fourth query.
TEST(citrus_probe, a_table_of_one_kv_head_asks_the_queries_of_its_group) {
    const float queries[] = {-4, 0, -4, 0, 4, 0, 0, 4, /* and the next token */ -4, 0, -4, 0, 4, 0, 0, 4};
    const ms::rows probe[] = {{queries, 2, 8, 8}};
    ms::table_shape second = shape;
    second.heads = 2;
    second.kv_head = 1;
    const ms::composed<ms::citrus_probe, ms::per_head> policy{{.probe = probe}, {}};
    EXPECT_EQ(policy.forgets(), ms::per::head);
    EXPECT_EQ(first_to_go(policy, second), positions{3});
}

TEST(citrus_probe, a_table_of_a_layer_sums_over_its_kv_heads) {
    const float queries[] = {1, 2};  // a query head for each KV head
    const ms::rows probe[] = {{queries, 1, 2, 2}};
    stored_table<ms::citrus_probe> states(
        {.states = 2, .heads = 2, .kv_heads = 2, .head_dim = 1, .value_dim = 1, .scale = 1}, {.probe = probe});
    const support::vectors keys[] = {{{2}, {0}}, {{0}, {2}}, {{1}, {0}}};  // logits 2 0 1 and 0 4 0
    for (int p = 0; p < 3; ++p) {
        states.place(p, keys[p]);
        const std::vector<float> even(states.table.size(), 1 / static_cast<float>(states.table.size()));
        support::observe(states.table, {even, even});
    }
    states.stored.forget(states.table);
    EXPECT_EQ(support::forgotten(states.table), positions{2});
}

TEST(citrus_probe, without_a_probe_it_is_citrus) {
    auto states = four_states(ms::citrus_probe{});
    states.place(4, {{1, 1}});
    EXPECT_EQ(support::forgotten(states.table), positions{0});
    support::observe(states.table, {{0.125f, 0.25f, 0.5f, 0.125f}});  // in rows 4 1 2 3
    states.stored.forget(states.table);
    EXPECT_EQ(support::forgotten(states.table), positions{3});  // .125 since, 1.125 in all
}

TEST(citrus_probe, zero_and_equal_keys_and_one_state) {
    const float query[] = {4, 0};
    const ms::rows probe[] = {{query, 1, 2, 2}};
    for (const std::vector<float>& key : {std::vector<float>{0, 0}, std::vector<float>{1, 2}}) {
        stored_table<ms::citrus_probe> states({.states = 1, .head_dim = 2, .value_dim = 1, .scale = 1},
                                              {.probe = probe});
        states.place(0, {key});
        support::observe(states.table, {{1.0f}});
        states.place(1, {key});
        support::observe(states.table, {{0.0f, 1.0f}});
        states.place(2, {key});
        EXPECT_EQ(support::forgotten(states.table), positions{0});
        EXPECT_EQ(states.table.scores()[1], 0.5f);
    }
}

TEST(citrus_probe, certain_attention_of_the_probe) {
    const float query[] = {1000, 0};
    const ms::rows probe[] = {{query, 1, 2, 2}};
    auto states = four_states(ms::citrus_probe{.probe = probe});
    states.place(4, {{0, 0}});
    EXPECT_EQ(support::forgotten(states.table), positions{1});  // .5 0 .5 0
    EXPECT_EQ(states.table.scores()[0], 0.5f);
    EXPECT_EQ(states.table.scores()[3], 0.0f);
}

TEST(citrus_probe, a_copy_continues_alike) {
    auto states = four_states(ms::citrus_probe{});
    states.place(4, {{1, 1}});
    auto copy = states;
    for (auto* one : {&states, &copy}) {
        support::observe(one->table, {{0.125f, 0.25f, 0.5f, 0.125f}});
        one->stored.forget(one->table);
        EXPECT_EQ(support::forgotten(one->table), positions{3});
    }
}

}  // namespace citrus_probe_test

namespace reference::citrus_probe {

/// Without a probe: what the tokens that arrived together last gave.
numbers scores(const evidence& e) { return sum_over(e, std::span(e.past).subspan(e.last_arrival)); }

const registered rule{{.name = "citrus_probe", .forgets = unit::layer, .score = scores}};

}  // namespace reference::citrus_probe
