// What a second thread gains, beside what it gains for the read probe: two cores share a memory that one of them may
// already keep busy. tova, f16.
//
//     threads/<step, exact or block>/f16/<heads>x<KV heads>/<states>     exact and block: 512 tokens in a block
#include <thread>

#include <multistate/thread_pool.hpp>

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

/// One after the other, in seconds each: serial work, shared work, a serial read, a shared read.
void contest(benchmark::State& state, bench::probe& memory, auto serial, auto shared) {
    bench::turns serials, shareds, reads, shared_reads;
    for (auto _ : state) {
        serials.push_back(serial());
        shareds.push_back(shared());
        reads.push_back(memory.read());
        shared_reads.push_back(memory.read(pool(), threads));
        state.SetIterationTime(shareds.back());
    }
    const double gain = bench::median_ratio(serials, shareds);
    const double read_gain = bench::median_ratio(reads, shared_reads);
    state.counters["ns"] = 1e9 * bench::median(shareds);
    state.counters["serial/shared"] = gain;
    state.counters["read/shared_read"] = read_gain;
    state.counters["percent_of_gain"] = 100 * gain / read_gain;
}

struct layers_that_decode {
    bench::decoder<ms::f16> layers;
    bench::probe memory;

    explicit layers_that_decode(const layer_shape& l) : layers(ms::tova{}, l), memory(layers.bytes()) {}
};

void step(benchmark::State& state, const std::string& name, const layer_shape& l) {
    auto& all = bench::prepared(name, [&] { return layers_that_decode(l); });
    contest(
        state, all.memory, [&] { return bench::seconds([&] { all.layers.step(); }); },
        [&] { return bench::seconds([&] { all.layers.step(pool()); }); });
}

struct text_and_reader {
    bench::block_of_text text;
    bench::reader<ms::f16> reader;
    bench::probe memory;

    text_and_reader(const layer_shape& l, std::size_t tokens)
        : text(l, tokens), reader(ms::tova{}, l, tokens), memory(bench::bytes_of<ms::f16>(l, l.states)) {}
};

void prefill(benchmark::State& state, const std::string& name, ms::prefill_mode mode, const layer_shape& l) {
    auto& all = bench::prepared(name, [&] { return text_and_reader(l, 512); });
    contest(
        state, all.memory, [&] { return all.reader.block(all.text, mode); },
        [&] { return all.reader.block(all.text, mode, pool()); });
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
