// Linear algebra against numbers computed by hand, and against its own definitions in double precision.
#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/math/linear_algebra.hpp>

#include "support/random.hpp"

namespace linear_algebra_test {

namespace ms = multistate;
using floats = std::vector<float>;

TEST(linear_algebra, normalize_makes_a_unit_vector_and_leaves_zeros) {
    floats x{3, 0, -4};
    EXPECT_FLOAT_EQ(ms::norm(x), 5.0f);
    ms::normalize(x);
    EXPECT_FLOAT_EQ(x[0], 0.6f);
    EXPECT_FLOAT_EQ(x[2], -0.8f);
    floats zeros(3);
    ms::normalize(zeros);
    EXPECT_EQ(zeros, floats(3));
}

TEST(linear_algebra, squares_are_added_below_the_diagonal_only) {
    const floats x{1, 2, 3};
    floats a(9, 0.5f);
    ms::add_square(2, x, a);
    EXPECT_EQ(a, (floats{2.5f, 0.5f, 0.5f, 4.5f, 8.5f, 0.5f, 6.5f, 12.5f, 18.5f}));
}

TEST(linear_algebra, products_see_a_symmetric_matrix) {
    // 2 1 3 / 1 5 4 / 3 4 6, with something else above the diagonal
    const floats a{2, 99, 99, 1, 5, 99, 3, 4, 6}, x{1, -1, 2};
    floats y(3, 99.0f);
    ms::multiply(a, x, y);
    EXPECT_EQ(y, (floats{7, 4, 11}));
}

TEST(linear_algebra, power_iteration_finds_the_principal_direction_on_its_own_side) {
    floats a(9), scratch(3);  // eigenvalues 9, 4 and 1
    const floats u{2 / 3.0f, 2 / 3.0f, 1 / 3.0f}, v{1 / 3.0f, -2 / 3.0f, 2 / 3.0f}, w{-2 / 3.0f, 1 / 3.0f, 2 / 3.0f};
    ms::add_square(9, u, a);
    ms::add_square(4, v, a);
    ms::add_square(1, w, a);
    for (const float side : {1.0f, -1.0f}) {
        floats x{side * 0.1f, side * 0.5f, side * -0.2f};
        ms::power_iteration(a, 40, x, scratch);
        for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(x[i], side * u[i], 1e-5);
    }
    floats once{1, 0, 0};
    ms::power_iteration(a, 1, once, scratch);
    floats column{a[0], a[3], a[6]};
    ms::normalize(column);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_FLOAT_EQ(once[i], column[i]);
    floats zeros(3);
    ms::power_iteration(a, 5, zeros, scratch);
    EXPECT_EQ(zeros, floats(3));
}

TEST(linear_algebra, cholesky_of_a_known_matrix) {
    // L = 2 / 6 1 / -8 5 3
    floats a{4, 99, 99, 12, 37, 99, -16, -43, 98};
    ASSERT_TRUE(ms::cholesky(a, 3));
    EXPECT_EQ(a, (floats{2, 99, 99, 6, 1, 99, -8, 5, 3}));
    floats x{2, 7, 0};  // L (1, 1, 1)
    ms::solve_lower(a, x);
    EXPECT_EQ(x, (floats{1, 1, 1}));
}

TEST(linear_algebra, cholesky_refuses_what_is_not_positive_definite) {
    floats zeros(4), negative{1, 0, 0, -1}, singular{1, 0, 1, 1}, poison{NAN, 0, 0, 1};
    EXPECT_FALSE(ms::cholesky(zeros, 2));
    EXPECT_FALSE(ms::cholesky(negative, 2));
    EXPECT_FALSE(ms::cholesky(singular, 2));
    EXPECT_FALSE(ms::cholesky(poison, 2));
}

floats leverages(float ridge, floats x, std::size_t m) {
    floats mean(m), squares(m * m), scores(x.size() / m);
    ms::add_leverages(ridge, x, mean, squares, scores);
    return scores;
}

TEST(linear_algebra, a_mean_runs_along) {
    floats mean(2);
    float count = 0;
    for (const floats& x : {floats{1, 2}, floats{3, -2}, floats{5, 6}}) {
        floats changed = x;
        ms::add_to_mean(++count, changed, mean);
    }
    EXPECT_FLOAT_EQ(mean[0], 3);
    EXPECT_FLOAT_EQ(mean[1], 2);
}

TEST(linear_algebra, a_ridge_grows_until_cholesky_works) {
    floats a(1);
    int builds = 0;
    const auto minus_five = [&](std::span<float> x) { x[0] -= 5, ++builds; };
    EXPECT_TRUE(ms::cholesky_with_ridge(1, a, 1, minus_five));
    EXPECT_EQ(builds, 2) << "1 - 5 is negative, 10 - 5 is not";
    EXPECT_FLOAT_EQ(a[0], std::sqrt(5.0f));
    EXPECT_FALSE(ms::cholesky_with_ridge(1, a, 1, [](std::span<float> x) { x[0] = std::nanf(""); }));
}

/// Around their mean these are (2, 0), (-2, 0), (0, 1), (0, -1): X^T X = diag(8, 2).
TEST(linear_algebra, leverage_by_hand) {
    for (const float one : leverages(1e-6f, {7, 5, 3, 5, 5, 6, 5, 4}, 2)) EXPECT_NEAR(one, 0.5, 1e-5);
    const floats ridged = leverages(2, {7, 5, 3, 5, 5, 6, 5, 4}, 2);
    EXPECT_FLOAT_EQ(ridged[0], 0.4f);
    EXPECT_FLOAT_EQ(ridged[3], 0.25f);
}

TEST(linear_algebra, leverages_sum_to_the_rank) {
    support::random_numbers random(9);
    float sum = 0;
    for (const float one : leverages(1e-6f, random.floats(40 * 7, 3), 7)) {
        EXPECT_GT(one, 0.0f);
        EXPECT_LT(one, 1.0f);
        sum += one;
    }
    EXPECT_NEAR(sum, 7, 1e-4);
}

TEST(linear_algebra, leverages_are_added) {
    floats x{1, -1}, mean(1), squares(1), scores{3, 4};
    ms::add_leverages(1e-6f, x, mean, squares, scores);
    EXPECT_NEAR(scores[0], 3.5, 1e-5);
    EXPECT_NEAR(scores[1], 4.5, 1e-5);
}

TEST(linear_algebra, rows_that_are_equal_or_too_few_have_finite_leverages) {
    EXPECT_EQ(leverages(0.01f, floats(12, 3.0f), 3), floats(4));
    EXPECT_EQ(leverages(0.01f, floats(12), 3), floats(4));
    // Two rows span one direction of three; the ridge that is given vanishes beside squares of 1e12.
    for (const float one : leverages(1e-6f, {1e6f, 2e6f, 3e6f, -1e6f, 1e6f, 2e6f}, 3)) {
        EXPECT_TRUE(std::isfinite(one));
        EXPECT_NEAR(one, 0.5, 0.1);
    }
}

/// Counts and sums that are halved together never come to where floats stand still.
TEST(count_token, halves_before_floats_stand_still) {
    std::uint64_t count = (1 << 20) - 2;
    float sum = 4 * static_cast<float>(count);
    std::size_t halved = 0;
    for (int token = 0; token < (1 << 20) + 2; ++token) {
        if (ms::count_token(count)) {
            sum /= 2;
            ++halved;
        }
        const float before = sum;
        sum += 4;
        ASSERT_EQ(sum - before, 4.0f) << count;
        ASSERT_LT(count, 1u << 20);
    }
    EXPECT_EQ(halved, 3u);
    EXPECT_NEAR(sum / static_cast<float>(count), 4, 1e-4);
}

}  // namespace linear_algebra_test
