#pragma once

// Linear layers, forward and backward, divided into tasks for an executor.
//
//     ms::linear(weights, bias, x, out, stride, executor);               // out[i] = bias + W x[i]
//     ms::add_linear(weights, x, out, stride, executor);                 // out[i] += W x[i]
//     ms::linear_input_gradient(weights, dy, dx, stride, executor);      // dx[i] = W^T dy[i]
//     ms::add_linear_input_gradient(weights, dy, dx, stride, executor);  // dx[i] += W^T dy[i]
//     ms::add_linear_gradient(dy, x, dw, executor);                      // dW += the sum of dy[i] x[i]^T
//     ms::add_bias_gradient(dy, db, executor);                           // db += the sum of dy[i]
//
// weights: simd::weights<float>{data, outputs, inputs}, row-major; with std::uint16_t, bits of bf16. x, dy: rows.
// stride: floats from one row of the result to the next. The results must not overlap the inputs. Sizes are not
// checked, and nothing is allocated.
//
// Tasks are tiles of the result, so results do not depend on the executor. Up to 7 rows are multiplied as vectors,
// which reads the weights once; more rows are a matrix product.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "multistate/core/types.hpp"
#include "multistate/execution/executor.hpp"
#include "multistate/simd/elementwise.hpp"
#include "multistate/simd/linear.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

constexpr std::size_t parts(std::size_t whole, std::size_t size) noexcept { return (whole + size - 1) / size; }

/// Rows of x in a task: enough to make the cost of packing the weights small.
inline constexpr std::size_t linear_rows = 256;
/// Rows of weights in a task of few vectors.
inline constexpr std::size_t linear_outputs = 128;
/// From this many vectors on, a matrix product is faster.
inline constexpr std::size_t linear_few = 8;

inline float as_float(float x) noexcept { return x; }
/// The value of bits of bf16.
inline float as_float(std::uint16_t bits) noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// Writes `count` rows of x, `stride` apart.
template <class Element>
void fill_rows(std::span<const Element> x, std::size_t count, float* out, std::size_t stride) noexcept {
    if (count == 0) return;
    std::ranges::transform(x, out, [](Element e) { return as_float(e); });
    for (std::size_t i = 1; i < count; ++i) std::copy_n(out, x.size(), out + i * stride);
}

/// Weights [outputs, inputs] and the bias [outputs] that follows them.
template <class Element>
struct cell_layer {
    simd::weights<Element> weights;
    const Element* bias;
};
template <class Element>
cell_layer<Element> layer_at(const Element* numbers, std::size_t outputs, std::size_t inputs) noexcept {
    return {{numbers, outputs, inputs}, numbers + outputs * inputs};
}

inline rows part_of(rows x, std::size_t first, std::size_t most) noexcept {
    return {x.data + first * x.stride, (std::min)(most, x.count - first), x.width, x.stride};
}

/// A part of the result that one task writes.
struct linear_tile {
    std::size_t row, rows, column, columns;
};

/// out += x W^T by tiles, after begin(tile) for each.
template <class Element, class Begin, class E>
void linear_by_tiles(const simd::weights<Element>& w, const rows& x, float* out, std::size_t stride, Begin begin,
                     E& by) noexcept {
    if (x.count < linear_few) {
        run_tasks(by, parts(w.outputs, linear_outputs), [=](std::size_t task) {
            const std::size_t first = task * linear_outputs, n = (std::min)(linear_outputs, w.outputs - first);
            begin(linear_tile{0, x.count, first, n});
            simd::add_few_products(simd::weights<Element>{w.row(first), n, w.inputs}, x, out + first, stride);
        });
        return;
    }
    const std::size_t panels = parts(w.outputs, simd::tile_columns);
    run_tasks(by, panels * parts(x.count, linear_rows), [=](std::size_t task) {
        const std::size_t first = task % panels * simd::tile_columns, row = task / panels * linear_rows;
        const rows some = part_of(x, row, linear_rows);
        const std::size_t n = (std::min)(simd::tile_columns, w.outputs - first);
        begin(linear_tile{row, some.count, first, n});
        simd::add_products(w, some, first, n, out + row * stride, stride);
    });
}

/// dx += dy W by tiles, after begin(tile) for each.
template <class Begin, class E>
void input_gradient_by_tiles(const simd::weights<float>& w, const rows& dy, float* dx, std::size_t stride, Begin begin,
                             E& by) noexcept {
    const std::size_t panels = parts(w.inputs, simd::tile_columns);
    run_tasks(by, panels * parts(dy.count, linear_rows), [=](std::size_t task) {
        const std::size_t first = task % panels * simd::tile_columns, row = task / panels * linear_rows;
        const rows some = part_of(dy, row, linear_rows);
        const std::size_t n = (std::min)(simd::tile_columns, w.inputs - first);
        begin(linear_tile{row, some.count, first, n});
        simd::add_transposed_products(w, some, first, n, dx + row * stride, stride);
    });
}

}  // namespace detail

/// out[i * stride + r] = bias[r] + x[i] . row r of w; bias [outputs].
template <class Element, executor E>
void linear(simd::weights<Element> w, const Element* bias, rows x, float* out, std::size_t stride, E& by) noexcept {
    const auto begin = [=](const detail::linear_tile& t) {
        detail::fill_rows(std::span(bias + t.column, t.columns), t.rows, out + t.row * stride + t.column, stride);
    };
    detail::linear_by_tiles(w, x, out, stride, begin, by);
}
/// out[i * stride + r] += x[i] . row r of w.
template <class Element, executor E>
void add_linear(simd::weights<Element> w, rows x, float* out, std::size_t stride, E& by) noexcept {
    detail::linear_by_tiles(
        w, x, out, stride, [](const detail::linear_tile&) {}, by);
}

/// dx[i * stride + c] = the sum over r of dy[i][r] * w[r, c].
template <executor E>
void linear_input_gradient(simd::weights<float> w, rows dy, float* dx, std::size_t stride, E& by) noexcept {
    const auto begin = [=](const detail::linear_tile& t) {
        for (std::size_t i = 0; i < t.rows; ++i) std::fill_n(dx + (t.row + i) * stride + t.column, t.columns, 0.0f);
    };
    detail::input_gradient_by_tiles(w, dy, dx, stride, begin, by);
}
/// dx[i * stride + c] += the sum over r of dy[i][r] * w[r, c].
template <executor E>
void add_linear_input_gradient(simd::weights<float> w, rows dy, float* dx, std::size_t stride, E& by) noexcept {
    detail::input_gradient_by_tiles(
        w, dy, dx, stride, [](const detail::linear_tile&) {}, by);
}

/// dw [dy.width, x.width] += the sum over i of dy[i] x[i]^T.
template <executor E>
void add_linear_gradient(rows dy, rows x, float* dw, E& by) noexcept {
    using namespace detail;
    const std::size_t panels = parts(x.width, simd::tile_columns);
    run_tasks(by, panels * parts(dy.width, simd::tile_rows), [=](std::size_t task) {
        simd::add_outer_products(dy, x, {task / panels * simd::tile_rows, task % panels * simd::tile_columns}, dw,
                                 x.width);
    });
}

/// db [dy.width] += the sum over i of dy[i]: the gradient of a bias.
template <executor E = const serial>
void add_bias_gradient(rows dy, float* db, E&& by = {}) noexcept {
    constexpr std::size_t columns = 64;
    detail::run_tasks(by, detail::parts(dy.width, columns), [=](std::size_t task) {
        const std::size_t first = task * columns, n = (std::min)(columns, dy.width - first);
        simd::add_rows(dy.data + first, dy.count, dy.stride, {db + first, n});
    });
}

}}  // namespace multistate::MULTISTATE_TARGET
