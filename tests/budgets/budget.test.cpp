// Budgets: totals divided by the rules of the papers, exactly.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/budgets/budget.hpp>
#include <multistate/policies/snapkv.hpp>
#include <multistate/policy/guards.hpp>

#include "support/random.hpp"

namespace budget_test {

namespace ms = multistate;
using budget = std::vector<std::size_t>;
constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

std::size_t sum(const budget& b) { return std::accumulate(b.begin(), b.end(), std::size_t{0}); }

template <class F>
std::string what_is_thrown(F f) {
    try {
        f();
    } catch (const std::invalid_argument& e) {
        return e.what();
    }
    return "nothing";
}

TEST(whole_shares, rounds_the_largest_remainders_up) {
    EXPECT_EQ(ms::detail::whole_shares({1.25, 2.5, 3.25}, 7, 0), (budget{1, 3, 3}));
    EXPECT_EQ(ms::detail::whole_shares({1.5, 1.5, 1.5, 1.5}, 6, 0), (budget{2, 2, 1, 1})) << "of equals the first";
    EXPECT_EQ(ms::detail::whole_shares({5, 0, 3}, 8, 0), (budget{5, 0, 3}));
}

TEST(whole_shares, raises_to_the_least_and_lowers_the_rest_in_proportion) {
    // 2 of 12 are missing to the first; the others have 4 and 2 above the least, of which 4 are left
    EXPECT_EQ(ms::detail::whole_shares({0, 6, 4}, 10, 2), (budget{2, 5, 3}));
    EXPECT_EQ(ms::detail::whole_shares({1, 1, 1}, 9, 3), (budget{3, 3, 3}));
    EXPECT_EQ(ms::detail::whole_shares({0, 0, 0}, 10, 3), (budget{4, 3, 3}));
}

TEST(whole_shares, sums_exactly_and_keeps_the_order) {
    support::random_numbers random(1);
    for (int i = 0; i < 500; ++i) {
        std::vector<double> shares;
        for (std::size_t n = 1 + random.below(40); n > 0; --n) shares.push_back(std::abs(random.within(100)));
        const std::size_t least = random.below(5);
        const auto total = std::max(shares.size() * least,
                                    static_cast<std::size_t>(std::accumulate(shares.begin(), shares.end(), 0.0)));
        const budget whole = ms::detail::whole_shares(shares, total, least);
        ASSERT_EQ(sum(whole), total);
        for (std::size_t a = 0; a < shares.size(); ++a) {
            ASSERT_GE(whole[a], least);
            for (std::size_t b = 0; b < shares.size(); ++b) {
                ASSERT_TRUE(shares[a] <= shares[b] || whole[a] >= whole[b]);
            }
        }
    }
}

TEST(pyramid_budget, falls_linearly_from_most_to_least) {
    // least 100 / 20 = 5, most 195; 4 steps of 47.5
    EXPECT_EQ(ms::pyramid_budget(5, 100), (budget{195, 148, 100, 52, 5}));
    // least 40 / 4 + 12, most 2 * 40 - 10 + 12
    EXPECT_EQ(ms::pyramid_budget(2, 52, 4, 12), (budget{82, 22}));
    EXPECT_EQ(ms::pyramid_budget(3, 64, 1), (budget{64, 64, 64}));
    EXPECT_EQ(ms::pyramid_budget(1, 64), (budget{64}));
}

TEST(pyramid_budget, sums_exactly_and_leaves_no_layer_without) {
    for (const std::size_t layers : {1u, 2u, 3u, 7u, 32u, 80u}) {
        for (const std::size_t states : {2u, 3u, 10u, 33u, 128u, 2048u}) {
            for (const std::size_t window : {0u, 1u, 9u, 32u}) {
                if (window >= states) continue;
                const budget b = ms::pyramid_budget(layers, states, 20, window);
                EXPECT_EQ(sum(b), layers * states);
                EXPECT_TRUE(std::ranges::is_sorted(b, std::greater()));
                EXPECT_GT(b.back(), window);
            }
        }
    }
    EXPECT_EQ(ms::pyramid_budget(4, 1), (budget{1, 1, 1, 1}));
}

/// As its authors keep it, where the shape says so; by itself a policy guards half of a layer's states at most.
TEST(pyramid_budget, keeps_the_window_whole_where_the_shape_names_it) {
    for (const std::size_t states : ms::pyramid_budget(4, 48, 20, 32)) {
        EXPECT_EQ(ms::guards_in_force({.states = states, .recent = 32}, ms::snapkv()).recent, 32u);
        EXPECT_EQ(ms::guards_in_force({.states = states}, ms::snapkv()).recent, std::min<std::size_t>(32, states / 2));
    }
}

/// The authors' rounds the step from layer to layer down: 936 - 29 layer, and the window of 32.
TEST(pyramid_budget, sums_to_less_than_the_authors_own) {
    std::size_t theirs = 0, ours = 0;
    const std::size_t least = (512 - 32) / 20, most = 2 * (512 - 32) - least, step = (most - least) / 31;
    for (std::size_t layer = 0; layer < 32; ++layer) theirs += most - layer * step + 32;
    for (const std::size_t states : ms::pyramid_budget(32, 512, 20, 32)) ours += states;
    EXPECT_EQ(ours, 32u * 512);
    EXPECT_EQ(theirs, ours + 208) << "as the header says";
}

TEST(pyramid_budget, names_what_it_refuses) {
    EXPECT_EQ(what_is_thrown([] { ms::pyramid_budget(0, 8); }), "pyramid_budget: layers must be at least 1, is 0");
    EXPECT_EQ(what_is_thrown([] { ms::pyramid_budget(2, 0); }),
              "pyramid_budget: states must be from 1 to 1073741823, is 0");
    EXPECT_EQ(what_is_thrown([] { ms::pyramid_budget(2, 8, 0.5f); }),
              "pyramid_budget: beta must be finite and at least 1, is 0.500000");
    EXPECT_EQ(what_is_thrown([] { ms::pyramid_budget(2, 8, nan); }),
              "pyramid_budget: beta must be finite and at least 1, is nan");
    EXPECT_EQ(what_is_thrown([] { ms::pyramid_budget(2, 8, 2, 8); }),
              "pyramid_budget: window must be at most states - 1 = 7, is 8");
}

/// Two tokens, two heads, and a third state that is not of the prefix.
struct two_tokens {
    std::vector<float> first{0.5f, 0.5f, 9, 1.0f, 0.0f, 9};
    std::vector<float> second{0.25f, 0.5f, 9, 0.0f, 1.0f, 9};
    std::vector<ms::rows> tokens{{first.data(), 2, 3, 3}, {second.data(), 2, 3, 3}};
};

TEST(cake_preference, multiplies_powers_of_entropy_and_variance) {
    const two_tokens t;
    const double entropy = 2 * std::log(2.0);  // .5 .5 and .25 .5: two halves, a quarter that counts as one, a half
    const double variance = 0.25 * 0.25 / 2 + 0.5 + 0.5;  // of two numbers half their difference squared
    EXPECT_NEAR(ms::cake_preference(t.tokens, 2), entropy * variance, 1e-6);
    EXPECT_NEAR(ms::cake_preference(t.tokens, 2, 2, 1), std::sqrt(entropy) * variance, 1e-6);
    EXPECT_NEAR(ms::cake_preference(t.tokens, 2, 1, 0.5f), entropy * variance * variance, 1e-6);
}

TEST(cake_preference, is_0_where_attention_does_not_change) {
    const std::vector<float> sharp{1, 0, 0, 1, 1.0000001f, 0};
    const std::vector<ms::rows> tokens{{sharp.data(), 3, 2, 2}, {sharp.data(), 3, 2, 2}};
    EXPECT_EQ(ms::cake_preference(tokens, 2), 0.0f) << "and not NaN where rounding makes the entropy negative";
    EXPECT_EQ(ms::cake_preference(tokens, 2, 3, 3), 0.0f);
    EXPECT_EQ(ms::cake_preference(tokens, 0), 0.0f);
}

TEST(cake_preference, names_what_it_refuses) {
    const two_tokens t;
    const auto one = std::span(t.tokens).first(1);
    EXPECT_EQ(what_is_thrown([&] { ms::cake_preference(one, 2); }), "cake_preference: tokens must be at least 2, is 1");
    EXPECT_EQ(what_is_thrown([&] { ms::cake_preference(t.tokens, 4); }),
              "cake_preference: tokens must be at least prefix wide, 4, is 3");
    EXPECT_EQ(what_is_thrown([&] { ms::cake_preference(t.tokens, 2, 0); }),
              "cake_preference: tau1 must be finite and greater than 0, is 0.000000");
    EXPECT_EQ(what_is_thrown([&] { ms::cake_preference(t.tokens, 2, 1, nan); }),
              "cake_preference: tau2 must be finite and greater than 0, is nan");
    const std::vector<ms::rows> mixed{t.tokens[0], {t.second.data(), 1, 3, 3}};
    EXPECT_EQ(what_is_thrown([&] { ms::cake_preference(mixed, 2); }),
              "cake_preference: tokens must be rows of 2 heads, is 1");
}

TEST(cake_budget, divides_in_proportion_to_the_preferences) {
    // 3 * 16 to divide: 12, 36 and 0; the last is raised to 1, and what is left beyond 1 for each is divided 11 to 35
    EXPECT_EQ(ms::cake_budget(std::vector{1.0f, 3.0f, 0.0f}, 20, 4), (budget{16, 39, 5}));
    EXPECT_EQ(ms::cake_budget(std::vector{0.0f, 0.0f}, 50), (budget{50, 50})) << "evenly where nothing is known";
    EXPECT_EQ(ms::cake_budget(std::vector{2.0f, 6.0f}, 40), (budget{36, 44}));
}

TEST(cake_budget, names_what_it_refuses) {
    EXPECT_EQ(what_is_thrown([] { ms::cake_budget({}, 50); }),
              "cake_budget: preferences must be at least one number, is 0");
    EXPECT_EQ(what_is_thrown([] {
                  ms::cake_budget(std::vector{1.0f, -1.0f}, 50);
              }),
              "cake_budget: preferences must be finite and not negative, is -1.000000");
    EXPECT_EQ(what_is_thrown([] {
                  ms::cake_budget(std::vector{1.0f, nan}, 50);
              }),
              "cake_budget: preferences must be finite and not negative, is nan");
    EXPECT_EQ(what_is_thrown([] { ms::cake_budget(std::vector{1.0f}, 32); }),
              "cake_budget: window must be at most states - 1 = 31, is 32");
}

TEST(head_budget, shares_a_part_by_score) {
    // 80 / 2 for each, and 4 * 40 by score, and the window
    EXPECT_EQ(ms::head_budget(std::vector{1.0f, 0.0f, 3.0f, 0.0f}, 90, 2, 10), (budget{90, 50, 170, 50}));
    EXPECT_EQ(ms::head_budget(std::vector{1.0f, 3.0f}, 90, 1, 10), (budget{50, 130})) << "all by score";
    const budget nearly_even = ms::head_budget(std::vector{1.0f, 3.0f}, 90, 10, 10);
    EXPECT_EQ(nearly_even, (budget{86, 94}));
    EXPECT_EQ(what_is_thrown([] { ms::head_budget(std::vector{1.0f}, 90, 0); }),
              "head_budget: beta must be finite and at least 1, is 0.000000");
    EXPECT_EQ(what_is_thrown([] { ms::head_budget(std::vector{infinity}, 90, 2); }),
              "head_budget: scores must be finite and not negative, is inf");
}

TEST(retrieval_threshold, is_the_least_score_of_that_share) {
    const std::vector<float> scores{0.1f, 0.9f, 0.5f, 0.3f, 0.7f};
    EXPECT_EQ(ms::retrieval_threshold(scores, 0.4f), 0.7f);
    EXPECT_EQ(ms::retrieval_threshold(scores, 0.5f), 0.5f) << "2.5 of 5, rounded";
    EXPECT_EQ(ms::retrieval_threshold(scores, 1), 0.1f);
    EXPECT_EQ(ms::retrieval_threshold(scores, 0), infinity);
    EXPECT_EQ(what_is_thrown([&] { ms::retrieval_threshold(scores, 1.5f); }),
              "retrieval_threshold: share must be from 0 to 1, is 1.500000");
    EXPECT_EQ(what_is_thrown([&] { ms::retrieval_threshold({}, 0.5f); }),
              "retrieval_threshold: scores must be at least one number, is 0");
}

TEST(duo_budget, gives_all_to_heads_that_retrieve) {
    const std::vector<float> scores{0.1f, 0.5f, 0.9f, 0.5f};
    EXPECT_EQ(ms::duo_budget(scores, 0.5f, 4096), (budget{384, 4096, 4096, 4096}));
    EXPECT_EQ(ms::duo_budget(scores, 0.6f, 100, {.sinks = 4, .recent = 12}), (budget{16, 16, 100, 16}));
    EXPECT_EQ(ms::duo_budget(scores, ms::retrieval_threshold(scores, 0.25f), 4096), (budget{384, 384, 4096, 384}));
    EXPECT_EQ(ms::duo_budget(scores, ms::retrieval_threshold(scores, 0), 4096), (budget{384, 384, 384, 384}));
}

TEST(duo_budget, names_what_it_refuses) {
    const std::vector<float> scores{0.1f};
    EXPECT_EQ(what_is_thrown([&] { ms::duo_budget(scores, 0.5f, 383); }),
              "duo_budget: full must be at least sinks + recent = 384, is 383");
    EXPECT_EQ(what_is_thrown([&] { ms::duo_budget(scores, nan, 384); }),
              "duo_budget: threshold must be a number, is nan");
    EXPECT_EQ(what_is_thrown([&] { ms::duo_budget(scores, 0.5f, 384, {}); }),
              "duo_budget: sinks + recent must be from 1 to 1073741823, is 0");
}

TEST(lazy_layers_budget, keeps_all_but_of_lazy_layers) {
    const std::vector<float> laziness{0.95f, 0.9f, 0.2f};
    EXPECT_EQ(ms::lazy_layers_budget(laziness, 8192), (budget{1028, 8192, 8192})) << "0.9 is not above 0.9";
    EXPECT_EQ(ms::lazy_layers_budget(laziness, 100, 0.1f, {.sinks = 1, .recent = 9}), (budget{10, 10, 10}));
    EXPECT_EQ(what_is_thrown([&] { ms::lazy_layers_budget(laziness, 1000); }),
              "lazy_layers_budget: full must be at least sinks + recent = 1028, is 1000");
}

}  // namespace budget_test
