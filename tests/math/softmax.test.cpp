// softmax against double precision, with the bounds that softmax.hpp states.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/math/softmax.hpp>

#include "support/random.hpp"

namespace softmax_test {

namespace ms = multistate;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

std::vector<double> oracle(const std::vector<float>& x) {
    double greatest = -std::numeric_limits<double>::infinity();
    for (const float v : x) greatest = std::max(greatest, static_cast<double>(v));
    std::vector<double> p;
    double total = 0;
    for (const float v : x) total += p.emplace_back(std::exp(static_cast<double>(v) - greatest));
    for (double& v : p) v /= total;
    return p;
}

/// The greatest relative error among results that float32 holds with full precision; others must be as small.
double relative_error(const std::vector<float>& got, const std::vector<double>& expected) {
    double worst = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
        const double difference = std::abs(static_cast<double>(got[i]) - expected[i]);
        if (expected[i] >= static_cast<double>(std::numeric_limits<float>::min())) {
            worst = std::max(worst, difference / expected[i]);
        } else {
            EXPECT_LE(difference, static_cast<double>(std::numeric_limits<float>::min()));
        }
    }
    return worst;
}

void check(std::size_t n, float range, double bound, std::uint64_t seed) {
    const std::vector<float> x = support::random_numbers(seed).floats(n, range);
    std::vector<float> p = x;
    ms::softmax(p);
    EXPECT_LT(relative_error(p, oracle(x)), bound) << n << " inputs within ±" << range;
}

TEST(softmax, is_as_exact_as_stated_for_all_lengths) {
    for (std::size_t n = 0; n <= 4 * ms::simd::vector_width + 1; ++n) {
        for (std::uint64_t seed = 0; seed < 20; ++seed) {
            check(n, 8, 1e-6, seed);
            check(n, 40, 5e-6, seed);
        }
    }
}

TEST(softmax, is_as_exact_for_long_rows) {
    for (const std::size_t n : {100u, 511u, 513u, 1000u, 1023u, 1024u, 1025u, 4096u, 65535u, 65536u, 65537u}) {
        check(n, 8, 1e-6, n);
        check(n, 40, 5e-6, n);
    }
    std::vector<float> even(65536, 3.0f);
    ms::softmax(even);
    EXPECT_EQ(std::ranges::count(even, 1.0f / 65536), 65536);
}

TEST(softmax, leaves_its_surroundings_alone_at_every_alignment) {
    for (std::size_t misaligned = 0; misaligned < 16; ++misaligned) {
        for (std::size_t n = 0; n <= 4 * ms::simd::vector_width + 1; ++n) {
            alignas(64) float memory[160];
            std::ranges::fill(memory, 77.0f);
            const std::vector<float> x = support::random_numbers(n + 1).floats(n, 8);
            const std::span<float> p = std::span(memory).subspan(32 + misaligned, n);
            std::ranges::copy(x, p.begin());
            ms::softmax(p);
            EXPECT_LT(relative_error({p.begin(), p.end()}, oracle(x)), 1e-6);
            EXPECT_EQ(std::count(memory, memory + 32 + misaligned, 77.0f), 32 + static_cast<int>(misaligned));
            EXPECT_EQ(std::count(p.data() + n, memory + 160, 77.0f), memory + 160 - (p.data() + n));
        }
    }
}

TEST(softmax, gives_minus_infinity_exactly_nothing) {
    for (std::size_t n = 2; n <= 70; ++n) {
        std::vector<float> x(n, -infinity);
        x[n / 2] = -300;
        ms::softmax(x);
        for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(x[i], i == n / 2 ? 1.0f : 0.0f);
    }
}

TEST(softmax, of_nothing_but_minus_infinity_is_zero) {
    for (std::size_t n = 1; n <= 70; ++n) {
        std::vector<float> x(n, -infinity);
        ms::softmax(x);
        EXPECT_EQ(std::ranges::count(x, 0.0f), static_cast<std::ptrdiff_t>(n));
    }
}

TEST(softmax, spreads_a_nan_so_that_it_shows) {
    for (std::size_t n = 1; n <= 70; ++n) {
        for (const float others : {0.0f, 50.0f, -infinity}) {
            for (std::size_t at = 0; at < n; ++at) {
                std::vector<float> x(n, others);
                x[at] = not_a_number;
                ms::softmax(x);
                EXPECT_TRUE(std::ranges::all_of(x, [](float v) { return std::isnan(v); })) << at << " of " << n;
            }
        }
    }
}

TEST(softmax, takes_huge_magnitudes) {
    std::vector<float> x{3e38f, -3e38f, 3e38f, 0.0f, -1e30f};
    ms::softmax(x);
    EXPECT_EQ(x, (std::vector<float>{0.5f, 0, 0.5f, 0, 0}));
    std::vector<float> low{-3e38f, -3e38f};
    ms::softmax(low);
    EXPECT_EQ(low, (std::vector<float>{0.5f, 0.5f}));
    std::vector<float> far{0.0f, -87.0f, -88.0f, -200.0f};
    ms::softmax(far);
    EXPECT_EQ(far[0], 1.0f);
    EXPECT_NEAR(far[1] / std::exp(-87.0f), 1, 5e-6);
    EXPECT_LE(far[2], std::numeric_limits<float>::min()) << "below -87.33 the exponential is zero";
    EXPECT_EQ(far[3], 0.0f);
}

TEST(softmax, of_one_is_one) {
    for (const float v : {0.0f, -5.0f, 1e30f, 88.0f}) {
        std::vector<float> x{v};
        ms::softmax(x);
        EXPECT_EQ(x[0], 1.0f);
    }
}

static_assert(noexcept(ms::softmax(std::span<float>())));

}  // namespace softmax_test
