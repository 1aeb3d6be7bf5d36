// Arithmetic on spans against double precision: every length up to several vectors, every misalignment.
#include <array>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/simd/spans.hpp>

#include "support/random.hpp"

namespace spans_test {

namespace simd = multistate::simd;

/// Calls check(x, y) for spans of all lengths up to 6 vectors, at all offsets from a vector's alignment.
template <class F>
void for_each_shape(F check) {
    support::random_numbers random(5);
    const std::size_t most = 6 * simd::lanes + 3;
    for (std::size_t n = 0; n <= most; ++n) {
        for (std::size_t offset = 0; offset < simd::lanes; ++offset) {
            const std::vector<float> x = random.floats(n + offset, 2), y = random.floats(n + offset, 2);
            check(std::span(x).subspan(offset), std::span(y).subspan(offset));
        }
    }
}

TEST(spans, dot_is_the_sum_of_products) {
    for_each_shape([](std::span<const float> x, std::span<const float> y) {
        double expected = 0, size = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            expected += static_cast<double>(x[i]) * static_cast<double>(y[i]);
            size += std::abs(static_cast<double>(x[i]) * static_cast<double>(y[i]));
        }
        EXPECT_NEAR(simd::dot(x, y), expected, 1e-6 * size) << x.size();
    });
}

TEST(spans, dot_reads_nothing_behind_its_first_span) {
    const std::vector<float> x(3, 1.0f), y{1, 2, 3, NAN};
    EXPECT_EQ(simd::dot(x, y), 6.0f);
    EXPECT_EQ(simd::dot({}, y), 0.0f);
}

TEST(spans, add_scaled_adds_a_multiple_and_writes_nothing_else) {
    for_each_shape([](std::span<const float> x, std::span<const float> y) {
        std::vector<float> sum(y.begin(), y.end());
        sum.push_back(7);
        simd::add_scaled(-1.5f, x, std::span(sum).first(y.size()));
        for (std::size_t i = 0; i < x.size(); ++i) {
            const double expected = static_cast<double>(y[i]) - 1.5 * static_cast<double>(x[i]);
            EXPECT_NEAR(sum[i], expected, 1e-6) << x.size();
        }
        EXPECT_EQ(sum.back(), 7.0f);
    });
}

/// x_k^T A x_k in double precision, from the lower triangle.
double expected_quadratic(std::span<const float> a, std::span<const float> x) {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        for (std::size_t j = 0; j < x.size(); ++j) {
            sum += static_cast<double>(a[std::max(i, j) * x.size() + std::min(i, j)]) * static_cast<double>(x[i]) *
                   static_cast<double>(x[j]);
        }
    }
    return sum;
}

TEST(spans, quadratic_form_uses_the_lower_triangle) {
    support::random_numbers random(6);
    for (std::size_t n = 0; n <= 3 * simd::lanes + 2; ++n) {
        std::vector<float> a = random.floats(n * n, 1);
        for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t j = i + 1; j < n; ++j) a[i * n + j] = NAN;
        }
        const std::vector<float> x = random.floats(4 * n, 1);
        std::array<float, 4> four{};
        simd::quadratic(a, x, std::span(four));
        for (std::size_t k = 0; k < 4; ++k) {
            const auto one = std::span(x).subspan(k * n, n);
            EXPECT_NEAR(four[k], expected_quadratic(a, one), 1e-6 * static_cast<double>(n * n + 1)) << n;
            std::array<float, 1> alone{};
            simd::quadratic(a, one, std::span(alone));
            EXPECT_EQ(alone[0], four[k]) << n;
        }
    }
}

}  // namespace spans_test
