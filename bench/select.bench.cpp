// Choosing states, on random scores in cache:
//
//     least/<n>   the one to forget, beside std::min_element (which knows neither positions nor NaN)
//     top_k/<n>   the n / 8 to keep, beside std::nth_element over indices
#include <algorithm>
#include <numeric>
#include <string>

#include <multistate/select.hpp>

#include "interleaved.hpp"
#include "memory.hpp"

namespace {

namespace ms = multistate;

constexpr std::size_t total = 65536;  // scores of one turn, in rows of n: long enough for the clock

struct table_like {
    std::vector<float> scores = bench::random_floats(total, 1);
    std::vector<ms::position> positions = shuffled();

    static std::vector<ms::position> shuffled() {
        std::vector<ms::position> result(total);
        std::iota(result.begin(), result.end(), 0);
        std::shuffle(result.begin(), result.end(), std::mt19937(2));
        return result;
    }
};

/// One turn: `select` on each row of n scores and positions; it returns something that depends on its choice. Done
/// twice and the second time counts: after a long scalar turn a processor may need some microseconds before its widest
/// vectors run at full speed.
template <class Select>
double turn(const table_like& table, std::size_t n, Select select, std::size_t& checksum) {
    const auto all_rows = [&] {
        checksum = 0;
        for (std::size_t i = 0; i < total; i += n) {
            checksum += select(std::span(table.scores).subspan(i, n), std::span(table.positions).subspan(i, n));
        }
    };
    all_rows();
    return bench::seconds(all_rows);
}

/// Times `ours` and `rival` in turns and reports `<rival_name>/ours`.
template <class Ours, class Rival>
void contest(benchmark::State& state, std::size_t n, Ours ours, Rival rival, const char* ratio) {
    const table_like table;
    bench::turns our_turns, rival_turns;
    std::size_t a = 0, b = 0;
    for (auto _ : state) {
        our_turns.push_back(turn(table, n, ours, a));
        rival_turns.push_back(turn(table, n, rival, b));
        state.SetIterationTime(our_turns.back());
    }
    if (a != b) return state.SkipWithError("the two chose differently");
    state.counters["ns/element"] = 1e9 * bench::median(our_turns) / total;
    state.counters[ratio] = bench::median_ratio(rival_turns, our_turns);
}

void least(benchmark::State& state, std::size_t n) {
    contest(
        state, n,
        [](std::span<const float> scores, std::span<const ms::position> positions) {
            return ms::least(scores, positions);
        },
        [](std::span<const float> scores, std::span<const ms::position>) {
            return static_cast<std::size_t>(std::min_element(scores.begin(), scores.end()) - scores.begin());
        },
        "min_element/ours");
}

void top_k(benchmark::State& state, std::size_t n) {
    std::vector<std::uint64_t> workspace(n);
    std::vector<std::uint32_t> kept(n), rows(n);
    const std::size_t k = n / 8;
    const auto sum = [k](const std::vector<std::uint32_t>& chosen) {  // the rows in any order
        return std::accumulate(chosen.begin(), chosen.begin() + static_cast<std::ptrdiff_t>(k), std::size_t{0});
    };
    contest(
        state, n,
        [&](std::span<const float> scores, std::span<const ms::position> positions) {
            ms::top_k(scores, positions, k, workspace, kept);
            return sum(kept);
        },
        [&](std::span<const float> scores, std::span<const ms::position>) {
            std::iota(rows.begin(), rows.end(), 0u);
            std::nth_element(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(k), rows.end(),
                             [scores](std::uint32_t i, std::uint32_t j) { return scores[i] > scores[j]; });
            return sum(rows);
        },
        "nth_element/ours");
}

void add(const std::string& name, std::size_t n, void (*run)(benchmark::State&, std::size_t)) {
    benchmark::RegisterBenchmark((name + std::to_string(n)).c_str(), run, n)->UseManualTime();
}

[[maybe_unused]] const bool added = [] {
    constexpr std::size_t sizes[] = {64, 512, 4096, 16384, 65536};
    for (const std::size_t n : sizes) add("least/", n, least);
    for (const std::size_t n : sizes) add("top_k/", n, top_k);
    return true;
}();

}  // namespace
