// Loading stored numbers as floats. What codecs store is tested with the codecs.
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

/// Byte c holds c % 16 - 8 in its lower half, and the number below that in its upper half.
TEST(conversions, load_4_bits_in_order) {
    std::uint8_t bytes[32];
    for (std::size_t c = 0; c < 32; ++c) bytes[c] = static_cast<std::uint8_t>((c + 8) % 16 | (c + 7) % 16 << 4);
    for (std::size_t c = 0; c < 32; c += simd::lanes) {
        const auto lower = lanes_of(simd::load_int4(bytes + c, false, 3));
        const auto upper = lanes_of(simd::load_int4(bytes + c, true, -5));
        for (std::size_t i = 0; i < simd::lanes; ++i) {
            EXPECT_EQ(lower[i], 3 * (static_cast<float>((c + i) % 16) - 8)) << c + i;
            EXPECT_EQ(upper[i], -5 * (static_cast<float>((c + i + 15) % 16) - 8)) << c + i;
        }
    }
}

}  // namespace conversions_test
