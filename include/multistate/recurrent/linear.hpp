#pragma once

// Linear layers, forward and backward, divided into tasks for an executor.
//
//     ms::fill_rows(bias, out, count, stride);                         // out[i] = bias
//     ms::add_linear(weights, x, out, stride, executor);               // out[i] += W x[i]
//     ms::add_linear_input_gradient(weights, dy, dx, stride, executor);  // dx[i] += W^T dy[i]
//     ms::add_linear_gradient(dy, x, dw, executor);                    // dW += the sum of dy[i] x[i]^T
//
// Tasks are tiles of the result, so results do not depend on the executor. Few rows are products of a matrix with
// vectors, which read the weights once; more rows are matrix products.
#include <algorithm>
#include <cstddef>
#include <span>

#include "multistate/core/types.hpp"
#include "multistate/execution/executor.hpp"
#include "multistate/simd/elementwise.hpp"
#include "multistate/simd/linear.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

constexpr std::size_t parts(std::size_t whole, std::size_t size) noexcept { return (whole + size - 1) / size; }

/// Rows of x in a task: enough that the packing of weights takes little.
inline constexpr std::size_t linear_rows = 256;
/// Rows of weights in a task of few vectors.
inline constexpr std::size_t linear_outputs = 128;
/// From so many vectors on, a matrix product is faster.
inline constexpr std::size_t linear_few = 8;

inline rows part_of(rows x, std::size_t first, std::size_t most) noexcept {
    return {x.data + first * x.stride, (std::min)(most, x.count - first), x.width, x.stride};
}

}  // namespace detail

/// out[i * stride + r] += x[i] . row r of w.
template <class Element, executor E>
void add_linear(simd::weights<Element> w, rows x, float* out, std::size_t stride, E& by) noexcept {
    using namespace detail;
    if (x.count < linear_few) {
        run_tasks(by, parts(w.outputs, linear_outputs), [=](std::size_t task) {
            const std::size_t first = task * linear_outputs;
            const std::size_t n = (std::min)(linear_outputs, w.outputs - first);
            simd::add_few_products(simd::weights<Element>{w.row(first), n, w.inputs}, x, out + first, stride);
        });
        return;
    }
    const std::size_t panels = parts(w.outputs, simd::tile_columns);
    run_tasks(by, panels * parts(x.count, linear_rows), [=](std::size_t task) {
        const std::size_t first = task % panels * simd::tile_columns, row = task / panels * linear_rows;
        simd::add_products(w, part_of(x, row, linear_rows), first, (std::min)(simd::tile_columns, w.outputs - first),
                           out + row * stride, stride);
    });
}

/// dx[i * stride + c] += the sum over r of dy[i][r] * w[r, c].
template <executor E>
void add_linear_input_gradient(simd::weights<float> w, rows dy, float* dx, std::size_t stride, E& by) noexcept {
    using namespace detail;
    const std::size_t panels = parts(w.inputs, simd::tile_columns);
    run_tasks(by, panels * parts(dy.count, linear_rows), [=](std::size_t task) {
        const std::size_t first = task % panels * simd::tile_columns, row = task / panels * linear_rows;
        simd::add_transposed_products(w, part_of(dy, row, linear_rows), first,
                                      (std::min)(simd::tile_columns, w.inputs - first), dx + row * stride, stride);
    });
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
inline void add_bias_gradient(rows dy, float* db) noexcept {
    simd::add_rows(dy.data, dy.count, dy.stride, {db, dy.width});
}

}}  // namespace multistate::MULTISTATE_TARGET
