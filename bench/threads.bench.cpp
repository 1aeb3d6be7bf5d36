// What a second thread gains, beside what it gains for a probe: two cores share a memory that one of them may already
// keep busy, and on a shared machine the second may not be there. tova, f16.
//
//     threads/step/f16/<heads>x<KV heads>/<states>               the probe reads as many bytes from DRAM
//     threads/<exact or block>/f16/<heads>x<KV heads>/<states>   512 tokens; the probe works in cache
#include <thread>

#include <multistate/execution/thread_pool.hpp>

#include "prefill.hpp"
#include "probe.hpp"

namespace {

namespace ms = multistate;
using bench::layer_shape;

constexpr std::size_t threads = 2;

ms::thread_pool& pool() {
    static ms::thread_pool both(threads);
    return both;
}

/// By turns, in seconds each: work and probe, each of them alone and shared.
void contest(benchmark::State& state, auto work, auto probe) {
    bench::turns serials, shareds, probes, shared_probes;
    ms::serial alone;
    for (auto _ : state) {
        serials.push_back(work(alone));
        shareds.push_back(work(pool()));
        probes.push_back(probe(alone));
        shared_probes.push_back(probe(pool()));
        state.SetIterationTime(shareds.back());
    }
    const double gain = bench::median_ratio(serials, shareds);
    const double probe_gain = bench::median_ratio(probes, shared_probes);
    state.counters["ns"] = 1e9 * bench::median(shareds);
    state.counters["serial/shared"] = gain;
    state.counters["probe/shared_probe"] = probe_gain;
    state.counters["percent_of_gain"] = 100 * gain / probe_gain;
}

struct layers_that_decode {
    bench::decoder<ms::f16> layers;
    bench::probe memory;

    explicit layers_that_decode(const layer_shape& l) : layers(ms::tova{}, l), memory(layers.bytes()) {}
};

void step(benchmark::State& state, const std::string& name, const layer_shape& l) {
    auto& all = bench::prepared(name, [&] { return layers_that_decode(l); });
    contest(
        state, [&](auto& run) { return bench::seconds([&] { all.layers.step(run); }); },
        [&](auto& run) { return all.memory.read(run, threads); });
}

/// Work that needs nothing but cores: each of 64 tasks reads 8 KiB 2048 times.
double work_in_cache(auto& run) {
    static const std::vector<std::uint64_t> few(1024, 1);
    return bench::seconds([&] {
        run.run(64, [&](std::size_t) {
            for (int i = 0; i < 2048; ++i) benchmark::DoNotOptimize(bench::read_in_order<0>(few));
        });
    });
}

struct text_and_reader {
    bench::block_of_text text;
    bench::reader<ms::f16> reader;

    text_and_reader(const layer_shape& l, std::size_t tokens) : text(l, tokens), reader(ms::tova{}, l, tokens) {}
};

void prefill(benchmark::State& state, const std::string& name, ms::prefill_mode mode, const layer_shape& l) {
    auto& all = bench::prepared(name, [&] { return text_and_reader(l, 512); });
    contest(
        state, [&](auto& run) { return all.reader.block(all.text, mode, run); },
        [](auto& run) { return work_in_cache(run); });
}

[[maybe_unused]] const bool added = [] {
    if (std::thread::hardware_concurrency() < threads) return false;  // or held to one processor
    for (const std::size_t kv_heads : {32u, 8u, 1u}) {
        const layer_shape l{.heads = 32, .kv_heads = kv_heads, .states = 4096};
        const std::string name = bench::joined("threads", "step", ms::f16::name, l.name());
        benchmark::RegisterBenchmark(name.c_str(), step, name, l)->UseManualTime();
    }
    for (const auto& [mode, mode_name] :
         {std::pair{ms::prefill_mode::exact, "exact"}, std::pair{ms::prefill_mode::block, "block"}}) {
        for (const std::size_t kv_heads : {32u, 1u}) {
            const layer_shape l{.heads = 32, .kv_heads = kv_heads, .states = 1024};
            const std::string name = bench::joined("threads", mode_name, ms::f16::name, l.name());
            benchmark::RegisterBenchmark(name.c_str(), prefill, name, mode, l)->UseManualTime()->Iterations(3);
        }
    }
    return true;
}();

}  // namespace
