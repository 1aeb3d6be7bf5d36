// duo_budget and its threshold.
#include <limits>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/budgets/duo.hpp>

#include "support/thrown.hpp"

namespace duo_test {

namespace ms = multistate;
using budget = std::vector<std::size_t>;
constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();
using support::what_is_thrown;

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

}  // namespace duo_test
