// Rotary positions against double precision.
#include <cmath>
#include <complex>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/math/rope.hpp>

#include "support/random.hpp"

namespace rope_test {

namespace ms = multistate;
using floats = std::vector<float>;

/// Pairs of floats as complex numbers turn by multiplication; `adjacent` says where a pair lies.
std::vector<double> turned(const floats& x, double position, double base, bool adjacent, bool back = false) {
    std::vector<double> result(x.begin(), x.end());
    const std::size_t n = x.size() / 2;
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t a = adjacent ? 2 * i : i, b = adjacent ? 2 * i + 1 : i + n;
        const double angle = position * std::pow(base, -static_cast<double>(i) / static_cast<double>(n));
        const auto z = std::complex(result[a], result[b]) * std::polar(1.0, back ? -angle : angle);
        result[a] = z.real();
        result[b] = z.imag();
    }
    return result;
}

void expect_near(const floats& x, const std::vector<double>& expected, double bound) {
    ASSERT_EQ(x.size(), expected.size());
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], expected[i], bound) << i;
}

TEST(rope, turns_by_hand) {
    const ms::rope model{.base = 100};  // two pairs: 1 and 1/10 radian per position
    floats x{1, 0, 0, 1};
    model.rotate(2, x);
    expect_near(x, {std::cos(2), std::sin(2), -std::sin(0.2), std::cos(0.2)}, 1e-7);
    const ms::rope halves{.base = 100, .adjacent = false};
    floats y{1, 0, 0, 1};
    halves.rotate(2, y);
    expect_near(y, {std::cos(2), -std::sin(0.2), std::sin(2), std::cos(0.2)}, 1e-7);
}

TEST(rope, is_exact_at_any_position) {
    support::random_numbers random(1);
    for (const bool adjacent : {true, false}) {
        for (const float base : {10000.0f, 500000.0f, 7.0f}) {
            const ms::rope model{.base = base, .adjacent = adjacent};
            for (const int position : {0, 1, 2, 511, 4095, 100000, 131071, 1000003, 10000000}) {
                for (const std::size_t head_dim : {2u, 8u, 33u, 64u, 128u, 256u}) {
                    const floats x = random.floats(head_dim, 1);
                    floats there = x, back = x;
                    model.rotate(position, there);
                    model.unrotate(position, back);
                    // The length of a pair is at most sqrt(2).
                    expect_near(there, turned(x, position, static_cast<double>(base), adjacent), 2.9e-7);
                    expect_near(back, turned(x, position, static_cast<double>(base), adjacent, true), 2.9e-7);
                    model.unrotate(position, there);
                    expect_near(there, {x.begin(), x.end()}, 6e-7);
                }
            }
        }
    }
}

TEST(rope, turns_that_are_kept_turn_the_same_way) {
    support::random_numbers random(2);
    for (const bool adjacent : {true, false}) {
        const ms::rope model{.adjacent = adjacent};
        const floats x = random.floats(36, 1);
        floats turns(36), a = x, b = x, c = x, d = x;
        model.find_turns(77, turns);
        model.rotate(77, a);
        model.turn(turns, b);
        EXPECT_EQ(a, b);
        model.unrotate(77, c);
        model.turn_back(turns, d);
        EXPECT_EQ(c, d);
    }
}

TEST(rope, the_mean_turn_is_the_mean_of_all_turns) {
    support::random_numbers random(3);
    for (const bool adjacent : {true, false}) {
        for (const std::size_t count : {1u, 2u, 512u, 1000u}) {
            for (const int first : {0, 5, 100000}) {
                const ms::rope model{.adjacent = adjacent};
                const floats x = random.floats(64, 1);
                std::vector<double> there(64), back(64);
                for (std::size_t p = 0; p < count; ++p) {
                    const auto one = turned(x, first + static_cast<double>(p), 10000, adjacent);
                    const auto other = turned(x, first + static_cast<double>(p), 10000, adjacent, true);
                    for (std::size_t i = 0; i < 64; ++i) {
                        there[i] += one[i] / static_cast<double>(count);
                        back[i] += other[i] / static_cast<double>(count);
                    }
                }
                floats turns(64), mean = x, transposed = x;
                model.find_mean_turns(first, count, turns);
                model.turn(turns, mean);
                model.turn_back(turns, transposed);
                expect_near(mean, there, 2.9e-7);
                expect_near(transposed, back, 2.9e-7);
            }
        }
    }
}

TEST(rope, columns_turn_back_as_vectors_do) {
    support::random_numbers random(4);
    for (const bool adjacent : {true, false}) {
        for (const std::size_t rotated : {0u, 4u}) {
            const ms::rope model{.adjacent = adjacent, .rotated = rotated};
            floats turns(10), columns(10 * 3);
            model.find_mean_turns(5, 3, turns);
            std::vector<floats> vectors(3);
            for (std::size_t k = 0; k < 3; ++k) {
                vectors[k] = random.floats(10, 1);
                for (std::size_t c = 0; c < 10; ++c) columns[c * 3 + k] = vectors[k][c];
                model.turn_back(turns, vectors[k]);
            }
            model.turn_columns_back(turns, columns, 3);
            for (std::size_t k = 0; k < 3; ++k) {
                for (std::size_t c = 0; c < 10; ++c) EXPECT_NEAR(columns[c * 3 + k], vectors[k][c], 1e-6);
            }
        }
    }
}

TEST(rope, lengths_of_pairs) {
    const std::vector<float> x{3, 5, 4, 12};
    std::vector<float> lengths(2);
    ms::rope{.adjacent = false}.find_lengths(x, lengths);
    EXPECT_EQ(lengths, (std::vector<float>{5, 13}));
    const std::vector<float> y{3, 4, 5, 12};
    ms::rope{}.find_lengths(y, lengths);
    EXPECT_EQ(lengths, (std::vector<float>{5, 13}));
    ms::rope{.rotated = 2}.find_lengths(y, std::span(lengths).first(1));
    EXPECT_EQ(lengths[0], 5);
}

TEST(rope, no_base_is_no_rotation) {
    const floats x{1, 2, 3, 4};
    floats y = x, turns(4);
    const ms::rope none{.base = 0};
    none.rotate(1000, y);
    none.unrotate(17, y);
    none.find_mean_turns(5, 512, turns);
    none.turn(turns, y);
    none.turn_back(turns, y);
    EXPECT_EQ(y, x);
}

TEST(rope, part_of_the_dimensions) {
    const floats x{1, 2, 3, 4, 5, 6, 7, 8};
    for (const bool adjacent : {true, false}) {
        const ms::rope model{.adjacent = adjacent, .rotated = 4};
        floats y = x;
        model.rotate(3, y);
        const auto first = turned({1, 2, 3, 4}, 3, 10000, adjacent);
        for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(y[i], first[i], 1e-6);
        for (std::size_t i = 4; i < 8; ++i) EXPECT_EQ(y[i], x[i]);
    }
    const ms::rope more{.rotated = 99};
    EXPECT_EQ(more.pairs(8), 4u);
    EXPECT_EQ(ms::rope{}.pairs(9), 4u);
}

TEST(rope, stretched_and_slowed) {
    const floats x{1, 2, 3, 4};
    floats y = x, z = x;
    ms::rope{.stretch = 4}.rotate(8, y);
    expect_near(y, turned(x, 2, 10000, true), 1e-6);
    const float slower[] = {1, 4};
    ms::rope{.base = 100, .slower = slower}.rotate(8, z);
    expect_near({z[0], z[1]}, turned({1, 2}, 8, 1, true), 1e-6);
    expect_near({z[2], z[3]}, turned({3, 4}, 0.2, 1, true), 1e-6);  // 8 positions of 1/10 radian, four times slower
}

TEST(rope, lists_its_numbers) {
    ms::rope model{.base = -1};
    std::size_t outside = 0, all = 0;
    ms::for_each_parameter(model, [&](std::string_view, const auto& value, const auto& least, const auto& most) {
        ++all;
        if (!(value >= least && value <= most)) ++outside;
    });
    EXPECT_EQ(all, 4u);
    EXPECT_EQ(outside, 1u);
}

}  // namespace rope_test
