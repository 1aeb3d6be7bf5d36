// softmax/<n>: rows of n logits, in cache, beside Eigen's vectorized exponential, a loop over std::exp, and a read and
// a copy of the same rows.
#include <cmath>
#include <string>

#include <Eigen/Core>
#include <multistate/math/softmax.hpp>

#include "names.hpp"
#include "rows_in_cache.hpp"

namespace {

using bench::total;

void eigen_softmax(std::span<float> x) {
    Eigen::Map<Eigen::ArrayXf> row(x.data(), static_cast<Eigen::Index>(x.size()));
    row = (row - row.maxCoeff()).exp();
    row *= 1 / row.sum();
}

void scalar_softmax(std::span<float> x) {
    const float greatest = *std::max_element(x.begin(), x.end());
    float sum = 0;
    for (float& v : x) sum += v = std::exp(v - greatest);
    for (float& v : x) v *= 1 / sum;
}

/// One turn: softmax of each row of fresh logits. Done twice and the second time counts: after a long scalar turn a
/// processor may need some microseconds before its widest vectors run at full speed.
template <class Softmax>
double turn(const std::vector<float>& logits, std::vector<float>& x, std::size_t n, Softmax softmax) {
    const auto all_rows = [&] {
        for (std::size_t i = 0; i < total; i += n) softmax(std::span(x).subspan(i, n));
    };
    x = logits;
    all_rows();
    x = logits;
    return bench::seconds(all_rows);
}

void softmax(benchmark::State& state, std::size_t n) {
    std::vector<float> logits = bench::random_floats(total, 1);
    for (float& v : logits) v *= 8;
    std::vector<float> x(total);
    bench::rows_in_cache memory(n);
    bench::turns ours, eigens, scalars, reads, copies;
    for (auto _ : state) {
        ours.push_back(turn(logits, x, n, [](std::span<float> row) { multistate::softmax(row); }));
        eigens.push_back(turn(logits, x, n, eigen_softmax));
        scalars.push_back(turn(logits, x, n, scalar_softmax));
        reads.push_back(memory.read());
        copies.push_back(memory.copy());
        state.SetIterationTime(ours.back());
    }
    state.counters["ns/element"] = 1e9 * bench::median(ours) / total;
    state.counters["eigen/ours"] = bench::median_ratio(eigens, ours);
    state.counters["scalar/ours"] = bench::median_ratio(scalars, ours);
    state.counters["read/ours"] = bench::median_ratio(reads, ours);
    state.counters["memcpy/ours"] = bench::median_ratio(copies, ours);
}

[[maybe_unused]] const bool added = [] {
    for (const std::size_t n : {64u, 256u, 1024u, 4096u, 16384u, 65536u}) {
        benchmark::RegisterBenchmark(bench::joined("softmax", n).c_str(), softmax, n)->UseManualTime();
    }
    return true;
}();

}  // namespace
