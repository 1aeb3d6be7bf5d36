// The vectors of policies and tables: first lanes, masks, sums over lanes.
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/simd/highway.hpp>
#include <multistate/simd/vector.hpp>

namespace vector_test {

namespace simd = multistate::simd;
constexpr std::size_t width = simd::vector_width;

TEST(vector, loads_and_stores_the_first_lanes_only) {
    for (std::size_t n = 0; n < width; ++n) {
        std::vector<float> x(n);  // its own allocation: address sanitizer watches the end
        std::vector<std::int32_t> integers(n);
        std::iota(x.begin(), x.end(), 10.0f);
        std::iota(integers.begin(), integers.end(), 10);
        const simd::floats all = simd::load_first(x.data(), n, -7.0f);
        const simd::integers all_integers = simd::load_first(integers.data(), n, -7);
        for (std::size_t i = 0; i < width; ++i) {
            EXPECT_EQ(all[i], i < n ? x[i] : -7.0f);
            EXPECT_EQ(all_integers[i], i < n ? integers[i] : -7);
        }
        std::vector<float> y(n, 99);
        simd::store_first(simd::fill(5.0f), y.data(), n);
        EXPECT_EQ(y, std::vector<float>(n, 5));
    }
}

TEST(vector, fills_all_lanes_and_keeps_the_sign_of_zero) {
    for (const float x : {-0.0f, 0.0f, 3.5f, -INFINITY}) {
        for (std::size_t i = 0; i < width; ++i) {
            EXPECT_EQ(simd::fill(x)[i], x);
            EXPECT_EQ(std::signbit(simd::fill(x)[i]), std::signbit(x));
        }
    }
    EXPECT_TRUE(std::isnan(simd::fill(NAN)[width - 1]));
}

TEST(vector, masks_become_bits) {
    for (std::size_t i = 0; i < width; ++i) {
        const simd::integers one = simd::count_from(0) == static_cast<std::int32_t>(i);
        EXPECT_EQ(simd::bits_of(one), 1u << i);
        EXPECT_TRUE(simd::any(one));
        EXPECT_FALSE(simd::all(~one));
    }
    EXPECT_FALSE(simd::any(simd::integers{}));
    EXPECT_TRUE(simd::all(~simd::integers{}));
}

TEST(vector, stores_the_indices_of_bits_and_nothing_behind_them) {
    for (const unsigned bits : {0u, 1u, 5u, 8u, 10u, 15u, (1u << (width - 1)) | 2u, (1u << width) - 1}) {
        std::vector<std::uint32_t> expected;
        for (std::size_t i = 0; i < width; ++i) {
            if ((bits >> i & 1u) != 0) expected.push_back(static_cast<std::uint32_t>(100 + i));
        }
        std::vector<std::uint32_t> stored(width + 1, 7);
        ASSERT_EQ(simd::store_indices(bits, 100, stored.data()), expected.size()) << bits;
        expected.resize(width + 1, 7);
        EXPECT_EQ(stored, expected) << bits;
    }
}

TEST(vector, folds_over_every_lane) {
    for (std::size_t at = 0; at < width; ++at) {
        simd::floats x = {};
        x[at] = 3;
        EXPECT_EQ(simd::sum(x), 3.0f);
        EXPECT_EQ(simd::fold(x, [](auto a, auto b) { return a > b ? a : b; }), 3.0f);
    }
}

/// (1 + e)^2 - 1 - 2e is e^2, which is lost where the product is rounded.
TEST(vector, multiply_add_rounds_once_where_the_target_can) {
    const simd::floats a = simd::fill(1 + 0x1p-12f);
    const float error = simd::multiply_add(a, a, simd::fill(-1 - 0x1p-11f))[0];
#if defined(__FMA__) || defined(__aarch64__)
    EXPECT_EQ(error, 0x1p-24f);
#else
    EXPECT_EQ(error, 0.0f);
#endif
}

TEST(vector, padding_is_whole_vectors) {
    static_assert(simd::padding % simd::lanes == 0 && simd::padding % simd::vector_width == 0);
    static_assert(simd::padded(0) == 0 && simd::padded(1) == 16 && simd::padded(16) == 16 && simd::padded(17) == 32);
}

}  // namespace vector_test
