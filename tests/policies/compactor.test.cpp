// compactor: the blend of its parts, each of which has tests of its own.
#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/compactor.hpp>
#include <multistate/table/table.hpp>

#include "reference/chunks.hpp"
#include "support/micro.hpp"
#include "support/queries.hpp"
#include "support/random.hpp"
#include "support/stored.hpp"

namespace compactor_test {

namespace ms = multistate;
using floats = std::vector<float>;

/// Chunks of eight tokens behind four sinks.
constexpr ms::table_shape shape{.states = 32, .heads = 2, .head_dim = 4, .value_dim = 3, .scale = 0.5f};
constexpr int sinks = 4;

/// The scores of rows [sinks, sinks + 8) as numbers of mean 0 and deviation 1.
std::vector<double> z_scores(std::span<const float> x) {
    double mean = 0, squares = 0;
    for (std::size_t j = 0; j < 8; ++j) mean += static_cast<double>(x[j]) / 8;
    for (std::size_t j = 0; j < 8; ++j) squares += std::pow(static_cast<double>(x[j]) - mean, 2);
    std::vector<double> result;
    for (std::size_t j = 0; j < 8; ++j) result.push_back((static_cast<double>(x[j]) - mean) / std::sqrt(squares / 7));
    return result;
}

/// What it should be, from tables of its parts that never saw the sinks.
std::vector<double> expected(const ms::compactor& policy) {
    ms::leverage keys;
    keys.rope = policy.rope;
    keys.chunk = policy.chunk;
    keys.sketch = policy.sketch;
    keys.seed = policy.seed;
    ms::table<ms::leverage> far(shape, keys);
    ms::table<ms::noncausal> near(shape, {.chunk = policy.chunk, .scaled = policy.scaled});
    support::stored_floats stored(shape);
    for (std::uint64_t p = sinks; p < sinks + 8; ++p) {
        support::random_numbers random(p);
        const auto key = random.floats(4, 2), value = random.floats(3, 1), query = random.floats(4, 2);
        stored.place(far, static_cast<int>(p), {key}, {value});
        support::step(near, key, value, query);
    }
    const auto a = z_scores(far.scores()), b = z_scores(near.scores());
    std::vector<double> result;
    for (std::size_t j = 0; j < 8; ++j) result.push_back(static_cast<double>(policy.blend) * a[j] + b[j]);
    return result;
}

TEST(compactor, blends_z_scores_of_its_parts) {
    ms::compactor standard, blended, scaled, seeded, sketched, turned;
    blended.blend = 3;
    scaled.scaled = true;
    seeded.seed = 9;
    sketched.sketch = 2;
    turned.rope.base = 100;
    turned.rope.adjacent = false;
    std::vector<std::vector<double>> all;
    for (const auto& policy : {standard, blended, scaled, seeded, sketched, turned}) {
        ms::table<ms::compactor> table(shape, policy);
        for (std::uint64_t p = 0; p < sinks + 8; ++p) support::step_at_random(table, p);
        all.push_back(expected(policy));
        for (std::size_t j = 0; j < 8; ++j) EXPECT_NEAR(table.scores()[sinks + j], all.back()[j], 2e-4);
    }
    for (std::size_t i = 1; i < all.size(); ++i) EXPECT_NE(all[0], all[i]) << i;
}

TEST(compactor, chunks_begin_behind_all_sinks) {
    ms::table_shape more = shape;
    more.sinks = 2;
    ms::table<ms::compactor> table(more);
    for (std::uint64_t p = 0; p < sinks + 2 + 7; ++p) support::step_at_random(table, p);
    EXPECT_EQ(std::ranges::count(table.scores(), ms::waiting), 7);
    support::step_at_random(table, 99);
    EXPECT_EQ(std::ranges::count(table.scores(), ms::waiting), 0);
}

TEST(compactor, blocks_equal_single_steps) {
    for (const std::size_t block : {1u, 3u, 5u, 13u, 31u}) {
        support::expect_blocks_to_equal_single_steps<ms::compactor>(shape, block);
    }
}

TEST(compactor, equal_and_zero_input_give_numbers) {
    ms::table<ms::compactor> equal(shape), zeros(shape);
    for (int p = 0; p < 40; ++p) {
        support::step(equal, {1, 2, 3, 4}, {1, 1, 1}, {4, 3, 2, 1});
        support::step(zeros, {0, 0, 0, 0}, {0, 0, 0}, {0, 0, 0, 0});
    }
    for (const float score : equal.scores()) EXPECT_TRUE(std::isfinite(score));
    for (const float score : zeros.scores()) EXPECT_TRUE(score == 0 || score == ms::waiting);
    EXPECT_EQ(support::held(zeros)[sinks], sinks + 7) << "the oldest behind the sinks went";
}

TEST(compactor, small_tables_forget_the_oldest) {
    for (const std::size_t states : {1u, 2u, 15u}) {
        ms::table_shape small = shape;
        small.states = states;
        ms::table<ms::compactor> table(small);
        for (std::uint64_t p = 0; p < 20; ++p) support::step_at_random(table, p);
        const std::size_t own = ms::compactor::default_guards(states).sinks;
        EXPECT_EQ(support::held(table)[own], 19 - static_cast<int>(states - own)) << states;
    }
}

TEST(compactor, a_copy_continues_alike_and_another_budget_begins_anew) {
    ms::table_shape s = shape;
    s.block = 6;
    ms::table<ms::compactor> table(s);
    support::expect_copies_to_continue_and_budgets_to_begin_anew(table);
    for (std::uint64_t p = 0; p < 16; ++p) support::step_at_random(table, p);
    EXPECT_EQ(std::ranges::count(table.scores(), ms::waiting), 4) << "4 sinks, and a chunk of 8";
}

TEST(compactor, a_layer_sums_the_parts_of_its_heads) {
    ms::table_shape two = shape;
    two.kv_heads = 2;
    ms::table<ms::compactor> one(shape);
    ms::table<ms::composed<ms::compactor, ms::per_layer>> layer(two);
    for (std::uint64_t p = 0; p < 12; ++p) support::step_at_random(one, p);
    for (std::uint64_t p = 0; p < 12; ++p) support::step_at_random(layer, p);
    // Both heads see the same, so that sums are twice those of one, which z-scores do not show.
    for (std::size_t j = sinks; j < 12; ++j) EXPECT_NEAR(layer.scores()[j], one.scores()[j], 1e-4);
}

TEST(compactor, guards_leave_a_candidate) {
    for (std::size_t states = 1; states < 100; ++states) {
        const ms::guards g = ms::compactor::default_guards(states);
        EXPECT_LE(g.sinks + g.recent, states - 1);
    }
    EXPECT_EQ(ms::compactor::default_guards(512).sinks, 8u);
    EXPECT_EQ(ms::compactor::default_guards(512).recent, 4u);
}

}  // namespace compactor_test

namespace reference::compactor {

numbers blended(const evidence& e) {
    return by_chunks(e, 256, sinks_of(e, 8), 0, [](const chunk& p) {
        numbers scores(p.length);
        const auto held = p.held(p.first + p.length - 1);
        const auto add_z = [&](double weight, const numbers& x) {
            numbers of_held;
            for (const std::size_t i : held) of_held.push_back(x[i]);
            for (const std::size_t i : held) {
                scores[i] += weight * (x[i] - mean(of_held)) / std::max(1e-6, deviation(of_held));
            }
        };
        add_z(0.5, leverages_of(p));
        add_z(1, asked_by_neighbors(p));
        return scores;
    });
}

// States that wait have one score.
const registered rule{
    {.name = "compactor", .score = blended, .sinks = at_most<8, 8>, .recent = at_most<4, 8>, .ties_are_exact = true}};

}  // namespace reference::compactor
