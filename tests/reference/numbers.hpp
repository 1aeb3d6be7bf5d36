#pragma once

// Vectors and small matrices in double precision, for rules that say what they mean.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <numeric>
#include <vector>

#include "support/random.hpp"

namespace reference {

using numbers = std::vector<double>;

inline double dot(const numbers& x, const numbers& y) { return std::inner_product(x.begin(), x.end(), y.begin(), 0.0); }
inline double norm(const numbers& x) { return std::sqrt(dot(x, x)); }
inline numbers scaled(numbers x, double factor) {
    for (double& one : x) one *= factor;
    return x;
}
inline void add(const numbers& x, numbers& sum) {
    sum.resize(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) sum[i] += x[i];
}
inline double mean(const numbers& x) {
    return std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}
/// With n - 1 in the denominator; 0 for one number.
inline double deviation(const numbers& x) {
    double squares = 0;
    for (const double one : x) squares += (one - mean(x)) * (one - mean(x));
    return std::sqrt(squares / std::max(1.0, static_cast<double>(x.size()) - 1));
}
inline numbers softmax(numbers x) {
    const double greatest = *std::max_element(x.begin(), x.end());
    double total = 0;
    for (double& one : x) total += one = std::exp(one - greatest);
    return scaled(x, 1 / total);
}

/// y with A y = x, by elimination.
inline numbers solve(std::vector<numbers> a, numbers x) {
    const std::size_t n = x.size();
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t r = 0; r < n; ++r) {
            if (r == i) continue;
            const double factor = a[r][i] / a[i][i];
            for (std::size_t c = 0; c < n; ++c) a[r][c] -= factor * a[i][c];
            x[r] -= factor * x[i];
        }
    }
    for (std::size_t i = 0; i < n; ++i) x[i] /= a[i][i];
    return x;
}

/// The numbers of library and reference must be the same, so the reference follows the library's words: each counter in
/// turn asks for the number of that index from the splitmix64 whose seed is what came before.
inline std::uint64_t hash(std::uint64_t bits, std::initializer_list<std::size_t> counters) {
    for (const std::uint64_t n : counters) bits = support::random_numbers(bits + n * 0x9e3779b97f4a7c15).next();
    return bits;
}

}  // namespace reference
