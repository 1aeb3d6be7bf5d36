// Vectorized random numbers: the same as one by one, even, and without memory.
#include "support/uniform.hpp"

#include <cmath>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/math/random.hpp>
#include <multistate/simd/uniform.hpp>

namespace uniform_test {

namespace ms = multistate;

TEST(open_uniforms, are_the_same_at_every_length) {
    for (std::size_t n = 0; n <= 4 * ms::simd::vector_width + 3; ++n) {
        for (const std::uint64_t key : {std::uint64_t{0}, ms::random_bits(1, 2), ~std::uint64_t{0}}) {
            std::vector<std::int32_t> index(n);
            std::iota(index.begin(), index.end(), 1'000'000);
            std::vector<float> out(n + 1, 7.0f);
            ms::simd::open_uniforms(key, index, std::span(out).first(n));
            for (std::size_t j = 0; j < n; ++j) {
                EXPECT_EQ(out[j], support::open_uniform(key, static_cast<std::uint32_t>(index[j])));
                EXPECT_GT(out[j], 0.0f);
                EXPECT_LT(out[j], 1.0f);
            }
            EXPECT_EQ(out[n], 7.0f);
        }
    }
}

/// Neighbouring indices, as positions are, and keys as policies make them: 100 bins of about 1000, and no correlation
/// with the next index or the next key.
TEST(open_uniforms, are_even_and_without_memory) {
    constexpr std::size_t count = 100000;
    std::vector<std::int32_t> index(count + 1);
    std::iota(index.begin(), index.end(), 0);
    std::vector<float> u(count + 1), other(count + 1);
    for (int position = 0; position < 5; ++position) {
        ms::simd::open_uniforms(ms::random_bits(0, 0, 0, position), index, u);
        ms::simd::open_uniforms(ms::random_bits(0, 0, 0, position + 1), index, other);
        std::vector<int> bins(100);
        double squares = 0, next = 0, across = 0;
        for (std::size_t j = 0; j < count; ++j) {
            ++bins[static_cast<std::size_t>(u[j] * 100)];
            next += (u[j] - 0.5) * (u[j + 1] - 0.5);
            across += (u[j] - 0.5) * (other[j] - 0.5);
        }
        for (const int n : bins) squares += (n - 1000.0) * (n - 1000.0) / 1000;
        EXPECT_GT(squares, 50);  // chi-square with 99 degrees of freedom
        EXPECT_LT(squares, 160);
        EXPECT_LT(std::abs(next / count), 0.001);  // the variance is 1 / 12
        EXPECT_LT(std::abs(across / count), 0.001);
    }
}

}  // namespace uniform_test
