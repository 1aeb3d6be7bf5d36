// Divergences against double precision, for every length around a vector, and what they say of equal predictions.
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/evaluation/evaluation.hpp>
#include <multistate/math/random.hpp>

namespace divergence_test {

namespace ms = multistate;

std::vector<float> random_logits(std::size_t n, int seed, float scale) {
    std::vector<float> x(n);
    for (std::size_t i = 0; i < n; ++i) x[i] = scale * (2 * ms::uniform(ms::random_bits(seed, i)) - 1);
    return x;
}

std::vector<double> naive_log_softmax(const std::vector<float>& x) {
    double sum = 0;
    for (const float v : x) sum += std::exp(static_cast<double>(v));
    std::vector<double> result;
    result.reserve(x.size());
    for (const float v : x) result.push_back(static_cast<double>(v) - std::log(sum));
    return result;
}

double naive_kl(const std::vector<float>& p, const std::vector<float>& q) {
    const auto lp = naive_log_softmax(p), lq = naive_log_softmax(q);
    double kl = 0;
    for (std::size_t i = 0; i < p.size(); ++i) kl += std::exp(lp[i]) * (lp[i] - lq[i]);
    return kl;
}

TEST(Divergence, IsThatOfDoublePrecisionForEveryLength) {
    for (const float scale : {1.0f, 8.0f, 40.0f}) {
        for (std::size_t n = 1; n < 70; ++n) {
            const auto p = random_logits(n, 1, scale), q = random_logits(n, 2, scale);
            const std::size_t target = n / 2;
            const ms::divergence d = ms::divergence_of({.reference = p, .measured = q}, target);
            EXPECT_NEAR(d.kl, naive_kl(p, q), 2e-5) << n << ' ' << scale;
            EXPECT_NEAR(d.reference_nll, -naive_log_softmax(p)[target], 2e-5);
            EXPECT_NEAR(d.nll, -naive_log_softmax(q)[target], 2e-5);
            EXPECT_EQ(d.nll, ms::negative_log_likelihood(q, target));
            EXPECT_NEAR(d.probability_change(), std::exp(-d.nll) - std::exp(-d.reference_nll), 1e-12);
        }
    }
    const auto p = random_logits(131072, 3, 8), q = random_logits(131072, 4, 8);  // a large vocabulary
    EXPECT_NEAR(ms::divergence_of({.reference = p, .measured = q}, 7).kl, naive_kl(p, q), 2e-5);
}

TEST(Divergence, EqualPredictionsDoNotDiverge) {
    const auto p = random_logits(1000, 5, 20);
    std::vector<float> moved = p;
    for (float& v : moved) v += 3;  // softmax does not see it
    for (const auto& q : {p, moved}) {
        const ms::divergence d = ms::divergence_of({.reference = p, .measured = q}, 0);
        EXPECT_NEAR(d.kl, 0, 2e-6);
        EXPECT_GE(d.kl, 0);
        EXPECT_TRUE(d.same_top);
    }
}

TEST(Divergence, TheFirstOfEqualTokensIsTheTop) {
    const std::vector<float> p{1, 3, 3, 0}, same{0, 5, 5, 5}, other{0, 4, 5, 0};
    EXPECT_TRUE(ms::divergence_of({.reference = p, .measured = same}, 0).same_top);
    EXPECT_FALSE(ms::divergence_of({.reference = p, .measured = other}, 0).same_top);
}

TEST(Divergence, ByHand) {
    // Two tokens: 1/2 and 1/2 against 3/4 and 1/4: KL = ln 2 - (ln 3) / 2.
    const std::vector<float> p{0, 0}, q{std::log(3.0f), 0};
    const ms::divergence d = ms::divergence_of({.reference = p, .measured = q}, 1);
    EXPECT_NEAR(d.kl, std::log(2.0) - std::log(3.0) / 2, 1e-6);
    EXPECT_NEAR(d.probability_change(), -0.25, 1e-6);
}

TEST(Divergence, ANumberThatIsNoneShows) {
    std::vector<float> p = random_logits(40, 6, 1), q = p;
    q[17] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(ms::divergence_of({.reference = p, .measured = q}, 0).kl));
    EXPECT_TRUE(std::isnan(ms::negative_log_likelihood(q, 0)));
}

}  // namespace divergence_test
