// The vectorized logarithm against double precision, with the bound that simd/logarithm.hpp states.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/simd/elementwise.hpp>
#include <multistate/simd/logarithm.hpp>

namespace logarithm_test {

namespace simd = multistate::simd;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

std::vector<float> logarithms(std::vector<float> x) {
    simd::transform(x, 1, [](simd::float_vector v) { return simd::log(v); });
    return x;
}

TEST(log, is_as_exact_as_stated_over_its_range) {
    std::vector<float> x;
    for (float v = std::numeric_limits<float>::min(); v < 3e38f; v *= 1.00007f) x.push_back(v);
    // Where the logarithm is 0, and where one power of two ends and the next begins.
    for (const float middle : {1.0f, std::sqrt(0.5f), std::sqrt(2.0f), 0.5f, 2.0f}) {
        for (float v = middle * 0.999f; v < middle * 1.001f; v = std::nextafter(v, 9.0f)) x.push_back(v);
    }
    x.push_back(std::numeric_limits<float>::max());
    const std::vector<float> y = logarithms(x);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double expected = std::log(static_cast<double>(x[i]));
        const double error = std::abs(static_cast<double>(y[i]) - expected);
        if (error > 0) worst = std::max(worst, error / std::abs(expected));
    }
    EXPECT_LT(worst, 3e-7);
}

TEST(log, of_one_is_zero_and_of_nothing_is_no_number) {
    EXPECT_EQ(logarithms({1.0f}), std::vector<float>{0});
    const auto none = logarithms({0.0f, -0.0f, 1e-40f, std::nextafter(1.17549435e-38f, 0.0f)});
    EXPECT_EQ(std::ranges::count(none, -infinity), 4);
    EXPECT_TRUE(std::isnan(logarithms({not_a_number})[0]));
    EXPECT_TRUE(std::isnan(logarithms({-not_a_number})[0]));
}

}  // namespace logarithm_test
