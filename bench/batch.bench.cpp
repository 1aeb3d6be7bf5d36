// What a bound on the states buys where cache memory is the limit, after table 1 of "Transformers are Multi-State RNNs"
// (arXiv 2401.06104): as many sequences as fit into a fixed memory, each turn decodes one token of every one of them.
//
//     batch/<policy>/<codec>/<heads>x<KV heads>/<states>    beside `full` with 4096 states in the same memory
//
// One layer and 270 MB of keys and values stand for a model and its device; `full` counts the tokens that it grows by.
// Only attention is timed. The paper times a whole model, whose weights are read once for the whole batch: there a
// greater batch gains even where it moves as many bytes. Here a token gains what its memory traffic shrinks by.
#include "rivals.hpp"

namespace {

namespace ms = multistate;
using bench::layer_shape;

constexpr std::size_t full_states = 4096;

/// A batch of sequences: as many caches as fit into so much memory, of which a turn steps each once.
template <class Codec>
class batch {
  public:
    batch(const ms::any_policy& policy, const layer_shape& l, std::size_t memory)
        : sequences_(policy, l, memory / bench::decoder<Codec>::memory_bytes(policy, l)) {}

    std::size_t size() const { return sequences_.count(); }
    std::size_t bytes() const { return size() * sequences_.bytes(); }
    ms::shape shape() const { return sequences_.shape(); }
    std::size_t states() const { return sequences_.size(); }
    std::span<const float> query() const { return sequences_.query(); }

    double turn() {
        sequences_.prepare();
        return bench::seconds([&] {
            for (std::size_t i = 0; i < size(); ++i) sequences_.step();
        });
    }

  private:
    bench::decoder<Codec> sequences_;
};

/// The memory of 4 sequences of Llama-2-7B's layer shape with a full cache: 8 times as many fit with 512 states.
template <class Codec>
std::size_t memory() {
    const layer_shape l{.heads = 32, .kv_heads = 32, .states = full_states};
    return 4 * bench::decoder<Codec>::memory_bytes(ms::any_policy(ms::full{}), l);
}

template <class Codec>
struct contest {
    batch<Codec> full, bounded;
    bench::rivals<Codec> theirs;

    contest(const ms::any_policy& policy, const layer_shape& l)
        : full(ms::full{}, {l.heads, l.kv_heads, full_states}, memory<Codec>()),
          bounded(policy, l, memory<Codec>()),
          theirs(bounded.shape(), bounded.states(), bounded.bytes()) {}
};

template <class Codec>
void run(benchmark::State& state, const std::string& name, const ms::any_policy& policy, const layer_shape& l) {
    auto& all = bench::prepared(name, [&] { return contest<Codec>(policy, l); });
    auto& [full, bounded, theirs] = all;
    bench::turns fulls, ours, reads, copies, eigens;
    for (auto _ : state) {
        // each of the two behind a probe: right after Eigen either would be some percent slower
        reads.push_back(theirs.memory.read() / static_cast<double>(bounded.size()));  // for one token, as all here
        fulls.push_back(full.turn() / static_cast<double>(full.size()));
        copies.push_back(theirs.memory.copy() / static_cast<double>(bounded.size()));
        ours.push_back(bounded.turn() / static_cast<double>(bounded.size()));
        eigens.push_back(theirs.eigen(bounded.query()));
        state.SetIterationTime(ours.back() * static_cast<double>(bounded.size()));
    }
    state.counters["sequences"] = static_cast<double>(bounded.size());
    state.counters["full_sequences"] = static_cast<double>(full.size());
    state.counters["ns"] = 1e9 * bench::median(ours);
    state.counters["tokens/s"] = 1 / bench::median(ours);
    state.counters["full_tokens/s"] = 1 / bench::median(fulls);
    state.counters["full/ours"] = bench::median_ratio(fulls, ours);
    state.counters["percent_of_read"] = 100 * bench::median_ratio(reads, ours);
    state.counters["memcpy/ours"] = bench::median_ratio(copies, ours);
    state.counters["eigen/ours"] = bench::median_ratio(eigens, ours);
}

template <class Codec>
void add(std::string_view policy, const layer_shape& l) {
    const std::string name = bench::joined("batch", policy, Codec::name, l.name());
    benchmark::RegisterBenchmark(name.c_str(), run<Codec>, name, ms::any_policy::named(policy), l)
        ->UseManualTime()
        ->Iterations(5);
}

[[maybe_unused]] const bool added = [] {
    for (const std::size_t kv_heads : {32u, 8u}) {
        add<ms::f16>("full", {.heads = 32, .kv_heads = kv_heads, .states = full_states});  // beside itself: the noise
        for (const std::size_t states : {2048u, 1024u, 512u, 256u}) {
            add<ms::f16>("tova", {.heads = 32, .kv_heads = kv_heads, .states = states});
        }
        add<ms::f16>("window", {.heads = 32, .kv_heads = kv_heads, .states = 512});
    }
    return true;
}();

}  // namespace
