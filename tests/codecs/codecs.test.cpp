// Every codec: what comes back of what was stored, with the bounds that codec.hpp states.
#include "support/codecs.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/cache/storage.hpp>

#include "support/random.hpp"

namespace codec_test {

namespace ms = multistate;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

template <class Codec>
std::vector<float> round_trip(const std::vector<float>& x) {
    ms::storage<Codec> memory(1, 1, x.size());
    memory.write(0, 0, x.data());
    std::vector<float> result(x.size());
    memory.plane(0).read(0, result.data());
    return result;
}

/// The value of a half, by its definition.
double value_of(std::uint16_t bits) {
    const double sign = bits >> 15 != 0 ? -1 : 1;
    const int exponent = bits >> 10 & 31;
    const int mantissa = bits & 1023;
    return sign * (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

std::uint16_t half_of(std::uint32_t bits) { return static_cast<std::uint16_t>(bits); }
bool finite(std::uint16_t bits) { return (bits & 0x7c00) != 0x7c00; }

std::vector<float> every_half() {
    std::vector<float> result;
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
        if (finite(half_of(bits))) result.push_back(static_cast<float>(value_of(half_of(bits))));
    }
    return result;
}

TEST(f16, every_finite_half_returns_as_itself) {
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
        if (!finite(half_of(bits))) continue;
        ASSERT_EQ(ms::simd::to_float16(static_cast<float>(value_of(half_of(bits)))), bits);
    }
    const std::vector<float> all = every_half();
    const std::vector<float> back = round_trip<ms::f16>(all);
    for (std::size_t i = 0; i < all.size(); ++i) {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(back[i]), std::bit_cast<std::uint32_t>(all[i]));
    }
}

/// Between two neighbouring halves: the midpoint goes to the even one, its neighbours to the nearer one.
TEST(f16, rounds_to_nearest_and_ties_to_even) {
    std::vector<float> x;
    std::vector<float> expected;
    for (std::uint32_t bits = 0; bits + 1 < 0x7c00; ++bits) {
        const auto low = static_cast<float>(value_of(half_of(bits)));
        const auto high = static_cast<float>(value_of(half_of(bits + 1)));
        const float middle = low + (high - low) / 2;  // exact: floats have 13 more bits
        const float even = bits % 2 == 0 ? low : high;
        for (const float sign : {1.0f, -1.0f}) {
            x.insert(x.end(),
                     {sign * middle, sign * std::nextafter(middle, 0.0f), sign * std::nextafter(middle, 1e9f)});
            expected.insert(expected.end(), {sign * even, sign * low, sign * high});
        }
    }
    EXPECT_EQ(round_trip<ms::f16>(x), expected);
    for (std::size_t i = 0; i < x.size(); ++i) {
        ASSERT_EQ(value_of(ms::simd::to_float16(x[i])), static_cast<double>(expected[i])) << x[i];
    }
}

TEST(f16, saturates_beyond_its_range) {
    for (const float huge : {65504.0f, 65505.0f, 65519.0f, 65520.0f, 65536.0f, 1e6f, 3e38f}) {
        EXPECT_EQ(round_trip<ms::f16>({huge, -huge}), (std::vector<float>{65504, -65504}));
        EXPECT_EQ(ms::simd::to_float16(huge), 0x7bff);
        EXPECT_EQ(ms::simd::to_float16(-huge), 0xfbff);
    }
}

TEST(f16, stays_within_its_relative_error) {
    const std::vector<float> x = support::random_numbers(1).floats(5000, 100);
    const std::vector<float> back = round_trip<ms::f16>(x);
    for (std::size_t i = 0; i < x.size(); ++i) {
        const float subnormal_step = 0x1p-25f;  // half a step where halves lie evenly
        EXPECT_LE(std::abs(back[i] - x[i]), std::max(std::abs(x[i]) * 0x1p-11f, subnormal_step));
    }
}

TEST(f16, keeps_nan) {
    EXPECT_TRUE(std::isnan(round_trip<ms::f16>({1, not_a_number})[1]));
    EXPECT_GT(ms::simd::to_float16(not_a_number) & 0x7fff, 0x7c00);
}

/// An infinity is an error that must show: it was stored as 65504.
TEST(f16, keeps_infinities) {
    EXPECT_EQ(round_trip<ms::f16>({1, infinity, -infinity, 65504}),
              (std::vector<float>{1, infinity, -infinity, 65504}));
    EXPECT_EQ(ms::simd::to_float16(infinity), 0x7c00);
    EXPECT_EQ(ms::simd::to_float16(-infinity), 0xfc00);
}

TEST(bf16, saturates_beyond_its_range) {
    const float greatest = std::bit_cast<float>(0x7f7f0000u);
    for (const std::uint32_t bits : {0x7f7f0000u, 0x7f7f7fffu, 0x7f7f8000u, 0x7f7fffffu}) {
        const float x = std::bit_cast<float>(bits);
        EXPECT_EQ(round_trip<ms::bf16>({x, -x}), (std::vector<float>{greatest, -greatest}));
    }
}

TEST(bf16, rounds_to_nearest_and_ties_to_even) {
    std::vector<float> x;
    std::vector<float> expected;
    for (std::uint32_t upper = 0; upper < 0x7f7f; upper += 3) {
        const auto bits = [](std::uint32_t b) { return std::bit_cast<float>(b); };
        const float low = bits(upper << 16);
        const float high = bits((upper + 1) << 16);
        const float even = upper % 2 == 0 ? low : high;
        for (const float sign : {1.0f, -1.0f}) {
            x.insert(x.end(), {sign * low, sign * bits(upper << 16 | 0x7fff), sign * bits(upper << 16 | 0x8000),
                               sign * bits(upper << 16 | 0x8001)});
            expected.insert(expected.end(), {sign * low, sign * low, sign * even, sign * high});
        }
    }
    EXPECT_EQ(round_trip<ms::bf16>(x), expected);
}

TEST(bf16, stays_within_its_relative_error_and_keeps_what_is_not_finite) {
    std::vector<float> x = support::random_numbers(1).floats(5000, 1e30f);
    const std::vector<float> back = round_trip<ms::bf16>(x);
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_LE(std::abs(back[i] - x[i]), std::abs(x[i]) * 0x1p-8f);
    const std::vector<float> odd = round_trip<ms::bf16>(
        {infinity, -infinity, not_a_number, std::bit_cast<float>(0x7f800001u), std::bit_cast<float>(0xffffffffu)});
    EXPECT_EQ(odd[0], infinity);
    EXPECT_EQ(odd[1], -infinity);
    for (std::size_t i = 2; i < 5; ++i) EXPECT_TRUE(std::isnan(odd[i])) << "a rounded NaN may not become a number";
}

TEST(f32, returns_all_bits) {
    const std::vector<float> x{1.5f, -0.0f, 1e-45f, 3e38f, infinity, -infinity, 0.1f};
    const std::vector<float> back = round_trip<ms::f32>(x);
    for (std::size_t i = 0; i < x.size(); ++i) {
        EXPECT_EQ(std::bit_cast<std::uint32_t>(back[i]), std::bit_cast<std::uint32_t>(x[i]));
    }
    EXPECT_TRUE(std::isnan(round_trip<ms::f32>({not_a_number})[0]));
}

float peak_of(const std::vector<float>& x) {
    float peak = 0;
    for (const float v : x) peak = std::max(peak, std::abs(v));
    return peak;
}

/// Half a step of peak / 127, and the rounding of the float multiplications around it (3 of 2^-24, 127 steps high).
TEST(int8, stays_within_half_a_step_of_the_peak) {
    for (const float size : {1e-35f, 1e-30f, 1e-3f, 1.0f, 7.0f, 1e30f, 3e38f}) {
        for (const std::size_t n : {1u, 4u, 16u, 17u, 33u, 128u}) {
            const std::vector<float> x = support::random_numbers(n).floats(n, size);
            const std::vector<float> back = round_trip<ms::int8>(x);
            const float bound = peak_of(x) / 254 * (1 + 254 * 3 * 0x1p-24f);
            for (std::size_t i = 0; i < n; ++i) EXPECT_LE(std::abs(back[i] - x[i]), bound) << x[i] << " of " << n;
        }
    }
}

TEST(int8, a_peak_becomes_127_and_zeros_stay_zero) {
    ms::storage<ms::int8> memory(1, 3, 20);
    std::vector<float> x(20, 0.0f);
    memory.write(0, 0, x.data());
    EXPECT_EQ(memory.plane(0).scale(0), 0.0f);
    EXPECT_EQ(round_trip<ms::int8>(x), x);
    x[3] = -2.54f;
    x[19] = 1.27f;
    memory.write(0, 1, x.data());
    EXPECT_EQ(memory.plane(0).data[32 + 3], -127);
    EXPECT_EQ(memory.plane(0).data[32 + 19], 64);  // 63.5, to even
    EXPECT_FLOAT_EQ(memory.plane(0).scale(1), 0.02f);
    for (std::size_t i = 20; i < 32; ++i) EXPECT_EQ(memory.plane(0).data[32 + i], 0) << "padding";
}

/// Where 127 / peak would overflow float32, a row reads as zeros or keeps the bound; it never grows.
TEST(int8, rows_near_the_end_of_float32_do_not_grow) {
    for (const float tiny : {1e-45f, 1e-42f, 1e-38f, 1e-37f, 3e-37f, 4e-37f}) {
        const std::vector<float> x{tiny, -tiny, 0.0f, tiny / 2};
        const std::vector<float> back = round_trip<ms::int8>(x);
        for (std::size_t i = 0; i < x.size(); ++i) EXPECT_LE(std::abs(back[i]), std::abs(x[i]) * 1.01f) << tiny;
    }
}

TEST(int8, a_row_that_is_not_finite_shows_it) {
    for (const float bad : {infinity, -infinity, not_a_number}) {
        for (std::size_t at = 0; at < 20; ++at) {
            std::vector<float> x(20, 0.5f);
            x[at] = bad;
            for (const float v : round_trip<ms::int8>(x)) EXPECT_TRUE(std::isnan(v));
        }
    }
}

/// Half a step of the group's scale, which is the least multiple of the row's unit that reaches the group's peak.
TEST(int4, stays_within_half_a_step_of_its_group) {
    for (const float size : {1e-30f, 1e-3f, 1.0f, 7.0f, 1e30f, 3e38f}) {
        for (const std::size_t n : {1u, 4u, 31u, 32u, 33u, 64u, 80u, 128u, 200u}) {
            std::vector<float> x = support::random_numbers(n).floats(n, size);
            for (std::size_t i = 32; i < std::min<std::size_t>(64, n); ++i) x[i] *= 1e-2f;  // a quiet group
            const std::vector<float> back = round_trip<ms::int4>(x);
            for (std::size_t i = 0; i < n; ++i) {
                const std::size_t group = i / 32 * 32;
                const std::size_t end = std::min(n, group + 32);
                const std::vector<float> columns(x.begin() + static_cast<std::ptrdiff_t>(group),
                                                 x.begin() + static_cast<std::ptrdiff_t>(end));
                const float bound = (peak_of(columns) / 14 + peak_of(x) / 1778) * (1 + 0x1p-18f);
                EXPECT_LE(std::abs(back[i] - x[i]), bound) << i << " of " << n;
            }
        }
    }
}

TEST(int4, zeros_stay_zero_and_a_row_that_is_not_finite_shows_it) {
    EXPECT_EQ(round_trip<ms::int4>(std::vector<float>(70, 0.0f)), std::vector<float>(70, 0.0f));
    for (const float bad : {infinity, -infinity, not_a_number}) {
        for (std::size_t at = 0; at < 70; ++at) {
            std::vector<float> x(70, 0.5f);
            x[at] = bad;
            const std::vector<float> back = round_trip<ms::int4>(x);
            EXPECT_TRUE(std::all_of(back.begin(), back.end(), [](float v) { return std::isnan(v); }));
        }
    }
}

TEST(int4, a_column_takes_17_32nds_of_a_byte) {
    static_assert(sizeof(ms::int4::element) == 34 && ms::int4::stride(64) == 1 && ms::int4::stride(128) == 2);
    static_assert(ms::int4::stride(4) == 1 && ms::int4::stride(65) == 2);
}

/// Peaks up to the greatest float come back as numbers.
TEST(int8_and_int4, the_greatest_float_stays_finite) {
    float x = std::numeric_limits<float>::max();
    for (int i = 0; i < 20; ++i, x = std::nextafter(x, 0.0f)) {
        for (const float y : round_trip<ms::int8>({x, -x, x / 3})) EXPECT_TRUE(std::isfinite(y)) << x;
        for (const float y : round_trip<ms::int4>({x, -x, x / 3})) EXPECT_TRUE(std::isfinite(y)) << x;
    }
}

template <class Codec>
class stored : public testing::Test {};
TYPED_TEST_SUITE(stored, support::every_codec, support::type_names);

TYPED_TEST(stored, pads_rows_with_zeros_and_reads_only_its_input) {
    for (std::size_t n = 1; n <= 70; ++n) {
        const std::size_t stride = TypeParam::stride(n);
        std::vector<typename TypeParam::element> row(stride + 1);
        std::memset(static_cast<void*>(row.data()), 0x55, row.size() * sizeof row[0]);
        std::vector<float> x(n, 1.0f);  // its own allocation: address sanitizer watches the end
        x.shrink_to_fit();
        const float scale = TypeParam::store(x.data(), n, row.data());
        EXPECT_EQ(TypeParam::scaled, scale != 1.0f);
        std::vector<float> columns(ms::simd::padded(n));
        for (std::size_t i = 0; i < columns.size(); i += ms::simd::lanes) {
            ms::simd::hn::StoreU(ms::simd::load<TypeParam>(row.data(), i), ms::simd::float_tag{}, columns.data() + i);
        }
        for (std::size_t i = n; i < columns.size(); ++i) ASSERT_EQ(columns[i], 0.0f) << "padding " << i << " of " << n;
        const std::vector<unsigned char> untouched(sizeof row[0], 0x55);
        EXPECT_EQ(std::memcmp(&row[stride], untouched.data(), untouched.size()), 0) << "written behind the row";
    }
}

TYPED_TEST(stored, moves_a_row_with_its_scale) {
    ms::storage<TypeParam> memory(3, 4, 20);
    std::vector<float> before(20), after(20);
    for (std::size_t i = 0; i < 12; ++i) {
        memory.write(i / 4, i % 4, support::random_numbers(i).floats(20, static_cast<float>(i + 1)).data());
    }
    memory.plane(1).read(3, before.data());
    memory.copy(memory, 1, {3, 0});
    memory.plane(1).read(0, after.data());
    EXPECT_EQ(after, before);
    memory.plane(1).read(3, after.data());
    EXPECT_EQ(after, before) << "the source stays";
    memory.plane(0).read(0, after.data());
    EXPECT_NE(after, before);
}

}  // namespace codec_test
