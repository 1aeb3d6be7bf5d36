// What observing and deciding costs over attention alone, for every policy of THE list:
//
//     policy/<policy>/<states>/<slack>     f16, 32 query heads on 8 KV heads of 128
//
// With slack s a decision falls every s + 1 steps; a turn is s + 1 steps of each cache, so that each decides once.
// Policies that score the text chunk by chunk work when a chunk has ended: their third slack makes a turn as long as a
// chunk.
#include <algorithm>
#include <iterator>
#include <string_view>
#include <vector>

#include <multistate/policy/chunks.hpp>

#include "step.hpp"

namespace {

namespace ms = multistate;
using bench::layer_shape;

/// Bytes that the policy remembers of each state and KV head, what it keeps per table included.
double bytes_per_state(const ms::any_policy& policy, const layer_shape& l) {
    const std::size_t tables = policy.forgets() == ms::per::head ? l.kv_heads : 1;
    const ms::table_shape s{.states = l.states,
                            .heads = l.heads / tables,
                            .kv_heads = l.kv_heads / tables,
                            .head_dim = l.head_dim,
                            .value_dim = l.head_dim};
    const auto memory = ms::detail::size_of_memory(policy, s, l.states);
    const std::size_t bytes = memory.per_state * l.states + memory.per_table;
    return static_cast<double>(bytes * tables) / static_cast<double>(l.states * l.kv_heads);
}

void time_decisions(benchmark::State& state, const std::string& name, const ms::any_policy& policy,
                    const layer_shape& l) {
    const std::size_t caches = l.states <= 512 ? 24 : 4;  // some 60 MB: more than a core's own cache
    auto& ours = bench::prepared(name, [&] { return bench::decoder<ms::f16>(policy, l, caches); });
    bench::turns steps, attentions;
    for (auto _ : state) {
        double step = 0;
        double attention = 0;
        for (std::size_t i = 0; i < caches * (l.slack + 1); ++i) {
            ours.prepare();
            step += bench::seconds([&] { ours.step(); });
            attention += bench::seconds([&] { ours.attend(); });
        }
        steps.push_back(step);
        attentions.push_back(attention);
        state.SetIterationTime(step);
    }
    const double count = static_cast<double>(caches * (l.slack + 1));
    state.counters["step_us"] = 1e6 * bench::median(steps) / count;
    state.counters["attention_us"] = 1e6 * bench::median(attentions) / count;
    state.counters["step/attention"] = bench::median_ratio(steps, attentions);
    state.counters["bytes"] = bytes_per_state(policy, l);
}

std::vector<std::size_t> slacks(std::string_view policy, std::size_t states) {
    static constexpr std::string_view by_chunks[] = {"lagkv", "cur", "leverage", "noncausal", "compactor"};
    if (std::ranges::find(by_chunks, policy) == std::end(by_chunks)) return {0, 31};
    return {0, 31, ms::chunk_length(512, {.states = states}) - 1};
}

[[maybe_unused]] const bool added = [] {
    for (const std::string_view policy : ms::any_policy::names) {
        for (const std::size_t states : {512u, 4096u}) {
            for (const std::size_t slack : slacks(policy, states)) {
                const layer_shape l{.heads = 32, .kv_heads = 8, .states = states, .slack = slack};
                const int turns = slack == 0 ? 5 : 2;
                const std::string name = bench::joined("policy", policy, states, slack);
                benchmark::RegisterBenchmark(name.c_str(), time_decisions, name, ms::any_policy::named(policy), l)
                    ->UseManualTime()
                    ->Iterations(slack < 32 ? turns : 1);
            }
        }
    }
    return true;
}();

}  // namespace
