// What a stranger writes first.
#include <cstdio>
#include <vector>

#include <multistate/multistate.hpp>

#if defined(EXPECT_OWN_HIGHWAY) && !(defined(OWN_HIGHWAY_INCLUDED) && defined(OWN_HIGHWAY_DEFINES))
#error "the project's own hwy::hwy was not used"
#endif

namespace ms = multistate;

int main() {
    ms::cache<ms::tova> cache({.layers = 1, .heads = 2, .kv_heads = 1, .head_dim = 4, .states = 3});
    ms::workspace scratch(cache.shape());
    const std::vector<float> q(8, 0.5f), k(4, 0.5f), v(4, 2.0f);
    std::vector<float> out(8);
    for (ms::position p = 0; p < 10; ++p) ms::step(cache.layer(0), p, {q, k, v}, out, scratch);
    cache.layer(0).forget();
    std::printf("multistate %s keeps %zu states on %.*s\n", MULTISTATE_VERSION, cache.layer(0).size(),
                static_cast<int>(ms::target_name().size()), ms::target_name().data());
    return cache.layer(0).size() == 3 && out[0] == 2.0f ? 0 : 1;
}
