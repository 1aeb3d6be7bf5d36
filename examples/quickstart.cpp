// The whole integration: a cache, and one call per layer and token. The rest stands for your engine.
#include <iostream>
#include <random>
#include <vector>

#include <multistate/multistate.hpp>

namespace ms = multistate;

int main() {
    // 4 layers, 8 query heads on 2 KV heads of 64; 128 states survive in each layer, stored as bfloat16.
    ms::cache<ms::tova, ms::bf16> cache({.layers = 4, .heads = 8, .kv_heads = 2, .head_dim = 64, .states = 128});
    ms::workspace scratch(cache.shape());

    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> q(8 * 64), k(2 * 64), v(2 * 64), out(8 * 64);
    for (ms::position position = 0; position < 1000; ++position) {
        for (std::size_t layer = 0; layer < 4; ++layer) {
            for (auto* projection : {&q, &k, &v}) {  // your engine: project, then rotate q and k (RoPE)
                for (float& x : *projection) x = normal(random);
            }
            // append, attend, observe; refused only by a policy that never forgets and is full
            if (!ms::step(cache.layer(layer), position, {q, k, v}, out, scratch)) return 1;
        }
    }
    std::cout << "1000 tokens, " << cache.layer(0).size() << " rows in layer 0 (128 survivors and the newest), "
              << cache.memory_bytes() / 1024 << " KiB in all; next RoPE index " << cache.layer(0).next_position()
              << '\n';
}
