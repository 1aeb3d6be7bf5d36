// Perplexities, differences, samples and shared states, against numbers worked out by hand.
#include <cmath>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/evaluation/evaluation.hpp>

namespace perplexity_test {

namespace ms = multistate;
using sequences = std::vector<ms::likelihood>;
using sample = std::vector<double>;
using positions = std::vector<ms::position>;

// Equal except for rounding of the last bits.
constexpr double exact = 1e-12;

TEST(Perplexity, IsTheExponentialOfTheMean) {
    EXPECT_NEAR(ms::perplexity(sequences{{3, 2}, {3, 1}}).value, std::exp(2.0), exact * 10);
    EXPECT_TRUE(std::isnan(ms::perplexity({}).value));
}

TEST(Perplexity, ErrorOverSequencesOfOneLength) {
    // Means 1, 2 and 6: their mean is 3, their deviation sqrt((4 + 1 + 9) / 2), the error of the mean that over sqrt 3.
    const auto p = ms::perplexity(sequences{{2, 2}, {4, 2}, {12, 2}});
    ASSERT_TRUE(p.error);
    EXPECT_NEAR(*p.error, std::exp(3.0) * std::sqrt(7.0 / 3.0), 1e-11);
}

TEST(Perplexity, ErrorOverSequencesOfDifferentLengths) {
    // Sums 2, 9, 4 of 1, 3, 2 tokens: the ratio is 15 / 6, residuals -0.5, 1.5 and -1, their squares 3.5 in all;
    // sqrt(3.5 * 3 / 2) / 6.
    const auto p = ms::perplexity(sequences{{2, 1}, {9, 3}, {4, 2}});
    ASSERT_TRUE(p.error);
    EXPECT_NEAR(*p.error, std::exp(2.5) * std::sqrt(3.5 * 1.5) / 6, 1e-11);
}

TEST(Perplexity, OneSequenceHasNoError) {
    const sequences one{{6, 3}};
    EXPECT_FALSE(ms::perplexity(one).error);
    EXPECT_FALSE(ms::percent_above({.measured = one, .baseline = one}).error);
}

TEST(PercentAbove, IsPairedBySequence) {
    // Sequences differ a lot from each other, and hardly in what forgetting costs them: 0.2, 0.4 and 0.3 nats in sum,
    // over two tokens each. The mean cost is 0.15; residuals -0.1, 0.1, 0; sqrt(0.02 * 3 / 2) / 6.
    const sequences baseline{{2, 2}, {10, 2}, {5, 2}}, measured{{2.2, 2}, {10.4, 2}, {5.3, 2}};
    const auto d = ms::percent_above({.measured = measured, .baseline = baseline});
    EXPECT_NEAR(d.value, 100 * (std::exp(0.15) - 1), 1e-10);
    ASSERT_TRUE(d.error);
    EXPECT_NEAR(*d.error, 100 * std::exp(0.15) * std::sqrt(0.03) / 6, 1e-10);
    const auto alone = ms::perplexity(measured);
    EXPECT_LT(*d.error, 100 * *alone.error / alone.value);
    EXPECT_NEAR(ms::percent_above({.measured = baseline, .baseline = baseline}).value, 0, exact);
}

TEST(PercentAbove, OtherSequencesAreRefused) {
    const sequences two{{2, 2}, {3, 2}}, three{{2, 2}, {3, 2}, {1, 1}}, longer{{2, 2}, {3, 4}};
    EXPECT_THROW((void)ms::percent_above({.measured = two, .baseline = three}), std::invalid_argument);
    EXPECT_THROW((void)ms::percent_above({.measured = two, .baseline = longer}), std::invalid_argument);
}

TEST(Distribution, NearestRank) {
    sample values;
    for (int i = 200; i >= 1; --i) values.push_back(i);
    const auto d = ms::distribution_of(values);
    EXPECT_NEAR(d.mean, 100.5, exact);
    EXPECT_EQ(d.median, 100);         // 100 of 200 do not exceed it
    EXPECT_EQ(d.percentile_99, 198);  // 99 % of 200
    sample few{3, 1, 2};
    EXPECT_EQ(ms::quantile(few, 0), 1);
    EXPECT_EQ(ms::quantile(few, 0.5), 2);
    EXPECT_EQ(ms::quantile(few, 0.99), 3);
    EXPECT_EQ(ms::quantile(few, 1), 3);
    EXPECT_THROW((void)ms::quantile(few, 1.5), std::invalid_argument);
    sample none;
    EXPECT_TRUE(std::isnan(ms::distribution_of(none).median));
}

TEST(MeanByPart, EqualPartsOfThePlaces) {
    ms::mean_by_part m({.parts = 4, .places = 10});  // parts begin at 0, 3, 5 and 8
    for (std::size_t i = 0; i < 10; ++i) m.add(i, static_cast<double>(i));
    EXPECT_EQ(m.counts(), (std::vector<std::size_t>{3, 2, 3, 2}));
    EXPECT_EQ(m.means(), (sample{1, 3.5, 6, 8.5}));
    m.add(1000, 0);
    EXPECT_EQ(m.counts()[3], 3u);
    EXPECT_TRUE(std::isnan(ms::mean_by_part({.parts = 2, .places = 5}).means()[1]));
    EXPECT_THROW(ms::mean_by_part({.parts = 0, .places = 5}), std::invalid_argument);
    EXPECT_THROW(ms::mean_by_part({.parts = 2, .places = 0}), std::invalid_argument);
}

TEST(Agreement, IsTheJaccardIndexOverAllTables) {
    ms::agreement a;
    EXPECT_TRUE(std::isnan(a.share()));
    a.add(positions{0, 3, 4, 9}, positions{1, 3, 9, 12});  // 3 and 9, of 6
    EXPECT_EQ(a.both(), 2u);
    EXPECT_EQ(a.either(), 6u);
    a.add(positions{5, 6}, positions{5, 6});
    a.add(positions{}, positions{7, 8});
    EXPECT_EQ(a.both(), 4u);
    EXPECT_EQ(a.either(), 10u);
    EXPECT_EQ(a.share(), 0.4);
}

}  // namespace perplexity_test
