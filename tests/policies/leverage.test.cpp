// leverage: where the sketch has as many columns as keys have numbers, leverage is that of the keys themselves.
#include <cmath>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/leverage.hpp>
#include <multistate/table/table.hpp>

#include "reference/chunks.hpp"
#include "support/micro.hpp"
#include "support/random.hpp"
#include "support/stored.hpp"

namespace leverage_test {

namespace ms = multistate;
using positions = std::vector<int>;
using floats = std::vector<float>;

/// Chunks of four tokens, two columns for keys of two numbers.
constexpr ms::table_shape shape{.states = 16, .head_dim = 2, .value_dim = 1};
/// Around their mean (5, 5) these are (30, 0), (-10, 0), (-10, 10), (-10, -10): X^T X = diag(1200, 200).
const std::vector<floats> chunk{{35, 5}, {-5, 5}, {-5, 15}, {-5, -5}};
const floats by_hand{900 / 1200.0f, 100 / 1200.0f, 100 / 1200.0f + 0.5f, 100 / 1200.0f + 0.5f};

ms::leverage unrotated() {
    ms::leverage policy;
    policy.rope.base = 0;
    return policy;
}

template <class P>
void place(ms::table<P>& table, const floats& key) {
    support::stored_floats stored(table.shape());
    const std::size_t heads = table.shape().kv_heads;
    stored.place(table, table.next_position(), support::vectors(heads, key), support::vectors(heads, {0}));
}

TEST(leverage, of_a_chunk_by_hand) {
    ms::table<ms::leverage> table(shape, unrotated());
    for (std::size_t i = 0; i < 3; ++i) place(table, chunk[i]);
    EXPECT_EQ(table.scores()[0], ms::waiting);
    place(table, chunk[3]);
    for (std::size_t j = 0; j < 4; ++j) EXPECT_NEAR(table.scores()[j], by_hand[j], 1e-3);
    for (std::size_t p = 4; p < 18; ++p) place(table, chunk[p % 4]);
    EXPECT_EQ(support::forgotten(table), positions{1}) << "nearest to the mean, and the first of four such";
}

TEST(leverage, is_of_keys_before_their_rotation) {
    for (const bool adjacent : {true, false}) {
        ms::leverage policy;
        policy.rope.base = 500;
        policy.rope.adjacent = adjacent;
        ms::table<ms::leverage> table({.states = 16, .head_dim = 4, .value_dim = 1}, policy);
        const ms::rope model{.base = 500, .adjacent = adjacent};
        for (int p = 0; p < 4; ++p) {
            const auto& key = chunk[static_cast<std::size_t>(p)];
            floats rotated{key[0], key[1], 0, 0};
            model.rotate(p, rotated);
            place(table, rotated);
        }
        // Two columns of a sketch of (x, y, 0, 0) see all of (x, y).
        for (std::size_t j = 0; j < 4; ++j) EXPECT_NEAR(table.scores()[j], by_hand[j], 5e-3) << adjacent;
    }
}

floats scores_of(const ms::leverage& policy, std::size_t states = 16) {
    support::random_numbers random(8);
    ms::table<ms::leverage> table({.states = states, .head_dim = 16, .value_dim = 1}, policy);
    for (std::size_t i = 0; i < states; ++i) place(table, random.floats(16, 3));
    return {table.scores().begin(), table.scores().end()};
}

TEST(leverage, every_number_matters) {
    const auto standard = scores_of({});
    EXPECT_EQ(standard, scores_of({}));
    ms::leverage seeded, sketched, ridged, rotated;
    seeded.seed = 1;
    sketched.sketch = 1;
    ridged.ridge = 100;
    rotated.rope.base = 50000;
    for (const auto& other : {seeded, sketched, ridged, rotated}) EXPECT_NE(standard, scores_of(other));
    ms::leverage chunked;
    chunked.chunk = 8;
    EXPECT_NE(scores_of({}, 64), scores_of(chunked, 64));
}

TEST(leverage, sums_to_the_columns_of_the_sketch) {
    for (const std::size_t sketch : {1u, 5u, 48u}) {
        ms::leverage policy;
        policy.sketch = sketch;
        policy.ridge = 1e-4f;
        const auto scores = scores_of(policy, 64);
        double sum = 0;
        for (std::size_t i = 0; i < 16; ++i) sum += static_cast<double>(scores[i]);
        EXPECT_NEAR(sum, static_cast<double>(std::min<std::size_t>(sketch, 8)), 1e-2) << "no more than half of 16";
    }
}

TEST(leverage, the_random_matrix_is_gaussian) {
    // Keys are unit vectors, so the squared lengths of their sketches are those of rows of the matrix: near 1 on
    // average. Seen through ridges so great that leverage is |x|^2 / ridge.
    ms::leverage policy = unrotated();
    policy.ridge = 1e6f;
    double sum = 0, squares = 0;
    for (std::size_t seed = 0; seed < 5; ++seed) {
        policy.seed = seed;
        ms::table<ms::leverage> table({.states = 400, .head_dim = 100, .value_dim = 1}, policy);
        for (std::size_t i = 0; i < 100; ++i) {
            floats key(100);
            key[i] = 1;
            place(table, key);
        }
        for (std::size_t i = 0; i < 100; ++i) {
            const double square = static_cast<double>(table.scores()[i]) * 1e6 * 100 / 99;  // the mean is taken off
            sum += square / 500;
            squares += square * square / 500;
        }
    }
    EXPECT_NEAR(sum, 1, 0.03);
    EXPECT_NEAR(squares - sum * sum, 2.0 / 48, 0.01) << "chi square of 48";
}

TEST(leverage, equal_and_zero_keys_score_alike) {
    ms::table<ms::leverage> equal(shape, unrotated()), zeros(shape);
    for (int p = 0; p < 18; ++p) place(equal, {3, 4});
    for (int p = 0; p < 18; ++p) place(zeros, {0, 0});
    EXPECT_EQ(support::held(equal).front(), 1);
    EXPECT_EQ(support::held(zeros).front(), 1);
    for (const float score : zeros.scores()) EXPECT_FALSE(std::isnan(score));
}

TEST(leverage, small_tables_forget_the_oldest) {
    for (const std::size_t states : {1u, 2u, 15u}) {
        ms::table<ms::leverage> table({.states = states, .head_dim = 2, .value_dim = 1});
        for (int p = 0; p < 20; ++p) place(table, chunk[static_cast<std::size_t>(p) % 4]);
        EXPECT_EQ(support::held(table).front(), 19 - static_cast<int>(states)) << states;
    }
}

TEST(leverage, a_layer_sums_over_its_heads) {
    ms::composed<ms::leverage, ms::per_layer> policy;
    policy.get<ms::leverage>().rope.base = 0;
    ms::table<ms::composed<ms::leverage, ms::per_layer>> table(
        {.states = 16, .heads = 2, .kv_heads = 2, .head_dim = 2, .value_dim = 1}, policy);
    for (const floats& key : chunk) place(table, key);
    for (std::size_t j = 0; j < 4; ++j) EXPECT_NEAR(table.scores()[j], 2 * by_hand[j], 2e-3);
}

TEST(leverage, a_copy_continues_alike_and_another_budget_begins_anew) {
    support::random_numbers random(2);
    ms::table<ms::leverage> table({.states = 40, .head_dim = 6, .value_dim = 1});
    for (int p = 0; p < 25; ++p) place(table, random.floats(6, 1));
    auto copy = table;
    for (int p = 25; p < 60; ++p) {
        const auto key = random.floats(6, 1);
        place(table, key);
        place(copy, key);
    }
    EXPECT_EQ(support::held(table), support::held(copy));
    for (const std::size_t states : {17u, 90u, 33u}) {
        static_cast<void>(table.rebudget(states));
        for (int i = 0; i < 40; ++i) place(table, random.floats(6, 1));
        for (const float score : table.scores()) EXPECT_TRUE(std::isfinite(score));
        EXPECT_LE(static_cast<std::size_t>(std::ranges::count(table.scores(), ms::waiting)), states / 4);
    }
}

TEST(leverage, must_be_told_how_long_keys_are) {
    EXPECT_THROW(ms::table<ms::leverage>({.states = 16}), std::invalid_argument);
}

}  // namespace leverage_test

namespace reference::leverage {

numbers leverage_scores(const evidence& e) { return by_chunks(e, 512, 0, 0, leverages_of); }

// States that wait have one score.
const registered rule{{.name = "leverage", .score = leverage_scores, .ties_are_exact = true}};

}  // namespace reference::leverage
