#pragma once

// Rivals that take turns. On a shared machine absolute times wander by tens of percent within seconds, so two programs
// are compared turn by turn inside one run: the ratio of two neighbouring times, and the median of these ratios.
#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

namespace bench {

/// How long f takes.
template <std::invocable F>
double seconds(F&& f) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    benchmark::ClobberMemory();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// The times of one contestant, in seconds, one for each turn.
using turns = std::vector<double>;

inline double median(turns times) {
    if (times.empty()) return 0;
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    if (times.size() % 2 == 1) return *middle;
    return (*std::max_element(times.begin(), middle) + *middle) / 2;
}

/// The median over all turns of numerator / denominator.
inline double median_ratio(const turns& numerator, const turns& denominator) {
    turns ratios(std::min(numerator.size(), denominator.size()));
    for (std::size_t i = 0; i < ratios.size(); ++i) ratios[i] = numerator[i] / denominator[i];
    return median(std::move(ratios));
}

struct preparation {
    std::string key;
    std::shared_ptr<void> value;
};
inline preparation& last_preparation() {
    static preparation last;
    return last;
}

/// What a benchmark prepared under its name, made by `make` if it is not there: Google Benchmark calls each function
/// several times to find the number of iterations. Only the last one is kept: the next finds the memory free again.
template <std::invocable Make>
auto& prepared(const std::string& name, Make&& make) {
    using prepared_type = std::invoke_result_t<Make>;
    preparation& last = last_preparation();
    if (last.key != name) {
        last = {};
        last.value = std::make_shared<prepared_type>(make());
        last.key = name;
    }
    return *static_cast<prepared_type*>(last.value.get());
}

}  // namespace bench
