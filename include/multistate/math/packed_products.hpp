#pragma once

// Products of many vectors with many, for policies that compare stored keys with each other or with a matrix. About ten
// times as fast as separate dot products.
//
//     for (std::size_t k = 0; k < count; ++k) ms::stand(key(k), panel, k);  // up to panel_width keys, as columns
//     ms::products(vectors, panel, out, stride);                            // out[i * stride + k] = vectors[i] . key k
//
// Panels are [terms, panel_width]; process more vectors one panel after another. Unused columns do not matter, but must
// hold numbers; memory of a policy starts as zeros. Products are written for all columns, so out needs panel_width
// floats or more per vector.
#include <algorithm>
#include <cstddef>
#include <span>

#include "multistate/core/errors.hpp"
#include "multistate/core/types.hpp"
#include "multistate/simd/gemm.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

inline constexpr std::size_t panel_width = 32;

/// Writes vector x into column k of a panel.
inline void stand(std::span<const float> x, std::span<float> panel, std::size_t k) noexcept {
    for (std::size_t c = 0; c < x.size(); ++c) panel[c * panel_width + k] = x[c];
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
    std::ranges::fill(out, 0.0f);
    for (std::size_t first = 0; first < n; first += panel_width) {
        const std::size_t end = (std::min)(n, first + panel_width);
        products({a.data() + first * n, end - first, end, n}, panel, scratch, panel_width);
        for (std::size_t r = first; r < end; ++r) {  // twice the part below the diagonal, and the diagonal
            const float diagonal = a[r * n + r];
            const float* const x = panel.data() + r * panel_width;
            const float* const product = scratch.data() + (r - first) * panel_width;
            for (std::size_t k = 0; k < panel_width; ++k) out[k] += x[k] * (2 * product[k] - diagonal * x[k]);
        }
    }
}

/// out[k] = |A x|^2 for x = column k. A is lower triangular [n, n]; above the diagonal it holds zeros. `scratch` has
/// panel_width^2 floats.
inline void squared_lengths(std::span<const float> a, std::size_t n, std::span<const float> panel,
                            std::span<float, panel_width> out, std::span<float> scratch) noexcept {
    std::ranges::fill(out, 0.0f);
    for (std::size_t first = 0; first < n; first += panel_width) {
        const std::size_t end = (std::min)(n, first + panel_width);
        products({a.data() + first * n, end - first, end, n}, panel, scratch, panel_width);
        for (std::size_t r = 0; r < end - first; ++r) {
            const float* const product = scratch.data() + r * panel_width;
            for (std::size_t k = 0; k < panel_width; ++k) out[k] += product[k] * product[k];
        }
    }
}

/// A += the sum of factors[k] x_k x_k^T over the rows x_k of `x`, at most panel_width: add_square for several vectors.
/// A is symmetric [x.width, x.width]. `scratch` has (2 x.width + panel_width) panel_width floats.
inline void add_squares(std::span<const float> factors, rows x, std::span<float> a, std::span<float> scratch) noexcept {
    const std::size_t n = x.width, size = n * panel_width;
    const auto weighted = scratch.first(size), product = scratch.subspan(size, size);  // [n, panel_width]
    const auto panel = scratch.subspan(2 * size, panel_width * panel_width);           // a column for each element
    for (std::size_t k = 0; k < x.count; ++k) {
        for (std::size_t r = 0; r < n; ++r) weighted[r * panel_width + k] = factors[k] * x[k][r];
    }
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
