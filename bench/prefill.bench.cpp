// prefill/<policy>: a block of 512 tokens on a full cache of 512 states, 8 heads of 64, f16. The same tokens in `exact`
// mode, in `block` mode, as single steps, and as one block in plain Eigen, by turns.
#include <string>
#include <string_view>

#include <multistate/multistate.hpp>

#include "eigen_attention.hpp"
#include "interleaved.hpp"
#include "memory.hpp"

namespace {

namespace ms = multistate;

constexpr std::size_t tokens = 512;
constexpr ms::shape shape{.layers = 1, .heads = 8, .kv_heads = 8, .head_dim = 64, .states = 512, .block = tokens};
constexpr std::size_t width = shape.heads * shape.head_dim;

/// Queries, keys and values of a block, and where the output goes.
struct text {
    std::vector<float> q = bench::random_floats(tokens * width, 1);
    std::vector<float> k = bench::random_floats(tokens * width, 2);
    std::vector<float> v = bench::random_floats(tokens * width, 3);
    std::vector<float> out = std::vector<float>(tokens * width);
};

/// A cache that goes on through an endless text, block by block, in its own way.
class reader {
  public:
    reader(const ms::any_policy& policy, ms::prefill_mode mode) : cache_(shape, policy), mode_(mode) {}

    double block(text& t) {
        return bench::seconds([&] { ms::prefill(cache_, 0, cache_.next_position(), t.q, t.k, t.v, t.out, mode_); });
    }
    double steps(text& t) {
        const auto token = [](std::vector<float>& all, std::size_t i) {
            return std::span(all).subspan(i * width, width);
        };
        return bench::seconds([&] {
            for (std::size_t i = 0; i < tokens; ++i) {
                ms::step(cache_, 0, cache_.next_position(), token(t.q, i), token(t.k, i), token(t.v, i),
                         token(t.out, i));
            }
        });
    }

  private:
    ms::cache<ms::any_policy, ms::f16> cache_;
    ms::prefill_mode mode_;
};

void prefill(benchmark::State& state, const ms::any_policy& policy) {
    text t;
    reader exact(policy, ms::prefill_mode::exact), block(policy, ms::prefill_mode::block);
    reader single(policy, ms::prefill_mode::exact);
    for (reader* r : {&exact, &block, &single}) r->block(t);  // fills the cache
    const std::vector<float> keys = bench::random_floats(width * (shape.states + tokens), 4);
    const std::vector<float> values = bench::random_floats(width * (shape.states + tokens), 5);
    bench::turns exacts, blocks, steps, eigens;
    for (auto _ : state) {
        exacts.push_back(exact.block(t));
        blocks.push_back(block.block(t));
        steps.push_back(single.steps(t));
        eigens.push_back(bench::seconds(
            [&] { bench::eigen_block_attention(shape, shape.states, tokens, t.q, keys, values, t.out); }));
        state.SetIterationTime(exacts.back());
    }
    state.counters["tokens/s"] = tokens / bench::median(exacts);
    state.counters["block_tokens/s"] = tokens / bench::median(blocks);
    state.counters["step_tokens/s"] = tokens / bench::median(steps);
    state.counters["exact/block"] = bench::median_ratio(exacts, blocks);
    state.counters["steps/exact"] = bench::median_ratio(steps, exacts);
    state.counters["eigen/block"] = bench::median_ratio(eigens, blocks);
}

[[maybe_unused]] const bool added = [] {
    for (const std::string_view name : ms::any_policy::names) {
        const ms::any_policy policy = ms::any_policy::named(name);
        if (policy.forgets() == ms::per::never) continue;  // nothing to decide: the modes are one
        benchmark::RegisterBenchmark(("prefill/" + std::string(name)).c_str(), prefill, policy)->UseManualTime();
    }
    return true;
}();

}  // namespace
