// Loading stored elements as floats, and sums over lanes.
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/simd/vector.hpp>

namespace vector_test {

namespace ms = multistate;
namespace simd = multistate::simd;

template <class Element>
std::vector<float> loaded(const std::vector<Element>& elements) {
    std::vector<float> result(simd::lanes);
    simd::hn::StoreU(simd::load(elements.data(), 0), simd::float_tag{}, result.data());
    return result;
}

TEST(vector, loads_every_byte) {
    for (int v = -128; v < 128; ++v) {
        const std::vector<std::int8_t> bytes(simd::lanes, static_cast<std::int8_t>(v));
        EXPECT_EQ(loaded(bytes), std::vector<float>(simd::lanes, static_cast<float>(v)));
    }
}

TEST(vector, loads_in_order) {
    std::vector<std::int8_t> bytes(simd::lanes);
    std::iota(bytes.begin(), bytes.end(), std::int8_t{1});
    std::vector<float> expected(simd::lanes);
    std::iota(expected.begin(), expected.end(), 1.0f);
    EXPECT_EQ(loaded(bytes), expected);
    EXPECT_EQ(loaded(expected), expected);
    std::vector<ms::half> halves(simd::lanes);
    std::vector<ms::brain> brains(simd::lanes);
    for (std::size_t i = 0; i < simd::lanes; ++i) {
        halves[i].bits = static_cast<std::uint16_t>(0x3c00 + i);  // 1 + i / 1024
        brains[i].bits = static_cast<std::uint16_t>(0x3f80 + i);  // 1 + i / 128
    }
    for (std::size_t i = 0; i < simd::lanes; ++i) {
        EXPECT_EQ(loaded(halves)[i], 1 + static_cast<float>(i) / 1024);
        EXPECT_EQ(loaded(brains)[i], 1 + static_cast<float>(i) / 128);
    }
}

/// Column c of a block of 64 has the nibble c % 16 - 8; the two groups have scales 3 and -5.
TEST(vector, loads_nibbles_in_order) {
    ms::nibbles row[2] = {};
    for (ms::nibbles& block : row) {
        block.scales[0] = 3;
        block.scales[1] = -5;
        for (std::size_t c = 0; c < 32; ++c) {
            const auto nibble = static_cast<std::uint8_t>((c % 16 + 8) % 16);
            block.bytes[c] = static_cast<std::uint8_t>(nibble | nibble << 4);
        }
    }
    for (std::size_t c = 0; c < 128; c += simd::lanes) {
        std::vector<float> loaded(simd::lanes);
        simd::hn::StoreU(simd::load(row, c), simd::float_tag{}, loaded.data());
        for (std::size_t i = 0; i < simd::lanes; ++i) {
            const auto nibble = static_cast<float>((c + i) % 16) - 8;
            EXPECT_EQ(loaded[i], nibble * (((c + i) / 32) % 2 == 0 ? 3.0f : -5.0f)) << c + i;
        }
    }
}

TEST(vector, loads_and_stores_the_first_lanes_only) {
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

TEST(vector, sums_lanes_one_and_four_at_a_time) {
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

TEST(vector, padding_is_whole_vectors) {
    static_assert(simd::padding % simd::lanes == 0);
    static_assert(simd::padded(0) == 0 && simd::padded(1) == 16 && simd::padded(16) == 16 && simd::padded(17) == 32);
    static_assert(sizeof(ms::half) == 2 && sizeof(ms::brain) == 2);
}

}  // namespace vector_test
