#pragma once

// Products of many vectors with many, for policies that compare stored keys with each other or with a matrix. About ten
// times as fast as separate dot products.
//
//     ms::stand({keys, count, d, d}, panel);                                // up to panel_width keys, as columns
//     ms::products(vectors, panel, out, stride);                            // out[i * stride + k] = vectors[i] . key k
//
// Panels are [terms, panel_width]; process more vectors one panel after another. Unused columns do not matter, but must
// hold numbers; memory of a policy starts as zeros. Products are written for all columns, so out needs panel_width
// floats or more per vector.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>

#include "multistate/core/errors.hpp"
#include "multistate/core/types.hpp"
#include "multistate/simd/elementwise.hpp"
#include "multistate/simd/gemm.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

inline constexpr std::size_t panel_width = 32;

/// Writes vector x into column k of a panel.
inline void stand(std::span<const float> x, std::span<float> panel, std::size_t k) noexcept {
    for (std::size_t c = 0; c < x.size(); ++c) panel[c * panel_width + k] = x[c];
}
/// The same for several vectors, at most panel_width: vector k goes into column k. Several times as fast.
inline void stand(rows x, std::span<float> panel) noexcept {
    simd::detail::transpose(x.data, x.stride, x.count, x.width, panel.data(), panel_width);
}

/// out[i * stride + k] = a[i] . column k for all columns, using the first a.width elements; stride is at least
/// panel_width. The product of x with a column y is bitwise equal to that of y with a column x.
inline void products(rows a, std::span<const float> panel, std::span<float> out, std::size_t stride) noexcept {
    using namespace simd::detail;
    static_assert(panel_width % panel_columns == 0);
    if (a.count == 0) return;
    multistate::detail::check(panel.size() >= a.width * panel_width, "products", "panel",
                              multistate::detail::bound{"[a.width, panel_width] floats, ", a.width * panel_width},
                              panel.size());
    multistate::detail::check(stride >= panel_width, "products", "stride",
                              multistate::detail::bound{"at least panel_width = ", panel_width}, stride);
    multistate::detail::check(out.size() >= (a.count - 1) * stride + panel_width, "products", "out",
                              multistate::detail::bound{"room for all columns, ", (a.count - 1) * stride + panel_width},
                              out.size());
    for (std::size_t k = 0; k < panel_width; k += panel_columns) {
        product_of_all<product_queries, product_vectors, false>(a.count, a.data, a.stride, panel.data() + k,
                                                                panel_width, a.width, out.data() + k, stride);
    }
}

/// out[k] = x^T A x for x = column k. A is symmetric [n, n]; above the diagonal it holds zeros. `scratch` has
/// panel_width^2 floats.
inline void quadratic_forms(std::span<const float> a, std::size_t n, std::span<const float> panel,
                            std::span<float, panel_width> out, std::span<float> scratch) noexcept {
    constexpr std::size_t at_once = simd::detail::product_queries;  // larger blocks multiply more of the zeros
    std::ranges::fill(out, 0.0f);
    for (std::size_t first = 0; first < n; first += at_once) {
        const std::size_t end = (std::min)(n, first + at_once);
        products({a.data() + first * n, end - first, end, n}, panel, scratch, panel_width);
        for (std::size_t r = first; r < end; ++r) {  // twice the part below the diagonal, and the diagonal
            const float diagonal = a[r * n + r];
            for (std::size_t k = 0; k < panel_width; k += simd::vector_width) {
                const simd::floats x = simd::load(panel.data() + r * panel_width + k);
                const simd::floats twice = 2.0f * simd::load(scratch.data() + (r - first) * panel_width + k);
                simd::store(simd::load(out.data() + k) + x * (twice - diagonal * x), out.data() + k);
            }
        }
    }
}

/// X = L^-1 X for the columns of a panel. L is lower triangular [n, n], n = l.width; what lies above its diagonal does
/// not matter. `scratch` has panel_width^2 floats.
inline void solve_lower(rows l, std::span<float> panel, std::span<float> scratch) noexcept {
    constexpr std::size_t at_once = simd::detail::product_queries;
    std::ranges::fill(scratch.first(at_once * panel_width), 0.0f);
    for (std::size_t first = 0; first < l.width; first += at_once) {
        const std::size_t end = (std::min)(l.width, first + at_once);
        if (first > 0) products({l[first].data(), end - first, first, l.stride}, panel, scratch, panel_width);
        for (std::size_t r = first; r < end; ++r) {
            const float inverse = 1 / l[r][r];
            for (std::size_t k = 0; k < panel_width; k += simd::vector_width) {
                float* const x = panel.data() + k;
                const float* const product = scratch.data() + (r - first) * panel_width + k;
                simd::floats sum = simd::load(x + r * panel_width) - simd::load(product);
                for (std::size_t c = first; c < r; ++c) sum -= l[r][c] * simd::load(x + c * panel_width);
                simd::store(sum * inverse, x + r * panel_width);
            }
        }
    }
}

namespace detail {

/// tile = U with U^T U = tile, for the first n rows and columns of a symmetric tile [n, panel_width] whose part below
/// the diagonal does not matter. Returns false if the tile is not positive definite.
inline bool factor_tile(std::span<float> tile, std::size_t n) noexcept {
    for (std::size_t c = 0; c < n; ++c) {
        const auto row = tile.subspan(c * panel_width, panel_width);
        if (!(row[c] > 0)) return false;
        simd::scale(row, 1 / std::sqrt(row[c]));
        for (std::size_t r = c + 1; r < n; ++r) {
            simd::add_scaled(-row[r], row, tile.subspan(r * panel_width, panel_width));
        }
    }
    return true;
}

}  // namespace detail

/// cholesky (linear_algebra.hpp) in blocks, many times as fast for n = 128. `scratch` has (n + panel_width) panel_width
/// floats.
inline bool cholesky(std::span<float> a, std::size_t n, std::span<float> scratch) noexcept {
    using simd::detail::transpose;
    const auto tile = scratch.first(panel_width * panel_width), panel = scratch.subspan(tile.size());
    std::ranges::fill(tile, 0.0f);
    for (std::size_t first = 0; first < n; first += panel_width) {
        const std::size_t count = (std::min)(panel_width, n - first);
        const rows block{a.data() + first * n, count, first, n};
        const auto diagonal = [&](std::size_t r) { return a.subspan((first + r) * n + first, r + 1); };
        if (first > 0) {  // the rows of L left of the diagonal block, then what they leave of that block
            stand(block, panel);
            solve_lower({a.data(), first, first, n}, panel, tile);
            transpose(panel.data(), panel_width, first, count, a.data() + first * n, n);
            products(block, panel, tile, panel_width);
        }
        for (std::size_t r = 0; r < count; ++r) {
            for (std::size_t c = 0; c <= r; ++c) tile[c * panel_width + r] = diagonal(r)[c] - tile[r * panel_width + c];
        }
        if (!detail::factor_tile(tile, count)) return false;
        for (std::size_t r = 0; r < count; ++r) {
            for (std::size_t c = 0; c <= r; ++c) diagonal(r)[c] = tile[c * panel_width + r];
        }
        std::ranges::fill(tile, 0.0f);
    }
    return true;
}

/// A += the sum of factors[k] x_k x_k^T over the rows x_k of `x`, at most panel_width: add_square for several vectors.
/// A is symmetric [x.width, x.width]. `scratch` has (2 x.width + panel_width) panel_width floats.
inline void add_squares(std::span<const float> factors, rows x, std::span<float> a, std::span<float> scratch) noexcept {
    const std::size_t n = x.width, size = n * panel_width;
    const auto weighted = scratch.first(size), product = scratch.subspan(size, size);  // [n, panel_width]
    const auto panel = scratch.subspan(2 * size, panel_width * panel_width);           // a column for each element
    std::array<float, panel_width> weights{};
    std::copy_n(factors.begin(), x.count, weights.begin());
    stand(x, weighted);
    for (std::size_t r = 0; r < n; ++r) simd::multiply(weights, weighted.subspan(r * panel_width, panel_width));
    for (std::size_t first = 0; first < n; first += panel_width) {
        const std::size_t columns = (std::min)(panel_width, n - first);
        for (std::size_t k = 0; k < x.count; ++k) {
            std::ranges::copy(x[k].subspan(first, columns),
                              panel.begin() + static_cast<std::ptrdiff_t>(k * panel_width));
        }
        products({weighted.data() + first * panel_width, n - first, x.count, panel_width}, panel, product, panel_width);
        for (std::size_t r = first; r < n; ++r) {
            simd::add(product.subspan((r - first) * panel_width, panel_width),
                      a.subspan(r * n + first, (std::min)(columns, r + 1 - first)));
        }
    }
}

}}  // namespace multistate::MULTISTATE_TARGET
