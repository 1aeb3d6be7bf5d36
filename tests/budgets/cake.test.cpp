// cake_preference and cake_budget, computed by hand.
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/budgets/cake.hpp>

#include "support/thrown.hpp"

namespace cake_test {

namespace ms = multistate;
using budget = std::vector<std::size_t>;
constexpr float nan = std::numeric_limits<float>::quiet_NaN();
using support::what_is_thrown;

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

}  // namespace cake_test
