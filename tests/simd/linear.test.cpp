// Products of weights with rows against sums in double precision, for every remainder of a vector and of a tile.
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/simd/linear.hpp>

#include "support/random.hpp"

namespace linear_test {

namespace ms = multistate;
namespace simd = ms::simd;
using floats = std::vector<float>;

struct problem {
    std::size_t count, inputs, outputs;
    floats w, x, y;  // weights, rows of inputs, rows of outputs
    std::vector<std::uint16_t> narrow;

    problem(std::size_t rows, std::size_t in, std::size_t out, support::random_numbers& random)
        : count(rows),
          inputs(in),
          outputs(out),
          w(random.floats(in * out, 1)),
          x(random.floats(rows * in, 1)),
          y(random.floats(rows * out, 1)) {
        for (float& v : w) {  // weights that bf16 holds exactly, so that both types must give the same
            narrow.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(v) >> 16));
            v = std::bit_cast<float>(static_cast<std::uint32_t>(narrow.back()) << 16);
        }
    }
    ms::rows x_rows() const { return {x.data(), count, inputs, inputs}; }
    ms::rows y_rows() const { return {y.data(), count, outputs, outputs}; }
    simd::weights<float> weights() const { return {w.data(), outputs, inputs}; }
    simd::weights<std::uint16_t> bits() const { return {narrow.data(), outputs, inputs}; }
};

/// Each sum is right to a rounding for every term. The numbers between the columns stay.
void expect(const floats& out, std::size_t rows, std::size_t columns, std::size_t stride, std::size_t terms,
            auto product) {
    for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t c = 0; c < columns; ++c) {
            double sum = 2;
            for (std::size_t t = 0; t < terms; ++t) sum += product(i, c, t);
            ASSERT_NEAR(out[i * stride + c], sum, 1e-7 * static_cast<double>(terms + 4)) << i << " " << c;
        }
        for (std::size_t c = columns; c < stride; ++c) ASSERT_EQ(out[i * stride + c], 2.0f);
    }
}

double times(float a, float b) { return static_cast<double>(a) * static_cast<double>(b); }

void check(const problem& p) {
    SCOPED_TRACE(testing::Message() << p.count << " rows, " << p.inputs << " to " << p.outputs);
    const auto forward = [&](std::size_t i, std::size_t r, std::size_t t) {
        return times(p.x[i * p.inputs + t], p.w[r * p.inputs + t]);
    };
    const std::size_t stride = p.outputs + 3;
    const auto in_panels = [&](auto f) {
        for (std::size_t first = 0; first < p.outputs; first += simd::tile_columns) {
            f(first, std::min(simd::tile_columns, p.outputs - first));
        }
    };
    floats out(p.count * stride, 2), narrow = out, panels = out, narrow_panels = out, packed = out;
    simd::add_few_products(p.weights(), p.x_rows(), out.data(), stride);
    simd::add_few_products(p.bits(), p.x_rows(), narrow.data(), stride);
    in_panels([&](std::size_t first, std::size_t n) {
        simd::add_products(p.weights(), p.x_rows(), first, n, panels.data(), stride);
        simd::add_products(p.bits(), p.x_rows(), first, n, narrow_panels.data(), stride);
        floats panel(p.inputs * simd::tile_columns, NAN);
        simd::pack_rows(p.weights(), first, n, panel.data());
        simd::add_packed_products(panel.data(), p.x_rows(), n, packed.data() + first, stride);
    });
    for (const floats* result : {&out, &narrow, &panels, &narrow_panels, &packed}) {
        expect(*result, p.count, p.outputs, stride, p.inputs, forward);
    }

    const std::size_t back = p.inputs + 5;
    floats dx(p.count * back, 2), packed_dx = dx, dw(p.outputs * p.inputs, 2);
    for (std::size_t first = 0; first < p.inputs; first += simd::tile_columns) {
        const std::size_t n = std::min(simd::tile_columns, p.inputs - first);
        simd::add_transposed_products(p.weights(), p.y_rows(), first, n, dx.data(), back);
        floats panel(p.outputs * simd::tile_columns, NAN);
        simd::pack_columns(p.weights(), first, n, panel.data());
        simd::add_packed_products(panel.data(), p.y_rows(), n, packed_dx.data() + first, back);
        for (std::size_t row = 0; row < p.outputs; row += simd::tile_rows) {
            simd::add_outer_products(p.y_rows(), p.x_rows(), {row, first}, dw.data(), p.inputs);
        }
    }
    for (const floats* result : {&dx, &packed_dx}) {
        expect(*result, p.count, p.inputs, back, p.outputs, [&](std::size_t i, std::size_t c, std::size_t t) {
            return times(p.y[i * p.outputs + t], p.w[t * p.inputs + c]);
        });
    }
    expect(dw, p.outputs, p.inputs, p.inputs, p.count, [&](std::size_t r, std::size_t c, std::size_t t) {
        return times(p.y[t * p.outputs + r], p.x[t * p.inputs + c]);
    });
}

TEST(linear, products_are_right_for_every_remainder) {
    support::random_numbers random(1);
    for (const std::size_t count : {1u, 2u, 5u, 9u}) {
        for (std::size_t inputs = 1; inputs < 36; inputs += 1 + inputs / 8) {
            for (const std::size_t outputs : {1u, 3u, 4u, 31u, 32u, 37u}) check({count, inputs, outputs, random});
        }
    }
}

TEST(linear, products_are_right_for_many_tiles) {
    support::random_numbers random(2);
    check({70, 300, 70, random});
    check({300, 40, 300, random});
    check({7, 600, 129, random});
}

/// Memory behind the weights is not read as weights: it may not even be there.
TEST(linear, nothing_behind_the_weights_matters) {
    for (std::size_t inputs = 1; inputs < 40; ++inputs) {
        floats w(inputs + 64, NAN), x(inputs + 64, NAN);
        std::vector<std::uint16_t> bits(inputs + 64, 0x7fc0);
        for (std::size_t i = 0; i < inputs; ++i) w[i] = x[i] = 1, bits[i] = 0x3f80;
        float out = 0;
        simd::add_few_products(simd::weights<float>{w.data(), 1, inputs}, {x.data(), 1, inputs, inputs}, &out, 1);
        simd::add_few_products(simd::weights<std::uint16_t>{bits.data(), 1, inputs}, {x.data(), 1, inputs, inputs},
                               &out, 1);
        EXPECT_EQ(out, 2 * static_cast<float>(inputs));
    }
}

}  // namespace linear_test
