// capkv: weights and spans small enough to be computed by hand.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/capkv.hpp>
#include <multistate/table/table.hpp>

#include "reference/rotation.hpp"
#include "support/compressed_prompt.hpp"
#include "support/micro.hpp"
#include "support/queries.hpp"
#include "support/random.hpp"
#include "support/stored.hpp"

namespace capkv_test {

namespace ms = multistate;
using positions = std::vector<int>;
using floats = std::vector<float>;
using std::numbers::pi;

template <class P = ms::capkv>
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

/// No query is left out, and nothing is added to weights.
ms::capkv plain() {
    ms::capkv policy;
    policy.skipped = 0;
    policy.epsilon = 0;
    return policy;
}
constexpr ms::table_shape line{.states = 2, .head_dim = 1, .value_dim = 2};

/// What kvpress's formulas give on the same numbers with n_sink = 2.
TEST(capkv, a_prompt_as_published) {
    ms::capkv policy;
    policy.skipped = 2;
    const auto found = support::compress_prompt(policy);
    EXPECT_EQ(found.kept, (positions{0, 1, 2, 3, 5, 7, 11, 12, 13, 15, 16, 17, 18, 20, 22, 23}));
    const double scores[] = {0.194394643, 0.0931063834, 0.112319102,  0.30126754,  0.20157874,
                             0.129911582, 0.102439701,  0.0555096152, 0.115085446, 0.0386677809,
                             0.119176417, 0.199111697,  0.23312801,   0.0548334299};
    for (std::size_t i = 0; i < std::size(scores); ++i) EXPECT_NEAR(found.scores[i + 2], scores[i], 2e-6);
}

/// All keys look alike: A = I + sum of v v^T = diag(1 + 4 + 1, 1 + 9).
TEST(capkv, values_that_others_do_not_span_stay) {
    driven d(line, plain());
    d.step({1}, {2, 0}, {1});
    d.step({2}, {0, 3}, {1});
    d.step({3}, {1, 0}, {1});
    const auto scores = d.forget();
    EXPECT_EQ(support::forgotten(d.table), positions{2});
    EXPECT_NEAR(scores[0], 4 / 6.0, 1e-6);
    EXPECT_NEAR(scores[1], 9 / 10.0, 1e-6);
}

/// A key against the query counts e^-2 tau of one along it, whatever its length.
TEST(capkv, weights_fall_with_the_angle_to_the_mean_query) {
    ms::capkv policy = plain();
    policy.tau = 0.5f;
    driven d(line, policy);
    d.step({-7}, {2, 0}, {3});
    d.step({2}, {0, 3}, {-1});
    d.step({1}, {0, 1}, {1});
    const double w = std::exp(-1);
    const auto scores = d.forget();
    EXPECT_EQ(support::forgotten(d.table), positions{2});
    EXPECT_NEAR(scores[0], w * 4 / (1 + w * 4), 1e-6);
    EXPECT_NEAR(scores[1], 9 / 11.0, 1e-6);
}

/// Weights are of the greatest cosine among those that count, so it does not matter that none is above 0.
TEST(capkv, epsilon_adds_to_the_span_only) {
    ms::capkv policy = plain();
    policy.epsilon = 0.5f;
    driven d(line, policy);
    for (int i = 0; i < 3; ++i) d.step({-1}, i == 0 ? floats{2, 0} : floats{0, 1}, {1});
    EXPECT_NEAR(d.forget()[0], 4 / (1 + 1.5 * 4), 1e-6);
}

/// Over half a turn of the fast pair the mean rotation points to the middle.
TEST(capkv, the_mean_query_turns_to_the_positions_to_come) {
    ms::capkv policy = plain();
    policy.future = 314;
    policy.rope.stretch = 100;
    driven d({.states = 2, .head_dim = 2, .value_dim = 1}, policy);
    d.step({0, 5}, {1}, {1, 0});
    d.step({3, 0}, {1}, {std::cos(0.01f), std::sin(0.01f)});
    d.step({0, 2}, {1}, {std::cos(0.02f), std::sin(0.02f)});
    const auto scores = d.forget();  // keys at 90, 0 and 90 degrees; the query at 0.03 + 89.95
    EXPECT_EQ(support::forgotten(d.table), positions{1});
    EXPECT_NEAR(scores[0], 1 / 3.0, 1e-2);
}

TEST(capkv, a_group_is_averaged_and_a_layer_summed) {
    driven d({.states = 1, .heads = 2, .head_dim = 1, .value_dim = 1}, plain());
    d.stored.place(d.table, 0, {{1}}, {{1}});
    support::ask(d.table, {{1}, {-1}});
    d.stored.place(d.table, 1, {{-1}}, {{2}});
    support::ask(d.table, {{1}, {-1}});
    const double w = std::exp(-10);
    EXPECT_NEAR(d.forget()[0], (w * 4 / (2 + 4 * w) + 4 / (1 + w + 4)) / 2, 1e-6);

    ms::composed<ms::capkv, ms::per_layer> layer;
    layer.get<ms::capkv>() = plain();
    driven two({.states = 1, .heads = 2, .kv_heads = 2, .head_dim = 1, .value_dim = 1}, layer);
    two.step({1}, {1}, {1});
    two.step({1}, {2}, {1});
    EXPECT_NEAR(two.forget()[0], 2 * 4 / 6.0, 1e-6);
}

TEST(capkv, sinks_are_left_out_of_the_sums) {
    driven d({.states = 8, .head_dim = 1, .value_dim = 1}, plain());
    d.step({-1}, {100}, {1});
    for (int i = 0; i < 8; ++i) d.step({1}, {1}, {1});
    const auto scores = d.forget();
    EXPECT_EQ(support::forgotten(d.table), positions{1});
    EXPECT_NEAR(scores[1], 1 / 9.0, 1e-6);
}

TEST(capkv, great_and_zero_values_give_numbers) {
    for (const float size : {1e2f, 1e4f, 5e8f}) {
        driven d(line, plain());
        d.step({1}, {size, size}, {1});
        d.step({2}, {size, size * 1.0001f}, {1});
        d.step({0}, {1, -1}, {0});
        for (const float score : d.forget()) EXPECT_TRUE(std::isfinite(score)) << size;
    }
    driven zeros(line, plain());
    for (int i = 0; i < 3; ++i) zeros.step({0}, {0, 0}, {0});
    for (const float score : zeros.forget()) EXPECT_EQ(score, 0.0f);
    EXPECT_EQ(support::forgotten(zeros.table), positions{0});
}

TEST(capkv, a_copy_continues_alike_and_clear_forgets_the_queries) {
    support::random_numbers random(5);
    const ms::table_shape shape{.states = 5, .heads = 2, .head_dim = 4, .value_dim = 3};
    driven d(shape, plain()), fresh(shape, plain());
    for (int i = 0; i < 9; ++i) d.step(random.floats(4, 2), random.floats(3, 1), random.floats(4, 2));
    driven copy = d;
    const auto key = random.floats(4, 2), value = random.floats(3, 1), query = random.floats(4, 2);
    d.step(key, value, query);
    copy.step(key, value, query);
    EXPECT_EQ(d.forget(), copy.forget());
    d.table.clear();
    for (int i = 0; i < 6; ++i) {
        const auto k = random.floats(4, 1), v = random.floats(3, 1), q = random.floats(4, 1);
        d.step(k, v, q);
        fresh.step(k, v, q);
    }
    EXPECT_EQ(d.forget(), fresh.forget());
}

TEST(capkv, guards_leave_a_candidate) {
    for (std::size_t states = 1; states < 100; ++states) {
        EXPECT_LE(ms::capkv::default_guards(states).sinks, states - 1);
    }
}

}  // namespace capkv_test

namespace reference::capkv {

numbers capacity(const evidence& e) {
    const std::size_t n = e.states().size(), d = e.shape.value_dim;
    const std::size_t sinks = sinks_of(e, 4);
    const auto queries = queries_before_rotation(e);
    const rotation future = mean_rotation(e.past.back().position, e.shape.head_dim);
    numbers scores(n);
    for (std::size_t i = e.first_head(); i < e.end_head(); ++i) {
        const auto& held = e.held[i / e.shape.group()];
        numbers mean(e.shape.head_dim);
        for (const numbers& q : queries[i]) add(scaled(q, 1 / static_cast<double>(queries[i].size())), mean);
        const numbers anchor = future.done(mean);
        numbers cosines(n, -1);
        for (std::size_t j = sinks; j < n; ++j) {
            const double lengths = norm(anchor) * norm(held[j].key);
            cosines[j] = lengths > 0 ? dot(anchor, held[j].key) / lengths : 0;
        }
        const double most = *std::max_element(cosines.begin() + static_cast<std::ptrdiff_t>(sinks), cosines.end());
        std::vector<numbers> a(d, numbers(d));
        for (std::size_t c = 0; c < d; ++c) a[c][c] = 1;
        for (std::size_t j = sinks; j < n; ++j) {
            const double weight = std::exp(5 * (cosines[j] - most)) + 1e-6;
            for (std::size_t c = 0; c < d; ++c) add(scaled(held[j].value, weight * held[j].value[c]), a[c]);
        }
        for (std::size_t j = sinks; j < n; ++j) {
            scores[j] += std::exp(5 * (cosines[j] - most)) * dot(held[j].value, solve(a, held[j].value)) /
                         static_cast<double>(e.shape.group());
        }
    }
    return scores;
}

const registered rule{{.name = "capkv", .score = capacity, .sinks = at_most<4, 8>}};

}  // namespace reference::capkv
