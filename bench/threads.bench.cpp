// What a second thread gains, beside what it gains for a probe: two cores share a memory that one of them may already
// keep busy, and on a shared machine the second may not be there. f16; tova decides per layer, h2o per KV head.
//
//     threads/<pool or openmp>/step/<policy>/<heads>x<KV heads>/<states>   the probe reads as many bytes from DRAM
//     threads/pool/sequences/<policy>/…                                    the same; each thread steps a sequence
//     threads/pool/<exact or block>/tova/…                                 512 tokens; the probe works in cache
#include <string_view>
#include <thread>

#include <multistate/execution/thread_pool.hpp>
#ifdef _OPENMP
#include <omp.h>

#include <multistate/execution/openmp.hpp>
#endif

#include "prefill.hpp"
#include "probe.hpp"

namespace {

namespace ms = multistate;
using bench::layer_shape;

constexpr std::size_t threads = 2;

/// All executors as one type, so that steps and prefills are compiled once.
struct executor {
    enum { serial, pool, openmp } which = serial;

    void run(std::size_t n, auto&& task) const noexcept {
        static ms::thread_pool both(threads);
        if (which == pool) return both.run(n, task);
#ifdef _OPENMP
        if (which == openmp) return ms::openmp{}.run(n, task);
#endif
        ms::serial{}.run(n, task);
    }
};

/// By turns, in seconds each: work and probe, each of them alone and shared.
void contest(benchmark::State& state, const executor& both, auto work, auto probe) {
    bench::turns serials, shareds, probes, shared_probes;
    const executor alone;
    for (auto _ : state) {
        serials.push_back(work(alone));
        shareds.push_back(work(both));
        probes.push_back(probe(alone));
        shared_probes.push_back(probe(both));
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

    layers_that_decode(std::string_view policy, const layer_shape& l)
        : layers(ms::any_policy::named(policy), l), memory(layers.bytes()) {}
};

/// A turn is as many steps as take about a millisecond: a helper that sleeps wakes once in a turn. Times are of one
/// step.
void step(benchmark::State& state, const std::string& name, const executor& both, bool sequences,
          std::string_view policy, const layer_shape& l) {
    auto& all = bench::prepared(name, [&] { return layers_that_decode(policy, l); });
    const std::size_t steps =
        std::max<std::size_t>(1, (std::size_t{32} << 20) / all.layers.bytes() / threads) * threads;
    const auto mean = [&](std::size_t count, auto f) {
        double sum = 0;
        for (std::size_t i = 0; i < count; ++i) sum += f();
        return sum / static_cast<double>(steps);
    };
    contest(
        state, both,
        [&](const executor& run) {
            if (!sequences) {
                return mean(steps, [&] { return bench::seconds([&] { all.layers.step(run); }); });
            }
            return mean(steps / threads,
                        [&] { return bench::seconds([&] { all.layers.step_sequences(threads, run); }); });
        },
        [&](const executor& run) { return mean(steps, [&] { return all.memory.read(run, threads); }); });
}

/// Work that needs nothing but cores: each of 64 tasks reads 8 KiB 2048 times.
double work_in_cache(const executor& run) {
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
        state, executor{executor::pool}, [&](const executor& run) { return all.reader.block(all.text, mode, run); },
        [](const executor& run) { return work_in_cache(run); });
}

void add_step(std::string_view which, const executor& both, std::string_view what, std::string_view policy,
              const layer_shape& l) {
    const std::string name = bench::joined("threads", which, what, policy, l.name());
    benchmark::RegisterBenchmark(name.c_str(), step, name, both, what == "sequences", policy, l)
        ->UseManualTime()
        ->Iterations(31);
}

void add_steps(std::string_view which, const executor& both) {
    for (const std::size_t kv_heads : {32u, 8u, 1u}) {
        for (const std::size_t states : {256u, 512u, 1024u, 4096u}) {
            for (const std::string_view policy : {"tova", "h2o"}) {
                const layer_shape l{.heads = 32, .kv_heads = kv_heads, .states = states};
                add_step(which, both, "step", policy, l);
                if (both.which == executor::pool) add_step(which, both, "sequences", policy, l);
            }
        }
    }
}

[[maybe_unused]] const bool added = [] {
    if (std::thread::hardware_concurrency() < threads) return false;  // or held to one processor
    add_steps("pool", {executor::pool});
#ifdef _OPENMP
    omp_set_num_threads(threads);
    add_steps("openmp", {executor::openmp});
#endif
    for (const auto& [mode, mode_name] :
         {std::pair{ms::prefill_mode::exact, "exact"}, std::pair{ms::prefill_mode::block, "block"}}) {
        for (const std::size_t kv_heads : {32u, 1u}) {
            const layer_shape l{.heads = 32, .kv_heads = kv_heads, .states = 1024};
            const std::string name = bench::joined("threads", "pool", mode_name, "tova", l.name());
            benchmark::RegisterBenchmark(name.c_str(), prefill, name, mode, l)->UseManualTime()->Iterations(3);
        }
    }
    return true;
}();

}  // namespace
