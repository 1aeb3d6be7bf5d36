// Selections against sorting.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/math/select.hpp>

#include "support/random.hpp"

namespace select_test {

namespace ms = multistate;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

struct input {
    std::vector<float> scores;
    std::vector<ms::position> positions;
};

enum class kind { distinct, tied, zeros, special };
constexpr kind every_kind[] = {kind::distinct, kind::tied, kind::zeros, kind::special};

input draw(std::size_t n, kind of, std::uint64_t seed) {
    support::random_numbers random(seed);
    input result{random.floats(n, 3), std::vector<ms::position>(n)};
    const std::array<float, 8> special{infinity, -infinity, not_a_number, -not_a_number, 0.0f, -0.0f, 1e-42f, -1e-42f};
    for (float& s : result.scores) {
        if (of == kind::tied) s = static_cast<float>(random.below(3)) - 1;
        if (of == kind::zeros) s = random.below(2) == 0 ? 0.0f : -0.0f;
        if (of == kind::special) s = special[random.below(special.size())];
    }
    std::iota(result.positions.begin(), result.positions.end(), 0);
    for (std::size_t i = n; i > 1; --i) std::swap(result.positions[i - 1], result.positions[random.below(i)]);
    for (ms::position& p : result.positions) p = 3 * p + 1000;  // gaps
    return result;
}

/// The order in which states would be forgotten: NaN, then the least score, then the oldest.
std::vector<std::size_t> sorted(const input& x, ms::candidates among) {
    std::vector<std::size_t> rows;
    for (std::size_t j = among.first; j < x.scores.size(); ++j) {
        if (x.positions[j] < among.before) rows.push_back(j);
    }
    std::ranges::sort(rows, [&](std::size_t a, std::size_t b) {
        const bool nan_a = std::isnan(x.scores[a]);
        const bool nan_b = std::isnan(x.scores[b]);
        if (nan_a != nan_b) return nan_a;
        if (!nan_a && x.scores[a] != x.scores[b]) return x.scores[a] < x.scores[b];
        return x.positions[a] < x.positions[b];
    });
    return rows;
}

std::vector<ms::candidates> limits(std::size_t n) {
    const auto middle = static_cast<ms::position>(1000 + 3 * (n / 2));
    return {{},
            {.first = 1},
            {.first = n / 2},
            {.first = n},
            {.first = n + 5},
            {.before = middle},
            {.first = 3, .before = middle},
            {.before = 1000},
            {.before = 1001}};
}

TEST(least, equals_the_first_of_a_sorted_list) {
    for (std::size_t n = 0; n <= 70; ++n) {
        for (const kind of : every_kind) {
            for (std::uint64_t seed = 0; seed < 6; ++seed) {
                const input x = draw(n, of, 100 * n + seed);
                for (const ms::candidates among : limits(n)) {
                    const auto expected = sorted(x, among);
                    ASSERT_EQ(ms::least(x.scores, x.positions, among), expected.empty() ? n : expected.front())
                        << n << " scores, first " << among.first << ", before " << among.before;
                }
            }
        }
    }
}

TEST(least, finds_one_anywhere_in_a_long_row) {
    for (const std::size_t n : {1000u, 4099u}) {
        for (std::size_t at = 0; at < n; at += 7) {
            input x = draw(n, kind::distinct, n);
            x.scores[at] = -100;
            EXPECT_EQ(ms::least(x.scores, x.positions), at);
            x.scores[(at + 500) % n] = not_a_number;
            EXPECT_EQ(ms::least(x.scores, x.positions), (at + 500) % n);
        }
    }
}

/// More positions than scores may be given: those behind the scores do not count.
TEST(least, takes_positions_of_a_longer_table) {
    const std::vector<float> scores{3, 2, 1};
    const std::vector<ms::position> positions{0, 1, 2, 3, 4};
    EXPECT_EQ(ms::least(scores, positions), 2u);
}

TEST(least, of_many_equals_the_beginning_of_a_sorted_list) {
    std::vector<std::int32_t> workspace(70);
    std::vector<std::uint32_t> chosen(70);
    for (std::size_t n = 0; n <= 70; ++n) {
        for (const kind of : every_kind) {
            const input x = draw(n, of, n + 5);
            for (const ms::candidates among : limits(n)) {
                for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{2}, n / 2, n, n + 1}) {
                    auto expected = sorted(x, among);
                    expected.resize(std::min(count, expected.size()));
                    std::ranges::sort(expected);
                    const std::size_t written = ms::least(x.scores, x.positions, among, count, workspace, chosen);
                    ASSERT_EQ(written, expected.size());
                    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), chosen.begin()));
                }
            }
        }
    }
}

TEST(top_k, equals_the_end_of_a_sorted_list) {
    std::vector<std::int32_t> workspace(70);
    std::vector<std::uint32_t> kept(70);
    for (std::size_t n = 0; n <= 70; ++n) {
        for (const kind of : every_kind) {
            const input x = draw(n, of, n + 9);
            const auto order = sorted(x, {});
            for (std::size_t k = 0; k <= n + 1; ++k) {
                const std::size_t count = std::min(k, n);
                std::vector<std::size_t> expected(order.end() - static_cast<std::ptrdiff_t>(count), order.end());
                std::ranges::sort(expected);
                ASSERT_EQ(ms::top_k(x.scores, x.positions, k, workspace, kept), count);
                ASSERT_TRUE(std::equal(expected.begin(), expected.end(), kept.begin()));
            }
        }
    }
}

/// Long rows, where guesses must narrow a wide range: scores that lie evenly, nearly all alike, or orders apart.
TEST(top_k, of_long_rows_equals_the_end_of_a_sorted_list) {
    for (const std::size_t n : {1000u, 5003u}) {
        for (const int shape : {0, 1, 2, 3}) {
            input x = draw(n, kind::distinct, n);
            for (std::size_t j = 0; j < n; ++j) {
                if (shape == 1) x.scores[j] = j % 100 == 0 ? x.scores[j] : 0.25f;
                if (shape == 2) x.scores[j] = std::exp(25 * x.scores[j]);
                if (shape == 3) x.scores[j] = j % 3 == 0 ? 1e-44f * static_cast<float>(j % 50) : -x.scores[j];
            }
            const auto order = sorted(x, {});
            std::vector<std::int32_t> workspace(n);
            std::vector<std::uint32_t> kept(n);
            for (const std::size_t k : {std::size_t{1}, n / 8, n / 2, n - 1}) {
                std::vector<std::size_t> expected(order.end() - static_cast<std::ptrdiff_t>(k), order.end());
                std::ranges::sort(expected);
                ASSERT_EQ(ms::top_k(x.scores, x.positions, k, workspace, kept), k);
                ASSERT_TRUE(std::equal(expected.begin(), expected.end(), kept.begin())) << k << " of " << n;
            }
        }
    }
}

TEST(select, spans_of_vectors_and_arrays_are_accepted) {
    std::array<float, 64> scores{};
    std::array<ms::position, 64> positions;
    std::iota(positions.begin(), positions.end(), 0);
    scores[5] = -1;
    scores[7] = 1;
    EXPECT_EQ(ms::least(scores, positions), 5u);
    std::array<std::int32_t, 64> workspace;
    std::array<std::uint32_t, 1> kept;
    EXPECT_EQ(ms::top_k(scores, positions, 1, workspace, kept), 1u);
    EXPECT_EQ(kept[0], 7u);
}

}  // namespace select_test
