// random: reproducible, and at any time a uniform sample of the text.
#include <algorithm>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/random.hpp>
#include <multistate/table/table.hpp>

#include "reference/numbers.hpp"
#include "reference/rule.hpp"
#include "support/micro.hpp"

namespace random_policy_test {

namespace ms = multistate;
using positions = std::vector<int>;

positions kept(ms::table_shape shape, std::size_t seed, int tokens) {
    ms::table<ms::random> table(shape, {.seed = seed});
    support::fill(table, tokens, 1);
    static_cast<void>(table.forget());
    return support::held(table);
}

TEST(random, keeps_the_greatest_of_one_number_per_position) {
    std::vector<std::pair<float, int>> draws;
    for (int p = 0; p < 50; ++p) draws.emplace_back(ms::uniform(ms::random_bits(9, 2, 4, p)), p);
    std::ranges::sort(draws, std::greater());
    positions expected;
    for (std::size_t i = 0; i < 6; ++i) expected.push_back(draws[i].second);
    std::ranges::sort(expected);
    EXPECT_EQ(kept({.states = 6, .layer = 2, .kv_head = 4}, 9, 50), expected);
}

TEST(random, repeats_for_the_same_seed_layer_and_head_only) {
    const auto base = kept({.states = 8}, 0, 60);
    EXPECT_EQ(kept({.states = 8}, 0, 60), base);
    EXPECT_NE(kept({.states = 8}, 1, 60), base);
    EXPECT_NE(kept({.states = 8, .layer = 1}, 0, 60), base);
    EXPECT_NE(kept({.states = 8, .kv_head = 1}, 0, 60), base);
}

/// 8 of 32 positions in 2000 draws: each should stay 500 times, with a standard deviation of 19.
TEST(random, samples_the_text_evenly) {
    std::vector<int> stayed(32);
    for (std::size_t seed = 0; seed < 2000; ++seed) {
        for (const int p : kept({.states = 8}, seed, 32)) ++stayed[static_cast<std::size_t>(p)];
    }
    for (const int n : stayed) {
        EXPECT_GT(n, 500 - 90);
        EXPECT_LT(n, 500 + 90);
    }
}

TEST(random, draws_for_blocks_as_for_single_tokens) {
    ms::table<ms::random> table({.states = 6, .block = 30});
    static_cast<void>(table.append(0, 30));
    for (std::size_t row = 0; row < 30; ++row) table.observe_arrival(row, {}, {});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), kept({.states = 6}, 0, 30));
}

}  // namespace random_policy_test

namespace reference::random {

numbers drawn_at_arrival(const evidence& e) {
    numbers scores;
    for (const state& s : e.states()) {
        const auto bits = hash(0, {0, e.shape.layer, e.first_kv_head, static_cast<std::size_t>(s.position)});
        scores.push_back(static_cast<double>(bits >> 40) / 16777216);
    }
    return scores;
}

const registered rule{{.name = "random", .score = drawn_at_arrival, .ties_are_exact = true}};

}  // namespace reference::random
