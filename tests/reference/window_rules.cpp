// Rules that look through a window: the last tokens' attention or queries, the last block of tokens, or the newest
// token's attention together with what values do to the output.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "reference/rules.hpp"

namespace reference {

namespace {

using numbers = std::vector<double>;

template <std::size_t most>
std::size_t up_to_half(std::size_t states) {
    return std::min(most, states / 2);
}

double dot(const numbers& x, const numbers& y) { return std::inner_product(x.begin(), x.end(), y.begin(), 0.0); }

/// For each state, what `tokens` gave to it, the table's query heads summed.
numbers sum_over(const evidence& e, std::span<const token> tokens) {
    numbers scores;
    for (const state& s : e.states()) {
        double sum = 0;
        for (const token& t : tokens) sum += e.attention(t, s.position);
        scores.push_back(sum);
    }
    return scores;
}

/// For a state that is not guarded, f(sum, count, greatest) of such states around it, itself and `reach` on each side
/// where they exist.
template <class F>
numbers pooled(const evidence& e, numbers scores, std::ptrdiff_t reach, F f) {
    const std::size_t recent = e.shape.recent.value_or(up_to_half<32>(e.shape.states));
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
numbers mean_of_five(const evidence& e, numbers scores) {
    return pooled(e, std::move(scores), 2, [](double sum, double count, double) { return sum / count; });
}
numbers maximum_of_seven(const evidence& e, numbers scores) {
    return pooled(e, std::move(scores), 3, [](double, double, double greatest) { return greatest; });
}

numbers morphkv_scores(const evidence& e) { return sum_over(e, e.newest(30)); }
numbers snapkv_scores(const evidence& e) { return maximum_of_seven(e, sum_over(e, e.newest(32))); }
numbers cake_scores(const evidence& e) { return mean_of_five(e, sum_over(e, e.newest(1))); }

numbers chunkkv_scores(const evidence& e) {
    const numbers single = sum_over(e, e.newest(32));
    numbers result;
    for (std::size_t first = 0; first < single.size(); first += 20) {
        const std::size_t count = std::min<std::size_t>(20, single.size() - first);
        const auto begin = single.begin() + static_cast<std::ptrdiff_t>(first);
        const double sum = std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(count), 0.0);
        result.insert(result.end(), count, sum / static_cast<double>(count));
    }
    return result;
}

/// mean + 200 variance of what a head gives on average.
numbers cake_prompt_scores(const evidence& e) {
    const auto window = e.newest(32);
    const auto n = static_cast<double>(window.size());
    const auto heads = static_cast<double>(e.end_head() - e.first_head());
    numbers scores;
    for (const state& s : e.states()) {
        numbers given;
        for (const token& t : window) given.push_back(e.attention(t, s.position) / heads);
        const double mean = std::accumulate(given.begin(), given.end(), 0.0) / n;
        double squares = 0;
        for (const double a : given) squares += (a - mean) * (a - mean);
        scores.push_back(mean + (n > 1 ? 200 * squares / (n - 1) : 0));
    }
    return mean_of_five(e, scores);
}

numbers citrus_scores(const evidence& e) { return sum_over(e, std::span(e.past).subspan(e.last_arrival)); }

/// How far the output of each head moves when a state is left out and the others' probabilities are made to sum to 1.
numbers caote_scores(const evidence& e) {
    const token& now = e.past.back();
    numbers scores(e.states().size());
    for (std::size_t i = e.first_head(); i < e.end_head(); ++i) {
        const auto& states = e.held[i / e.shape.group()];
        const auto output_without = [&](std::size_t gone) {
            numbers output(e.shape.value_dim);
            double total = 0;
            for (std::size_t j = 0; j < states.size(); ++j) {
                if (j == gone) continue;
                const double a = e.attention(now, i, states[j].position);
                for (std::size_t c = 0; c < output.size(); ++c) output[c] += a * states[j].value[c];
                total += a;
            }
            for (double& x : output) x = total > 0 ? x / total : std::numeric_limits<double>::infinity();
            return output;
        };
        const numbers output = output_without(states.size());
        for (std::size_t j = 0; j < states.size(); ++j) {
            numbers error = output_without(j);
            for (std::size_t c = 0; c < error.size(); ++c) error[c] -= output[c];
            scores[j] += dot(error, error);
        }
    }
    return scores;
}

/// SnapKV's score as a mean over tokens, heads and five neighbors; half of what the guards leave by that alone, the
/// rest times |v|_1.
numbers criticalkv_scores(const evidence& e) {
    const auto window = static_cast<double>(e.newest(32).size());
    numbers mean = mean_of_five(e, sum_over(e, e.newest(32)));
    for (double& s : mean) s /= window * static_cast<double>(e.end_head() - e.first_head());
    numbers scores;
    for (std::size_t j = 0; j < mean.size(); ++j) {
        double norm = 0;
        for (std::size_t h = e.first_kv_head; h < e.first_kv_head + e.kv_heads; ++h) {
            for (const double x : e.held[h][j].value) norm += std::abs(x);
        }
        scores.push_back((mean[j] + 1e-4) * norm);
    }
    const std::size_t recent = e.shape.recent.value_or(up_to_half<32>(e.shape.states));
    std::vector<std::size_t> free(mean.size() - e.shape.sinks - recent);
    std::iota(free.begin(), free.end(), e.shape.sinks);
    std::sort(free.begin(), free.end(),
              [&](std::size_t a, std::size_t b) { return mean[a] != mean[b] ? mean[a] > mean[b] : a > b; });
    const std::size_t first = (e.shape.states - e.shape.sinks - recent) / 2;
    const double last_in = first > 0 ? mean[free[first - 1]] : 0, first_out = mean[free[first]];
    if (first > 0 && last_in != first_out)
        e.compare(last_in, first_out);  // equal means of the same states are no doubt
    for (std::size_t i = 0; i < first; ++i) scores[free[i]] = std::numeric_limits<double>::infinity();
    return scores;
}

/// The maximum over 32 tokens and all heads of what is pooled over five and scaled back, floored at its mean, times the
/// share of |v|_1; before, most of 90 % of the attention whatever the values.
numbers defensivekv_scores(const evidence& e) {
    const std::size_t recent = e.shape.recent.value_or(up_to_half<32>(e.shape.states));
    const std::size_t sinks = e.shape.sinks, n = e.states().size() - sinks - recent;
    const auto window = e.newest(32);
    numbers most(n), mean(n);
    for (const token& t : window) {
        for (std::size_t i = e.first_head(); i < e.end_head(); ++i) {
            numbers given, pooled;
            for (std::size_t j = 0; j < n; ++j) given.push_back(e.attention(t, i, e.states()[sinks + j].position));
            for (std::size_t j = 0; j < n; ++j) {
                double five = 0;
                for (std::size_t k = j < 2 ? 0 : j - 2; k < std::min(n, j + 3); ++k) five += given[k];
                pooled.push_back(five / 5);
            }
            const double sum = std::accumulate(given.begin(), given.end(), 0.0);
            const double pooled_sum = std::accumulate(pooled.begin(), pooled.end(), 0.0);
            for (std::size_t j = 0; j < n; ++j) {
                if (pooled_sum > 0) most[j] = std::max(most[j], pooled[j] / pooled_sum * sum);
                mean[j] += given[j] / static_cast<double>(window.size() * (e.end_head() - e.first_head()));
            }
        }
    }
    numbers effects(n);
    for (std::size_t h = e.first_kv_head; h < e.first_kv_head + e.kv_heads; ++h) {
        for (std::size_t j = 0; j < n; ++j) {
            for (const double x : e.held[h][sinks + j].value) effects[j] += std::abs(x);
        }
    }
    const double all = std::accumulate(effects.begin(), effects.end(), 0.0);
    const double least = std::accumulate(most.begin(), most.end(), 0.0) / static_cast<double>(n);
    numbers scores(e.states().size());
    for (std::size_t j = 0; j < n; ++j) scores[sinks + j] = std::max(most[j], least) * effects[j] / all;

    const double total = std::accumulate(mean.begin(), mean.end(), 0.0);
    if (total == 0) return scores;
    const auto before = static_cast<std::ptrdiff_t>(std::min<std::size_t>(32, n));
    const double wanted = double(0.9f) - std::accumulate(mean.end() - before, mean.end(), 0.0);
    std::vector<std::size_t> ranked(n);
    std::iota(ranked.begin(), ranked.end(), std::size_t{0});
    std::sort(ranked.begin(), ranked.end(),
              [&](std::size_t a, std::size_t b) { return mean[a] != mean[b] ? mean[a] > mean[b] : a > b; });
    double held = 0;
    std::size_t first = 0;
    for (; first < e.shape.states - sinks - recent; ++first) {
        held += mean[ranked[first]] / total;
        e.compare(held, wanted);
        if (held >= wanted) break;
        scores[sinks + ranked[first]] = std::numeric_limits<double>::infinity();
    }
    if (first > 0 && first < n && mean[ranked[first - 1]] != mean[ranked[first]]) {
        e.compare(mean[ranked[first - 1]], mean[ranked[first]]);
    }
    return scores;
}

/// R-KV's importance of the states of one KV head that are not guarded as recent; 0 for those.
numbers importance(const evidence& e, std::size_t h, std::size_t older) {
    const auto& states = e.held[h];
    const auto window = e.newest(8);
    numbers mean(states.size());
    for (const token& t : window) {
        numbers exponentials;
        for (std::size_t j = 0; j < older; ++j) {
            double most = -std::numeric_limits<double>::infinity();
            for (std::size_t i = h * e.shape.group(); i < (h + 1) * e.shape.group(); ++i) {
                most = std::max(most, e.shape.scale * dot(t.queries[i], states[j].key));
            }
            exponentials.push_back(most);
        }
        const double greatest = *std::max_element(exponentials.begin(), exponentials.end());
        for (double& x : exponentials) x = std::exp(x - greatest);
        const double total = std::accumulate(exponentials.begin(), exponentials.end(), 0.0);
        for (std::size_t j = 0; j < older; ++j) {
            mean[j] += exponentials[j] / total / static_cast<double>(window.size());
        }
    }
    numbers pooled(states.size());
    for (std::size_t j = 0; j < older; ++j) {
        for (std::size_t i = j - std::min<std::size_t>(j, 3); i < std::min(older, j + 4); ++i) {
            pooled[j] = std::max(pooled[j], mean[i]);
        }
    }
    return pooled;
}

/// R-KV's redundancy of the states of one KV head.
numbers redundancy(const evidence& e, std::size_t h) {
    const auto& states = e.held[h];
    const std::size_t n = states.size();
    numbers mean(n);
    for (std::size_t i = 0; i < n; ++i) {
        numbers row;
        for (std::size_t j = 0; j < n; ++j) {
            const double norms = std::sqrt(dot(states[i].key, states[i].key) * dot(states[j].key, states[j].key));
            row.push_back(i != j && norms > 0 ? dot(states[i].key, states[j].key) / norms : 0);
        }
        for (std::size_t j = n; j-- > 0;) {
            e.compare(row[j], 0.5);
            if (row[j] <= 0.5) continue;
            row[j] = 0;
            break;
        }
        for (std::size_t j = 0; j < n; ++j) mean[j] += row[j] / static_cast<double>(n);
    }
    double total = 0;
    for (double& x : mean) total += x = std::exp(x);
    for (double& x : mean) x /= total;
    return mean;
}

numbers r_kv_scores(const evidence& e) {
    const std::size_t recent = e.shape.recent.value_or(up_to_half<8>(e.shape.states));
    numbers scores(e.states().size());
    for (std::size_t h = e.first_kv_head; h < e.first_kv_head + e.kv_heads; ++h) {
        const numbers important = importance(e, h, scores.size() - recent), redundant = redundancy(e, h);
        for (std::size_t j = 0; j < scores.size(); ++j) scores[j] += 0.1 * important[j] - 0.9 * redundant[j];
    }
    return scores;
}

}  // namespace

const rule morphkv{.name = "morphkv", .score = morphkv_scores, .recent = up_to_half<30>};
/// Two states may have the same greatest neighbor, or of few the same mean; the states of a chunk share one score.
const rule snapkv{.name = "snapkv", .score = snapkv_scores, .recent = up_to_half<32>, .ties_are_exact = true};
const rule chunkkv{.name = "chunkkv",
                   .forgets = unit::layer,
                   .score = chunkkv_scores,
                   .recent = up_to_half<32>,
                   .ties_are_exact = true};
const rule cake{.name = "cake", .score = cake_scores, .recent = up_to_half<32>, .ties_are_exact = true};
const rule cake_prompt{
    .name = "cake_prompt", .score = cake_prompt_scores, .recent = up_to_half<32>, .ties_are_exact = true};
const rule citrus{.name = "citrus", .forgets = unit::layer, .score = citrus_scores};
const rule citrus_probe{.name = "citrus_probe", .forgets = unit::layer, .score = citrus_scores};  // without a probe
const rule caote{.name = "caote", .score = caote_scores};
const rule criticalkv{.name = "criticalkv", .score = criticalkv_scores, .recent = up_to_half<32>};
const rule defensivekv{.name = "defensivekv", .score = defensivekv_scores, .recent = up_to_half<32>};
/// Two states are as redundant as each other.
const rule r_kv{.name = "r_kv", .score = r_kv_scores, .recent = up_to_half<8>, .ties_are_exact = true};

}  // namespace reference
