// The kernels' vectors: first lanes, and sums over lanes.
#include <numeric>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/simd/highway.hpp>

namespace highway_test {

namespace simd = multistate::simd;

TEST(highway, loads_and_stores_the_first_lanes_only) {
    const simd::integer_tag d;
    for (std::size_t n = 0; n <= simd::lanes; ++n) {
        std::vector<std::int32_t> x(n);  // its own allocation: address sanitizer watches the end
        std::iota(x.begin(), x.end(), 10);
        std::vector<std::int32_t> all(simd::lanes), expected(simd::lanes, -7);
        std::copy(x.begin(), x.end(), expected.begin());
        simd::hn::StoreU(simd::load_first(d, x.data(), n, -7), d, all.data());
        EXPECT_EQ(all, expected);
        std::vector<std::int32_t> y(n, 99);
        simd::store_first(d, simd::hn::Set(d, 5), y.data(), n);
        EXPECT_EQ(y, std::vector<std::int32_t>(n, 5));
    }
}

TEST(highway, sums_lanes_one_and_four_at_a_time) {
    const simd::float_tag d;
    std::vector<float> ramp(4 * simd::lanes);
    std::iota(ramp.begin(), ramp.end(), 1.0f);
    simd::float_vector four[4];
    float expected[4];
    for (std::size_t i = 0; i < 4; ++i) {
        four[i] = simd::hn::LoadU(d, ramp.data() + i * simd::lanes);
        const auto begin = ramp.begin() + static_cast<std::ptrdiff_t>(i * simd::lanes);
        expected[i] = std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(simd::lanes), 0.0f);
        EXPECT_EQ(simd::sum(four[i]), expected[i]);  // small integers: exact in any order
    }
    float sums[6] = {9, 9, 9, 9, 9, 9};
    simd::store_sums(four, sums + 1);
    EXPECT_EQ(sums[0], 9);
    EXPECT_EQ(sums[5], 9);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(sums[i + 1], expected[i]);
}

}  // namespace highway_test
