// Caches that come and go, 32 layers, head_dim 128, tova, beside memcpy of the keys and values held:
//
//     clone/<codec>/<heads>x<KV heads>/<states>/<states held>
//     construct/<codec>/<heads>x<KV heads>/<states>                of all rows; every page of the cache is touched
//
// memcpy writes to memory that is in use, and to memory that was just allocated: whoever touches memory first waits for
// the system to clear it.
#include <cstring>
#include <optional>

#include "decoder.hpp"

namespace {

namespace ms = multistate;
using bench::layer_shape;

constexpr std::size_t layers = 32;

template <class Codec>
struct contestants {
    using cache = ms::cache<ms::tova, Codec>;

    std::size_t bytes;
    ms::aligned_array<char> source, target;
    cache original;

    contestants(const layer_shape& l, std::size_t held)
        : bytes(layers * bench::bytes_of<Codec>(l, held)),
          source(bytes),
          target(bytes),
          original({.layers = layers,
                    .heads = l.heads,
                    .kv_heads = l.kv_heads,
                    .head_dim = l.head_dim,
                    .states = l.states}) {
        const auto q = bench::random_floats(l.heads * l.head_dim, 1);
        const bench::endless_text k(l.kv_heads * l.head_dim, 2), v(l.kv_heads * l.head_dim, 3);
        for (std::size_t i = 0; i < layers; ++i) bench::fill(original.layer(i), held, q, k, v);
    }

    double copy() {
        return bench::seconds([&] { std::memcpy(target.data(), source.data(), bytes); });
    }
    double copy_to_new() {
        std::optional<ms::aligned_array<char>> fresh;  // destroyed after the clock stops, as caches below
        return bench::seconds([&] {
            fresh.emplace(bytes, ms::uncleared);
            std::memcpy(fresh->data(), source.data(), bytes);
        });
    }
};

template <class Codec>
void run(benchmark::State& state, const std::string& name, const layer_shape& l, std::size_t held, bool clones) {
    auto& all = bench::prepared(name, [&] { return contestants<Codec>(l, held); });
    bench::turns ours, copies, copies_to_new;
    for (auto _ : state) {
        std::optional<typename contestants<Codec>::cache> made;
        ours.push_back(bench::seconds([&] {
            if (clones) {
                made.emplace(all.original.clone());
            } else {
                made.emplace(all.original.shape());
            }
        }));
        made.reset();
        copies.push_back(all.copy());
        copies_to_new.push_back(all.copy_to_new());
        state.SetIterationTime(ours.back());
    }
    state.counters["ms"] = 1e3 * bench::median(ours);
    state.counters["megabytes"] = 1e-6 * static_cast<double>(all.bytes);
    state.counters["ours/memcpy"] = bench::median_ratio(ours, copies);
    state.counters["ours/memcpy_to_new"] = bench::median_ratio(ours, copies_to_new);
}

template <class Codec>
void add(std::size_t kv_heads) {
    const layer_shape l{.heads = 32, .kv_heads = kv_heads, .states = 512};
    const auto add_one = [&](const std::string& name, std::size_t held, bool clones) {
        benchmark::RegisterBenchmark(name.c_str(), run<Codec>, name, l, held, clones)->UseManualTime()->Iterations(11);
    };
    for (const std::size_t held : {512u, 64u}) {
        add_one(bench::joined("clone", Codec::name, l.name(), held), held, true);
    }
    add_one(bench::joined("construct", Codec::name, l.name()), l.states, false);
}

[[maybe_unused]] const bool added = [] {
    for (const std::size_t kv_heads : {32u, 8u}) {
        add<ms::f16>(kv_heads);
        add<ms::int8>(kv_heads);
    }
    return true;
}();

}  // namespace
