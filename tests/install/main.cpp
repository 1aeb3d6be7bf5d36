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
    const std::vector<float> q(8, 0.5f), k(4, 0.5f), v(4, 2.0f);
    std::vector<float> out(8);
    for (ms::position p = 0; p < 10; ++p) ms::step(cache, 0, p, q, k, v, out);
    cache.forget(0);
    std::printf("multistate %s keeps %zu states on %.*s\n", MULTISTATE_VERSION, cache.size(0),
                static_cast<int>(ms::target_name().size()), ms::target_name().data());
    return cache.size(0) == 3 && out[0] == 2.0f ? 0 : 1;
}
