// noncausal: attention within a chunk, computed by hand.
#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/noncausal.hpp>
#include <multistate/table/table.hpp>

#include "reference/chunks.hpp"
#include "support/micro.hpp"
#include "support/queries.hpp"
#include "support/stored.hpp"

namespace noncausal_test {

namespace ms = multistate;
using positions = std::vector<int>;
using floats = std::vector<float>;

/// Chunks of four tokens.
constexpr ms::table_shape shape{.states = 16, .head_dim = 1, .value_dim = 2, .scale = 0.5f};

template <class P>
floats scores(const ms::table<P>& table) {
    return {table.scores().begin(), table.scores().end()};
}

/// All queries are 0, so each token attends evenly to its chunk: the sums are 1, the norms 1 2 5 8.
template <class P>
void place_even_chunk(ms::table<P>& table) {
    for (const floats& value : {floats{1, 0}, {0, 2}, {-3, 4}, {0, -8}}) support::step(table, {7}, value, {0});
}

TEST(noncausal, sums_times_norms_in_the_mean_of_three) {
    ms::table<ms::noncausal> table(shape);
    place_even_chunk(table);
    const float expected[] = {(1 + 2) / 2.0f, (1 + 2 + 5) / 3.0f, (2 + 5 + 8) / 3.0f, (5 + 8) / 2.0f};
    for (std::size_t j = 0; j < 4; ++j) EXPECT_FLOAT_EQ(table.scores()[j], expected[j]);
}

/// The first token's query finds the last token's key, and nobody asks for the first.
TEST(noncausal, tokens_attend_to_what_follows) {
    ms::table<ms::noncausal> table(shape);
    support::step(table, {0}, {1, 0}, {50});
    for (int p = 1; p < 4; ++p) support::step(table, {p == 3 ? 2.0f : 1.0f}, {1, 0}, {0});
    const double shared = 3 / 4.0;  // of the other three
    EXPECT_NEAR(table.scores()[0], shared, 1e-5);
    EXPECT_NEAR(table.scores()[2], (2 * shared + shared + 1) / 3, 1e-5);
    EXPECT_NEAR(table.scores()[3], (2 * shared + 1) / 2, 1e-5);
}

/// A chunk that a rebudget shortens does not end with the query of its token after that.
TEST(noncausal, a_query_after_a_rebudget_belongs_to_no_chunk) {
    ms::table<ms::noncausal> table({.states = 32, .head_dim = 1, .value_dim = 2, .scale = 0.5f});
    support::stored_floats stored(shape);
    for (int p = 0; p < 3; ++p) support::step(table, {1}, {1, 0}, {0});
    stored.place(table, 3, {{1}}, {{1, 0}});
    static_cast<void>(table.rebudget(16));  // chunks of four
    support::ask(table, {{0}});
    EXPECT_EQ(scores(table), floats(4, ms::waiting));
    place_even_chunk(table);
    EXPECT_EQ(table.scores()[0], 0.0f);
    EXPECT_FLOAT_EQ(table.scores()[4], (1 + 2) / 2.0f);
}

TEST(noncausal, pieces_end_with_the_query_of_their_last_token) {
    ms::table<ms::noncausal> table(shape);
    support::stored_floats stored(shape);
    for (int p = 0; p < 3; ++p) support::step(table, {1}, {1, 0}, {0});
    stored.place(table, 3, {{1}}, {{1, 0}});
    EXPECT_EQ(scores(table), floats(4, ms::waiting));
    support::ask(table, {{0}});
    for (const float score : table.scores()) EXPECT_FLOAT_EQ(score, 1.0f);
}

TEST(noncausal, forgets_the_least_that_has_a_score) {
    ms::table<ms::noncausal> table(shape);
    for (int i = 0; i < 4; ++i) place_even_chunk(table);
    positions gone;
    for (int p = 16; p < 22; ++p) {
        support::step(table, {0}, {0, 0}, {0});
        for (const int one : support::forgotten(table)) gone.push_back(one);
    }
    // 16 to 19 have nothing to say, but that is known only when they all are there.
    EXPECT_EQ(gone, (positions{0, 4, 8, 16, 17}));
}

TEST(noncausal, scale_and_chunk_matter) {
    for (const bool scaled : {false, true}) {
        ms::table<ms::noncausal> table(shape, {.scaled = scaled});
        for (const float key : {0.0f, 1.0f, 1.0f, 1.0f}) support::step(table, {key}, {1, 0}, {2});
        const double e = std::exp(scaled ? 1 : 2), first = 4 / (1 + 3 * e), other = 4 * e / (1 + 3 * e);
        EXPECT_NEAR(table.scores()[0], (first + other) / 2, 1e-5);
    }
    ms::table<ms::noncausal> four({.states = 64, .head_dim = 1, .value_dim = 2}, {.chunk = 4}),
        all({.states = 64, .head_dim = 1, .value_dim = 2});
    place_even_chunk(four);
    place_even_chunk(all);
    EXPECT_FLOAT_EQ(four.scores()[0], 1.5f);
    EXPECT_EQ(all.scores()[0], ms::waiting) << "a quarter of the states is 16";
}

TEST(noncausal, blocks_equal_single_steps) {
    const ms::table_shape grouped{.states = 16, .heads = 4, .kv_heads = 2, .head_dim = 3, .value_dim = 2};
    for (const std::size_t block : {2u, 3u, 4u, 5u, 13u, 31u}) {
        support::expect_blocks_to_equal_single_steps<ms::noncausal>(grouped, block);
    }
}

TEST(noncausal, groups_and_heads_are_summed) {
    ms::table<ms::noncausal> group({.states = 16, .heads = 3, .head_dim = 1, .value_dim = 2});
    ms::table<ms::composed<ms::noncausal, ms::per_layer>> layer(
        {.states = 16, .heads = 2, .kv_heads = 2, .head_dim = 1, .value_dim = 2});
    place_even_chunk(group);
    place_even_chunk(layer);
    EXPECT_FLOAT_EQ(group.scores()[0], 4.5f);
    EXPECT_FLOAT_EQ(layer.scores()[0], 3.0f);
}

TEST(noncausal, saturated_equal_and_zero_input_give_numbers) {
    ms::table<ms::noncausal> saturated(shape), zeros(shape);
    for (int p = 0; p < 18; ++p) {
        support::step(saturated, {p % 4 == 1 ? 1e4f : -1e4f}, {1, 0}, {1e4f});
        support::step(zeros, {0}, {0, 0}, {0});
    }
    EXPECT_EQ(saturated.scores()[0], 2.0f) << "all four for token 1, shared with its neighbors";
    EXPECT_EQ(support::held(zeros).front(), 1);
    for (const float score : zeros.scores()) EXPECT_FALSE(std::isnan(score));
}

TEST(noncausal, small_tables_forget_the_oldest) {
    for (const std::size_t states : {1u, 2u, 15u}) {
        ms::table<ms::noncausal> table({.states = states, .head_dim = 1, .value_dim = 2});
        for (int p = 0; p < 20; ++p) support::step(table, {1}, {static_cast<float>(p), 1}, {1});
        EXPECT_EQ(support::held(table).front(), 19 - static_cast<int>(states)) << states;
    }
}

TEST(noncausal, a_copy_continues_alike_and_another_budget_begins_anew) {
    ms::table<ms::noncausal> table({.states = 40, .block = 7, .heads = 2, .head_dim = 3, .value_dim = 2});
    support::expect_copies_to_continue_and_budgets_to_begin_anew(table);
    for (std::uint64_t p = 0; p < 8; ++p) support::step_at_random(table, p);
    EXPECT_NE(table.scores()[0], ms::waiting) << "clear begins a chunk";
}

}  // namespace noncausal_test

namespace reference::noncausal {

numbers noncausal_attention(const evidence& e) { return by_chunks(e, 256, 0, 0, asked_by_neighbors); }

// States that wait have one score.
const registered rule{{.name = "noncausal", .score = noncausal_attention, .ties_are_exact = true}};

}  // namespace reference::noncausal
