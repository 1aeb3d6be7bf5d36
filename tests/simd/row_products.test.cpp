// What policies do with stored rows, against the same in double precision: every codec, odd dimensions and counts.
#include <algorithm>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/simd/row_products.hpp>

#include "support/codecs.hpp"
#include "support/random.hpp"

namespace rows_test {

namespace ms = multistate;
namespace simd = ms::simd;

template <class C>
class rows_of : public testing::Test {};
TYPED_TEST_SUITE(rows_of, support::every_codec, support::type_names);

/// n random rows as a codec stores them, with room behind the last as kernels demand.
template <class C>
struct stored {
    stored(std::size_t n, std::size_t columns, support::random_numbers& random)
        : dimension(columns), stride(C::stride(columns)), elements(n * stride + 16), scales(n) {
        for (std::size_t j = 0; j < n; ++j) {
            const float scale = C::store(random.floats(columns, 1).data(), columns, &elements[j * stride]);
            if constexpr (C::scaled) scales[j] = scale;
        }
    }
    simd::matrix<C> matrix() const { return {elements.data(), scales.data(), stride}; }
    std::vector<float> row(std::size_t j) const {
        std::vector<float> out(dimension + 1, 99.0f);
        simd::read_row(matrix(), j, dimension, out.data());
        EXPECT_EQ(out.back(), 99.0f) << "wrote behind the row";
        out.pop_back();
        return out;
    }

    std::vector<std::vector<float>> all() const {
        std::vector<std::vector<float>> result;
        for (std::size_t j = 0; j < scales.size(); ++j) result.push_back(row(j));
        return result;
    }

    std::size_t dimension, stride;
    std::vector<typename C::element> elements;
    std::vector<float> scales;
};

constexpr std::size_t dimensions[] = {1, 4, 15, 16, 33, 64, 100};
constexpr std::size_t counts[] = {0, 1, 3, 5, 64, 67};

TYPED_TEST(rows_of, are_multiplied_with_every_vector) {
    support::random_numbers random(1);
    for (const std::size_t d : dimensions) {
        for (const std::size_t n : counts) {
            const stored<TypeParam> rows(n, d, random);
            const auto decoded = rows.all();
            for (const std::size_t vectors : {1u, 2u, 4u, 7u}) {
                const auto x = random.floats(vectors * (d + 2), 1);
                std::vector<float> out(vectors * (n + 1), 99.0f);
                simd::dot_rows(x.data(), vectors, d + 2, d, rows.matrix(), n, out.data(), n + 1);
                for (std::size_t i = 0; i < vectors; ++i) {
                    for (std::size_t j = 0; j < n; ++j) {
                        double expected = 0;
                        for (std::size_t c = 0; c < d; ++c) {
                            expected += static_cast<double>(x[i * (d + 2) + c]) * static_cast<double>(decoded[j][c]);
                        }
                        ASSERT_NEAR(out[i * (n + 1) + j], expected, 1e-6 * static_cast<double>(d + 1));
                    }
                    ASSERT_EQ(out[i * (n + 1) + n], 99.0f) << "wrote behind the products";
                }
            }
        }
    }
}

TYPED_TEST(rows_of, are_added_up_with_their_weights) {
    support::random_numbers random(2);
    for (const std::size_t d : dimensions) {
        for (const std::size_t n : counts) {
            const stored<TypeParam> rows(n, d, random);
            const auto weights = random.floats(n, 1);
            std::vector<float> out(d + 1, 99.0f);
            simd::sum_rows(weights.data(), rows.matrix(), n, d, out.data());
            const auto decoded = rows.all();
            std::vector<double> expected(d);
            for (std::size_t j = 0; j < n; ++j) {
                for (std::size_t c = 0; c < d; ++c) {
                    expected[c] += static_cast<double>(weights[j]) * static_cast<double>(decoded[j][c]);
                }
            }
            for (std::size_t c = 0; c < d; ++c) ASSERT_NEAR(out[c], expected[c], 1e-6 * static_cast<double>(n + 1));
            ASSERT_EQ(out[d], 99.0f) << "wrote behind the sum";
        }
    }
}

}  // namespace rows_test
