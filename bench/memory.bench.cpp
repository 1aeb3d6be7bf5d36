// The limits that everything else is held against, 8 MiB from DRAM in each turn: the ways to read memory, of which the
// fastest is the probe of all other benchmarks, and copying. Beside them the same read inside the first-level cache.
#include "names.hpp"
#include "probe.hpp"

namespace {

constexpr std::size_t bytes = std::size_t{8} << 20;  // a layer of 32 heads, 512 states, f16
constexpr std::size_t stretch = bytes / sizeof(std::uint64_t);

struct contestants {
    bench::probe probe{bytes};
    bench::cold_memory<std::uint64_t> memory{std::vector<std::uint64_t>(4096, 1), stretch};
    bench::cold_memory<std::uint64_t> few{std::vector<std::uint64_t>(1024, 1), 1024};
};

void report(benchmark::State& state, const bench::turns& ours, std::size_t n, const bench::turns& reads) {
    state.counters["bytes/s"] = static_cast<double>(n) / bench::median(ours);
    state.counters["probe/ours"] = bench::median_ratio(reads, ours);
}

void read(benchmark::State& state, const bench::way_to_read& way) {
    auto& all = bench::prepared("memory", [] { return contestants(); });
    bench::turns ours, probes;
    for (auto _ : state) {
        const bench::words next = all.memory.next(stretch);
        ours.push_back(bench::seconds([&] { benchmark::DoNotOptimize(way.read(next)); }));
        probes.push_back(all.probe.read());
        state.SetIterationTime(ours.back());
    }
    report(state, ours, bytes, probes);
}

/// 8 KiB over and over until 8 MiB are read: what the read itself costs when nothing has to be fetched.
void read_in_cache(benchmark::State& state, const bench::way_to_read& way) {
    auto& all = bench::prepared("memory", [] { return contestants(); });
    const bench::words few = all.few.next(1024);
    bench::turns ours, probes;
    for (auto _ : state) {
        ours.push_back(bench::seconds([&] {
            for (std::size_t i = 0; i < stretch; i += few.size()) benchmark::DoNotOptimize(way.read(few));
        }));
        probes.push_back(all.probe.read());
        state.SetIterationTime(ours.back());
    }
    report(state, ours, bytes, probes);
}

void copy(benchmark::State& state) {
    auto& all = bench::prepared("memory", [] { return contestants(); });
    bench::turns ours, probes;
    for (auto _ : state) {
        ours.push_back(all.probe.copy());
        probes.push_back(all.probe.read());
        state.SetIterationTime(ours.back());
    }
    report(state, ours, bytes, probes);
}

[[maybe_unused]] const bool added = [] {
    for (const bench::way_to_read& way : bench::ways_to_read) {
        benchmark::RegisterBenchmark(bench::joined("memory", way.name, "dram").c_str(), read, way)->UseManualTime();
        benchmark::RegisterBenchmark(bench::joined("memory", way.name, "first_level_cache").c_str(), read_in_cache, way)
            ->UseManualTime();
    }
    benchmark::RegisterBenchmark("memory/memcpy/dram", copy)->UseManualTime();
    return true;
}();

}  // namespace
