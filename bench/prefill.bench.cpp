// A block of 512 tokens on a full cache: the same tokens in `exact` mode, in `block` mode, as single steps, as one
// block in plain Eigen, by turns.
//
//     prefill/<policy>/<codec>/<heads>x<KV heads>/<states>/<head_dim>
//
// Single steps would take most of the time, so few of them stand for all.
#include "prefill.hpp"

#include "eigen_attention.hpp"
#include "probe.hpp"

namespace {

namespace ms = multistate;
using bench::layer_shape;

constexpr std::size_t tokens = 512;

template <class Codec>
struct contest {
    bench::block_of_text text;
    bench::reader<Codec> exact, block, single;
    std::vector<float> keys, values;  // Eigen's, of states and block
    bench::probe memory;              // what the block finds in the cache

    contest(const ms::any_policy& policy, const layer_shape& l)
        : text(l, tokens),
          exact(policy, l, tokens),
          block(policy, l, tokens),
          single(policy, l, tokens),
          keys(bench::random_floats(text.width * (l.states + tokens), 6)),
          values(bench::random_floats(text.width * (l.states + tokens), 7)),
          memory(bench::bytes_of<Codec>(l, l.states)) {}
};

/// Additions and multiplications of `block` mode and of Eigen, each token with what it can see; `exact` has as many but
/// for the part of a block that was forgotten within it.
double operations(const layer_shape& l) {
    const double rows = tokens * (static_cast<double>(l.states) + (tokens + 1) / 2.0);
    return 4 * rows * static_cast<double>(l.heads * l.head_dim);
}

template <class Codec>
void prefill(benchmark::State& state, const std::string& name, const ms::any_policy& policy, const layer_shape& l) {
    auto& all = bench::prepared(name, [&] { return contest<Codec>(policy, l); });
    const ms::shape shape{.layers = 1, .heads = l.heads, .kv_heads = l.kv_heads, .head_dim = l.head_dim};
    const std::size_t few = l.states > 1024 ? 8 : 64;
    bench::turns exacts, blocks, steps, eigens, reads, copies;
    for (auto _ : state) {
        exacts.push_back(all.exact.block(all.text, ms::prefill_mode::exact));
        blocks.push_back(all.block.block(all.text, ms::prefill_mode::block));
        steps.push_back(all.single.steps(all.text, few) * static_cast<double>(tokens) / static_cast<double>(few));
        eigens.push_back(bench::seconds([&] {
            bench::eigen_block_attention(shape, l.states, tokens, all.text.q, all.keys, all.values, all.text.out);
        }));
        reads.push_back(all.memory.read());
        copies.push_back(all.memory.copy());
        state.SetIterationTime(exacts.back());
    }
    state.counters["ns"] = 1e9 * bench::median(exacts) / tokens;
    state.counters["tokens/s"] = tokens / bench::median(exacts);
    state.counters["block_tokens/s"] = tokens / bench::median(blocks);
    state.counters["step_tokens/s"] = tokens / bench::median(steps);
    state.counters["block_flop/s"] = operations(l) / bench::median(blocks);
    state.counters["eigen_flop/s"] = operations(l) / bench::median(eigens);
    state.counters["exact/block"] = bench::median_ratio(exacts, blocks);
    state.counters["steps/exact"] = bench::median_ratio(steps, exacts);
    state.counters["eigen/block"] = bench::median_ratio(eigens, blocks);
    state.counters["percent_of_read"] = 100 * bench::median_ratio(reads, blocks);
    state.counters["memcpy/block"] = bench::median_ratio(copies, blocks);
}

template <class Codec>
benchmark::internal::Benchmark* add(std::string_view policy, const layer_shape& l) {
    const std::string name = bench::joined("prefill", policy, Codec::name, l.name(), l.head_dim);
    return benchmark::RegisterBenchmark(name.c_str(), prefill<Codec>, name, ms::any_policy::named(policy), l)
        ->UseManualTime();
}

[[maybe_unused]] const bool added = [] {
    const layer_shape small{.heads = 8, .kv_heads = 8, .states = 512, .head_dim = 64};
    for (const std::string_view policy : {"window", "h2o", "h2o_layer", "tova", "tova_head"}) {
        add<ms::f16>(policy, small);
    }
    const layer_shape large{.heads = 32, .kv_heads = 32, .states = 4096};  // a turn takes seconds
    for (const std::string_view policy : {"window", "h2o", "tova"}) {
        add<ms::f16>(policy, large)->Iterations(1);
        add<ms::int8>(policy, large)->Iterations(1);
    }
    return true;
}();

}  // namespace
