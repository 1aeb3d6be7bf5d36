#pragma once

// Attention of a block of tokens: the prompt, or any text whose tokens are all known.
//
//     ms::prefill(cache, layer, first, q, k, v, out);                            // ends where single steps end
//     ms::prefill(cache, layer, first, q, k, v, out, ms::prefill_mode::block);   // one decision for the block
//
// A block of m tokens can mean two things, and their results differ:
//
//     exact   the same states survive as if the tokens came one at a time: what the papers' perplexities measure
//     block   the block attends to the survivors and causally to itself, then the table shrinks to `states` once; with
//             the whole prompt in one block this is what the authors' TOVA code and prompt compression do
#include "multistate/attention.hpp"

namespace multistate::inline MULTISTATE_TARGET {

enum class prefill_mode { exact, block };

namespace detail {

/// Attention of tile tokens whose rows follow each other up to row `end`: token i sees the rows up to its own.
template <class C>
void block_tile(C& cache, std::size_t layer, workspace& scratch, const tile& t, std::size_t end) noexcept {
    const shape& s = cache.shape();
    tile_logits(cache, layer, scratch, t, end);
    for (std::size_t g = 0; g < s.group(); ++g) {
        for (std::size_t i = 0; i < t.tokens; ++i) {
            float* row = scratch.logits(t.row(s) + g * t.tokens + i);
            const std::size_t visible = end - t.tokens + i + 1;
            softmax({row, visible});
            std::fill(row + visible, row + end, 0.0f);
        }
    }
    tile_outputs(cache, layer, scratch, t, end);
}

/// Decides token by token for one table. The tile's tokens lie in the rows behind the table's, token i in column
/// base + i; where the table gives it the row of a forgotten state, its column of logits moves there too, so that
/// softmax, policy and table see what single steps would show them. Afterwards each probability goes back to the column
/// where its value lies.
template <class Table>
void decide_tile(Table& table, workspace& scratch, std::size_t first_row, std::size_t heads, std::size_t tokens,
                 std::span<std::uint32_t> placed, std::size_t base, auto&& place) noexcept {
    for (std::size_t t = 0; t < tokens; ++t) {
        placed[t] = static_cast<std::uint32_t>(place(t));
        const std::size_t n = table.size();
        for (std::size_t h = 0; h < heads; ++h) {
            for (std::size_t i = t; i < tokens && placed[t] != base + t; ++i) {
                float* row = scratch.logits(first_row + h * tokens + i);
                row[placed[t]] = row[base + t];
            }
            softmax({scratch.logits(first_row + h * tokens + t), n});
        }
        table.observe({scratch.logits(first_row + t), heads, n, tokens * scratch.stride()});
        for (std::size_t h = 0; h < heads; ++h) {
            float* row = scratch.logits(first_row + h * tokens + t);
            std::fill(row + n, row + std::max(n, base + tokens), 0.0f);
            for (std::size_t i = t + 1; i-- > 0;) {  // newest first: a row may have been reused twice
                if (placed[i] != base + i) row[base + i] = std::exchange(row[placed[i]], 0.0f);
            }
        }
    }
}

/// What one call of prefill is about.
template <class C>
struct block_of_tokens {
    C& cache;
    std::size_t layer;
    position first;
    std::span<const float> q, k, v;
    std::span<float> out;
    workspace& scratch;

    tile part(std::size_t kv_head, std::size_t begin, std::size_t tokens) const noexcept {
        const shape& s = cache.shape();
        return {.kv_head = kv_head,
                .tokens = tokens,
                .q = q.data() + begin * s.heads * s.head_dim,
                .out = out.data() + begin * s.heads * s.value_dim};
    }
};

template <class C>
void exact_tile(const block_of_tokens<C>& b, std::size_t begin, std::size_t tokens, auto& run) noexcept {
    const shape& s = b.cache.shape();
    const auto tables = cache_access::tables(b.cache, b.layer);
    const std::size_t heads = s.heads / tables.size();
    const std::size_t base = std::min(tables.front().size(), s.states);
    for (std::size_t unit = 0; unit < tables.size(); ++unit) {
        cache_access::forget_next(b.cache, b.layer, unit);
        for (std::size_t i = 0; i < tokens; ++i) {
            cache_access::write(b.cache, b.layer, unit, base + i, begin + i, b.k, b.v);
        }
    }
    run.run(s.kv_heads, [&](std::size_t kv_head) {
        tile_logits(b.cache, b.layer, b.scratch, b.part(kv_head, begin, tokens), base + tokens);
    });
    run.run(tables.size(), [&](std::size_t unit) {
        auto& table = tables[unit];
        decide_tile(table, b.scratch, unit * heads * tokens, heads, tokens, b.scratch.placed(unit), base,
                    [&](std::size_t i) {
                        return table.place_next(b.first + static_cast<position>(begin + i),
                                                cache_access::key_rows(b.cache, unit, begin + i, b.k),
                                                cache_access::value_rows(b.cache, unit, begin + i, b.v));
                    });
    });
    run.run(s.kv_heads, [&](std::size_t kv_head) {
        tile_outputs(b.cache, b.layer, b.scratch, b.part(kv_head, begin, tokens), base + tokens);
    });
    for (std::size_t unit = 0; unit < tables.size(); ++unit) {
        for (std::size_t i = 0; i < tokens; ++i) {  // in order: the last to be placed in a row stays there
            const move settled{static_cast<std::uint32_t>(base + i), b.scratch.placed(unit)[i]};
            if (settled.from != settled.to) cache_access::relocate(b.cache, b.layer, unit, {&settled, 1});
        }
    }
}

template <class C>
bool block_prefill(const block_of_tokens<C>& b, std::size_t tokens, auto& run) noexcept {
    const shape& s = b.cache.shape();
    if (!b.cache.append(b.layer, b.first, b.k, b.v)) return false;
    const auto tables = cache_access::tables(b.cache, b.layer);
    const std::size_t heads = s.heads / tables.size();
    for (std::size_t begin = 0; begin < tokens; begin += b.scratch.tile()) {
        const std::size_t count = std::min(b.scratch.tile(), tokens - begin);
        const std::size_t end = tables.front().size() - tokens + begin + count;
        run.run(s.kv_heads, [&](std::size_t kv_head) {
            block_tile(b.cache, b.layer, b.scratch, b.part(kv_head, begin, count), end);
        });
        if (!tables.front().reads_attention()) continue;
        run.run(tables.size(), [&](std::size_t unit) {
            for (std::size_t i = 0; i < count; ++i) {
                tables[unit].observe({b.scratch.logits(unit * heads * count + i), heads, end - count + i + 1,
                                      count * b.scratch.stride()});
            }
        });
    }
    return true;
}

}  // namespace detail

/// Appends tokens of consecutive positions from `first`, attends and observes: q [tokens, heads, head_dim], k [tokens,
/// kv_heads, head_dim], v [tokens, kv_heads, value_dim], out [tokens, heads, value_dim], 1 <= tokens <= block.
///
/// Works in tiles of at most 64 tokens: a product for the logits, decisions row by row, a product for the values.
/// `exact` equals single steps wherever a decision's margin exceeds the rounding of float32; it is not bit-identical.
/// Policies that score stored keys and values take one token at a time. Returns false, and changes nothing, when the
/// policy never forgets and the rows are used up. Allocates nothing.
template <policy P, codec K, codec V, executor E = serial>
bool prefill(cache<P, K, V>& cache, std::size_t layer, position first, std::span<const float> q,
             std::span<const float> k, std::span<const float> v, std::span<float> out,
             prefill_mode mode = prefill_mode::exact, E&& run = E{}, workspace* own = nullptr) noexcept {
    const shape& s = cache.shape();
    const std::size_t tokens = q.size() / (s.heads * s.head_dim);
    MULTISTATE_ASSERT(tokens >= 1 && tokens <= s.block, "prefill: from 1 to `block` tokens at once");
    MULTISTATE_ASSERT(q.size() == tokens * s.heads * s.head_dim, "prefill: q is not [tokens, heads, head_dim]");
    MULTISTATE_ASSERT(k.size() == tokens * s.kv_heads * s.head_dim, "prefill: k is not [tokens, kv_heads, head_dim]");
    MULTISTATE_ASSERT(v.size() == tokens * s.kv_heads * s.value_dim, "prefill: v is not [tokens, kv_heads, value_dim]");
    MULTISTATE_ASSERT(out.size() == tokens * s.heads * s.value_dim, "prefill: out is not [tokens, heads, value_dim]");
    MULTISTATE_ASSERT(own == nullptr || own->fits(s), "prefill: the workspace is for caches of another shape");
    if (tokens == 1) return step(cache, layer, first, q, k, v, out, run, own);
    const detail::block_of_tokens<multistate::cache<P, K, V>> block{
        cache, layer, first, q, k, v, out, own != nullptr ? *own : cache.workspace()};
    const auto tables = detail::cache_access::tables(cache, layer);
    if (mode == prefill_mode::block || tables.front().never_forgets()) return detail::block_prefill(block, tokens, run);
    const std::size_t tile = tables.front().reads_stored() ? 1 : block.scratch.tile();
    for (auto& table : tables) table.begin();
    for (std::size_t begin = 0; begin < tokens; begin += tile) {
        detail::exact_tile(block, begin, std::min(tile, tokens - begin), run);
    }
    return true;
}

}  // namespace multistate::inline MULTISTATE_TARGET
