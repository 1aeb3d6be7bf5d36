// Random numbers by hash: against published values of splitmix64, and coarse statistics.
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/math/random.hpp>

namespace random_test {

namespace ms = multistate;

TEST(random_bits, are_splitmix64) {
    EXPECT_EQ(ms::random_bits(0), 0xe220a8397b1dcdafu);
    EXPECT_EQ(ms::random_bits(1), 0x6e789e6aa1b965f4u);
    EXPECT_EQ(ms::random_bits_after(1234567, 0), 6457827717110365317u);
    EXPECT_EQ(ms::random_bits_after(1234567, 1), 3203168211198807973u);
    EXPECT_EQ(ms::random_bits_after(1234567, 4), 16408922859458223821u);
}

TEST(random_bits, depend_on_every_counter_and_on_their_order) {
    EXPECT_EQ(ms::random_bits(), 0u);
    EXPECT_EQ(ms::random_bits(3, 4, 5), ms::random_bits_after(ms::random_bits(3, 4), 5));
    EXPECT_EQ(ms::random_bits(3, std::size_t{4}), ms::random_bits(std::uint8_t{3}, 4));
    std::set<std::uint64_t> seen;
    for (int a = 0; a < 20; ++a) {
        for (int b = 0; b < 20; ++b) {
            for (int c = 0; c < 20; ++c) seen.insert(ms::random_bits(a, b, c));
        }
    }
    EXPECT_EQ(seen.size(), 8000u);
}

TEST(uniform, covers_its_interval_and_nothing_else) {
    EXPECT_EQ(ms::uniform(0), 0.0f);
    EXPECT_EQ(ms::uniform(~std::uint64_t{0}), 1 - 0x1p-24f);
    EXPECT_EQ(ms::open_uniform(0), 0x1p-24f);
    EXPECT_EQ(ms::open_uniform(~std::uint64_t{0}), 1 - 0x1p-24f);
    static_assert(ms::uniform(std::uint64_t{1} << 63) == 0.5f);
}

/// Neighbouring counters, as positions are: 100 bins of about 1000, and no correlation with the next.
TEST(uniform, is_even_and_without_memory) {
    constexpr int count = 100000;
    std::vector<int> bins(100);
    double squares = 0, product = 0;
    for (int i = 0; i < count; ++i) {
        const float u = ms::uniform(ms::random_bits(7, 0, 3, i));
        const float next = ms::uniform(ms::random_bits(7, 0, 3, i + 1));
        ++bins[static_cast<std::size_t>(u * 100)];
        product += (u - 0.5) * (next - 0.5);
    }
    for (const int n : bins) squares += (n - 1000.0) * (n - 1000.0) / 1000;
    EXPECT_GT(squares, 50);  // chi-square with 99 degrees of freedom
    EXPECT_LT(squares, 160);
    EXPECT_LT(std::abs(product / count), 0.002);  // the variance is 1 / 12
}

}  // namespace random_test
