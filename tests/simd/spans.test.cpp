// Arithmetic on spans against double precision: every length up to several vectors, every misalignment.
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

}  // namespace spans_test
