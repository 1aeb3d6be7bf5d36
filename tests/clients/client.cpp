// What an engine does with the library, compiled as engines are: see check.cmake. MULTISTATE_FIRST is a header that comes
// before ours.
#ifdef MULTISTATE_FIRST
#include MULTISTATE_FIRST
#endif
#include <multistate/multistate.hpp>
#include <multistate/reference_attention.hpp>
#include <multistate/thread_pool.hpp>

#include <cstddef>
#include <span>
#include <vector>

namespace ms = multistate;

namespace {

/// All policies, and all that a cache does.
template <ms::codec Codec>
void decode(const ms::any_policy& policy) {
    ms::cache<ms::any_policy, Codec> cache({.layers = 1, .heads = 2, .kv_heads = 2, .head_dim = 4, .states = 8}, policy);
    const std::vector<float> q(8), k(8), v(8);
    std::vector<float> out(8);
    ms::thread_pool pool(2);
    ms::step(cache, 0, 0, q, k, v, out, pool);
    ms::prefill(cache, 0, 1, q, k, v, out);
    cache.rebudget(ms::adaptive_budget(cache, 8));
}

}  // namespace

int main() {
    decode<ms::f32>(ms::any_policy::named("tova"));
    decode<ms::int4>(ms::any_policy::named("d2o"));
}
