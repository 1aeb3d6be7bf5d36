#pragma once

// Attention of one token over the states that a cache holds, with the library's own vectorized kernel.
//
//     ms::step(cache, layer, position, q, k, v, out);         // append, attend, observe: one decoding step of a layer
//
//     cache.append(layer, position, k, v);                    // the same, taken apart
//     cache.observe(layer, ms::attend(cache, layer, q, out));
//
// Blocks of tokens: prefill.hpp. The same mathematics, written to be read: reference_attention.hpp.
#include <span>
#include <utility>

#include "multistate/cache.hpp"
#include "multistate/executor.hpp"
#include "multistate/simd/products.hpp"
#include "multistate/softmax.hpp"

namespace multistate::inline MULTISTATE_TARGET {

namespace detail {

/// The share of one KV head in a tile of tokens.
struct tile {
    std::size_t kv_head;
    std::size_t tokens;
    const float* q;  // [tokens, heads, head_dim]
    float* out;      // [tokens, heads, value_dim]

    /// The first workspace row of the KV head's group.
    std::size_t row(const shape& s) const noexcept { return kv_head * s.group() * tokens; }
};

/// Copies the queries of one group, scaled and padded with zeros, into the workspace.
inline void pack_queries(const shape& s, workspace& scratch, const tile& t) noexcept {
    const std::size_t d = simd::padded(s.head_dim);
    float* packed = scratch.queries(t.row(s));
    for (std::size_t g = 0; g < s.group(); ++g) {
        for (std::size_t i = 0; i < t.tokens; ++i, packed += d) {
            const float* q = t.q + (i * s.heads + t.kv_head * s.group() + g) * s.head_dim;
            for (std::size_t c = 0; c < s.head_dim; ++c) packed[c] = *s.scale * q[c];
            std::fill(packed + s.head_dim, packed + d, 0.0f);
        }
    }
}

/// Logits of the tile against the first n rows of its KV head.
template <class C>
void tile_logits(const C& cache, std::size_t layer, workspace& scratch, const tile& t, std::size_t n) noexcept {
    const shape& s = cache.shape();
    const std::size_t queries = s.group() * t.tokens;
    float* logits = scratch.logits(t.row(s));
    pack_queries(s, scratch, t);
    simd::dot_products(scratch.queries(t.row(s)), queries, simd::padded(s.head_dim),
                       cache.keys(layer, t.kv_head).matrix(), n, logits, scratch.stride());
    if (s.softcap == 0) return;
    for (std::size_t i = 0; i < queries; ++i) simd::softcap({logits + i * scratch.stride(), n}, s.softcap);
}

/// out = probabilities times the first n values of the KV head.
template <class C>
void tile_outputs(const C& cache, std::size_t layer, workspace& scratch, const tile& t, std::size_t n) noexcept {
    const shape& s = cache.shape();
    const std::size_t d = simd::padded(s.value_dim);
    float* mixed = scratch.mixed(t.row(s));
    simd::weighted_sums(scratch.logits(t.row(s)), scratch.stride(), s.group() * t.tokens,
                        cache.values(layer, t.kv_head).matrix(), n, d, mixed);
    for (std::size_t g = 0; g < s.group(); ++g) {
        for (std::size_t i = 0; i < t.tokens; ++i, mixed += d) {
            std::copy_n(mixed, s.value_dim, t.out + (i * s.heads + t.kv_head * s.group() + g) * s.value_dim);
        }
    }
}

}  // namespace detail

/// Attention of the token appended last: out[h] = softmax(scale * q[h] . keys) values, over all rows held.
///
/// q [heads, head_dim], out [heads, value_dim]. Returns the probabilities [heads, size(layer)], which lie in the
/// workspace until its next use. One task per KV head; 2 * heads * size * (head_dim + value_dim) operations, each
/// stored row is read once for the query heads of its group.
template <policy P, codec K, codec V, executor E = serial>
rows attend(cache<P, K, V>& cache, std::size_t layer, std::span<const float> q, std::span<float> out, E&& run = E{},
            workspace* own = nullptr) noexcept {
    const shape& s = cache.shape();
    MULTISTATE_ASSERT(q.size() == s.heads * s.head_dim, "attend: q is not [heads, head_dim]");
    MULTISTATE_ASSERT(out.size() == s.heads * s.value_dim, "attend: out is not [heads, value_dim]");
    workspace& scratch = own != nullptr ? *own : cache.workspace();
    MULTISTATE_ASSERT(scratch.fits(s), "attend: the workspace is for caches of another shape");
    run.run(s.kv_heads, [&](std::size_t kv_head) {
        const detail::tile t{.kv_head = kv_head, .tokens = 1, .q = q.data(), .out = out.data()};
        const std::size_t n = cache.size(layer, kv_head);
        detail::tile_logits(cache, layer, scratch, t, n);
        for (std::size_t g = 0; g < s.group(); ++g) softmax({scratch.logits(t.row(s) + g), n});
        detail::tile_outputs(cache, layer, scratch, t, n);
    });
    return {scratch.logits(0), s.heads, cache.size(layer), scratch.stride()};
}

/// One decoding step of one layer: append, attend, observe. k [kv_heads, head_dim], v [kv_heads, value_dim], q and out
/// as for attend. Returns false, and changes nothing, when the policy never forgets and the rows are used up.
///
/// Allocates nothing. Concurrent calls on different layers of one cache each need a workspace of their own.
template <policy P, codec K, codec V, executor E = serial>
bool step(cache<P, K, V>& cache, std::size_t layer, position first, std::span<const float> q, std::span<const float> k,
          std::span<const float> v, std::span<float> out, E&& run = E{}, workspace* own = nullptr) noexcept {
    if (!cache.append(layer, first, k, v)) return false;
    cache.observe(layer, attend(cache, layer, q, out, run, own));
    return true;
}

}  // namespace multistate::inline MULTISTATE_TARGET
