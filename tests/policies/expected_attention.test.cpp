// expected_attention: distributions and rotations small enough to be computed by hand.
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/expected_attention.hpp>
#include <multistate/table/table.hpp>

#include "reference/rotation.hpp"
#include "support/hand_held.hpp"
#include "support/micro.hpp"
#include "support/queries.hpp"
#include "support/random.hpp"
#include "support/stored.hpp"

namespace expected_attention_test {

namespace ms = multistate;
using positions = std::vector<int>;
using floats = std::vector<float>;
using std::numbers::pi;

template <class P = ms::expected_attention>
struct driven {
    driven(const ms::table_shape& s, const P& policy) : table(s, policy), stored(s) {}
    /// The same key, value and query in all heads.
    void step(const floats& key, const floats& value, const floats& query) {
        stored.place(table, table.next_position(), support::vectors(table.shape().kv_heads, key),
                     support::vectors(table.shape().kv_heads, value));
        support::ask(table, support::vectors(table.shape().heads, query));
    }
    floats forget() {
        stored.forget(table);
        return {table.scores().begin(), table.scores().end()};
    }
    ms::table<P> table;
    support::stored_floats stored;
};

/// One dimension, so nothing can be rotated; no query is left out.
constexpr ms::table_shape line{.states = 2, .head_dim = 1, .value_dim = 2, .scale = 0.5f};
ms::expected_attention plain() {
    ms::expected_attention policy;
    policy.skipped = 0;
    return policy;
}

/// Keys 1 2 -1, values of norm 5 1 2, queries 2 6 4: mean 4, variance 8 / 3.
floats scores_of_three(const ms::expected_attention& policy) {
    driven d(line, policy);
    d.step({1}, {3, 4}, {2});
    d.step({2}, {0, 1}, {6});
    d.step({-1}, {2, 0}, {4});
    return d.forget();
}

TEST(expected_attention, mean_and_variance_of_the_queries) {
    const double logits[] = {0.5 * 4 * 1 + 0.25 * 8 / 3 / 2, 0.5 * 4 * 2 + 0.25 * 4 * 8 / 3 / 2,
                             0.5 * 4 * -1 + 0.25 * 8 / 3 / 2};
    const double total = std::exp(logits[0]) + std::exp(logits[1]) + std::exp(logits[2]);
    const auto scores = scores_of_three(plain());  // position 2 is forgotten
    EXPECT_NEAR(scores[0], 5 * std::exp(logits[0]) / total, 1e-5);
    EXPECT_NEAR(scores[1], 1 * std::exp(logits[1]) / total, 1e-5);
}

TEST(expected_attention, covariance_epsilon_and_skipped_matter) {
    auto policy = plain();
    policy.covariance = false;
    const double total = std::exp(2) + std::exp(4) + std::exp(-2);
    EXPECT_NEAR(scores_of_three(policy)[0], 5 * std::exp(2) / total, 1e-5);
    policy.epsilon = 0.5f;
    EXPECT_NEAR(scores_of_three(policy)[0], 5 * (std::exp(2) / total + 0.5), 1e-5);
    policy.epsilon = 0;
    policy.skipped = 2;  // the query 4 alone, and so the same mean; then none
    policy.covariance = true;
    EXPECT_NEAR(scores_of_three(policy)[0], 5 * std::exp(2) / total, 1e-5);
    policy.skipped = 3;
    EXPECT_NEAR(scores_of_three(policy)[0], 5 / 3.0, 1e-5) << "nothing is known of the queries";
}

TEST(expected_attention, covariance_that_is_not_kept_needs_no_memory) {
    auto policy = plain();
    const ms::table_shape s{.states = 2, .heads = 4, .head_dim = 64, .value_dim = 64};
    const std::size_t with = ms::detail::size_of_memory(policy, s, 1).per_table;
    policy.covariance = false;
    EXPECT_EQ(with - ms::detail::size_of_memory(policy, s, 1).per_table, sizeof(float) * 4u * (64 + 15) * 64);
}

/// Dimensions that vary together: queries (1, 1) and (-1, -1) have a covariance of 1 everywhere.
TEST(expected_attention, dimensions_vary_together) {
    auto policy = plain();
    policy.rope.base = 0;
    driven d({.states = 2, .head_dim = 2, .value_dim = 1, .scale = 1}, policy);
    d.step({1, 1}, {1}, {1, 1});
    d.step({2, -2}, {1}, {-1, -1});
    d.step({2, -2}, {1}, {0, 0});
    const auto scores = d.forget();  // variance 2 / 3 * 4 along (1, 1), none along (2, -2)
    EXPECT_EQ(support::forgotten(d.table), positions{1});
    EXPECT_NEAR(scores[0], std::exp(4 / 3.0) / (std::exp(4 / 3.0) + 2), 1e-5);
}

/// Before rotation all queries are (2, 0) and the keys point to 0, 90 and 180 degrees: what counts is the angle between
/// the query at the position to come and a key at its own.
TEST(expected_attention, queries_and_keys_turn_with_their_positions) {
    for (const bool adjacent : {true, false}) {
        auto policy = plain();
        policy.rope.adjacent = adjacent;
        policy.future = 1;
        const ms::rope model{.adjacent = adjacent};
        driven d({.states = 3, .head_dim = 4, .value_dim = 1, .scale = 1}, policy);
        const floats keys[] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {-1, 0, 0, 0}, {0, 0, 0, 0}};
        for (int p = 0; p < 4; ++p) {
            floats key = keys[p], query{2, 0, 0, 0};
            if (!adjacent) std::swap(key[1], key[2]);
            model.rotate(p, key);
            model.rotate(p, query);
            d.step(key, {1}, query);
        }
        const double logits[] = {2 * std::cos(4), 2 * std::cos(3 - pi / 2), 2 * std::cos(2 - pi), 0};
        double total = 0;
        for (const double x : logits) total += std::exp(x);
        const auto scores = d.forget();
        EXPECT_EQ(support::forgotten(d.table), positions{0});
        EXPECT_NEAR(scores[1], std::exp(logits[1]) / total, 1e-5);
        EXPECT_NEAR(scores[2], std::exp(logits[2]) / total, 1e-5);
    }
}

/// Before rotation the queries are (2, 0) and (-2, 0), over and over: no mean, and a variance of 4 in their direction.
TEST(expected_attention, variances_turn_with_positions) {
    auto policy = plain();
    policy.future = 1;
    const ms::rope model;
    driven d({.states = 3, .head_dim = 2, .value_dim = 1, .scale = 1}, policy);
    for (int p = 0; p < 4; ++p) {
        floats query{p % 2 == 0 ? 2.0f : -2.0f, 0};
        model.rotate(p, query);
        d.step({0, 1}, {1}, query);  // as stored: at 90 degrees whatever the position
    }
    const double along = 2 * std::pow(std::cos(4 - pi / 2), 2);
    auto other = d;
    EXPECT_NEAR(d.forget()[0], 1 / 4.0, 1e-5) << "all alike";
    other.table.clear();
    for (int p = 0; p < 4; ++p) {
        floats query{p % 2 == 0 ? 2.0f : -2.0f, 0};
        model.rotate(p, query);
        other.step({0, p == 1 ? 1.0f : 0.0f}, {1}, query);
    }
    EXPECT_NEAR(other.forget()[1], std::exp(along) / (std::exp(along) + 3), 1e-5);
}

/// Over half a turn of the fast pair its mean points to the middle and is 2 / pi long.
TEST(expected_attention, future_positions_are_averaged) {
    auto policy = plain();
    policy.future = 314;
    policy.rope.stretch = 100;
    driven d({.states = 2, .head_dim = 2, .value_dim = 1, .scale = 1}, policy);
    d.step({0, 3}, {1}, {1, 0});  // at position 0: 90 degrees
    d.step({0, 0}, {1}, {std::cos(0.01f), std::sin(0.01f)});
    d.step({0, 0}, {1}, {std::cos(0.02f), std::sin(0.02f)});
    EXPECT_NEAR(d.forget()[0], std::exp(6 / pi) / (std::exp(6 / pi) + 2), 1e-3);
}

TEST(expected_attention, a_group_is_averaged_and_a_layer_summed) {
    auto policy = plain();
    policy.covariance = false;
    driven d({.states = 1, .heads = 2, .head_dim = 1, .value_dim = 1, .scale = 1}, policy);
    support::stored_floats& stored = d.stored;
    stored.place(d.table, 0, {{1}}, {{1}});
    support::ask(d.table, {{0}, {4}});
    stored.place(d.table, 1, {{-1}}, {{2}});
    support::ask(d.table, {{0}, {4}});
    const double wanted = std::exp(4) / (std::exp(4) + std::exp(-4));
    EXPECT_NEAR(d.forget()[0], (0.5 + wanted) / 2, 1e-5);

    ms::composed<ms::expected_attention, ms::per_layer> layer;
    layer.get<ms::expected_attention>().skipped = 0;
    driven two({.states = 1, .heads = 2, .kv_heads = 2, .head_dim = 1, .value_dim = 1, .scale = 1}, layer);
    two.step({1}, {1}, {4});
    two.step({-1}, {1}, {4});
    EXPECT_NEAR(two.forget()[0], 2 * wanted, 1e-5);
}

TEST(expected_attention, sinks_are_left_out_of_the_softmax) {
    driven d({.states = 8, .head_dim = 1, .value_dim = 1, .scale = 1}, plain());
    d.step({1000}, {1}, {1});
    for (int i = 0; i < 8; ++i) d.step({0}, {1}, {1});
    const auto scores = d.forget();
    EXPECT_EQ(support::forgotten(d.table), positions{1});
    EXPECT_NEAR(scores[1], 1 / 8.0, 1e-6);
}

TEST(expected_attention, saturated_and_zero_input_give_numbers) {
    driven saturated(line, plain()), zeros(line, plain());
    saturated.step({1000}, {1, 1}, {1000});
    saturated.step({-1000}, {1, 1}, {1000});
    saturated.step({0}, {1, 1}, {-1000});
    for (int i = 0; i < 3; ++i) zeros.step({0}, {0, 0}, {0});
    for (const float score : saturated.forget()) EXPECT_TRUE(std::isfinite(score));
    EXPECT_EQ(saturated.table.scores()[0], std::sqrt(2.0f));
    for (const float score : zeros.forget()) EXPECT_EQ(score, 0.0f);
    EXPECT_EQ(support::forgotten(zeros.table), positions{0});
}

TEST(expected_attention, one_state) {
    driven d({.states = 1, .head_dim = 2, .value_dim = 1, .scale = 1}, ms::expected_attention{});
    support::random_numbers random(3);
    for (int i = 0; i < 30; ++i) d.step(random.floats(2, 3), {1}, random.floats(2, 3));
    for (const float score : d.forget()) EXPECT_TRUE(std::isfinite(score));
}

TEST(expected_attention, a_copy_continues_alike_and_clear_forgets_the_queries) {
    support::random_numbers random(5);
    driven d({.states = 5, .heads = 2, .head_dim = 4, .value_dim = 3, .scale = 0.5f}, plain());
    for (int i = 0; i < 9; ++i) d.step(random.floats(4, 2), random.floats(3, 1), random.floats(4, 2));
    driven copy = d;
    const auto key = random.floats(4, 2), value = random.floats(3, 1), query = random.floats(4, 2);
    d.step(key, value, query);
    copy.step(key, value, query);
    EXPECT_EQ(d.forget(), copy.forget());
    d.table.clear();
    for (int i = 0; i < 6; ++i) d.step({1, 0, 0, 0}, {2, 0, 0}, {0, 0, 0, 0});
    EXPECT_NEAR(d.forget()[0], 2 / 6.0, 1e-6);
}

TEST(expected_attention, guards_leave_a_candidate) {
    for (std::size_t states = 1; states < 100; ++states) {
        const ms::guards g = ms::expected_attention::default_guards(states);
        EXPECT_LE(g.sinks + g.recent, states - 1);
    }
}

/// After a million tokens the count and the sum of squares are halved: mean and variance stay, and go on moving.
TEST(expected_attention, endless_texts_keep_their_moments) {
    const ms::table_shape s{.states = 2, .head_dim = 1, .value_dim = 1, .scale = 1};
    const auto policy = plain();
    support::hand_held held(policy, s, 1);
    const ms::view states = held.states();
    const auto memory = states.memory(policy);
    std::uint64_t& count = memory.count[0];
    const float& mean = memory.means[0][0];
    count = (1 << 20) - 1;
    memory.means[0][0] = 4;
    memory.squares[0][0] = 3 * static_cast<float>(count);
    const auto variance = [&] {
        float sum = memory.squares[0][0];
        for (std::uint32_t i = 0; i < memory.pending[0]; ++i) {
            sum += memory.factors[i] * memory.deviations[i][0] * memory.deviations[i][0];
        }
        return sum / static_cast<float>(count);
    };
    const auto ask = [&](float query) { policy.on_query({&query, 1, 1, 1}, states); };
    ask(6);
    EXPECT_LT(count, 1u << 20);
    EXPECT_NEAR(variance(), 3, 1e-4);
    for (int i = 0; i < (1 << 20); ++i) ask(i % 2 == 0 ? 7.0f : 9.0f);
    EXPECT_GT(mean, 6.5f) << "the newest million tokens are most of it";
    EXPECT_LT(mean, 8);
    EXPECT_LT(variance(), 8) << "between 3 and that of two means, 1 + 4";
    EXPECT_GT(variance(), 1);
}

/// One bad query used to turn the policy into a window until clear().
TEST(expected_attention, a_bad_query_is_as_zeros) {
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity(), 1e30f}) {
        const auto scores = [&](float query) {
            driven d(line, plain());
            d.step({1}, {3, 4}, {2});
            d.step({2}, {0, 1}, {query});
            d.step({-1}, {2, 0}, {4});
            return d.forget();
        };
        EXPECT_EQ(scores(bad), scores(0));
    }
}

}  // namespace expected_attention_test

namespace reference::expected_attention {

/// Mean and covariance of the vectors.
struct distribution {
    numbers mean;
    std::vector<numbers> covariance;

    explicit distribution(const std::vector<numbers>& x, std::size_t dimension)
        : mean(dimension), covariance(dimension, numbers(dimension)) {
        const double share = 1 / static_cast<double>(x.size());
        for (const numbers& one : x) add(scaled(one, share), mean);
        for (const numbers& one : x) {
            for (std::size_t r = 0; r < dimension; ++r) {
                for (std::size_t c = 0; c < dimension; ++c) {
                    covariance[r][c] += share * (one[r] - mean[r]) * (one[c] - mean[c]);
                }
            }
        }
    }
};

numbers expected(const evidence& e) {
    const std::size_t n = e.states().size();
    const std::size_t sinks = sinks_of(e, 4);
    const auto queries = queries_before_rotation(e);
    const rotation future = mean_rotation(e.past.back().position, e.shape.head_dim);
    numbers scores(n);
    for (std::size_t i = e.first_head(); i < e.end_head(); ++i) {
        const auto& held = e.held[i / e.shape.group()];
        const distribution of(queries[i], e.shape.head_dim);
        numbers logits;
        for (std::size_t j = sinks; j < n; ++j) {
            const numbers key = future.undone(held[j].key);  // R^T k
            double variance = 0;
            for (std::size_t r = 0; r < key.size(); ++r) variance += key[r] * dot(of.covariance[r], key);
            logits.push_back(e.shape.scale * dot(of.mean, key) + e.shape.scale * e.shape.scale * variance / 2);
        }
        const numbers attention = softmax(logits);
        for (std::size_t j = sinks; j < n; ++j) {
            scores[j] += attention[j - sinks] / static_cast<double>(e.shape.group()) * norm(held[j].value);
        }
    }
    return scores;
}

const registered rule{{.name = "expected_attention", .score = expected, .sinks = at_most<4, 8>}};

}  // namespace reference::expected_attention
