// keyformer: its formula in double precision on a few states, and what its numbers do.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/keyformer.hpp>
#include <multistate/table/table.hpp>

#include "reference/numbers.hpp"
#include "reference/rule.hpp"
#include "support/micro.hpp"
#include "support/uniform.hpp"

namespace keyformer_test {

namespace ms = multistate;
using floats = std::vector<float>;

/// softmax over j of ((log a[j] + g[j]) / tau), for positions 0, 1, 2 …
std::vector<double> noisy(const floats& attention, double tau, std::size_t seed, std::size_t layer, std::size_t head,
                          int query) {
    std::vector<double> result;
    double total = 0;
    for (std::size_t j = 0; j < attention.size(); ++j) {
        const double u =
            support::open_uniform(ms::random_bits(seed, layer, head, query), static_cast<std::uint32_t>(j));
        const double gumbel = -std::log(-std::log(u));
        result.push_back(std::exp((std::log(static_cast<double>(attention[j])) + gumbel) / tau));
        total += result.back();
    }
    for (double& x : result) x /= total;
    return result;
}

/// A table that holds positions [0, count) and has seen nothing of them.
ms::table<ms::keyformer> holding(std::size_t count, ms::keyformer policy, ms::table_shape shape = {.states = 8}) {
    shape.block = count;
    ms::table<ms::keyformer> table(shape, policy);
    static_cast<void>(table.append(0, count));
    return table;
}

void expect_near(const ms::table<ms::keyformer>& table, const std::vector<double>& expected) {
    for (std::size_t j = 0; j < expected.size(); ++j) {
        EXPECT_NEAR(static_cast<double>(table.scores()[j]), expected[j], 2e-6 * expected[j] + 1e-9) << "row " << j;
    }
}

TEST(keyformer, adds_the_softmax_of_noisy_logits) {
    auto table = holding(3, {.seed = 5}, {.states = 8, .layer = 2, .kv_head = 3, .heads = 2, .kv_heads = 1});
    const std::vector<floats> seen{{0.5f, 0.3f, 0.2f}, {0.05f, 0.05f, 0.9f}};
    std::vector<double> expected(3);
    for (int times = 0; times < 2; ++times) {
        for (std::size_t i = 0; i < 2; ++i) {
            const auto one = noisy(seen[i], 1, 5, 2, 3 * 2 + i, 2);
            for (std::size_t j = 0; j < 3; ++j) expected[j] += one[j];
        }
        support::observe(table, seen);
        expect_near(table, expected);
    }
}

TEST(keyformer, warms_up_after_the_prompt) {
    auto table = holding(4, {.generation = 4});
    const floats seen{0.6f, 0.1f, 0.1f, 0.2f};
    std::vector<double> expected(4);
    const auto add = [&](double tau) {
        const auto one = noisy(seen, tau, 0, 0, 0, 3);
        for (std::size_t j = 0; j < 4; ++j) expected[j] += one[j];
        support::observe(table, {seen});
        expect_near(table, expected);
    };
    add(1);
    add(1);
    table.finish_prompt();
    for (const double tau : {1.25, 1.5, 1.75, 2.0, 2.0, 2.0}) add(tau);
    auto copy = table;
    support::observe(copy, {seen});
    add(2);
    EXPECT_TRUE(std::ranges::equal(copy.scores(), table.scores())) << "a copy is as warm";
    table.clear();
    static_cast<void>(table.append(0, 4));
    expected.assign(4, 0);
    add(1);
}

TEST(keyformer, its_temperatures_are_parameters) {
    auto table = holding(2, {.first_temperature = 0.5f, .last_temperature = 4, .generation = 1});
    support::observe(table, {{0.7f, 0.3f}});
    expect_near(table, noisy({0.7f, 0.3f}, 0.5, 0, 0, 0, 1));
    auto warm = holding(2, {.first_temperature = 0.5f, .last_temperature = 4, .generation = 1});
    warm.finish_prompt();
    support::observe(warm, {{0.7f, 0.3f}});
    expect_near(warm, noisy({0.7f, 0.3f}, 4, 0, 0, 0, 1));
}

TEST(keyformer, noise_differs_by_seed_layer_head_query_and_key) {
    const auto first_score = [](ms::keyformer policy, ms::table_shape shape, std::vector<floats> seen) {
        auto table = holding(seen[0].size(), policy, shape);
        support::observe(table, seen);
        return table.scores()[0];
    };
    const float base = first_score({}, {.states = 8}, {{0.5f, 0.5f}});
    EXPECT_EQ(first_score({}, {.states = 8}, {{0.5f, 0.5f}}), base);
    EXPECT_NE(base, 0.5f);
    EXPECT_NE(first_score({.seed = 1}, {.states = 8}, {{0.5f, 0.5f}}), base);
    EXPECT_NE(first_score({}, {.states = 8, .layer = 1}, {{0.5f, 0.5f}}), base);
    EXPECT_NE(first_score({}, {.states = 8, .kv_head = 1}, {{0.5f, 0.5f}}), base);
    EXPECT_NE(first_score({}, {.states = 8, .heads = 2}, {{0.5f, 0.5f}, {0.5f, 0.5f}}), 2 * base);
    ms::table<ms::keyformer> later({.states = 8, .block = 2});
    static_cast<void>(later.append(1, 2));
    support::observe(later, {{0.5f, 0.5f}});
    EXPECT_NE(later.scores()[0], base);
}

TEST(keyformer, nothing_comes_of_nothing) {
    auto table = holding(3, {});
    table.finish_prompt();
    for (int i = 0; i < 10; ++i) support::observe(table, {{0.0f, 1.0f, 0.0f}});
    EXPECT_EQ(table.scores()[0], 0.0f);
    EXPECT_EQ(table.scores()[1], 10.0f);
    EXPECT_EQ(table.scores()[2], 0.0f);
}

TEST(keyformer, each_token_gives_one_in_all) {
    ms::table<ms::keyformer> table({.states = 1});
    for (int p = 0; p < 200; ++p) {
        EXPECT_NE(table.place(p), ms::no_row);
        const float before = table.scores()[0] + (table.size() > 1 ? table.scores()[1] : 0);
        support::observe(table, {floats(table.size(), 1 / static_cast<float>(table.size()))});
        const float after = table.scores()[0] + (table.size() > 1 ? table.scores()[1] : 0);
        ASSERT_NEAR(after - before, 1, 1e-4f);
    }
}

TEST(keyformer, guards_three_tenths_and_checks_its_numbers) {
    for (std::size_t states = 1; states < 100; ++states) {
        ASSERT_EQ(ms::keyformer{}.default_guards(states).recent, states * 3 / 10);
    }
    EXPECT_THROW(ms::table<ms::keyformer>({.states = 2}, {.generation = 0}), std::invalid_argument);
    EXPECT_THROW(ms::table<ms::keyformer>({.states = 2}, {.first_temperature = 0}), std::invalid_argument);
    EXPECT_THROW(ms::table<ms::keyformer>({.states = 2}, {.last_temperature = std::nanf("")}), std::invalid_argument);
}

/// One probability that is no number spoils its own state's sum and no other.
TEST(keyformer, a_nan_among_probabilities_stays_alone) {
    for (const bool prompt : {true, false}) {
        auto table = holding(3, {});
        if (!prompt) table.finish_prompt();
        for (int i = 0; i < 10; ++i) support::observe(table, {{0.5f, i == 5 ? std::nanf("") : 0.25f, 0.25f}});
        EXPECT_TRUE(std::isfinite(table.scores()[0]) && std::isfinite(table.scores()[2]));
        EXPECT_GT(table.scores()[0], 0.0f);
    }
}

}  // namespace keyformer_test

namespace reference::keyformer {

/// The token's attention after Gumbel noise on its logits. The evidence does not tell where the prompt ends, so the
/// temperature is 1.
token noisy(const token& t, std::size_t layer, std::size_t group) {
    token result{.position = t.position, .queries = {}, .seen = t.seen, .attention = t.attention};
    for (std::size_t i = 0; i < t.attention.size(); ++i) {
        const std::uint64_t draws = hash(0, {0, layer, i, static_cast<std::size_t>(t.position)});
        double total = 0;
        for (std::size_t j = 0; j < t.attention[i].size(); ++j) {
            const auto key = static_cast<std::uint32_t>(t.seen[i / group][j]);
            const double u = support::open_uniform(draws, key);
            // exp(log a + g) with g = -log(-log u)
            total += result.attention[i][j] /= -std::log(u);
        }
        for (double& a : result.attention[i]) a /= total;
    }
    return result;
}

numbers summed_with_noise(const evidence& e) {
    numbers scores(e.states().size());
    for (const token& t : e.past) {
        const token other = noisy(t, e.shape.layer, e.shape.group());
        for (std::size_t j = 0; j < scores.size(); ++j) scores[j] += e.attention(other, e.states()[j].position);
    }
    return scores;
}

std::size_t three_tenths(std::size_t states) { return states * 3 / 10; }

const registered rule{{.name = "keyformer", .score = summed_with_noise, .recent = three_tenths}};

}  // namespace reference::keyformer
