// What an engine does with the library, for compilers set as engines set them: tests/CMakeLists.txt lists the ways.
// MULTISTATE_FIRST is a header that comes before ours; POLICY, if not this one, is any_policy, which has them all.
#ifdef MULTISTATE_FIRST
#include MULTISTATE_FIRST
#endif
#include <cstddef>
#include <span>
#include <vector>

#include <multistate/attention/reference.hpp>
#include <multistate/budgets/budgets.hpp>
#include <multistate/evaluation/evaluation.hpp>
#include <multistate/execution/thread_pool.hpp>
#include <multistate/multistate.hpp>
#include <multistate/recurrent/recurrent.hpp>
#include <multistate/recurrent/replaced_heads.hpp>

namespace ms = multistate;
#ifndef POLICY
#define POLICY ms::expected_attention
#endif

int main() {
    ms::cache<POLICY, ms::int4, ms::f32> cache(
        {.layers = 1, .heads = 2, .kv_heads = 2, .head_dim = 4, .states = 8, .block = 2});
    ms::workspace scratch(cache.shape());
    const std::vector<float> rows(16);
    std::vector<float> out(16);
    ms::thread_pool pool(2);
    const bool done = ms::prefill(cache.layer(0), 0, {rows, rows, rows}, out, scratch, ms::prefill_mode::exact, pool);
    ms::attention_profile profile({.layers = 1, .heads = 2, .kv_heads = 2});
    cache.rebudget(ms::adaptive_budget(cache, 8));
    const std::vector<float> parameters(ms::min_gru::parameter_count({.inputs = 8, .units = 8}));
    const ms::min_gru cell({.inputs = 8, .units = 8}, parameters);
    ms::cell_workspace cell_scratch(cell, {.sequences = 1, .tokens = 1});
    std::vector<float> state(cell.state_size());
    cell.step({.x = std::span(rows).first(8), .state = state, .out = std::span(out).first(8)}, cell_scratch);
    return done && cache.layer(0).size() == 2 ? 0 : 1;
}
