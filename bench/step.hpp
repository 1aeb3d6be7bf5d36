#pragma once

// The two ways to time a decoding step, for every family that varies its shape:
//
//     time_beside_attention   beside attention alone: what the decision costs
//     time_beside_rivals      beside a read and a copy of as many bytes, and beside Eigen
#include <string>

#include "rivals.hpp"

namespace bench {

inline void report_step(benchmark::State& state, std::size_t bytes, const turns& steps) {
    const double time = median(steps);
    state.counters["ns"] = 1e9 * time;
    state.counters["bytes/s"] = static_cast<double>(bytes) / time;
}

/// The turns alternate: step, attend, step, attend … so that each finds the caches as the other left them.
template <class Codec>
void time_beside_attention(benchmark::State& state, const std::string& name, const ms::any_policy& policy,
                           const layer_shape& l) {
    auto& ours = prepared(name, [&] { return decoder<Codec>(policy, l); });
    turns steps, attentions;
    for (auto _ : state) {
        ours.prepare();
        steps.push_back(seconds([&] { ours.step(); }));
        attentions.push_back(seconds([&] { ours.attend(); }));
        state.SetIterationTime(steps.back());
    }
    report_step(state, ours.bytes(), steps);
    state.counters["step/attention"] = median_ratio(steps, attentions);
}

template <class Keys, class Values>
struct contest {
    decoder<Keys, Values> ours;
    rivals<Keys> theirs;

    explicit contest(const layer_shape& l)
        : ours(ms::any_policy(ms::tova{}), l), theirs(ours.shape(), ours.size(), ours.bytes()) {}
};

template <class Keys, class Values>
void time_beside_rivals(benchmark::State& state, const std::string& name, const layer_shape& l) {
    auto& all = prepared(name, [&] { return contest<Keys, Values>(l); });
    auto& [ours, theirs] = all;
    if (!theirs.agree(ours.query())) return state.SkipWithError("Eigen's attention and the reference disagree");
    turns steps, reads, copies, eigens, references;
    for (auto _ : state) {
        reads.push_back(theirs.memory.read());
        steps.push_back(seconds([&o = ours] { o.step(); }));
        copies.push_back(theirs.memory.copy());
        eigens.push_back(theirs.eigen(ours.query()));
        references.push_back(theirs.reference(ours.query()));
        state.SetIterationTime(steps.back());
    }
    report_step(state, ours.bytes(), steps);
    state.counters["percent_of_read"] = 100 * median_ratio(reads, steps);
    state.counters["memcpy/step"] = median_ratio(copies, steps);
    state.counters["eigen/step"] = median_ratio(eigens, steps);
    state.counters["reference/step"] = median_ratio(references, steps);
}

/// Where a turn takes long, Google Benchmark's time is over after few turns: those have a number of their own.
inline void ask_for_turns(benchmark::internal::Benchmark* b, std::size_t bytes, int count) {
    b->UseManualTime();
    if (bytes >= std::size_t{32} << 20) b->Iterations(count);
}

/// Registers a benchmark beside attention alone.
template <class Codec>
void add_beside_attention(const std::string& name, const ms::any_policy& policy, const layer_shape& l) {
    ask_for_turns(benchmark::RegisterBenchmark(name.c_str(), time_beside_attention<Codec>, name, policy, l),
                  bytes_of<Codec>(l, l.states), 31);
}

/// Registers a benchmark beside rivals. Where values have another codec than keys, Eigen has the keys' for both.
template <class Keys, class Values = Keys>
void add_beside_rivals(const std::string& name, const layer_shape& l) {
    ask_for_turns(benchmark::RegisterBenchmark(name.c_str(), time_beside_rivals<Keys, Values>, name, l),
                  bytes_of<Keys, Values>(l, l.states), 11);
}

}  // namespace bench
