// The two products of attention, for every number of queries and rows that takes another path, against double
// precision.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/cache/storage.hpp>
#include <multistate/simd/attention_products.hpp>

#include "support/codecs.hpp"
#include "support/random.hpp"

namespace products_test {

namespace ms = multistate;
namespace simd = multistate::simd;

template <class Codec>
class products : public testing::Test {};
TYPED_TEST_SUITE(products, support::every_codec, support::type_names);

constexpr std::size_t dimensions[] = {16, 32, 48, 64, 80, 96, 112, 128, 144, 192, 256, 272};
constexpr std::size_t most_rows = 131;
constexpr std::size_t most_queries = 70;
constexpr float untouched = 1234.0f;

/// Every count of queries and rows that takes another path: groups and rests, streams and blocks, chunks of rows.
constexpr std::size_t counts[] = {0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 25, 64, 70};
constexpr std::size_t row_counts[] = {0, 1, 2, 3, 4, 5, 6, 7, 9, 31, 32, 33, 63, 64, 65, 127, 131};

/// Stored rows, and what they read as.
template <class Codec>
struct stored {
    explicit stored(std::size_t dimension)
        : memory(1, most_rows, dimension), floats(most_rows, std::vector<float>(dimension)) {
        support::random_numbers random(dimension);
        for (std::size_t j = 0; j < most_rows; ++j) {
            memory.write(0, j, random.floats(dimension, static_cast<float>(j % 9 + 1)).data());
            memory.plane(0).read(j, floats[j].data());
        }
    }
    simd::matrix<Codec> rows() const { return memory.plane(0).matrix(); }
    float scale(std::size_t j) const { return memory.plane(0).scale(j); }

    ms::storage<Codec> memory;
    std::vector<std::vector<float>> floats;
};

/// Float32 sums of n products in any order: n roundings of the sum of magnitudes.
double rounding(double magnitudes, std::size_t n) {
    return magnitudes * static_cast<double>(n + 2) * static_cast<double>(std::numeric_limits<float>::epsilon()) / 2;
}

/// Half a step of the 16-bit integers that queries and weights up to `peak` become, where the codec meets them so.
template <class Codec>
double half_step(double peak, std::size_t terms) {
    if (!Codec::scaled || !MULTISTATE_DOTS_INTEGERS) return 0;
    constexpr double largest = support::greatest_integer<simd::format<Codec>>;
    return peak / std::min(32767.0, 2147483000.0 / largest / static_cast<double>(terms)) / 2 * 1.001;
}
/// Weights of int4 are multiplied by the scale of each group, in 128ths, and rounded again: half a step, 128 times the
/// integer of 4 bits.
template <class Codec>
constexpr double rounded_again = std::is_same_v<Codec, ms::int4>&& MULTISTATE_DOTS_INTEGERS ? 7 * 128 : 0;
/// The relative error of queries and weights in bf16, where there are instructions for it.
template <class Codec>
constexpr double bfloat16_error = support::rounds_to_bfloat16<Codec> ? 0x1p-8 : 0;

double peak_of(const float* x, std::size_t n) {
    double peak = 0;
    for (std::size_t i = 0; i < n; ++i) peak = std::max(peak, std::abs(static_cast<double>(x[i])));
    return peak;
}

TYPED_TEST(products, dot_products_of_all_queries_and_rows) {
    for (const std::size_t dimension : dimensions) {
        const stored<TypeParam> keys(dimension);
        const std::size_t q_stride = simd::query_stride(dimension);
        std::vector<float> q = support::random_numbers(1).floats(most_queries * q_stride, 1);
        std::vector<double> expected(most_queries * most_rows), bounds(most_queries * most_rows);
        for (std::size_t i = 0; i < most_queries; ++i) {
            float* const query = q.data() + i * q_stride;
            std::fill(query + dimension, query + q_stride, 0.0f);
            for (std::size_t j = 0; j < most_rows; ++j) {
                double magnitudes = 0, integers = 0;
                for (std::size_t c = 0; c < dimension; ++c) {
                    const double term = static_cast<double>(query[c]) * static_cast<double>(keys.floats[j][c]);
                    expected[i * most_rows + j] += term;
                    magnitudes += std::abs(term);
                    integers += std::abs(static_cast<double>(keys.floats[j][c]));
                }
                bounds[i * most_rows + j] = rounding(magnitudes, dimension) + bfloat16_error<TypeParam> * magnitudes +
                                            half_step<TypeParam>(peak_of(query, dimension), q_stride) * integers;
            }
        }
        std::vector<float> scratch(simd::product_scratch(most_queries, dimension));
        for (const std::size_t count : counts) {
            for (const std::size_t n : row_counts) {
                const std::size_t stride = simd::padded(n, 32) + 3;
                std::vector<float> out(most_queries * stride + 1, untouched);
                simd::dot_products(q.data(), count, dimension, keys.rows(), n, out.data(), stride, scratch.data());
                for (std::size_t i = 0; i < most_queries; ++i) {
                    for (std::size_t j = 0; j < stride; ++j) {
                        if (i >= count || j >= stride - 3) {
                            ASSERT_EQ(out[i * stride + j], untouched);
                        } else if (j < n) {
                            const std::size_t at = i * most_rows + j;
                            ASSERT_NEAR(out[i * stride + j], expected[at], bounds[at])
                                << count << " queries, " << n << " rows of " << dimension;
                        }
                    }
                }
            }
        }
    }
}

TYPED_TEST(products, weighted_sums_of_all_queries_and_rows) {
    for (const std::size_t width : dimensions) {
        const stored<TypeParam> values(width);
        const std::size_t p_stride = most_rows + 2;
        const std::size_t stride = simd::query_stride(width);
        const std::vector<float> p = support::random_numbers(2).floats(most_queries * p_stride, 1);
        std::vector<float> scratch(simd::product_scratch(most_queries, width));
        for (const std::size_t n : row_counts) {
            std::vector<double> expected(most_queries * width), bounds(most_queries * width);
            for (std::size_t i = 0; i < most_queries; ++i) {
                double peak = 0;
                for (std::size_t j = 0; j < n; ++j) {
                    peak = std::max(peak, std::abs(static_cast<double>(p[i * p_stride + j] * values.scale(j))));
                }
                for (std::size_t c = 0; c < width; ++c) {
                    double magnitudes = 0, integers = 0;
                    for (std::size_t j = 0; j < n; ++j) {
                        const double value = static_cast<double>(values.floats[j][c]);
                        const double term = static_cast<double>(p[i * p_stride + j]) * value;
                        expected[i * width + c] += term;
                        magnitudes += std::abs(term);
                        integers += std::abs(value / static_cast<double>(values.scale(j))) + rounded_again<TypeParam>;
                    }
                    bounds[i * width + c] = rounding(magnitudes, n) + bfloat16_error<TypeParam> * magnitudes +
                                            half_step<TypeParam>(peak, 64) * integers;
                }
            }
            for (const std::size_t count : counts) {
                std::vector<float> out((most_queries + 1) * stride, untouched);
                simd::weighted_sums(p.data(), p_stride, count, values.rows(), n, width, out.data(), scratch.data());
                for (std::size_t at = 0; at < out.size(); ++at) {
                    const std::size_t i = at / stride;
                    const std::size_t c = at % stride;
                    if (i >= count) {
                        ASSERT_EQ(out[at], untouched);
                    } else if (c < width) {
                        ASSERT_NEAR(out[at], expected[i * width + c], bounds[i * width + c])
                            << count << " queries, " << n << " rows of " << width;
                    }
                }
            }
        }
    }
}

/// +1 or -1 in column c: all alike, all the other way, by turns, and half and half.
float sign(std::size_t pattern, std::size_t c, std::size_t n) {
    const bool negative[] = {false, true, c % 2 == 1, c >= n / 2};
    return negative[pattern % 4] ? -1.0f : 1.0f;
}

/// All numbers at their peak, so that integers are as large as they get: where a sum does not fit, or a piece of a
/// number, the result is off by more than a thousandth.
TYPED_TEST(products, of_nothing_but_peaks_do_not_overflow) {
    for (const std::size_t dimension : {16u, 64u, 96u, 128u, 256u, 272u, 512u, 1001u, 1024u}) {
        ms::storage<TypeParam> memory(1, most_rows, dimension);
        std::vector<float> row(dimension);
        for (std::size_t j = 0; j < most_rows; ++j) {
            for (std::size_t c = 0; c < dimension; ++c) row[c] = sign(j < 5 ? j : 0, c, dimension);
            memory.write(0, j, row.data());
        }
        const std::size_t stride = simd::query_stride(dimension);
        std::vector<float> q(4 * stride), p(4 * most_rows), logits(4 * 32), out(4 * stride);
        for (std::size_t i = 0; i < 4; ++i) {
            for (std::size_t c = 0; c < dimension; ++c) q[i * stride + c] = 3 * sign(i, c, dimension);
            for (std::size_t j = 0; j < most_rows; ++j) p[i * most_rows + j] = 3 * sign(i, j, most_rows);
        }
        std::vector<float> scratch(simd::product_scratch(4, dimension));
        const simd::matrix<TypeParam> rows = memory.plane(0).matrix();
        for (const std::size_t count : {1u, 4u}) {
            simd::dot_products(q.data(), count, dimension, rows, 5, logits.data(), 32, scratch.data());
            simd::weighted_sums(p.data(), most_rows, count, rows, most_rows, dimension, out.data(), scratch.data());
            for (std::size_t i = 0; i < count; ++i) {
                for (std::size_t j = 0; j < 5; ++j) {
                    float expected = 0;
                    for (std::size_t c = 0; c < dimension; ++c) expected += q[i * stride + c] * sign(j, c, dimension);
                    EXPECT_NEAR(logits[i * 32 + j], expected, 3e-3f * static_cast<float>(dimension)) << dimension;
                }
                for (std::size_t c = 0; c < dimension; ++c) {
                    float expected = 0;
                    for (std::size_t j = 0; j < most_rows; ++j) {
                        expected += p[i * most_rows + j] * sign(j < 5 ? j : 0, c, dimension);
                    }
                    ASSERT_NEAR(out[i * stride + c], expected, 3e-3f * most_rows) << dimension;
                }
            }
        }
    }
}

/// A stored number that is none must show, and only where it is looked at: neither before nor behind its row.
TYPED_TEST(products, what_is_not_finite_shows) {
    constexpr std::size_t dimension = 80;
    for (const std::size_t column : {0u, 17u, 79u}) {
        ms::storage<TypeParam> memory(1, 9, dimension);
        std::vector<float> row(dimension, 0.5f);
        for (std::size_t j = 0; j < 9; ++j) {
            row[column] = j == 4 ? std::numeric_limits<float>::quiet_NaN() : 0.5f;
            memory.write(0, j, row.data());
        }
        std::vector<float> q(20 * simd::query_stride(dimension)), scratch(simd::product_scratch(20, dimension));
        for (std::size_t i = 0; i < 20; ++i) std::fill_n(q.data() + i * simd::query_stride(dimension), dimension, 1.0f);
        for (const std::size_t count : {1u, 4u, 20u}) {
            std::vector<float> logits(20 * 32), out(20 * simd::query_stride(dimension));
            simd::dot_products(q.data(), count, dimension, memory.plane(0).matrix(), 9, logits.data(), 32,
                               scratch.data());
            for (std::size_t i = 0; i < count; ++i) {
                for (std::size_t j = 0; j < 9; ++j) EXPECT_EQ(std::isnan(logits[i * 32 + j]), j == 4) << count;
            }
            const std::vector<float> p(20 * 32, 0.1f);
            simd::weighted_sums(p.data(), 32, count, memory.plane(0).matrix(), 9, dimension, out.data(),
                                scratch.data());
            for (std::size_t i = 0; i < count; ++i) {
                EXPECT_TRUE(std::isnan(out[i * simd::query_stride(dimension) + column]));
            }
            simd::weighted_sums(p.data(), 32, count, memory.plane(0).matrix(), 4, dimension, out.data(),
                                scratch.data());
            EXPECT_FALSE(std::isnan(out[column]));
        }
    }
}

}  // namespace products_test
