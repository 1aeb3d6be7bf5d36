// cur: hand-checked scores.
#include <algorithm>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/cur.hpp>
#include <multistate/table/table.hpp>

#include "reference/chunks.hpp"
#include "support/micro.hpp"
#include "support/stored.hpp"

namespace cur_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// Chunks of four tokens, two sinks.
constexpr ms::table_shape shape{.states = 16, .head_dim = 2, .value_dim = 2};

/// Keys of squared norm 1, 1, 2, 4 and values of 4, 2, 1, 1.
template <class P>
void place_chunk(ms::table<P>& table) {
    support::stored_floats stored(table.shape());
    const std::vector<float> keys[] = {{1, 0}, {0, -1}, {1, 1}, {0, 2}};
    const std::vector<float> values[] = {{-2, 0}, {1, 1}, {1, 0}, {0, -1}};
    for (std::size_t i = 0; i < 4; ++i) {
        stored.place(table, table.next_position(), support::vectors(table.shape().kv_heads, keys[i]),
                     support::vectors(table.shape().kv_heads, values[i]));
    }
}

TEST(cur, scores_are_products_of_shares) {
    ms::table<ms::cur> table(shape);
    place_chunk(table);
    const float expected[] = {1 / 8.0f * 4 / 8, 1 / 8.0f * 2 / 8, 2 / 8.0f * 1 / 8, 4 / 8.0f * 1 / 8};
    for (std::size_t j = 0; j < 4; ++j) EXPECT_FLOAT_EQ(table.scores()[j], expected[j]);
}

TEST(cur, shares_are_of_a_chunk_and_waiting_states_stay) {
    ms::table<ms::cur> table(shape);
    for (int i = 0; i < 4; ++i) place_chunk(table);
    EXPECT_FLOAT_EQ(table.scores()[15], 1 / 16.0f) << "the same in each chunk";
    support::stored_floats stored(shape);
    for (int p = 16; p < 19; ++p) stored.place(table, p, {{1e-3f, 0}}, {{1e-3f, 0}});
    EXPECT_EQ(std::ranges::count(table.scores(), ms::waiting), 3);
    const auto held = support::held(table);
    EXPECT_EQ(held.back(), 18);
    EXPECT_EQ(held[1], 1) << "a sink";
    EXPECT_EQ(std::ranges::count(held, 2), 0) << "of the equals in each chunk the oldest";
    EXPECT_EQ(std::ranges::count(held, 5), 0) << "and the next";
}

TEST(cur, window_matters) {
    ms::table<ms::cur> four(shape), all({.states = 64, .head_dim = 2, .value_dim = 2});
    place_chunk(four);
    place_chunk(all);
    EXPECT_LT(four.scores()[0], 1.0f);
    EXPECT_EQ(all.scores()[0], ms::waiting) << "its window has 16 tokens";
    for (int i = 0; i < 3; ++i) place_chunk(all);
    EXPECT_FLOAT_EQ(all.scores()[0], 1 / 32.0f * 4 / 32);
}

TEST(cur, zeros_and_equals_are_no_trouble) {
    support::stored_floats stored(shape);
    ms::table<ms::cur> zeros(shape), equal(shape);
    for (int p = 0; p < 20; ++p) {
        stored.place(zeros, p, {{0, 0}}, {{0, 0}});
        stored.place(equal, p, {{3, 4}}, {{5, 0}});
    }
    for (const float score : zeros.scores()) EXPECT_EQ(score, 0.0f);
    for (const float score : equal.scores()) EXPECT_FLOAT_EQ(score, 1 / 16.0f);
    const positions expected{0, 1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19};
    EXPECT_EQ(support::held(zeros), expected) << "the oldest behind the sinks go";
    EXPECT_EQ(support::held(equal), expected);
}

TEST(cur, small_tables_forget_the_oldest) {
    for (const std::size_t states : {1u, 2u, 15u}) {
        ms::table<ms::cur> table({.states = states, .head_dim = 2, .value_dim = 2});
        support::stored_floats stored(table.shape());
        const std::size_t sinks = ms::cur::default_guards(states).sinks;
        for (int p = 0; p < 20; ++p) stored.place(table, p, {{static_cast<float>(p), 1}}, {{1, 0}});
        const auto held = support::held(table);
        EXPECT_EQ(held[sinks], 19 - static_cast<int>(states - sinks)) << states;
    }
}

TEST(cur, a_layer_sums_over_its_heads) {
    ms::table<ms::composed<ms::cur, ms::per_layer>> table(
        {.states = 16, .heads = 2, .kv_heads = 2, .head_dim = 2, .value_dim = 2});
    place_chunk(table);
    EXPECT_FLOAT_EQ(table.scores()[0], 2 * 4 / 64.0f);
}

TEST(cur, a_copy_continues_alike) {
    ms::table<ms::cur> table(shape);
    place_chunk(table);
    support::stored_floats stored(shape);
    stored.place(table, 4, {{1, 2}}, {{3, 0}});
    auto copy = table;
    for (int p = 5; p < 8; ++p) stored.place(copy, p, {{1, 2}}, {{3, 0}});
    for (int p = 5; p < 8; ++p) stored.place(table, p, {{1, 2}}, {{3, 0}});
    EXPECT_FLOAT_EQ(table.scores()[4], 1 / 16.0f);
    EXPECT_EQ(copy.scores()[4], table.scores()[4]);
    table.clear();
    place_chunk(table);
    EXPECT_FLOAT_EQ(table.scores()[0], 4 / 64.0f) << "clear begins a chunk";
}

TEST(cur, another_budget_begins_a_chunk) {
    ms::table<ms::cur> table({.states = 64, .head_dim = 2, .value_dim = 2});
    place_chunk(table);
    static_cast<void>(table.rebudget(16));
    place_chunk(table);
    for (std::size_t row = 0; row < 4; ++row) EXPECT_EQ(table.scores()[row], 0.0f) << "their chunk never ended";
    EXPECT_FLOAT_EQ(table.scores()[4], 4 / 64.0f);
}

TEST(cur, guards_leave_a_candidate) {
    for (std::size_t states = 1; states < 100; ++states) {
        const ms::guards g = ms::cur::default_guards(states);
        EXPECT_LE(g.sinks + g.recent, states - 1);
    }
    EXPECT_EQ(ms::cur::default_guards(512).sinks, 4u);
}

}  // namespace cur_test

namespace reference::cur {

numbers share_of_norms(const evidence& e) {
    return by_chunks(e, 16, 0, 0, [](const chunk& p) {
        numbers scores(p.length);
        for (std::size_t h = p.e.first_kv_head; h < p.e.end_kv_head(); ++h) {
            double keys = 0, values = 0;
            for (std::size_t i = 0; i < p.length; ++i) {
                keys += dot(p[i].keys[h], p[i].keys[h]);
                values += dot(p[i].values[h], p[i].values[h]);
            }
            for (std::size_t i = 0; i < p.length; ++i) {
                scores[i] += dot(p[i].keys[h], p[i].keys[h]) / keys * (dot(p[i].values[h], p[i].values[h]) / values);
            }
        }
        return scores;
    });
}

// States that wait have one score.
const registered rule{{.name = "cur", .score = share_of_norms, .sinks = at_most<4, 8>, .ties_are_exact = true}};

}  // namespace reference::cur
