#pragma once

// Scores from what tokens gave to states, as several rules have them.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>

#include "reference/numbers.hpp"
#include "reference/rule.hpp"

namespace reference {

/// For each state, what `tokens` gave to it, the table's query heads summed.
inline numbers sum_over(const evidence& e, std::span<const token> tokens) {
    numbers scores;
    for (const state& s : e.states()) {
        double sum = 0;
        for (const token& t : tokens) sum += e.attention(t, s.position);
        scores.push_back(sum);
    }
    return scores;
}
/// Over all tokens since the state's own.
inline numbers summed(const evidence& e) { return sum_over(e, e.past); }
/// The newest token's only.
inline numbers current(const evidence& e) { return sum_over(e, e.newest(1)); }

/// Over the number of tokens since the state's own.
inline numbers averaged(const evidence& e) {
    numbers scores = summed(e);
    for (std::size_t j = 0; j < scores.size(); ++j) {
        scores[j] /= e.past.back().position - e.states()[j].position + 1;
    }
    return scores;
}

/// Each token's attention times 0.98^n, n = the number of tokens after it.
inline numbers decayed(const evidence& e) {
    const double decay = 0.98f;  // as the library holds it
    numbers scores;
    for (const state& s : e.states()) {
        double sum = 0;
        for (std::size_t t = 0; t < e.past.size(); ++t) {
            sum += std::pow(decay, static_cast<double>(e.past.size() - 1 - t)) * e.attention(e.past[t], s.position);
        }
        scores.push_back(sum);
    }
    return scores;
}

/// For a state that is not guarded, f(sum, count, greatest) of such states around it, itself and `reach` on each side
/// where they exist. The policy guards the newest min(32, states / 2).
template <class F>
numbers pooled(const evidence& e, numbers scores, std::ptrdiff_t reach, F f) {
    const std::size_t recent = e.shape.recent.value_or(at_most<32, 2>(e.shape.states));
    const auto first = static_cast<std::ptrdiff_t>(e.shape.sinks);
    const auto end = static_cast<std::ptrdiff_t>(scores.size() - recent);
    const numbers before = scores;
    for (std::ptrdiff_t j = first; j < end; ++j) {
        double sum = 0, count = 0, greatest = 0;
        for (std::ptrdiff_t i = std::max(first, j - reach); i <= std::min(end - 1, j + reach); ++i) {
            sum += before[static_cast<std::size_t>(i)];
            greatest = std::max(greatest, before[static_cast<std::size_t>(i)]);
            ++count;
        }
        scores[static_cast<std::size_t>(j)] = f(sum, count, greatest);
    }
    return scores;
}
inline numbers mean_of_five(const evidence& e, numbers scores) {
    return pooled(e, std::move(scores), 2, [](double sum, double count, double) { return sum / count; });
}

}  // namespace reference
