// One decoding step of a layer whose cache is full, cold, head_dim 128:
//
//     step/<policy>/<codec>/<heads>x<KV heads>/<states>     beside attention alone
//     step_and_rivals/<codec>/<heads>x<KV heads>/<states>   tova beside a read of as many bytes, memcpy, and Eigen
//     one_layer/<codec>/<heads>x<KV heads>/<states>         tova, each layer in a cache of its own, beside all in one
#include "step.hpp"

namespace {

namespace ms = multistate;
using bench::layer_shape;

template <class Keys, class Values = Keys>
void add_contest(const layer_shape& l) {
    bench::add_beside_rivals<Keys, Values>(
        bench::joined("step_and_rivals", bench::codec_name<Keys, Values>(), l.name()), l);
}

template <class Codec>
void add(const layer_shape& l) {
    add_contest<Codec>(l);
    for (const std::string_view policy : {"full", "window", "h2o", "h2o_layer", "tova", "tova_head"}) {
        bench::add_beside_attention<Codec>(bench::joined("step", policy, Codec::name, l.name()),
                                           ms::any_policy::named(policy), l);
    }
}

template <class Codec>
struct both_layouts {
    bench::decoder<Codec> in_one, apart;

    explicit both_layouts(const layer_shape& l)
        : in_one(ms::tova{}, l), apart(ms::tova{}, l, in_one.count(), bench::layers_of::many_caches) {}
};

template <class Codec>
void time_one_layer(benchmark::State& state, const std::string& name, const layer_shape& l) {
    auto& [in_one, apart] = bench::prepared(name, [&] { return both_layouts<Codec>(l); });
    bench::turns ours, theirs;
    for (auto _ : state) {
        ours.push_back(bench::seconds([&d = apart] { d.step(); }));
        theirs.push_back(bench::seconds([&d = in_one] { d.step(); }));
        state.SetIterationTime(ours.back());
    }
    bench::report_step(state, apart.bytes(), ours);
    state.counters["one_layer/many"] = bench::median_ratio(ours, theirs);
}

template <class Codec>
void add_one_layer(const layer_shape& l) {
    const std::string name = bench::joined("one_layer", Codec::name, l.name());
    benchmark::RegisterBenchmark(name.c_str(), time_one_layer<Codec>, name, l)->UseManualTime();
}

[[maybe_unused]] const bool added = [] {
    for (const std::size_t kv_heads : {32u, 8u}) {
        for (const std::size_t states : {512u, 4096u}) {
            const layer_shape l{.heads = 32, .kv_heads = kv_heads, .states = states};
            add<ms::f32>(l);
            add<ms::f16>(l);
            add<ms::bf16>(l);
            add<ms::int8>(l);
            add<ms::int4>(l);
        }
    }
    for (const std::size_t kv_heads : {32u, 8u}) {
        for (const std::size_t states : {256u, 512u}) {
            add_one_layer<ms::f16>({.heads = 32, .kv_heads = kv_heads, .states = states});
            add_one_layer<ms::int8>({.heads = 32, .kv_heads = kv_heads, .states = states});
        }
    }
    // Keys and values may be stored in different ways; one sample.
    add_contest<ms::int8, ms::int4>({.heads = 32, .kv_heads = 32, .states = 4096});
    return true;
}();

}  // namespace
