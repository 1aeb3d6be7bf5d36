// triattention: means and rotations small enough to be computed by hand.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/triattention.hpp>
#include <multistate/table/table.hpp>

#include "reference/rotation.hpp"
#include "support/compressed_prompt.hpp"
#include "support/micro.hpp"
#include "support/queries.hpp"
#include "support/random.hpp"
#include "support/stored.hpp"

namespace triattention_test {

namespace ms = multistate;
using positions = std::vector<int>;
using floats = std::vector<float>;
using std::numbers::pi;

template <class P = ms::triattention>
struct driven {
    driven(const ms::table_shape& s, const P& policy) : table(s, policy), stored(s) {}
    /// The same key and query in all heads.
    void step(const floats& key, const floats& query) {
        stored.place(table, table.next_position(), support::vectors(table.shape().kv_heads, key),
                     support::vectors(table.shape().kv_heads, {0}));
        support::ask(table, support::vectors(table.shape().heads, query));
    }
    floats forget() {
        stored.forget(table);
        return {table.scores().begin(), table.scores().end()};
    }
    ms::table<P> table;
    support::stored_floats stored;
};

/// Numbers as they are, and one distance: two positions behind the newest.
ms::triattention plain() {
    ms::triattention policy;
    policy.normalized = false;
    policy.future = 1;
    return policy;
}
constexpr ms::table_shape pair{.states = 3, .head_dim = 2, .value_dim = 1};

/// What the authors' formulas give on the same numbers (per_layer_perhead, normalized).
TEST(triattention, a_prompt_as_published) {
    support::expect_prompt(
        support::compress_prompt(ms::triattention{}), {1, 3, 4, 6, 8, 9, 11, 12, 13, 14, 16, 17, 18, 19, 21, 22},
        {1.35707252, 0.49170678, 0.830244144, 1.32659867, 0.150164138, 1.01679466, 1.30152339, -0.662527816});
}

/// Before rotation all queries are (2, 0), and the keys point to 0, 90, 180 degrees: nothing but the mean query counts.
TEST(triattention, queries_and_keys_turn_with_their_positions) {
    for (const bool adjacent : {true, false}) {
        ms::triattention policy = plain();
        policy.rope.adjacent = adjacent;
        const ms::rope model{.adjacent = adjacent};
        driven d({.states = 3, .head_dim = 4, .value_dim = 1}, policy);
        const floats keys[] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {-1, 0, 0, 0}, {0, 0, 0, 0}};
        for (int p = 0; p < 4; ++p) {
            floats key = keys[p], query{2, 0, 0, 0};
            if (!adjacent) std::swap(key[1], key[2]);
            model.rotate(p, key);
            model.rotate(p, query);
            d.step(key, query);
        }
        const auto scores = d.forget();                        // the newest is 3, the query that counts is at 5
        EXPECT_EQ(support::forgotten(d.table), positions{1});  // cos(5 - 1 - pi / 2) is less than 0
        EXPECT_NEAR(scores[0], 2 * std::cos(5), 1e-5);
        EXPECT_NEAR(scores[2], 2 * std::cos(5 - 2 - pi), 1e-5);
    }
}

/// 1, 2 and 4 positions beyond the next.
TEST(triattention, distances_double) {
    ms::triattention policy = plain();
    policy.future = 7;
    driven d({.states = 1, .head_dim = 2, .value_dim = 1}, policy);
    d.step({-3, 0}, {1, 0});
    const ms::rope model;
    floats query{1, 0};
    model.rotate(1, query);
    d.step({0, 0}, query);
    EXPECT_NEAR(d.forget()[0], -(std::cos(3) + std::cos(4) + std::cos(6)), 1e-5);
}

/// Queries (3, 4) and (-3, -4) before rotation: no mean, a mean length of 5.
TEST(triattention, what_the_mean_loses_counts_by_length) {
    const ms::rope model;
    driven d(pair, plain());
    const floats keys[] = {{0, 2}, {0.6f, 0.8f}, {1, 0}, {-3, 0}};
    for (int p = 0; p < 4; ++p) {
        floats query = p % 2 == 0 ? floats{3, 4} : floats{-3, -4};
        model.rotate(p, query);
        d.step(keys[p], query);
    }
    const auto scores = d.forget();
    EXPECT_EQ(support::forgotten(d.table), positions{1});  // 1 and 2 are as long
    EXPECT_NEAR(scores[0], 10, 1e-4);
    EXPECT_NEAR(scores[2], 5, 1e-4);
}

/// Products 1 2 3 6: mean 3, deviation sqrt(3.5).
TEST(triattention, z_scores_are_over_what_is_not_guarded) {
    ms::triattention policy;
    policy.rope.base = 0;
    const auto scores_with = [&](std::size_t sinks) {
        driven d({.states = 4 + sinks - 1, .sinks = sinks, .head_dim = 1, .value_dim = 1}, policy);
        for (std::size_t i = 0; i < sinks; ++i) d.step({100}, {1});
        for (const float key : {2.0f, 1.0f, 3.0f, 6.0f}) d.step({key}, {1});
        return d.forget();
    };
    EXPECT_NEAR(scores_with(0)[0], -1 / std::sqrt(3.5), 1e-5);
    EXPECT_NEAR(scores_with(1)[1], -1 / std::sqrt(3.5), 1e-5);
}

TEST(triattention, a_group_and_a_layer_take_the_maximum) {
    ms::triattention policy = plain();
    policy.rope.base = 0;
    driven d({.states = 1, .heads = 2, .head_dim = 1, .value_dim = 1}, policy);
    d.stored.place(d.table, 0, {{2}}, {{0}});
    support::ask(d.table, {{-3}, {1}});
    d.stored.place(d.table, 1, {{-1}}, {{0}});
    support::ask(d.table, {{-3}, {1}});
    EXPECT_EQ(d.forget()[0], 3);  // of state 1; state 0 has 2

    ms::composed<ms::triattention, ms::per_layer> layer;
    layer.get<ms::triattention>() = policy;
    driven two({.states = 1, .heads = 2, .kv_heads = 2, .head_dim = 1, .value_dim = 1}, layer);
    two.stored.place(two.table, 0, {{2}, {-2}}, {{0}, {0}});
    support::ask(two.table, {{-3}, {-4}});
    two.stored.place(two.table, 1, {{0}, {0}}, {{0}, {0}});
    support::ask(two.table, {{-3}, {-4}});
    EXPECT_EQ(two.forget()[0], 8);
}

TEST(triattention, of_queries_of_zero_the_oldest_goes) {
    driven d(pair, ms::triattention{});
    for (int p = 0; p < 4; ++p) d.step({1, static_cast<float>(p)}, {0, 0});
    for (const float score : d.forget()) EXPECT_EQ(score, 0);
    EXPECT_EQ(support::forgotten(d.table), positions{0});
}

TEST(triattention, a_copy_continues_alike_and_clear_forgets_the_queries) {
    support::random_numbers random(5);
    const ms::table_shape shape{.states = 5, .heads = 2, .head_dim = 4, .value_dim = 1};
    driven d(shape, ms::triattention{}), fresh(shape, ms::triattention{});
    for (int i = 0; i < 9; ++i) d.step(random.floats(4, 2), random.floats(4, 2));
    driven copy = d;
    const auto key = random.floats(4, 2), query = random.floats(4, 2);
    d.step(key, query);
    copy.step(key, query);
    EXPECT_EQ(d.forget(), copy.forget());
    d.table.clear();
    for (int i = 0; i < 6; ++i) {
        const auto k = random.floats(4, 1), q = random.floats(4, 1);
        d.step(k, q);
        fresh.step(k, q);
    }
    EXPECT_EQ(d.forget(), fresh.forget());
}

}  // namespace triattention_test

namespace reference::triattention {

/// As published: amplitudes, phases and distances of pairs, keys and queries before rotation.
numbers trigonometric(const evidence& e) {
    const std::size_t n = e.states().size(), pairs = e.shape.head_dim / 2;
    const int next = e.past.back().position + 1;
    const auto angle = [](const numbers& x, std::size_t f) { return std::atan2(x[2 * f + 1], x[2 * f]); };
    const auto length = [](const numbers& x, std::size_t f) { return std::hypot(x[2 * f + 1], x[2 * f]); };
    numbers scores(n, -std::numeric_limits<double>::infinity());
    for (std::size_t i = e.first_head(); i < e.end_head(); ++i) {
        numbers centre(e.shape.head_dim), lengths(pairs), found(n);
        for (const token& t : e.past) {
            const numbers query = rotation(t.position, e.shape.head_dim).undone(t.queries[i]);
            add(scaled(query, 1 / static_cast<double>(e.past.size())), centre);
            for (std::size_t f = 0; f < pairs; ++f) {
                lengths[f] += length(query, f) / static_cast<double>(e.past.size());
            }
        }
        for (std::size_t j = 0; j < n; ++j) {
            const state& s = e.held[i / e.shape.group()][j];
            const numbers key = rotation(s.position, e.shape.head_dim).undone(s.key);
            for (std::size_t f = 0; f < pairs; ++f) {
                const double frequency = std::pow(10000, -static_cast<double>(f) / static_cast<double>(pairs));
                double cosines = 0;
                for (int power = 0; power <= 16; ++power) {
                    const double distance = next - s.position + std::pow(2, power);
                    cosines += std::cos(frequency * distance + angle(centre, f) - angle(key, f)) / 17;
                }
                found[j] += length(centre, f) * length(key, f) * cosines;
                found[j] += (lengths[f] - length(centre, f)) * length(key, f);
            }
            if (e.shape.head_dim % 2 == 1) found[j] += centre.back() * s.key.back();  // not rotated
        }
        const auto first = found.begin() + static_cast<std::ptrdiff_t>(e.shape.sinks);
        const numbers free(first, found.end() - static_cast<std::ptrdiff_t>(e.shape.recent.value_or(0)));
        double squares = 0;
        for (const double x : free) squares += (x - mean(free)) * (x - mean(free));
        const double spread = std::sqrt(squares / static_cast<double>(free.size()));
        for (std::size_t j = 0; j < n; ++j) {
            const double z = (found[j] - mean(free)) / std::max(1e-6, spread);
            scores[j] = std::max(scores[j], free.size() == 2 ? std::round(z) : z);  // of two, 1 and -1
        }
    }
    return scores;
}

const registered rule{{.name = "triattention", .score = trigonometric, .ties_are_exact = true}};

}  // namespace reference::triattention
