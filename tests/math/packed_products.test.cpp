// Products of matrices and quadratic forms against their definitions in double precision.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/math/packed_products.hpp>

#include "support/random.hpp"

namespace matrix_products_test {

namespace ms = multistate;
using floats = std::vector<float>;

/// Vectors of n random numbers, as rows and side by side.
struct vectors {
    vectors(std::size_t count, std::size_t n, support::random_numbers& random)
        : memory(random.floats(count * n, 1)), panel(n * ms::panel_width), rows{memory.data(), count, n, n} {
        for (std::size_t k = 0; k < std::min(count, ms::panel_width); ++k) ms::stand(rows[k], panel, k);
    }

    floats memory, panel;
    ms::rows rows;
};

double dot(std::span<const float> x, std::span<const float> y) {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
    return sum;
}

TEST(matrix_products, are_those_of_all_vectors_with_all) {
    support::random_numbers random(1);
    for (const std::size_t n : {1u, 4u, 33u, 128u}) {
        for (const std::size_t count : {1u, 2u, 15u, 77u}) {
            for (const std::size_t others : {1u, 5u, 32u}) {
                const vectors x(count, n, random), y(others, n, random);
                const std::size_t stride = ms::panel_width + 5;
                floats out(count * stride);
                ms::products(x.rows, y.panel, out, stride);
                for (std::size_t i = 0; i < count; ++i) {
                    for (std::size_t k = 0; k < others; ++k) {
                        ASSERT_NEAR(out[i * stride + k], dot(x.rows[i], y.rows[k]), 1e-6 * static_cast<double>(n + 1));
                    }
                }
            }
        }
    }
}

/// Policies rely on it where states are equal.
TEST(matrix_products, commute_to_the_last_bit) {
    support::random_numbers random(2);
    for (const std::size_t n : {3u, 64u, 100u}) {
        const vectors x(32, n, random), y(29, n, random);
        floats out(32 * ms::panel_width), turned(29 * ms::panel_width);
        ms::products(x.rows, y.panel, out, ms::panel_width);
        ms::products(y.rows, x.panel, turned, ms::panel_width);
        for (std::size_t i = 0; i < 32; ++i) {
            for (std::size_t k = 0; k < 29; ++k) {
                ASSERT_EQ(out[i * ms::panel_width + k], turned[k * ms::panel_width + i]);
            }
        }
    }
}

TEST(matrix_products, quadratic_forms_use_the_lower_triangle) {
    support::random_numbers random(3);
    for (const std::size_t n : {1u, 4u, 31u, 32u, 36u, 128u}) {
        floats a = random.floats(n * n, 1);
        for (std::size_t i = 0; i < n; ++i)
            std::fill_n(a.begin() + static_cast<std::ptrdiff_t>(i * n + i + 1), n - i - 1, 0.0f);
        const vectors x(32, n, random);
        std::array<float, ms::panel_width> out{};
        floats scratch(ms::panel_width * ms::panel_width);
        ms::quadratic_forms(a, n, x.panel, out, scratch);
        for (std::size_t k = 0; k < 32; ++k) {
            double expected = 0;
            for (std::size_t i = 0; i < n; ++i) {
                for (std::size_t j = 0; j < n; ++j) {
                    expected += static_cast<double>(a[std::max(i, j) * n + std::min(i, j)]) *
                                static_cast<double>(x.rows[k][i]) * static_cast<double>(x.rows[k][j]);
                }
            }
            EXPECT_NEAR(out[k], expected, 1e-6 * static_cast<double>(n * n + 1)) << n;
        }
    }
}

/// A lower triangle [n, n] that is far from singular; above the diagonal stands something else.
floats triangle(std::size_t n, support::random_numbers& random) {
    floats l = random.floats(n * n, 0.3f);
    for (std::size_t i = 0; i < n; ++i) l[i * n + i] = 2 + l[i * n + i];
    return l;
}

TEST(matrix_products, many_vectors_stand_as_each_does) {
    support::random_numbers random(4);
    for (const std::size_t n : {1u, 4u, 17u, 36u, 128u}) {
        for (const std::size_t count : {1u, 4u, 7u, 32u}) {
            const floats x = random.floats(count * (n + 3), 1);
            floats panel(n * ms::panel_width, 9), expected = panel;
            const ms::rows all{x.data(), count, n, n + 3};
            for (std::size_t k = 0; k < count; ++k) ms::stand(all[k], expected, k);
            ms::stand(all, panel);
            EXPECT_EQ(panel, expected) << n << " " << count;
        }
    }
}

TEST(matrix_products, a_panel_is_solved_column_by_column) {
    support::random_numbers random(6);
    for (const std::size_t n : {1u, 4u, 31u, 32u, 36u, 128u}) {
        const floats l = triangle(n, random);
        const vectors x(32, n, random);
        floats panel = x.panel, scratch(ms::panel_width * ms::panel_width);
        ms::solve_lower({l.data(), n, n, n}, panel, scratch);
        for (std::size_t k = 0; k < 32; ++k) {
            for (std::size_t i = 0; i < n; ++i) {  // L times the solution
                double sum = 0;
                for (std::size_t c = 0; c <= i; ++c) {
                    sum += static_cast<double>(l[i * n + c]) * static_cast<double>(panel[c * ms::panel_width + k]);
                }
                ASSERT_NEAR(sum, x.rows[k][i], 1e-4) << n;
            }
        }
    }
}

TEST(matrix_products, cholesky_in_blocks) {
    support::random_numbers random(7);
    for (const std::size_t n : {1u, 4u, 31u, 32u, 36u, 64u, 100u, 128u}) {
        const floats l = triangle(n, random);
        floats a(n * n, 77), scratch((n + ms::panel_width) * ms::panel_width);
        for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t j = 0; j <= i; ++j) {
                a[i * n + j] = static_cast<float>(dot(std::span(l).subspan(i * n, j + 1), std::span(l).subspan(j * n)));
            }
        }
        ASSERT_TRUE(ms::cholesky(a, n, scratch));
        for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t j = 0; j < n; ++j) ASSERT_NEAR(a[i * n + j], j <= i ? l[i * n + j] : 77, 1e-4) << n;
        }
    }
}

TEST(matrix_products, cholesky_in_blocks_refuses_what_is_not_positive_definite) {
    for (const std::size_t wrong : {0u, 31u, 32u, 69u}) {
        for (const float bad : {0.0f, -1.0f, NAN}) {
            const std::size_t n = 70;
            floats a(n * n), scratch((n + ms::panel_width) * ms::panel_width);
            for (std::size_t i = 0; i < n; ++i) a[i * n + i] = i == wrong ? bad : 1;
            EXPECT_FALSE(ms::cholesky(a, n, scratch));
        }
    }
}

TEST(matrix_products, squares_are_added_to_the_lower_triangle) {
    support::random_numbers random(5);
    for (const std::size_t n : {1u, 4u, 31u, 32u, 36u, 128u}) {
        for (const std::size_t count : {1u, 5u, 32u}) {
            const vectors x(count, n, random);
            const floats before = random.floats(n * n, 1), factors = random.floats(count, 2);
            floats a = before, scratch((2 * n + ms::panel_width) * ms::panel_width);
            ms::add_squares(factors, x.rows, a, scratch);
            for (std::size_t r = 0; r < n; ++r) {
                for (std::size_t c = 0; c < n; ++c) {
                    double expected = before[r * n + c];
                    for (std::size_t k = 0; c <= r && k < count; ++k) {
                        expected += static_cast<double>(factors[k]) * x.rows[k][r] * x.rows[k][c];
                    }
                    ASSERT_NEAR(a[r * n + c], expected, 1e-5) << n << " " << r << " " << c;
                }
            }
        }
    }
}

}  // namespace matrix_products_test
