// The error bounds that activations.hpp states, over the range of their arguments.
#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>
#include <multistate/recurrent/activations.hpp>

namespace activations_test {

namespace ms = multistate;
namespace simd = ms::simd;

template <class F>
float at(F f, float x) {
    return f(simd::fill(x))[0];
}

constexpr auto sigmoid = [](simd::floats x) { return ms::detail::sigmoid(x); };
constexpr auto hyperbolic_tangent = [](simd::floats x) { return ms::detail::tanh(x); };
constexpr auto softplus = [](simd::floats x) { return ms::detail::softplus(x); };

/// The greatest relative error over [-limit, limit], near 0 in small steps.
template <class F, class Exact>
double worst(F f, Exact exact, double limit) {
    double most = 0;
    for (double magnitude = 1e-6; magnitude < limit; magnitude *= 1.0007) {
        for (const double sign : {-1.0, 1.0}) {
            const auto x = static_cast<float>(sign * magnitude);
            const double expected = exact(static_cast<double>(x));
            most = std::max(most, std::abs(static_cast<double>(at(f, x)) - expected) / std::abs(expected));
        }
    }
    return most;
}

TEST(activations, are_as_exact_as_stated) {
    EXPECT_LT(worst(
                  sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, 87),
              5e-7);
    EXPECT_LT(worst(
                  softplus, [](double x) { return std::log1p(std::exp(x)); }, 87),
              6e-7);
    for (float x = -30; x < 30; x += 0.01f) {
        ASSERT_NEAR(at(hyperbolic_tangent, x), std::tanh(static_cast<double>(x)), 3e-7) << x;
    }
}

TEST(activations, are_finite_everywhere) {
    for (const float x : {1e30f, std::numeric_limits<float>::max(), std::numeric_limits<float>::infinity()}) {
        EXPECT_EQ(at(sigmoid, x), 1);
        EXPECT_GE(at(sigmoid, -x), 0);
        EXPECT_LT(at(sigmoid, -x), 1e-37f);
        EXPECT_EQ(at(hyperbolic_tangent, x), 1);
        EXPECT_EQ(at(hyperbolic_tangent, -x), -1);
        EXPECT_EQ(at(softplus, x), x);
        EXPECT_EQ(at(softplus, -x), 0);
    }
    EXPECT_EQ(at(hyperbolic_tangent, 0), 0);
    EXPECT_NEAR(at(softplus, 0), std::log(2.0), 1e-7);
}

TEST(activations, keep_nan) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(at(sigmoid, nan)));
    EXPECT_TRUE(std::isnan(at(hyperbolic_tangent, nan)));
    EXPECT_TRUE(std::isnan(at(softplus, nan)));
}

}  // namespace activations_test
