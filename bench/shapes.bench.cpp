// The step beside its rivals in other shapes than the usual, tova:
//
//     head_dim/<codec>/32x32/2048/<head_dim>
//     group/<codec>/<heads>x<KV heads>/4096/<query heads of a KV head>     the last shares one KV head: MQA
#include "step.hpp"

namespace {

namespace ms = multistate;
using bench::layer_shape;

template <class Codec>
void add() {
    for (const std::size_t head_dim : {64u, 80u, 96u, 128u, 256u}) {
        const layer_shape l{.heads = 32, .kv_heads = 32, .states = 2048, .head_dim = head_dim};
        bench::add_beside_rivals<Codec>(bench::joined("head_dim", Codec::name, l.name(), head_dim), l);
    }
    for (const std::size_t group : {1u, 2u, 4u, 7u, 8u, 16u, 32u}) {
        const std::size_t heads = group == 7 ? 28 : 32;
        const layer_shape l{.heads = heads, .kv_heads = heads / group, .states = 4096};
        bench::add_beside_rivals<Codec>(bench::joined("group", Codec::name, l.name(), group), l);
    }
}

[[maybe_unused]] const bool added = [] {
    add<ms::f16>();
    add<ms::int8>();
    return true;
}();

}  // namespace
