// The limits that everything else is held against: reading memory, and copying it.
#include "memory.hpp"

#include <cstring>

#include "interleaved.hpp"

namespace {

constexpr std::size_t bytes = std::size_t{8} << 20;  // of one turn: a layer of 32 heads, 512 states, f16
constexpr std::size_t stretch = bytes / sizeof(std::uint64_t);

bench::cold_memory<std::uint64_t> some_memory() {
    const std::vector<std::uint64_t> pattern(4096, 1);
    return {pattern, stretch};
}

void read(benchmark::State& state) {
    auto& memory = bench::prepared("memory", some_memory);
    for (auto _ : state) benchmark::DoNotOptimize(bench::read_all(memory.next(stretch)));
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

/// Counts every byte once, as memcpy is usually quoted: it is read and written.
void copy(benchmark::State& state) {
    auto& source = bench::prepared("memory", some_memory);
    std::vector<std::uint64_t> target(stretch);
    for (auto _ : state) {
        std::memcpy(target.data(), source.next(stretch).data(), bytes);
        benchmark::ClobberMemory();
    }
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

BENCHMARK(read)->Name("memory/read")->UseRealTime();
BENCHMARK(copy)->Name("memory/memcpy")->UseRealTime();

}  // namespace
