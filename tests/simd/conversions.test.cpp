// Loading stored numbers as floats. What codecs store is tested with the codecs.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/simd/conversions.hpp>

namespace conversions_test {

namespace simd = multistate::simd;

std::vector<float> lanes_of(simd::float_vector v) {
    std::vector<float> result(simd::lanes);
    simd::hn::StoreU(v, simd::float_tag{}, result.data());
    return result;
}

TEST(conversions, load_every_byte) {
    for (int v = -128; v < 128; ++v) {
        const std::vector<std::int8_t> bytes(simd::lanes, static_cast<std::int8_t>(v));
        EXPECT_EQ(lanes_of(simd::load_int8(bytes.data())), std::vector<float>(simd::lanes, static_cast<float>(v)));
    }
}

TEST(conversions, load_in_order) {
    std::vector<std::int8_t> bytes(simd::lanes);
    std::iota(bytes.begin(), bytes.end(), std::int8_t{1});
    std::vector<float> expected(simd::lanes);
    std::iota(expected.begin(), expected.end(), 1.0f);
    EXPECT_EQ(lanes_of(simd::load_int8(bytes.data())), expected);
    EXPECT_EQ(lanes_of(simd::load_float32(expected.data())), expected);
    std::vector<std::uint16_t> float16(simd::lanes), bfloat16(simd::lanes);
    std::iota(float16.begin(), float16.end(), std::uint16_t{0x3c00});    // 1 + i / 1024
    std::iota(bfloat16.begin(), bfloat16.end(), std::uint16_t{0x3f80});  // 1 + i / 128
    for (std::size_t i = 0; i < simd::lanes; ++i) {
        EXPECT_EQ(lanes_of(simd::load_float16(float16.data()))[i], 1 + static_cast<float>(i) / 1024);
        EXPECT_EQ(lanes_of(simd::load_bfloat16(bfloat16.data()))[i], 1 + static_cast<float>(i) / 128);
    }
}

/// Column c is c * 5 % 15 - 7. Word i holds columns i, 16 + i, 32 + i and 48 + i, from its lowest bits up.
TEST(conversions, load_4_bits_in_order) {
    std::int8_t columns[64];
    std::uint8_t words[32], packed[32];
    for (int c = 0; c < 64; ++c) columns[c] = static_cast<std::int8_t>(c * 5 % 15 - 7);
    for (std::size_t i = 0; i < 16; ++i) {
        words[2 * i] = static_cast<std::uint8_t>((columns[i] & 15) | (columns[16 + i] & 15) << 4);
        words[2 * i + 1] = static_cast<std::uint8_t>((columns[32 + i] & 15) | (columns[48 + i] & 15) << 4);
    }
    simd::pack_int4(columns, packed);
    EXPECT_TRUE(std::ranges::equal(packed, words));
    for (std::size_t c = 0; c < 64; c += simd::lanes) {
        const auto some = lanes_of(simd::load_int4(words, c, -5));
        for (std::size_t i = 0; i < simd::lanes; ++i) EXPECT_EQ(some[i], -5.0f * columns[c + i]) << c + i;
    }
}

}  // namespace conversions_test
