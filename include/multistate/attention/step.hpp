#pragma once

// Attention of one token over the states of a cache, with the library's own vectorized kernel.
//
//     ms::workspace scratch(cache.shape());                                     // one per worker
//     auto layer = cache.layer(i);
//     bool done = ms::step(layer, position, {.q = q, .k = k, .v = v}, out, scratch);  // append, attend, observe
//
//     bool done = layer.append(position, k, v);                                 // the same in separate calls
//     const ms::rows probabilities = ms::attend(layer, q, out, scratch);
//     layer.observe_queries(q);
//     layer.observe(probabilities);
//
// Compile time: with any_policy, each file that calls step or prefill compiles about forty policies. Put these lines in
// all files but one, and the last two without `extern` in that one, to compile them once (measured: 3.3 s, not 7):
//
//     using my_layer = ms::cache_layer<ms::cache<ms::any_policy, ms::f16>>;
//     extern template bool ms::step(const my_layer&, ms::position, ms::qkv, std::span<float>, ms::workspace&,
//                                   ms::serial&&) noexcept;
//     extern template bool ms::prefill(const my_layer&, ms::position, ms::qkv, std::span<float>, ms::workspace&,
//                                      ms::prefill_mode, ms::serial&&) noexcept;
//
// Multithreading: pass an executor as the last argument (execution/executor.hpp). Blocks of tokens: prefill.hpp. The
// same mathematics in readable code: reference.hpp.
#include <cstddef>
#include <span>
#include <type_traits>

#include "multistate/attention/qkv.hpp"
#include "multistate/attention/query_batch.hpp"
#include "multistate/attention/workspace.hpp"
#include "multistate/core/types.hpp"
#include "multistate/execution/executor.hpp"
#include "multistate/math/softmax.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

template <class Cache>
class cache_layer;  // cache/layer.hpp, which every cache includes

namespace detail {

/// With fewer states, dividing the states of one KV head is not worth three rounds of tasks.
inline constexpr std::size_t states_worth_sharing = 1024;

/// The checks of attend and step: one token, and outputs that do not overlap the inputs.
inline void expect_attention(const char* who, const shape& s, std::span<const float> q, std::span<const float> out,
                             const workspace& scratch) noexcept {
    expect_floats(who, "q", "[heads, head_dim] floats, ", q.size(), s.heads * s.head_dim);
    expect_floats(who, "out", "[heads, value_dim] floats, ", out.size(), s.heads * s.value_dim);
    expect_apart(who, "q", q, out);
    expect_workspace(who, s, scratch);
}

/// attend for one KV head.
template <class Layer>
void attend_head(const Layer& layer, const query_batch& batch, std::size_t kv_head) noexcept {
    const std::size_t n = layer.size(kv_head);
    const row_range range{kv_head, batch.first_row(kv_head), batch.rows_per_kv_head(), batch.scratch.products(kv_head)};
    pack_queries(batch, range.first, range.count);
    find_logits(layer, batch, range, {0, n});
    for (std::size_t row = range.first; row < range.end(); ++row) softmax({batch.scratch.logits(row), n});
    weighted_sum_to_output(layer, batch, range, n);
}

/// attend with few KV heads: tasks divide the states of each head, and their sums are added.
template <class Layer>
void attend_by_states(const Layer& layer, const query_batch& batch, auto& run) noexcept {
    const std::size_t parts = batch.scratch.tasks_per_kv_head(), group = batch.s.group();
    const auto for_parts = [&](auto&& task) {
        run_tasks(run, batch.s.kv_heads * parts, [&](std::size_t i) {
            const row_range range{i / parts, batch.first_row(i / parts), group, batch.scratch.products(i)};
            equal_parts{layer.size(range.kv_head), parts, simd::padding}.with_part(
                i % parts, [&](std::size_t begin, std::size_t end) {
                    task(range, i, state_range{begin, end});
                });
        });
    };
    pack_queries(batch, 0, batch.s.heads);
    for_parts(
        [&](const row_range& range, std::size_t, state_range states) { find_logits(layer, batch, range, states); });
    run_tasks(run, batch.s.heads, [&](std::size_t row) {
        softmax({batch.scratch.logits(row), layer.size(row / group)});
    });
    for_parts([&](const row_range& range, std::size_t i, state_range states) {
        weighted_sum(layer, batch, range, states, batch.scratch.sums(i * range.count));
    });
    run_tasks(run, batch.s.heads, [&](std::size_t row) {
        const std::size_t first = row / group * group * parts + row % group;
        const std::span<float> out{batch.output(row), batch.s.value_dim};
        std::copy_n(batch.scratch.sums(first), batch.s.value_dim, out.begin());
        for (std::size_t i = 1; i < parts; ++i) {
            equal_parts{layer.size(row / group), parts, simd::padding}.with_part(i, [&](std::size_t, std::size_t) {
                simd::add({batch.scratch.sums(first + i * group), batch.s.value_dim}, out);
            });
        }
    });
}

}  // namespace detail

/// Attention of the last appended token: out[h] = softmax(scale * q[h] . keys) values, over all rows held.
///
/// q [heads, head_dim], out [heads, value_dim]. Returns the probabilities [heads, largest_size()]. They lie in the
/// workspace until its next use. If KV heads hold different numbers of states, only the first size(kv_head) of each row
/// are valid. One task per KV head, more if there are few KV heads and many rows. 2 * heads * size * (head_dim +
/// value_dim) operations; each stored row is read once for all query heads of its group. Allocates nothing.
template <class Cache, executor E = serial>
rows attend(const cache_layer<Cache>& layer, std::span<const float> q, std::span<float> out, workspace& scratch,
            E&& run = E{}) noexcept {
    const shape& s = layer.shape();
    detail::expect_attention("attend", s, q, out, scratch);
    const detail::query_batch batch{.s = s, .scratch = scratch, .q = q.data(), .out = out.data()};
    const std::size_t n = layer.largest_size();
    detail::check(n >= 1, "attend", "size()", "at least 1: append a token first", n);
    if (scratch.tasks_per_kv_head() > 1 && n >= detail::states_worth_sharing) {
        detail::attend_by_states(layer, batch, run);
    } else {
        detail::run_tasks(run, s.kv_heads, [&](std::size_t kv_head) { detail::attend_head(layer, batch, kv_head); });
    }
    return {scratch.logits(0), s.heads, n, scratch.stride()};
}

/// One decoding step of one layer: append, attend, observe. `in` has one token; out [heads, value_dim] must not overlap
/// it. If the policy never forgets and the rows are used up, returns false and changes nothing.
///
/// If each KV head decides for itself, one task per head does all three steps. The data for its decision are read once,
/// and in parallel. Allocates nothing. Layers and caches may step concurrently, each worker with its own workspace.
template <class Cache, executor E = serial>
[[nodiscard]] bool step(const cache_layer<Cache>& layer, position p, qkv in, std::span<float> out, workspace& scratch,
                        E&& run = E{}) noexcept {
    static_assert(!std::is_const_v<Cache>, "step changes the cache: take the handle from one that is not const");
    const shape& s = layer.shape();
    detail::expect_attention("step", s, in.q, out, scratch);
    detail::expect_floats("step", "k", "[kv_heads, head_dim] floats, ", in.k.size(), s.kv_heads * s.head_dim);
    detail::expect_floats("step", "v", "[kv_heads, value_dim] floats, ", in.v.size(), s.kv_heads * s.value_dim);
    if (layer.table_count() < s.kv_heads || scratch.tasks_per_kv_head() > 1) {
        if (!layer.append(p, in.k, in.v)) return false;
        const rows probabilities = attend(layer, in.q, out, scratch, run);
        layer.observe_queries(in.q);
        layer.observe(probabilities);
        return true;
    }
    if (!layer.has_room(1)) return false;
    const detail::query_batch batch{.s = s, .scratch = scratch, .q = in.q.data(), .out = out.data()};
    detail::run_tasks(run, s.kv_heads, [&](std::size_t kv_head) {
        const auto head = layer.restricted_to(kv_head);
        static_cast<void>(head.append(p, in.k, in.v));  // there is room
        detail::attend_head(head, batch, kv_head);
        head.observe_queries(in.q);
        head.observe(rows{scratch.logits(0), s.heads, head.size(kv_head), scratch.stride()});
    });
    return true;
}

}}  // namespace multistate::MULTISTATE_TARGET
