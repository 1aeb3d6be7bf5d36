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

/// Softmax of a token that sees the first `visible` of the n rows its tile works on.
inline void settle(float* row, std::size_t visible, std::size_t n) noexcept {
    softmax({row, visible});
    std::fill(row + visible, row + n, 0.0f);
}

/// In `exact` mode a tile's tokens lie in the rows behind the table's, token i in column base + i of the logits. Where
/// the table gave it the row of a forgotten state, its column moves there for the softmax, so that softmax, policy and
/// table see what single steps would show them, and the probability moves back to where its value lies.
struct placement {
    std::span<const std::uint32_t> placed;  // by token of the tile
    std::size_t base;
    std::size_t states;

    std::size_t tokens() const noexcept { return placed.size(); }
    /// Rows that token t sees: the survivors and itself.
    std::size_t visible(std::size_t t) const noexcept { return std::min(base + t, states) + 1; }

    void move_in(float* row, std::size_t t) const noexcept {
        for (std::size_t i = 0; i <= t; ++i) row[placed[i]] = row[base + i];  // in order: a row may be reused twice
        softmax({row, visible(t)});
    }
    void move_out(float* row, std::size_t t) const noexcept {
        std::fill(row + visible(t), row + std::max(visible(t), base + tokens()), 0.0f);
        for (std::size_t i = t + 1; i-- > 0;) {
            if (placed[i] != base + i) row[base + i] = std::exchange(row[placed[i]], 0.0f);
        }
    }
};

/// One call of prefill.
template <class C, class E>
struct block_of_tokens {
    C& cache;
    std::size_t layer;
    position first;
    std::span<const float> q, k, v;
    std::span<float> out;
    workspace& scratch;
    E& run;

    const multistate::shape& shape() const noexcept { return cache.shape(); }
    auto tables() const noexcept { return cache_access::tables(cache, layer); }
    /// Whether one table must see all heads of a token before the next is decided.
    bool heads_decide_together() const noexcept { return tables().size() == 1 && tables().front().reads_attention(); }

    /// Tokens [begin, begin + tokens) with the KV heads from `kv_head` on.
    tile part(std::size_t begin, std::size_t tokens, std::size_t kv_head) const noexcept {
        return {.s = shape(),
                .scratch = scratch,
                .q = q.data() + begin * shape().heads * shape().head_dim,
                .out = out.data() + begin * shape().heads * shape().value_dim,
                .tokens = tokens,
                .first_kv_head = kv_head};
    }
    std::size_t tile_size() const noexcept {
        if (tables().front().reads_stored()) return 1;
        return scratch.tile(heads_decide_together() ? shape().kv_heads : 1);
    }

    /// Hands out the workspace rows of KV heads [t.first_kv_head, end), by head or by parts of heads.
    template <class F>
    void for_shares(const tile& t, std::size_t end, F task) const noexcept {
        const std::size_t parts = scratch.parts();
        run.run((end - t.first_kv_head) * parts, [&](std::size_t i) {
            const std::size_t kv_head = t.first_kv_head + i / parts;
            cut(t.queries(), parts, i % parts, 4, [&](std::size_t from, std::size_t to) {
                task(share{kv_head, t.first_row(kv_head) + from, to - from,
                           scratch.products(kv_head * parts + i % parts)});
            });
        });
    }
    void find_logits(const tile& t, std::size_t end, std::size_t n) const noexcept {
        for_shares(t, end, [&](const share& part) {
            pack_queries(t, part.first, part.count);
            detail::find_logits(cache, layer, t, part, 0, n);
        });
    }
    void mix_values(const tile& t, std::size_t end, std::size_t n) const noexcept {
        for_shares(t, end, [&](const share& part) {
            detail::mix_values(cache, layer, t, part, 0, n, scratch.mixed(part.first));
            for (std::size_t row = part.first; row < part.first + part.count; ++row) {
                std::copy_n(scratch.mixed(row), shape().value_dim, t.output(row));
            }
        });
    }

    /// Calls f(tile, first KV head behind the wave) for all KV heads, as many at once as the workspace holds.
    template <class F>
    void in_waves(std::size_t begin, std::size_t tokens, F f) const noexcept {
        const std::size_t wave = scratch.wave(tokens);
        for (std::size_t kv_head = 0; kv_head < shape().kv_heads; kv_head += wave) {
            f(part(begin, tokens, kv_head), std::min(shape().kv_heads, kv_head + wave));
        }
    }

    /// The probabilities of token i of a tile, for a table that answers for `heads` query heads from `row` on.
    rows probabilities(std::size_t row, std::size_t heads, const tile& t, std::size_t i,
                       std::size_t visible) const noexcept {
        return {scratch.logits(row + i), heads, visible, t.tokens * scratch.stride()};
    }

    void block() const noexcept {
        const std::size_t tokens = q.size() / (shape().heads * shape().head_dim);
        for (std::size_t begin = 0; begin < tokens; begin += tile_size()) {
            const std::size_t count = std::min(tile_size(), tokens - begin);
            const std::size_t n = tables().front().size() - tokens + begin + count;
            in_waves(begin, count, [&](const tile& t, std::size_t end) {
                find_logits(t, end, n);
                for_shares(t, end, [&](const share& part) {
                    for (std::size_t row = part.first; row < part.first + part.count; ++row) {
                        settle(scratch.logits(row), n - count + row % count + 1, n);
                    }
                });
                observe(t, end, n);
                mix_values(t, end, n);
            });
        }
    }
    void observe(const tile& t, std::size_t end, std::size_t n) const noexcept {
        if (!tables().front().reads_attention()) return;
        const bool per_layer = tables().size() == 1;
        run.run(per_layer ? 1 : end - t.first_kv_head, [&](std::size_t unit) {
            const std::size_t heads = per_layer ? shape().heads : shape().group();
            for (std::size_t i = 0; i < t.tokens; ++i) {
                tables()[t.first_kv_head + unit].observe(
                    probabilities(unit * t.queries(), heads, t, i, n - t.tokens + i + 1));
            }
        });
    }

    void exact() const noexcept {
        const std::size_t tokens = q.size() / (shape().heads * shape().head_dim);
        for (auto& table : tables()) table.begin();
        for (std::size_t begin = 0; begin < tokens; begin += tile_size()) {
            exact_tile(begin, std::min(tile_size(), tokens - begin));
        }
    }
    void exact_tile(std::size_t begin, std::size_t tokens) const noexcept {
        const auto units = tables();
        const std::size_t base = std::min(units.front().size(), shape().states);
        for (std::size_t unit = 0; unit < units.size(); ++unit) {
            cache_access::forget_next(cache, layer, unit);
            for (std::size_t i = 0; i < tokens; ++i) {
                cache_access::write(cache, layer, unit, base + i, begin + i, k, v);
            }
            if (!units[unit].reads_attention()) {
                for (std::size_t i = 0; i < tokens; ++i) place(unit, begin, i);
            }
        }
        in_waves(begin, tokens, [&](const tile& t, std::size_t end) {
            find_logits(t, end, base + tokens);
            if (units.front().reads_attention()) {
                const std::size_t deciders = units.size() == 1 ? 1 : end - t.first_kv_head;
                run.run(deciders, [&](std::size_t i) { decide(t, t.first_kv_head + i, i * t.queries(), begin, base); });
            } else {
                for_shares(t, end, [&](const share& part) {
                    const placement p = placed(units.size() == 1 ? 0 : part.kv_head, tokens, base);
                    for (std::size_t row = part.first; row < part.first + part.count; ++row) {
                        p.move_in(scratch.logits(row), row % tokens);
                        p.move_out(scratch.logits(row), row % tokens);
                    }
                });
            }
            mix_values(t, end, base + tokens);
        });
        for (std::size_t unit = 0; unit < units.size(); ++unit) {
            for (std::size_t i = 0; i < tokens; ++i) {  // in order: the last to be placed in a row stays there
                const move settled{static_cast<std::uint32_t>(base + i), scratch.placed(unit)[i]};
                if (settled.from != settled.to) cache_access::relocate(cache, layer, unit, {&settled, 1});
            }
        }
    }

    placement placed(std::size_t unit, std::size_t tokens, std::size_t base) const noexcept {
        return {scratch.placed(unit).first(tokens), base, shape().states};
    }
    void place(std::size_t unit, std::size_t begin, std::size_t i) const noexcept {
        scratch.placed(unit)[i] = static_cast<std::uint32_t>(tables()[unit].place_next(
            first + static_cast<position>(begin + i), cache_access::key_rows(cache, unit, begin + i, k),
            cache_access::value_rows(cache, unit, begin + i, v)));
    }
    /// Token by token: place, softmax, observe. Serial, because each decision needs the one before.
    void decide(const tile& t, std::size_t unit, std::size_t first_row, std::size_t begin,
                std::size_t base) const noexcept {
        const std::size_t heads = shape().heads / tables().size();
        const placement p = placed(unit, t.tokens, base);
        for (std::size_t i = 0; i < t.tokens; ++i) {
            place(unit, begin, i);
            for (std::size_t h = 0; h < heads; ++h) p.move_in(scratch.logits(first_row + h * t.tokens + i), i);
            tables()[unit].observe(probabilities(first_row, heads, t, i, p.visible(i)));
            for (std::size_t h = 0; h < heads; ++h) p.move_out(scratch.logits(first_row + h * t.tokens + i), i);
        }
    }
};

}  // namespace detail

/// Appends tokens of consecutive positions from `first`, attends and observes: q [tokens, heads, head_dim], k [tokens,
/// kv_heads, head_dim], v [tokens, kv_heads, value_dim], out [tokens, heads, value_dim], 1 <= tokens <= block.
///
/// Works in tiles of up to 64 tokens, shorter where one table reads the logits of many heads: a product for the logits,
/// decisions row by row, a product for the values.
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
    const detail::block_of_tokens<multistate::cache<P, K, V>, std::remove_reference_t<E>> block{
        cache, layer, first, q, k, v, out, own != nullptr ? *own : cache.workspace(), run};
    if (mode == prefill_mode::block || detail::cache_access::tables(cache, layer).front().never_forgets()) {
        if (!cache.append(layer, first, k, v)) return false;
        block.block();
    } else {
        block.exact();
    }
    return true;
}

}  // namespace multistate::inline MULTISTATE_TARGET
