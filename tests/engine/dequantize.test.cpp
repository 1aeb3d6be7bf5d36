// Blocks written out by hand from the definition of each type, then what the quantizers of the tests produce.
#include "dequantize.hpp"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "engine/synthetic_gguf.hpp"

namespace dequantize_test {

using demo::tensor_type;

constexpr std::uint16_t f16_one = 0x3C00;
constexpr std::uint16_t f16_half = 0x3800;
constexpr std::uint16_t f16_minus_two = 0xC000;

std::vector<float> values_of(tensor_type type, std::span<const std::byte> bytes, std::size_t elements) {
    std::vector<float> values(elements);
    demo::dequantize(type, bytes, values);
    return values;
}

// f16 by its definition, in double: no bit of a float is touched.
double half_value(std::uint32_t bits) {
    const double sign = (bits & 0x8000U) != 0 ? -1.0 : 1.0;
    const int exponent = static_cast<int>((bits >> 10) & 31U);
    const double mantissa = bits & 1023U;
    if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
    if (exponent == 0) return sign * std::ldexp(mantissa, -24);
    return sign * std::ldexp(1024.0 + mantissa, exponent - 25);
}

TEST(Dequantize, EveryF16) {
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
        const float value = demo::float_from_f16(static_cast<std::uint16_t>(bits));
        const double expected = half_value(bits);
        if (std::isnan(expected)) {
            ASSERT_TRUE(std::isnan(value)) << bits;
        } else {
            ASSERT_EQ(static_cast<double>(value), expected) << bits;
        }
        ASSERT_EQ(std::signbit(value), (bits & 0x8000U) != 0) << bits;
    }
}

TEST(Dequantize, F32F16Bf16) {
    demo::byte_buffer f32;
    f32.put(1.5F).put(-0.0F).put(std::numeric_limits<float>::denorm_min());
    const std::vector<float> expected{1.5F, -0.0F, std::numeric_limits<float>::denorm_min()};
    EXPECT_EQ(values_of(tensor_type::f32, f32.bytes(), 3), expected);

    demo::byte_buffer f16;
    f16.put(f16_one).put(f16_half).put(f16_minus_two).put(std::uint16_t{0x0001});
    EXPECT_EQ(values_of(tensor_type::f16, f16.bytes(), 4), (std::vector<float>{1.0F, 0.5F, -2.0F, 0x1p-24F}));

    demo::byte_buffer bf16;
    bf16.put(std::uint16_t{0x3F80}).put(std::uint16_t{0xC049}).put(std::uint16_t{0x7F80}).put(std::uint16_t{0x0001});
    EXPECT_EQ(values_of(tensor_type::bf16, bf16.bytes(), 4),
              (std::vector<float>{1.0F, -3.140625F, std::numeric_limits<float>::infinity(), 0x1p-133F}));
}

TEST(Dequantize, Q8_0) {
    demo::byte_buffer block;
    block.put(f16_half);
    for (int i = 0; i < 32; ++i) block.put(static_cast<std::int8_t>(i == 0 ? -128 : i == 1 ? 127 : i - 16));
    const std::vector<float> values = values_of(tensor_type::q8_0, block.bytes(), 32);
    EXPECT_EQ(values[0], -64.0F);
    EXPECT_EQ(values[1], 63.5F);
    for (std::size_t i = 2; i < 32; ++i) EXPECT_EQ(values[i], 0.5F * (static_cast<float>(i) - 16.0F)) << i;
}

TEST(Dequantize, Q4_0) {
    // Byte i holds i in its low half and 15 - i in its high half.
    demo::byte_buffer block;
    block.put(f16_minus_two);
    for (int i = 0; i < 16; ++i) block.put(static_cast<std::uint8_t>(i | ((15 - i) << 4)));
    const std::vector<float> values = values_of(tensor_type::q4_0, block.bytes(), 32);
    for (std::size_t i = 0; i < 16; ++i) {
        const auto low = static_cast<float>(i);
        EXPECT_EQ(values[i], -2.0F * (low - 8.0F)) << i;
        EXPECT_EQ(values[i + 16], -2.0F * (7.0F - low)) << i;
    }
}

TEST(Dequantize, Q4_K) {
    // Scales 1, 2, 3, 63, 16, 37, 48, 63 and minimums 5, 0, 63, 7, 32, 21, 15, 63, packed by hand.
    const std::vector<int> packed{
        1 | (1 << 6), 2 | (2 << 6), 3 | (3 << 6),  63 | (3 << 6),  // scales 0-3; upper bits of 16, 37, 48, 63
        5 | (2 << 6), 0 | (1 << 6), 63 | (0 << 6), 7 | (3 << 6),   // minimums 0-3; upper bits of 32, 21, 15, 63
        0 | (0 << 4), 5 | (5 << 4), 0 | (15 << 4), 15 | (15 << 4)  // low bits of scales and minimums 4-7
    };
    demo::byte_buffer block;
    block.put(f16_half).put(f16_one);
    for (const int each : packed) block.put(static_cast<std::uint8_t>(each));
    // Byte i of a pair of groups: i % 16 for the even group, and 15 less that for the odd one, plus the pair's number.
    for (int i = 0; i < 128; ++i) block.put(static_cast<std::uint8_t>((i % 16) | (((15 - i % 16 + i / 32) % 16) << 4)));
    ASSERT_EQ(block.size(), 144U);

    const std::vector<float> scales{1, 2, 3, 63, 16, 37, 48, 63};
    const std::vector<float> minimums{5, 0, 63, 7, 32, 21, 15, 63};
    const std::vector<float> values = values_of(tensor_type::q4_k, block.bytes(), 256);
    for (std::size_t i = 0; i < 256; ++i) {
        const std::size_t group = i / 32;
        const std::size_t quant = group % 2 == 0 ? i % 16 : (15 - i % 16 + group / 2) % 16;
        EXPECT_EQ(values[i], 0.5F * scales[group] * static_cast<float>(quant) - minimums[group]) << i;
    }
}

TEST(Dequantize, Q4_KByNumbers) {
    demo::byte_buffer block;
    block.put(f16_one).put(f16_half);
    // Scale 0 is 10 and minimum 0 is 6; scale 7 is 0b10'0011 = 35 and minimum 7 is 0b01'0100 = 20.
    for (const int each : {10, 0, 0, 2 << 6, 6, 0, 0, 1 << 6, 0, 0, 0, 3 | (4 << 4)}) {
        block.put(static_cast<std::uint8_t>(each));
    }
    for (int i = 0; i < 128; ++i) block.put(static_cast<std::uint8_t>(i == 1 ? 0x07 : i == 127 ? 0xB0 : 0));
    const std::vector<float> values = values_of(tensor_type::q4_k, block.bytes(), 256);
    EXPECT_EQ(values[0], -3.0F);              // 10 * 0 - 0.5 * 6
    EXPECT_EQ(values[1], 67.0F);              // 10 * 7 - 0.5 * 6
    EXPECT_EQ(values[32], 0.0F);              // scale and minimum 0
    EXPECT_EQ(values[254], -10.0F);           // 35 * 0 - 0.5 * 20
    EXPECT_EQ(values[255], 35.0F * 11 - 10);  // high half of the last byte
}

TEST(Dequantize, Q6_KByNumbers) {
    std::vector<int> block(210, 0);
    block[0] = 0x5A;                  // low bits of numbers 0 (10) and 64 (5)
    block[32] = 0xC3;                 // of numbers 32 (3) and 96 (12)
    block[64 + 63] = 0x9F;            // of numbers 128 + 63 (15) and 128 + 127 (9)
    block[128] = 0b11'10'01'00;       // upper bits of 0 (0), 32 (1), 64 (2), 96 (3)
    block[128 + 63] = 0b01'00'11'10;  // upper bits of 128 + 31 (2), 128 + 63 (3), 128 + 95 (0), 128 + 127 (1)
    const std::vector<int> scales{1, 2, 3, 4, -5, 6, 7, 8, 9, 10, 11, -128, 13, 14, 15, 127};
    std::copy(scales.begin(), scales.end(), block.begin() + 192);
    demo::byte_buffer bytes;
    for (std::size_t i = 0; i < 208; ++i) bytes.put(static_cast<std::uint8_t>(block[i] & 255));
    bytes.put(f16_half);

    const std::vector<float> values = values_of(tensor_type::q6_k, bytes.bytes(), 256);
    EXPECT_EQ(values[0], 0.5F * 1 * (10 - 32));
    EXPECT_EQ(values[16], 0.5F * 2 * (0 - 32));  // all bits 0, the second scale
    EXPECT_EQ(values[32], 0.5F * 3 * (3 + 16 - 32));
    EXPECT_EQ(values[64], 0.5F * -5 * (5 + 32 - 32));
    EXPECT_EQ(values[96], 0.5F * 7 * (12 + 48 - 32));
    EXPECT_EQ(values[128 + 31], 0.5F * 10 * (0 + 32 - 32));
    EXPECT_EQ(values[128 + 63], 0.5F * -128 * (15 + 48 - 32));
    EXPECT_EQ(values[128 + 95], 0.5F * 14 * (0 + 0 - 32));
    EXPECT_EQ(values[128 + 127], 0.5F * 127 * (9 + 16 - 32));
}

TEST(Dequantize, EveryNumberOfAQ6_KBlockHasItsPlace) {
    // One number at a time set to 31 - 32 = -1 by its six bits, all others at -32.
    for (std::size_t place = 0; place < 256; ++place) {
        std::vector<std::uint8_t> block(208, 0);
        const std::size_t half = place / 128;
        const std::size_t within = place % 128;
        block[half * 64 + within % 64] = static_cast<std::uint8_t>(within < 64 ? 0x0F : 0xF0);
        block[128 + half * 32 + within % 32] = static_cast<std::uint8_t>(1U << (within / 32 * 2));
        std::fill(block.begin() + 192, block.end(), std::uint8_t{1});
        demo::byte_buffer bytes;
        bytes.put(std::as_bytes(std::span(block))).put(f16_one);
        const std::vector<float> values = values_of(tensor_type::q6_k, bytes.bytes(), 256);
        for (std::size_t i = 0; i < 256; ++i) ASSERT_EQ(values[i], i == place ? -1.0F : -32.0F) << place << ' ' << i;
    }
}

TEST(Dequantize, BlocksFollowEachOther) {
    demo::byte_buffer blocks;
    for (const std::uint16_t scale : {f16_one, f16_half}) {
        blocks.put(scale);
        for (int i = 0; i < 32; ++i) blocks.put(static_cast<std::int8_t>(i));
    }
    const std::vector<float> values = values_of(tensor_type::q8_0, blocks.bytes(), 64);
    EXPECT_EQ(values[31], 31.0F);
    EXPECT_EQ(values[63], 15.5F);
}

TEST(Dequantize, Sizes) {
    EXPECT_EQ(demo::bytes_of(tensor_type::f32, 3), 12U);
    EXPECT_EQ(demo::bytes_of(tensor_type::f16, 3), 6U);
    EXPECT_EQ(demo::bytes_of(tensor_type::bf16, 3), 6U);
    EXPECT_EQ(demo::bytes_of(tensor_type::q8_0, 64), 68U);
    EXPECT_EQ(demo::bytes_of(tensor_type::q4_0, 64), 36U);
    EXPECT_EQ(demo::bytes_of(tensor_type::q4_k, 512), 288U);
    EXPECT_EQ(demo::bytes_of(tensor_type::q6_k, 512), 420U);
    EXPECT_EQ(demo::bytes_of(tensor_type::q6_k, 0), 0U);
    EXPECT_THROW(static_cast<void>(demo::bytes_of(tensor_type::q8_0, 33)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(demo::bytes_of(static_cast<tensor_type>(13), 256)), std::invalid_argument);
}

TEST(Dequantize, RefusesBytesThatDoNotFit) {
    std::vector<float> values(32);
    EXPECT_THROW(demo::dequantize(tensor_type::q8_0, std::vector<std::byte>(33), values), std::invalid_argument);
    EXPECT_THROW(demo::dequantize(tensor_type::q8_0, std::vector<std::byte>(68), values), std::invalid_argument);
    EXPECT_THROW(demo::dequantize(static_cast<tensor_type>(3), std::vector<std::byte>(20), values),
                 std::invalid_argument);
    EXPECT_NO_THROW(demo::dequantize(tensor_type::q8_0, {}, {}));
}

TEST(Dequantize, Names) {
    EXPECT_EQ(demo::tensor_type_name(13), "Q5_K");
    EXPECT_EQ(demo::tensor_type_name(23), "IQ4_XS");
    EXPECT_EQ(demo::tensor_type_name(30), "BF16");
    EXPECT_EQ(demo::tensor_type_name(35), "TQ2_0");
    EXPECT_EQ(demo::tensor_type_name(39), "MXFP4");
    EXPECT_EQ(demo::tensor_type_name(4), "unknown");
    EXPECT_EQ(demo::tensor_type_name(4294967295U), "unknown");
    EXPECT_EQ(demo::supported_tensor_types(), "F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q6_K");
    for (std::uint32_t number = 0; number < 64; ++number) {
        if (const auto type = demo::supported_tensor_type(number)) {
            EXPECT_EQ(demo::layout_of(*type).name, demo::tensor_type_name(number));
        }
    }
}

// The writer of the tests and the reader agree, so that synthetic models mean what they say.
TEST(Quantizers, ComeCloseToWhatTheyAreGiven) {
    demo::random_numbers random(7);
    std::vector<float> values = random.normals(1024, 1.0);
    std::fill(values.begin(), values.begin() + 256, 0.0F);                      // nothing but zeros
    std::fill(values.begin() + 256, values.begin() + 320, 2.5F);                // constants
    for (std::size_t i = 512; i < 768; ++i) values[i] = -std::fabs(values[i]);  // one sign
    const std::vector<std::pair<tensor_type, double>> bounds{
        {tensor_type::f32, 0.0},   {tensor_type::f16, 1e-3},  {tensor_type::bf16, 1e-2}, {tensor_type::q8_0, 0.02},
        {tensor_type::q4_0, 0.45}, {tensor_type::q4_k, 0.25}, {tensor_type::q6_k, 0.08}};
    for (const auto& [type, bound] : bounds) {
        const std::vector<float> stored = values_of(type, demo::quantize(type, values), values.size());
        for (std::size_t i = 0; i < values.size(); ++i) {
            ASSERT_NEAR(stored[i], values[i], bound) << demo::layout_of(type).name << ' ' << i;
        }
    }
}

TEST(Quantizers, EveryF16ComesBack) {
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
        const auto half = static_cast<std::uint16_t>(bits);
        const float value = demo::float_from_f16(half);
        if (std::isnan(value)) continue;
        ASSERT_EQ(demo::f16_from_float(value), half);
    }
    EXPECT_EQ(demo::f16_from_float(1.0F + 0x1p-11F), 0x3C00);             // half way, to even
    EXPECT_EQ(demo::f16_from_float(1.0F + 0x1p-11F + 0x1p-20F), 0x3C01);  // above half way
    EXPECT_EQ(demo::f16_from_float(2047.75F), 0x6800);                    // carries into the exponent
    EXPECT_EQ(demo::f16_from_float(65519.0F), 0x7BFF);
    EXPECT_EQ(demo::f16_from_float(65520.0F), 0x7C00);
}

}  // namespace dequantize_test
