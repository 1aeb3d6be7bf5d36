#pragma once

// The linear algebra that policies need, on their own memory: nothing is allocated.
//
//     ms::add_to_mean(count, x, mean);                        // mean [n] of all vectors x so far
//     ms::add_square(1, x, a);                                // a [n, n] += x x^T
//     if (ms::cholesky(a, n)) ms::solve_lower(a, x);          // a becomes L with a = L L^T; x becomes L^-1 x
//
// A symmetric matrix [n, n] is n * n floats; only its lower triangle is used. The same holds for triangular matrices.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "multistate/simd/elementwise.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Euclidean norm.
inline float norm(std::span<const float> x) noexcept { return std::sqrt(simd::dot(x, x)); }

/// The largest count for add_to_mean. In a longer text the weight of a token stays 1 / most_counted, so the mean covers
/// about the last million tokens. A smaller weight would change nothing in float32.
inline constexpr std::uint64_t most_counted = std::uint64_t{1} << 20;

/// Adds vector number `count` to the mean of the vectors before it. Overwrites x.
inline void add_to_mean(float count, std::span<float> x, std::span<float> mean) noexcept {
    simd::add_scaled(-1, mean, x);
    simd::add_scaled(1 / count, x, mean);
}

/// Makes x a unit vector; zeros stay zeros.
inline void normalize(std::span<float> x) noexcept {
    const float length = norm(x);
    simd::scale(x, length > 0 ? 1 / length : 0);
}

/// Counts tokens for sums in float32. Returns true at the 2^20th token, and then after every 2^19: the count was
/// halved, and the caller must halve the sums. So the sums of an endless text cover about its last million tokens. They
/// never grow so large that adding a token changes nothing.
inline bool count_token(std::uint64_t& count) noexcept {
    if (++count < most_counted) return false;
    count = most_counted / 2;
    return true;
}

/// Row i of a lower triangle, including its diagonal.
inline std::span<float> lower_row(std::span<float> a, std::size_t n, std::size_t i) noexcept {
    return a.subspan(i * n, i + 1);
}
inline std::span<const float> lower_row(std::span<const float> a, std::size_t n, std::size_t i) noexcept {
    return a.subspan(i * n, i + 1);
}

/// A += factor * x x^T
inline void add_square(float factor, std::span<const float> x, std::span<float> a) noexcept {
    for (std::size_t i = 0; i < x.size(); ++i) simd::add_scaled(factor * x[i], x, lower_row(a, x.size(), i));
}

/// y = A x for a symmetric A.
inline void multiply(std::span<const float> a, std::span<const float> x, std::span<float> y) noexcept {
    for (std::size_t i = 0; i < x.size(); ++i) {
        const auto row = lower_row(a, x.size(), i);
        y[i] = simd::dot(row, x);
        simd::add_scaled(x[i], row, y.first(i));  // the part of column i above the diagonal
    }
}

/// Turns x towards the principal eigenvector of A (symmetric, positive semidefinite): x = A^steps x, normalized. The
/// product of the new x with the old one is not negative. `scratch` has x.size() elements.
inline void power_iteration(std::span<const float> a, std::size_t steps, std::span<float> x,
                            std::span<float> scratch) noexcept {
    normalize(x);
    for (std::size_t i = 0; i < steps; ++i) {
        multiply(a, x, scratch);
        std::ranges::copy(scratch, x.begin());
        normalize(x);
    }
}

/// A = L L^T: replaces A by L. Returns false if A is not positive definite; then the content of A is useless.
inline bool cholesky(std::span<float> a, std::size_t n) noexcept {
    for (std::size_t i = 0; i < n; ++i) {
        const auto row = lower_row(a, n, i);
        for (std::size_t j = 0; j < i; ++j) {
            const auto above = lower_row(a, n, j);
            row[j] = (row[j] - simd::dot(above.first(j), row)) / above[j];
        }
        const float square = row[i] - simd::dot(row.first(i), row);
        if (!(square > 0)) return false;
        row[i] = std::sqrt(square);
    }
    return true;
}

/// x = L^-1 x for a lower triangular L.
inline void solve_lower(std::span<const float> l, std::span<float> x) noexcept {
    for (std::size_t i = 0; i < x.size(); ++i) {
        const auto row = lower_row(l, x.size(), i);
        x[i] = (x[i] - simd::dot(row.first(i), x)) / row[i];
    }
}

/// A + ridge I = L L^T: build(a) adds A to zeros, then A becomes L. If float32 cannot compute L, the ridge grows
/// tenfold. Returns false if no ridge suffices. `factor` is cholesky, or its faster form with scratch
/// (packed_products.hpp).
template <class Build, class Factor = decltype(cholesky)&>
bool cholesky_with_ridge(float ridge, std::span<float> a, std::size_t n, Build build,
                         Factor factor = cholesky) noexcept {
    for (; std::isfinite(ridge); ridge *= 10) {
        std::ranges::fill(a, 0.0f);
        build(a);
        for (std::size_t c = 0; c < n; ++c) a[c * n + c] += ridge;
        if (factor(a, n)) return true;
    }
    return false;
}

/// scores[j] += x_j^T (X^T X + ridge I)^-1 x_j: the leverage of row j of X [scores.size(), m], after subtracting the
/// mean of the rows. If float32 cannot compute the inverse, the ridge grows tenfold. Overwrites X; `mean` [m],
/// `squares` [m, m].
inline void add_leverages(float ridge, std::span<float> x, std::span<float> mean, std::span<float> squares,
                          std::span<float> scores) noexcept {
    const std::size_t m = mean.size();
    const auto row = [&](std::size_t j) { return x.subspan(j * m, m); };
    std::ranges::fill(mean, 0.0f);
    for (std::size_t j = 0; j < scores.size(); ++j) simd::add(row(j), mean);
    for (std::size_t j = 0; j < scores.size(); ++j) {
        simd::add_scaled(-1 / static_cast<float>(scores.size()), mean, row(j));
    }
    static_cast<void>(cholesky_with_ridge(ridge, squares, m, [&](std::span<float> a) {
        for (std::size_t j = 0; j < scores.size(); ++j) add_square(1, row(j), a);
    }));
    for (std::size_t j = 0; j < scores.size(); ++j) {
        solve_lower(squares, row(j));  // x^T (L L^T)^-1 x = |L^-1 x|^2
        scores[j] += simd::dot(row(j), row(j));
    }
}

}}  // namespace multistate::MULTISTATE_TARGET
