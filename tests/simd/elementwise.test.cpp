// The elementwise vector functions against double precision, with the bounds that simd/elementwise.hpp states.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/simd/elementwise.hpp>

#include "support/random.hpp"

namespace elementwise_test {

namespace simd = multistate::simd;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

std::vector<float> exponentials(std::vector<float> x) {
    simd::transform(x, 0, [](simd::floats v) { return simd::exp(v); });
    return x;
}

TEST(exp, is_as_exact_as_stated_over_its_range) {
    std::vector<float> x;
    for (float v = -87.33f; v <= 88.0f; v += 0.0007f) x.push_back(v);
    for (float v = -1e-3f; v <= 1e-3f; v += 1e-6f) x.push_back(v);
    for (const float v : {-87.33f, -1e-30f, -0.0f, 0.0f, 1e-40f, 88.0f}) x.push_back(v);
    const std::vector<float> e = exponentials(x);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double expected = std::exp(static_cast<double>(x[i]));
        worst = std::max(worst, std::abs(static_cast<double>(e[i]) - expected) / expected);
    }
    EXPECT_LT(worst, 2e-7);
}

TEST(exp, ends_in_zero_and_keeps_nan) {
    const std::vector<float> below = exponentials({std::nextafter(-87.33f, -100.0f), -88, -1e4f, -3e38f, -infinity});
    EXPECT_EQ(std::ranges::count(below, 0.0f), 5);
    EXPECT_TRUE(std::isnan(exponentials({not_a_number})[0]));
    EXPECT_TRUE(std::isnan(exponentials({-not_a_number})[0]));
    EXPECT_EQ(exponentials({0.0f, -0.0f}), (std::vector<float>{1, 1}));
}

std::vector<float> logarithms(std::vector<float> x) {
    simd::transform(x, 1, [](simd::floats v) { return simd::log(v); });
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

TEST(softcap, is_as_exact_as_stated) {
    for (const float cap : {0.5f, 1.0f, 30.0f, 50.0f}) {
        std::vector<float> x;
        for (float v = -25; v <= 25; v += 0.003f) x.push_back(v * cap);
        for (const float v : {-infinity, -3e38f, -1e-6f, 0.0f, 1e-6f, 3e38f, infinity}) x.push_back(v);
        std::vector<float> capped = x;
        simd::softcap(capped, cap);
        double worst = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            const double wide = static_cast<double>(cap);
            const double expected = wide * std::tanh(static_cast<double>(x[i]) / wide);
            worst = std::max(worst, std::abs(static_cast<double>(capped[i]) - expected) / wide);
            EXPECT_LE(std::abs(capped[i]), cap);
        }
        EXPECT_LT(worst, 3e-7) << cap;
    }
}

TEST(softcap, keeps_nan) {
    for (std::size_t n = 1; n <= 40; ++n) {
        std::vector<float> x(n, 1.0f);
        x[n - 1] = not_a_number;
        simd::softcap(x, 30);
        EXPECT_TRUE(std::isnan(x[n - 1]));
        EXPECT_EQ(std::ranges::count_if(x, [](float v) { return std::isnan(v); }), 1);
    }
}

TEST(add, adds_as_many_as_y_has) {
    for (std::size_t n = 0; n <= 70; ++n) {
        support::random_numbers random(n);
        const std::vector<float> x = random.floats(n + 3, 5);
        std::vector<float> y = random.floats(n + 3, 5);
        const std::vector<float> before = y;
        simd::add(x, std::span(y).first(n));
        for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(y[i], before[i] + x[i]);
        for (std::size_t i = n; i < y.size(); ++i) EXPECT_EQ(y[i], before[i]);
    }
}

/// Row after row: the same bits as adding them one by one.
TEST(add_rows, adds_every_row_in_order) {
    for (std::size_t n = 0; n <= 40; ++n) {
        for (std::size_t count = 0; count <= 9; ++count) {
            support::random_numbers random(100 * n + count);
            const std::size_t stride = n + 2;
            const std::vector<float> rows = random.floats(count * stride + 1, 5);
            std::vector<float> y = random.floats(n + 3, 5);
            std::vector<float> expected = y;
            for (std::size_t r = 0; r < count; ++r) {
                for (std::size_t i = 0; i < n; ++i) expected[i] += rows[r * stride + i];
            }
            simd::add_rows(rows.data(), count, stride, std::span(y).first(n));
            EXPECT_EQ(y, expected) << count << " rows of " << n;
        }
    }
}

TEST(multiply, multiplies_elements) {
    for (std::size_t n = 0; n <= 70; ++n) {
        support::random_numbers random(n);
        const std::vector<float> x = random.floats(n, 5);
        std::vector<float> y = random.floats(n + 3, 5);
        const std::vector<float> before = y;
        simd::multiply(x, std::span(y).first(n));
        for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], i < n ? before[i] * x[i] : before[i]);
    }
}

TEST(scale, multiplies_all) {
    for (std::size_t n = 0; n <= 70; ++n) {
        std::vector<float> x = support::random_numbers(n).floats(n + 3, 5);
        const std::vector<float> before = x;
        simd::scale(std::span(x).first(n), 0.3f);
        for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(x[i], i < n ? before[i] * 0.3f : before[i]);
    }
}

TEST(max, finds_the_greatest_wherever_it_is) {
    EXPECT_EQ(simd::maximum({}), -infinity);
    for (std::size_t n = 1; n <= 70; ++n) {
        for (std::size_t at = 0; at < n; ++at) {
            std::vector<float> x = support::random_numbers(n).floats(n + 1, 5);
            x[n] = 100;  // behind the end
            x[at] = 9;
            EXPECT_EQ(simd::maximum(std::span(x).first(n)), 9.0f);
            x[at] = infinity;
            EXPECT_EQ(simd::maximum(std::span(x).first(n)), infinity);
        }
    }
}

TEST(transform, fills_the_missing_lanes_and_writes_only_its_span) {
    for (std::size_t n = 0; n <= 2 * simd::vector_width + 1; ++n) {
        std::vector<float> x(n + 20, 3.0f);
        std::size_t zeros = 0;
        simd::transform(std::span(x).first(n), 0, [&](simd::floats v) {
            for (std::size_t lane = 0; lane < simd::vector_width; ++lane) zeros += v[lane] == 0 ? 1 : 0;
            return v + v;
        });
        EXPECT_EQ(zeros, (simd::vector_width - n % simd::vector_width) % simd::vector_width);
        EXPECT_EQ(std::ranges::count(x, 6.0f), static_cast<std::ptrdiff_t>(n));
        EXPECT_EQ(std::count(x.begin() + static_cast<std::ptrdiff_t>(n), x.end(), 3.0f), 20);
    }
}

/// Calls check(x, y) for spans of all lengths up to 6 vectors, at all offsets from a vector's alignment.
template <class F>
void for_each_shape(F check) {
    support::random_numbers random(5);
    const std::size_t most = 6 * simd::vector_width + 3;
    for (std::size_t n = 0; n <= most; ++n) {
        for (std::size_t offset = 0; offset < simd::vector_width; ++offset) {
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

}  // namespace elementwise_test
