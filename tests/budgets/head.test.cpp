// head_budget, computed by hand.
#include <limits>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/budgets/head.hpp>

#include "support/thrown.hpp"

namespace head_test {

namespace ms = multistate;
using budget = std::vector<std::size_t>;
constexpr float infinity = std::numeric_limits<float>::infinity();
using support::what_is_thrown;

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

}  // namespace head_test
