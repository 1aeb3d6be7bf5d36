// One decoding step of a layer whose cache is full, cold, head_dim 128:
//
//     step/<policy>/<codec>/<heads>x<KV heads>/<states>     beside attention alone
//     step_and_rivals/<codec>/<heads>x<KV heads>/<states>   tova beside a read of as many bytes, memcpy, and Eigen
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
    // Keys and values may be stored in different ways; one sample.
    add_contest<ms::int8, ms::int4>({.heads = 32, .kv_heads = 32, .states = 4096});
    return true;
}();

}  // namespace
