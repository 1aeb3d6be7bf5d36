#pragma once

// One KV head written down in double precision: states in the order of the text, attention by plain loops, and what is
// forgotten is erased. It scores as h2o does (sums), as tova_head does (the newest token's only) or not at all
// (window).
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <span>
#include <vector>

namespace support {

enum class scoring { none, newest, summed };

struct erasing_head {
    struct state {
        int position;
        std::vector<double> key;
        std::vector<double> value;
        double score = 0;
    };
    using states_of = std::vector<state>;

    scoring by = scoring::summed;
    std::size_t group = 1;
    std::size_t states = 1;
    std::size_t sinks = 0;
    std::size_t recent = 0;
    double scale = 1;
    /// Called with all states and which of them go, before they are erased.
    std::function<void(states_of&, const std::vector<bool>&)> merge = {};

    states_of held = {};
    /// The least relative distance of two scores whose order decided: below float32's rounding a test says nothing.
    double margin = std::numeric_limits<double>::infinity();

    /// Forgets the least down to `states`; ties go to the oldest.
    void forget() {
        if (held.size() <= states) return;
        const std::size_t count = held.size() - states;
        std::vector<std::size_t> order;
        for (std::size_t i = sinks; i + recent < held.size(); ++i) order.push_back(i);
        std::ranges::stable_sort(order, {}, [&](std::size_t i) { return held[i].score; });
        if (by != scoring::none && count < order.size()) {
            const double a = held[order[count - 1]].score;
            const double b = held[order[count]].score;
            margin = std::min(margin, (b - a) / std::max(std::abs(a), std::abs(b)));
        }
        std::vector<bool> goes(held.size());
        for (std::size_t i = 0; i < count; ++i) goes[order[i]] = true;
        if (merge) merge(held, goes);
        states_of kept;
        for (std::size_t i = 0; i < held.size(); ++i) {
            if (!goes[i]) kept.push_back(held[i]);
        }
        held = kept;
    }

    void place(int position, std::span<const float> key, std::span<const float> value) {
        held.push_back({position, {key.begin(), key.end()}, {value.begin(), value.end()}});
    }

    /// The outputs [group, value_dim] of a token that sees the states up to its own position.
    std::vector<double> attend(int position, std::span<const float> queries) {
        const std::size_t d = held.front().key.size();
        const auto visible = static_cast<std::size_t>(
            std::ranges::count_if(held, [=](const state& s) { return s.position <= position; }));
        std::vector<double> out;
        if (by == scoring::newest) {
            for (std::size_t j = 0; j < visible; ++j) held[j].score = 0;
        }
        for (std::size_t i = 0; i < group; ++i) {
            std::vector<double> weights(visible);
            double total = 0;
            for (std::size_t j = 0; j < visible; ++j) {
                double logit = 0;
                for (std::size_t c = 0; c < d; ++c) logit += static_cast<double>(queries[i * d + c]) * held[j].key[c];
                total += weights[j] = std::exp(scale * logit);
            }
            std::vector<double> sum(held.front().value.size());
            for (std::size_t j = 0; j < visible; ++j) {
                if (by != scoring::none) held[j].score += weights[j] / total;
                for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += weights[j] / total * held[j].value[c];
            }
            out.insert(out.end(), sum.begin(), sum.end());
        }
        return out;
    }

    std::vector<double> step(int position, std::span<const float> queries, std::span<const float> key,
                             std::span<const float> value) {
        forget();
        place(position, key, value);
        return attend(position, queries);
    }

    std::vector<int> positions() const {
        std::vector<int> result;
        for (const state& s : held) result.push_back(s.position);
        return result;
    }
};

}  // namespace support
