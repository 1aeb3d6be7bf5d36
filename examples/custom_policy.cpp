// A policy of your own is a small struct; the cache, the run-time choice and the prefill take it unchanged.
#include <algorithm>
#include <iostream>
#include <random>
#include <string_view>
#include <vector>

#include <multistate/multistate.hpp>

namespace ms = multistate;

/// Decayed attention: like H2O, but old attention fades by `decay` per token.
struct decayed {
    static constexpr std::string_view name = "decayed";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    float decay = 0.95f;

    void on_attention(ms::rows probabilities, ms::view states) const noexcept {
        for (float& s : states.score) s *= decay;
        ms::add(probabilities, states.score);
    }
};
static_assert(ms::hooks_of<decayed> == ms::hook::on_attention);  // a misspelled hook is not found
using mine = ms::one_of<ms::window, ms::tova, decayed>;

int main() {
    for (const mine& policy : {mine(decayed{.decay = 0.9f}), mine::named("tova")}) {  // chosen at run time
        ms::cache<mine> cache({.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 16, .states = 8, .recent = 4},
                              policy);
        ms::workspace scratch(cache.shape());
        std::mt19937 random(1);
        std::normal_distribution<float> normal;
        std::vector<float> q(4 * 16), k(2 * 16), v(2 * 16), out(4 * 16);
        for (ms::position position = 0; position < 100; ++position) {
            for (auto* x : {&q, &k, &v}) std::ranges::generate(*x, [&] { return normal(random); });
            if (!ms::step(cache.layer(0), position, {q, k, v}, out, scratch))
                return 1;  // refused where nothing may be forgotten
        }
        for (const ms::position p : cache.layer(0).positions(0)) std::cout << p << ' ';
        std::cout << "are kept by " << policy.name() << " in KV head 0\n";
    }
}
