// Rounding of shares: the total is exact, and the order is preserved.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/budgets/whole_shares.hpp>

#include "support/random.hpp"

namespace whole_shares_test {

namespace ms = multistate;
using budget = std::vector<std::size_t>;

std::size_t sum(const budget& b) { return std::accumulate(b.begin(), b.end(), std::size_t{0}); }

TEST(whole_shares, rounds_the_largest_remainders_up) {
    EXPECT_EQ(ms::detail::whole_shares({1.25, 2.5, 3.25}, 7, 0), (budget{1, 3, 3}));
    EXPECT_EQ(ms::detail::whole_shares({1.5, 1.5, 1.5, 1.5}, 6, 0), (budget{2, 2, 1, 1}))
        << "ties go to the lower index";
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

}  // namespace whole_shares_test
