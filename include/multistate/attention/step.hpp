#pragma once

// Attention of one token over the states that a cache holds, with the library's own vectorized kernel.
//
//     bool done = ms::step(cache, layer, position, q, k, v, out);  // one decoding step: append, attend, observe
//
//     bool done = cache.append(layer, position, k, v);             // the same, taken apart
//     cache.observe_queries(layer, q);
//     cache.observe(layer, ms::attend(cache, layer, q, out));
//
// Blocks of tokens: prefill.hpp. The same mathematics, written to be read: reference.hpp.
#include <span>
#include <utility>

#include "multistate/cache/cache_access.hpp"
#include "multistate/execution/executor.hpp"
#include "multistate/math/softmax.hpp"
#include "multistate/simd/products.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

/// Query heads and tokens that are worked on together: `tokens` of a block, the groups of a wave of KV heads.
struct tile {
    const shape& s;
    workspace& scratch;
    const float* q;  // [tokens, heads, head_dim]
    float* out;      // [tokens, heads, value_dim]
    std::size_t tokens = 1;
    std::size_t first_kv_head = 0;

    /// Workspace rows of one KV head; a task takes some of them.
    std::size_t queries() const noexcept { return s.group() * tokens; }
    std::size_t first_row(std::size_t kv_head) const noexcept { return (kv_head - first_kv_head) * queries(); }

    const float* query(std::size_t row) const noexcept { return q + place(row) * s.head_dim; }
    float* output(std::size_t row) const noexcept { return out + place(row) * s.value_dim; }

  private:
    /// Token and query head of a workspace row.
    std::size_t place(std::size_t row) const noexcept {
        return row % tokens * s.heads + first_kv_head * s.group() + row / tokens;
    }
};

/// Rows [first, first + count) of the workspace: those of one KV head, or a part of them.
struct share {
    std::size_t kv_head;
    std::size_t first;
    std::size_t count;
    float* products;
};

/// Copies queries, scaled and padded with zeros, into the workspace.
inline void pack_queries(const tile& t, std::size_t first, std::size_t count) noexcept {
    for (std::size_t row = first; row < first + count; ++row) {
        float* const packed = t.scratch.queries(row);
        std::copy_n(t.query(row), t.s.head_dim, packed);
        std::fill(packed + t.s.head_dim, packed + simd::query_stride(t.s.head_dim), 0.0f);
        simd::scale({packed, t.s.head_dim}, *t.s.scale);
    }
}

/// Logits of packed queries against rows [begin, end) of their KV head.
template <class C>
void find_logits(const C& cache, std::size_t layer, const tile& t, const share& part, std::size_t begin,
                 std::size_t end) noexcept {
    float* const logits = t.scratch.logits(part.first) + begin;
    simd::dot_products(t.scratch.queries(part.first), part.count, t.s.head_dim,
                       cache.keys(layer, part.kv_head).matrix(begin), end - begin, logits, t.scratch.stride(),
                       part.products);
    if (t.s.softcap == 0) return;
    for (std::size_t i = 0; i < part.count; ++i) {
        simd::softcap({logits + i * t.scratch.stride(), end - begin}, t.s.softcap);
    }
}

/// mixed = probabilities times values [begin, end) of their KV head.
template <class C>
void mix_values(const C& cache, std::size_t layer, const tile& t, const share& part, std::size_t begin, std::size_t end,
                float* mixed) noexcept {
    simd::weighted_sums(t.scratch.logits(part.first) + begin, t.scratch.stride(), part.count,
                        cache.values(layer, part.kv_head).matrix(begin), end - begin, t.s.value_dim, mixed,
                        part.products);
}

/// Calls f(begin, end) for part `i` of `parts` of n, cut at multiples of `step`.
template <class F>
void cut(std::size_t n, std::size_t parts, std::size_t i, std::size_t step, F f) noexcept {
    const std::size_t size = simd::padded((n + parts - 1) / parts, step);
    if (i * size < n) f(i * size, (std::min)(n, (i + 1) * size));
}

/// Fewer rows are not worth the three rounds of tasks.
inline constexpr std::size_t rows_worth_sharing = 1024;

/// The borders of attend and step: one token, and memory of its own for what is written.
template <class C>
void expect_attention(const char* who, const C& cache, std::size_t layer, std::span<const float> q,
                      std::span<const float> out, const workspace& scratch) noexcept {
    static_cast<void>(cache.states(layer));  // checks the layer
    const shape& s = cache.shape();
    expect_floats(who, "q", "[heads, head_dim] floats, ", q.size(), s.heads * s.head_dim);
    expect_floats(who, "out", "[heads, value_dim] floats, ", out.size(), s.heads * s.value_dim);
    expect_apart(who, "q", q, out);
    expect_workspace(who, s, scratch);
}

/// attend for one KV head.
template <class C>
void attend_head(const C& cache, std::size_t layer, const tile& t, std::size_t kv_head) noexcept {
    const std::size_t n = cache.size(layer, kv_head);
    const share part{kv_head, t.first_row(kv_head), t.queries(), t.scratch.products(kv_head)};
    pack_queries(t, part.first, part.count);
    find_logits(cache, layer, t, part, 0, n);
    for (std::size_t i = 0; i < part.count; ++i) softmax({t.scratch.logits(part.first + i), n});
    mix_values(cache, layer, t, part, 0, n, t.scratch.mixed(part.first));
    for (std::size_t row = part.first; row < part.first + part.count; ++row) {
        std::copy_n(t.scratch.mixed(row), t.s.value_dim, t.output(row));
    }
}

/// attend where there are few KV heads: tasks share the rows of one, and their outputs are added up.
template <class C>
void attend_by_rows(const C& cache, std::size_t layer, const tile& t, auto& run) noexcept {
    const std::size_t parts = t.scratch.parts();
    const auto for_parts = [&](auto&& task) {
        run_tasks(run, t.s.kv_heads * parts, [&](std::size_t i) {
            const share part{i / parts, t.first_row(i / parts), t.queries(), t.scratch.products(i)};
            cut(cache.size(layer, part.kv_head), parts, i % parts, simd::padding,
                [&](std::size_t begin, std::size_t end) { task(part, i, begin, end); });
        });
    };
    pack_queries(t, 0, t.s.heads);
    for_parts([&](const share& part, std::size_t, std::size_t begin, std::size_t end) {
        find_logits(cache, layer, t, part, begin, end);
    });
    run_tasks(run, t.s.heads, [&](std::size_t row) {
        softmax({t.scratch.logits(row), cache.size(layer, row / t.s.group())});
    });
    for_parts([&](const share& part, std::size_t i, std::size_t begin, std::size_t end) {
        mix_values(cache, layer, t, part, begin, end, t.scratch.mixed(i * part.count));
    });
    run_tasks(run, t.s.heads, [&](std::size_t row) {
        const std::size_t group = t.s.group();
        const std::size_t first = row / group * group * parts + row % group;
        const std::span<float> out{t.output(row), t.s.value_dim};
        std::copy_n(t.scratch.mixed(first), t.s.value_dim, out.begin());
        for (std::size_t i = 1; i < parts; ++i) {
            cut(cache.size(layer, row / group), parts, i, simd::padding, [&](std::size_t, std::size_t) {
                simd::add({t.scratch.mixed(first + i * group), t.s.value_dim}, out);
            });
        }
    });
}

}  // namespace detail

/// Attention of the token appended last: out[h] = softmax(scale * q[h] . keys) values, over all rows held.
///
/// q [heads, head_dim], out [heads, value_dim]. Returns the probabilities [heads, size], which lie in the workspace
/// until its next use; where KV heads hold different numbers of states, the first size(layer, kv_head) of each row
/// count. One task per KV head, more where there are few KV heads and many rows; 2 * heads * size * (head_dim +
/// value_dim) operations, each stored row is read once for the query heads of its group.
template <policy P, codec K, codec V, executor E = serial>
rows attend(cache<P, K, V>& cache, std::size_t layer, std::span<const float> q, std::span<float> out, E&& run = E{},
            workspace* own = nullptr) noexcept {
    const shape& s = cache.shape();
    workspace& scratch = own != nullptr ? *own : cache.workspace();
    detail::expect_attention("attend", cache, layer, q, out, scratch);
    const detail::tile t{.s = s, .scratch = scratch, .q = q.data(), .out = out.data()};
    const std::size_t n = detail::cache_access::largest(cache, layer);
    detail::check(n >= 1, "attend", "size()", "at least 1: append a token first", n);
    if (scratch.parts() > 1 && n >= detail::rows_worth_sharing) {
        detail::attend_by_rows(cache, layer, t, run);
    } else {
        detail::run_tasks(run, s.kv_heads, [&](std::size_t kv_head) { detail::attend_head(cache, layer, t, kv_head); });
    }
    return {scratch.logits(0), s.heads, n, scratch.stride()};
}

/// One decoding step of one layer: append, attend, observe. k [kv_heads, head_dim], v [kv_heads, value_dim], q and out
/// as for attend. Returns false, and changes nothing, when the policy never forgets and the rows are used up.
///
/// Where each KV head decides for itself, its task does all three: what it decides by is read once, and in parallel.
/// Allocates nothing. Concurrent calls on different layers of one cache each need a workspace of their own.
template <policy P, codec K, codec V, executor E = serial>
[[nodiscard]] bool step(cache<P, K, V>& cache, std::size_t layer, position first, std::span<const float> q,
                        std::span<const float> k, std::span<const float> v, std::span<float> out, E&& run = E{},
                        workspace* own = nullptr) noexcept {
    using access = detail::cache_access;
    workspace& scratch = own != nullptr ? *own : cache.workspace();
    const shape& s = cache.shape();
    detail::expect_attention("step", cache, layer, q, out, scratch);
    detail::expect_floats("step", "k", "[kv_heads, head_dim] floats, ", k.size(), s.kv_heads * s.head_dim);
    detail::expect_floats("step", "v", "[kv_heads, value_dim] floats, ", v.size(), s.kv_heads * s.value_dim);
    if (access::tables(cache, layer).size() < s.kv_heads || scratch.parts() > 1) {
        if (!cache.append(layer, first, k, v)) return false;
        const rows probabilities = attend(cache, layer, q, out, run, own);
        if constexpr (has_on_query<P>) cache.observe_queries(layer, q);
        cache.observe(layer, probabilities);
        return true;
    }
    if (!access::has_room(cache, layer, 1)) return false;
    const detail::tile t{.s = s, .scratch = scratch, .q = q.data(), .out = out.data()};
    detail::run_tasks(run, s.kv_heads, [&](std::size_t kv_head) {
        auto& table = access::tables(cache, layer)[kv_head];
        table.begin();
        access::append_next(cache, layer, kv_head, first, 1, k, v);
        detail::attend_head(cache, layer, t, kv_head);
        if constexpr (has_on_query<P>) {
            table.observe_queries(access::query_rows(cache, kv_head, 0, q), table.size());
        }
        table.observe({scratch.logits(t.first_row(kv_head)), s.group(), table.size(), scratch.stride()});
    });
    return true;
}

}}  // namespace multistate::MULTISTATE_TARGET
