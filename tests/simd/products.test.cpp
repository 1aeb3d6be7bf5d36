// The two products of attention, for every number of queries and rows that takes another path, against double
// precision.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/simd/products.hpp>
#include <multistate/storage.hpp>

#include "support/random.hpp"

namespace {

namespace ms = multistate;
namespace simd = multistate::simd;

template <class Codec>
class products : public testing::Test {};
struct codec_names {
    template <class C>
    static std::string GetName(int) {
        return std::string(C::name);
    }
};
using codecs = testing::Types<ms::f32, ms::f16, ms::bf16, ms::int8>;
TYPED_TEST_SUITE(products, codecs, codec_names);

constexpr std::size_t dimensions[] = {16, 32, 48, 64, 80, 96, 112, 128, 144, 192, 256, 272};
constexpr std::size_t most_rows = 9;
constexpr std::size_t most_queries = 9;
constexpr float untouched = 1234.0f;

/// Nine stored rows, and what they read as.
template <class Codec>
struct stored {
    explicit stored(std::size_t dimension)
        : memory(1, most_rows, dimension), floats(most_rows, std::vector<float>(dimension)) {
        support::random_numbers random(dimension);
        for (std::size_t j = 0; j < most_rows; ++j) {
            memory.write(0, j, random.floats(dimension, static_cast<float>(j + 1)).data());
            memory.plane(0).read(j, floats[j].data());
        }
    }
    ms::storage<Codec> memory;
    std::vector<std::vector<float>> floats;
};

/// Float32 sums of n products in any order: n roundings of the sum of magnitudes.
double bound_of(double magnitudes, std::size_t n) {
    return magnitudes * static_cast<double>(n + 2) * static_cast<double>(std::numeric_limits<float>::epsilon()) / 2;
}

TYPED_TEST(products, dot_products_of_all_queries_and_rows) {
    for (const std::size_t dimension : dimensions) {
        const stored<TypeParam> rows(dimension);
        const std::vector<float> q = support::random_numbers(1).floats(most_queries * dimension, 1);
        for (std::size_t count = 0; count <= most_queries; ++count) {
            for (std::size_t n = 0; n <= most_rows; ++n) {
                const std::size_t stride = n + 3;
                std::vector<float> out(most_queries * stride, untouched);
                simd::dot_products(q.data(), count, dimension, rows.memory.plane(0).matrix(), n, out.data(), stride);
                for (std::size_t i = 0; i < most_queries; ++i) {
                    for (std::size_t j = 0; j < stride; ++j) {
                        if (i >= count || j >= n) {
                            ASSERT_EQ(out[i * stride + j], untouched);
                            continue;
                        }
                        double expected = 0, magnitudes = 0;
                        for (std::size_t c = 0; c < dimension; ++c) {
                            const double term =
                                static_cast<double>(q[i * dimension + c]) * static_cast<double>(rows.floats[j][c]);
                            expected += term;
                            magnitudes += std::abs(term);
                        }
                        ASSERT_NEAR(out[i * stride + j], expected, bound_of(magnitudes, dimension))
                            << count << " queries, " << n << " rows of " << dimension;
                    }
                }
            }
        }
    }
}

TYPED_TEST(products, weighted_sums_of_all_queries_and_rows) {
    for (const std::size_t width : dimensions) {
        const stored<TypeParam> rows(width);
        const std::size_t p_stride = most_rows + 2;
        const std::vector<float> p = support::random_numbers(2).floats(most_queries * p_stride, 1);
        for (std::size_t count = 0; count <= most_queries; ++count) {
            for (std::size_t n = 0; n <= most_rows; ++n) {
                std::vector<float> out((most_queries + 1) * width, untouched);
                simd::weighted_sums(p.data(), p_stride, count, rows.memory.plane(0).matrix(), n, width, out.data());
                for (std::size_t at = 0; at < out.size(); ++at) {
                    if (at >= count * width) {
                        ASSERT_EQ(out[at], untouched);
                        continue;
                    }
                    double expected = 0, magnitudes = 0;
                    for (std::size_t j = 0; j < n; ++j) {
                        const double term = static_cast<double>(p[at / width * p_stride + j]) *
                                            static_cast<double>(rows.floats[j][at % width]);
                        expected += term;
                        magnitudes += std::abs(term);
                    }
                    ASSERT_NEAR(out[at], expected, bound_of(magnitudes, n))
                        << count << " queries, " << n << " rows of " << width;
                }
            }
        }
    }
}

}  // namespace
