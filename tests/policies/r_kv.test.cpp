// r_kv: hand-checked decisions.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/r_kv.hpp>
#include <multistate/table/table.hpp>

#include "reference/numbers.hpp"
#include "reference/rule.hpp"
#include "support/micro.hpp"
#include "support/stored.hpp"

namespace r_kv_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// A table and its keys; one query for each query head of every token.
template <class Policy = ms::r_kv>
struct stored_table {
    stored_table(const ms::table_shape& s, const Policy& policy) : table(s, policy), stored(s) {}

    void step(int position, const support::vectors& keys, const support::vectors& queries) {
        stored.place(table, position, keys, support::vectors(keys.size(), {0.0f}));
        std::vector<float> flat;
        for (const auto& query : queries) flat.insert(flat.end(), query.begin(), query.end());
        const std::size_t d = queries.front().size();
        table.observe_queries({flat.data(), queries.size(), d, d}, table.size());
    }
    positions forget() {
        stored.forget(table);
        return support::forgotten(table);
    }
    ms::table<Policy> table;
    support::stored_floats stored;
};

const support::vectors x = {{1, 0}}, y = {{0, 1}};
std::vector<support::vectors> same(std::size_t count, const support::vectors& one) {
    return std::vector<support::vectors>(count, one);
}

/// One state more than survive; forgets it.
positions first_to_go(const ms::r_kv& policy, const std::vector<support::vectors>& keys,
                      const std::vector<support::vectors>& queries, std::size_t recent = 0) {
    stored_table<> states({.states = keys.size() - 1,
                           .recent = recent,
                           .heads = queries.front().size(),
                           .head_dim = keys.front().front().size(),
                           .value_dim = 1,
                           .scale = 1},
                          policy);
    for (std::size_t p = 0; p < keys.size(); ++p) states.step(static_cast<int>(p), keys[p], queries[p]);
    return states.forget();
}

// Redundancy alone: lambda = 0.

TEST(r_kv, of_the_same_states_the_newest_are_spared) {
    // The rows of three equal keys, less their newest other: (0 1 0), (1 0 0), (1 0 0), in the columns of these.
    EXPECT_EQ(first_to_go({.lambda = 0}, {y, x, x, x}, same(4, x)), positions{1});
    EXPECT_EQ(first_to_go({.lambda = 0}, {x, x, x, y}, same(4, x)), positions{0});
}

TEST(r_kv, redundancy_is_a_softmax_of_mean_cosines) {
    stored_table<> states({.states = 3, .recent = 0, .head_dim = 2, .value_dim = 1, .scale = 1}, {.lambda = 0.25f});
    for (int p = 0; p < 4; ++p) states.step(p, p == 3 ? support::vectors{{0, 7}} : support::vectors{{2, 0}}, {{0, 0}});
    states.step(4, y, {{0, 0}});
    EXPECT_EQ(support::forgotten(states.table), positions{0});
    // Means .5 .25 0 0; every state is asked for alike: 1 / 4.
    const double total = std::exp(0.5) + std::exp(0.25) + 2;
    EXPECT_NEAR(states.table.scores()[1], 0.25 / 4 - 0.75 * std::exp(0.25) / total, 1e-6);
    EXPECT_NEAR(states.table.scores()[2], 0.25 / 4 - 0.75 / total, 1e-6);
    EXPECT_NEAR(states.table.scores()[3], 0.25 / 4 - 0.75 / total, 1e-6);
}

/// Cosines: .8 of the first two, .6 of the second and third, 0 of the first and third.
TEST(r_kv, the_threshold_decides) {
    const std::vector<support::vectors> keys = {{{1, 0}}, {{0.8f, 0.6f}}, {{0, 1}}};
    // Spared: of row 0 the second, of row 1 the third, of row 2 the second; left .8 0 0.
    EXPECT_EQ(first_to_go({.lambda = 0}, keys, same(3, x)), positions{0});
    // Spared: of row 0 the second, of row 1 the first; left 0 .6 .6.
    EXPECT_EQ(first_to_go({.lambda = 0, .threshold = 0.7f}, keys, same(3, x)), positions{1});
    EXPECT_EQ(first_to_go({.lambda = 0, .threshold = 1}, keys, same(3, x)), positions{1});  // .8 1.4 .6
}

TEST(r_kv, opposite_keys_are_not_redundant) {
    EXPECT_EQ(first_to_go({.lambda = 0}, {x, {{-1, 0}}, y}, same(3, x)), positions{2});  // -1 -1 0, of three
}

TEST(r_kv, zero_keys_and_equal_keys) {
    const support::vectors zero = {{0, 0}};
    EXPECT_EQ(first_to_go({.lambda = 0}, {x, zero, x, x}, same(4, x)), positions{0});
    EXPECT_EQ(first_to_go({}, {zero, zero, zero}, same(3, x)), positions{0});
    EXPECT_EQ(first_to_go({}, {x, x}, same(2, y)), positions{0});
    stored_table<> states({.states = 2, .head_dim = 2, .value_dim = 1, .scale = 1}, {});
    for (int p = 0; p < 4; ++p) states.step(p, zero, zero);
    for (const float score : states.table.scores()) EXPECT_FALSE(std::isnan(score));
}

// Importance alone: lambda = 1. Nine keys of one dimension, of which a query of size 5 may want the first or the last.

std::vector<support::vectors> nine_keys() {
    std::vector<support::vectors> keys(9, {{0}});
    keys.front() = {{1}};
    keys.back() = {{-1}};
    return keys;
}
const support::vectors wants_first = {{5}}, wants_last = {{-5}};

TEST(r_kv, three_neighbors_on_either_side_share_the_greatest_importance) {
    // The first four are near the wanted one; of the five others all have what a key of 0 is given.
    EXPECT_EQ(first_to_go({.lambda = 1}, nine_keys(), same(9, wants_first)), positions{4});
    // The last four are; of the others the oldest goes.
    EXPECT_EQ(first_to_go({.lambda = 1}, nine_keys(), same(9, wants_last)), positions{0});
}

TEST(r_kv, the_last_queries_ask) {
    std::vector<support::vectors> queries(9, wants_last);
    queries[7] = wants_first;
    EXPECT_EQ(first_to_go({.lambda = 1, .window = 1}, nine_keys(), queries), positions{0});
    EXPECT_EQ(first_to_go({.lambda = 1, .window = 2}, nine_keys(), queries), positions{4});  // one each
    queries[7] = wants_last;
    queries[0] = wants_first;  // the ninth last
    EXPECT_EQ(first_to_go({.lambda = 1}, nine_keys(), queries), positions{0});
    EXPECT_EQ(first_to_go({.lambda = 1, .window = 9}, nine_keys(), queries), positions{4});
}

TEST(r_kv, a_group_asks_with_its_greatest_logit) {
    EXPECT_EQ(first_to_go({.lambda = 1}, nine_keys(), same(9, {{5}, {-5}})), positions{4});
    EXPECT_EQ(first_to_go({.lambda = 1}, nine_keys(), same(9, {{-5}, {-5}})), positions{0});
    stored_table<> states({.states = 1, .recent = 0, .heads = 2, .head_dim = 1, .value_dim = 1, .scale = 0.5f},
                          {.lambda = 1});
    states.step(0, {{2}}, {{1}, {-3}});
    states.step(1, {{0}}, {{1}, {-3}});
    states.step(2, {{0}}, {{0}, {0}});
    EXPECT_NEAR(states.table.scores()[1], std::exp(1.0) / (std::exp(1.0) + 1), 1e-6);  // max(1, -3) against 0, pooled
}

TEST(r_kv, guarded_states_take_no_importance) {
    stored_table<> states({.states = 2, .recent = 1, .head_dim = 1, .value_dim = 1, .scale = 1}, {.lambda = 1});
    for (int p = 0; p < 3; ++p) states.step(p, {{p == 2 ? 100.0f : 0.0f}}, {{1}});
    states.step(3, {{0}}, {{0}});
    EXPECT_EQ(support::forgotten(states.table), positions{0});
    EXPECT_FLOAT_EQ(states.table.scores()[1], 0.5f);
    EXPECT_FLOAT_EQ(states.table.scores()[2], 0.0f);
}

TEST(r_kv, certain_queries) { EXPECT_EQ(first_to_go({.lambda = 1}, nine_keys(), same(9, {{1000}})), positions{4}); }

/// The first five are wanted, and as each other; the last is far from them.
TEST(r_kv, lambda_weighs) {
    const std::vector<support::vectors> keys = {y, y, y, y, y, x, x, x, x}, wants_y = same(9, {{0, 5}});
    EXPECT_EQ(first_to_go({.lambda = 0}, keys, wants_y), positions{0});
    EXPECT_EQ(first_to_go({.lambda = 1}, keys, wants_y), positions{8});
}

TEST(r_kv, guards_the_newest_8_as_far_as_half_of_the_states_allows) {
    for (const std::size_t states : {1u, 2u, 3u, 15u, 16u, 500u}) {
        EXPECT_EQ(ms::r_kv::default_guards(states).recent, std::min<std::size_t>(8, states / 2));
    }
}

/// The first KV head holds three equal keys, the second (1, 0), (0, 1) and (-1, 0).
TEST(r_kv, a_layer_sums_over_its_kv_heads) {
    using layer = ms::composed<ms::r_kv, ms::per_layer>;
    const ms::table_shape s{
        .states = 2, .recent = 0, .heads = 2, .kv_heads = 2, .head_dim = 2, .value_dim = 1, .scale = 1};
    stored_table<layer> states(s, {{.lambda = 0}, {}});
    states.step(0, {{1, 0}, {1, 0}}, {{0, 0}, {0, 0}});
    states.step(1, {{1, 0}, {0, 1}}, {{0, 0}, {0, 0}});
    states.step(2, {{1, 0}, {-1, 0}}, {{0, 0}, {0, 0}});
    states.step(3, {{0, 0}, {0, 0}}, {{0, 0}, {0, 0}});
    // Mean cosines: first 2/3 1/3 0; second -1/3 0 -1/3.
    EXPECT_EQ(support::forgotten(states.table), positions{0});
    const double first = std::exp(2.0 / 3) + std::exp(1.0 / 3) + 1, second = 2 * std::exp(-1.0 / 3) + 1;
    EXPECT_NEAR(states.table.scores()[1], -std::exp(1.0 / 3) / first - 1 / second, 1e-6);
    EXPECT_NEAR(states.table.scores()[2], -1 / first - std::exp(-1.0 / 3) / second, 1e-6);
}

TEST(r_kv, one_state) {
    stored_table<> states({.states = 1, .head_dim = 2, .value_dim = 1, .scale = 1}, {});
    states.step(0, x, x);
    states.step(1, y, x);
    EXPECT_EQ(states.forget(), positions{0});  // two states are neighbors, and as redundant as each other
}

TEST(r_kv, a_copy_continues_alike) {
    stored_table<> states({.states = 8, .recent = 0, .head_dim = 1, .value_dim = 1, .scale = 1},
                          {.lambda = 1, .window = 2});
    const auto keys = nine_keys();
    for (int p = 0; p < 8; ++p) states.step(p, keys[static_cast<std::size_t>(p)], wants_first);
    auto copy = states;
    for (auto* one : {&states, &copy}) {
        one->step(8, keys[8], wants_last);  // two queries: the first and the last
        EXPECT_EQ(one->forget(), positions{4});
    }
}

TEST(r_kv, clear_forgets_the_queries) {
    stored_table<> states({.states = 8, .recent = 0, .head_dim = 1, .value_dim = 1, .scale = 1}, {.lambda = 1});
    states.step(0, {{0}}, wants_first);
    states.table.clear();
    const auto keys = nine_keys();
    for (int p = 0; p < 8; ++p) states.step(p, keys[static_cast<std::size_t>(p)], {{0}});
    states.step(8, keys[8], wants_last);
    EXPECT_EQ(states.forget(), positions{0});
}

}  // namespace r_kv_test

namespace reference::r_kv {

/// R-KV's importance of the states of one KV head that are not guarded as recent; 0 for those.
numbers importance(const evidence& e, std::size_t h, std::size_t older) {
    const auto& states = e.held[h];
    const auto window = e.newest(8);
    numbers mean(states.size());
    for (const token& t : window) {
        numbers exponentials;
        for (std::size_t j = 0; j < older; ++j) {
            double most = -std::numeric_limits<double>::infinity();
            for (std::size_t i = h * e.shape.group(); i < (h + 1) * e.shape.group(); ++i) {
                most = std::max(most, e.shape.scale * dot(t.queries[i], states[j].key));
            }
            exponentials.push_back(most);
        }
        const double greatest = *std::max_element(exponentials.begin(), exponentials.end());
        for (double& x : exponentials) x = std::exp(x - greatest);
        const double total = std::accumulate(exponentials.begin(), exponentials.end(), 0.0);
        for (std::size_t j = 0; j < older; ++j) {
            mean[j] += exponentials[j] / total / static_cast<double>(window.size());
        }
    }
    numbers pooled(states.size());
    for (std::size_t j = 0; j < older; ++j) {
        for (std::size_t i = j - std::min<std::size_t>(j, 3); i < std::min(older, j + 4); ++i) {
            pooled[j] = std::max(pooled[j], mean[i]);
        }
    }
    return pooled;
}

/// R-KV's redundancy of the states of one KV head.
numbers redundancy(const evidence& e, std::size_t h) {
    const auto& states = e.held[h];
    const std::size_t n = states.size();
    numbers mean(n);
    for (std::size_t i = 0; i < n; ++i) {
        numbers row;
        for (std::size_t j = 0; j < n; ++j) {
            const double norms = std::sqrt(dot(states[i].key, states[i].key) * dot(states[j].key, states[j].key));
            row.push_back(i != j && norms > 0 ? dot(states[i].key, states[j].key) / norms : 0);
        }
        for (std::size_t j = n; j-- > 0;) {
            e.compare(row[j], 0.5);
            if (row[j] <= 0.5) continue;
            row[j] = 0;
            break;
        }
        for (std::size_t j = 0; j < n; ++j) mean[j] += row[j] / static_cast<double>(n);
    }
    double total = 0;
    for (double& x : mean) total += x = std::exp(x);
    for (double& x : mean) x /= total;
    return mean;
}

numbers important_less_redundant(const evidence& e) {
    const std::size_t recent = e.shape.recent.value_or(at_most<8, 2>(e.shape.states));
    numbers scores(e.states().size());
    for (std::size_t h = e.first_kv_head; h < e.first_kv_head + e.kv_heads; ++h) {
        const numbers important = importance(e, h, scores.size() - recent), redundant = redundancy(e, h);
        for (std::size_t j = 0; j < scores.size(); ++j) scores[j] += 0.1 * important[j] - 0.9 * redundant[j];
    }
    return scores;
}

// Two states are as redundant as each other.
const registered rule{
    {.name = "r_kv", .score = important_less_redundant, .recent = at_most<8, 2>, .ties_are_exact = true}};

}  // namespace reference::r_kv
