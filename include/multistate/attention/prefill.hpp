#pragma once

// Attention of a block of tokens: the prompt, or any text whose tokens are all known.
//
//     done = ms::prefill(cache, layer, first, q, k, v, out);                           // ends where single steps end
//     done = ms::prefill(cache, layer, first, q, k, v, out, ms::prefill_mode::block);  // one decision for the block
//
// A block of m tokens can mean two things, and their results differ:
//
//     exact   the same states survive as if the tokens came one at a time: what the papers' perplexities measure
//     block   the block attends to the survivors and causally to itself, then the table shrinks to `states` once; with
//             the whole prompt in one block this is what the authors' TOVA code and prompt compression do
#include "multistate/attention/step.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

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
    std::size_t visible(std::size_t t) const noexcept { return (std::min)(base + t, states) + 1; }

    void move_in(float* row, std::size_t t) const noexcept {
        for (std::size_t i = 0; i <= t; ++i) row[placed[i]] = row[base + i];  // in order: a row may be reused twice
        softmax({row, visible(t)});
    }
    void move_out(float* row, std::size_t t) const noexcept {
        std::fill(row + visible(t), row + (std::max)(visible(t), base + tokens()), 0.0f);
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
    /// Whether all keys and values that the block meets are bounded. Else tiles are of one token: a tile multiplies the
    /// values that a token does not see by 0, and 0 times a NaN is a NaN.
    bool bounded = true;
    bool alone = false;  ///< each token counts as arrived alone, as in single steps

    const multistate::shape& shape() const noexcept { return cache.shape(); }
    auto tables() const noexcept { return cache_access::tables(cache, layer); }
    /// Whether one table must see all heads of a token before the next is decided.
    bool heads_decide_together() const noexcept { return tables().size() == 1 && observes(); }
    /// Whether the policy looks at every token.
    bool observes() const noexcept { return tables().front().reads_attention() || tables().front().reads_queries(); }
    std::size_t tokens() const noexcept { return q.size() / (shape().heads * shape().head_dim); }
    std::size_t unit_of(std::size_t kv_head) const noexcept { return tables().size() == 1 ? 0 : kv_head; }
    std::size_t held(std::size_t kv_head) const noexcept { return tables()[unit_of(kv_head)].size(); }

    void run_block() const noexcept {
        for (std::size_t unit = 0; unit < tables().size(); ++unit) {
            cache_access::append_next(cache, layer, unit, first, tokens(), k, v);
        }
        block();
    }
    /// Where a decision needs the stored rows, or has slack, tokens come in as many as fit between two decisions.
    void run_exact_by_blocks() const noexcept {
        for (std::size_t begin = 0; begin < tokens();) {
            std::size_t count = (std::min)(tokens() - begin, shape().block);
            for (auto& table : tables()) {
                const std::size_t least = table.states() + table.shape().slack + 1;
                count = (std::min)(count, table.is_due() ? table.shape().slack + 1 : least - table.size());
            }
            const auto part = [&](auto span) {
                const std::size_t width = span.size() / tokens();
                return span.subspan(begin * width, count * width);
            };
            block_of_tokens{cache,     layer,   first + static_cast<position>(begin),
                            part(q),   part(k), part(v),
                            part(out), scratch, run,
                            bounded,   true}
                .run_block();
            begin += count;
        }
    }

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
        return bounded ? scratch.tile(heads_decide_together() ? shape().kv_heads : 1) : 1;
    }

    /// Hands out the workspace rows of KV heads [t.first_kv_head, end), by head or by parts of heads.
    template <class F>
    void for_shares(const tile& t, std::size_t end, F task) const noexcept {
        const std::size_t parts = scratch.parts();
        run_tasks(run, (end - t.first_kv_head) * parts, [&](std::size_t i) {
            const std::size_t kv_head = t.first_kv_head + i / parts;
            cut(t.queries(), parts, i % parts, 4, [&](std::size_t from, std::size_t to) {
                task(share{kv_head, t.first_row(kv_head) + from, to - from,
                           scratch.products(kv_head * parts + i % parts)});
            });
        });
    }
    // n(kv_head) is how many rows the tile works on.
    void find_logits(const tile& t, std::size_t end, auto n) const noexcept {
        for_shares(t, end, [&](const share& part) {
            pack_queries(t, part.first, part.count);
            detail::find_logits(cache, layer, t, part, 0, n(part.kv_head));
        });
    }
    void mix_values(const tile& t, std::size_t end, auto n) const noexcept {
        for_shares(t, end, [&](const share& part) {
            detail::mix_values(cache, layer, t, part, 0, n(part.kv_head), scratch.mixed(part.first));
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
            f(part(begin, tokens, kv_head), (std::min)(shape().kv_heads, kv_head + wave));
        }
    }

    /// The probabilities of token i of a tile, for a table that answers for `heads` query heads from `row` on.
    rows probabilities(std::size_t row, std::size_t heads, const tile& t, std::size_t i,
                       std::size_t visible) const noexcept {
        return {scratch.logits(row + i), heads, visible, t.tokens * scratch.stride()};
    }

    void block() const noexcept {
        for (std::size_t begin = 0; begin < tokens(); begin += tile_size()) {
            const std::size_t count = (std::min)(tile_size(), tokens() - begin);
            const auto n = [&](std::size_t kv_head) { return held(kv_head) - tokens() + begin + count; };
            in_waves(begin, count, [&](const tile& t, std::size_t end) {
                find_logits(t, end, n);
                for_shares(t, end, [&](const share& part) {
                    const std::size_t last = n(part.kv_head);
                    for (std::size_t row = part.first; row < part.first + part.count; ++row) {
                        settle(scratch.logits(row), last - count + row % count + 1, last);
                    }
                });
                if (observes()) {
                    run_tasks(run, deciders(t, end), [&](std::size_t i) {
                        for (std::size_t token = 0; token < count; ++token) {
                            observe(t, i, begin, token, n(t.first_kv_head + i) - count + token + 1);
                        }
                    });
                }
                mix_values(t, end, n);
            });
        }
    }
    /// Tables that look at a wave.
    std::size_t deciders(const tile& t, std::size_t end) const noexcept {
        return tables().size() == 1 ? 1 : end - t.first_kv_head;
    }
    /// Shows table i of a wave one token.
    void observe(const tile& t, std::size_t i, std::size_t begin, std::size_t token,
                 std::size_t visible) const noexcept {
        auto& table = tables()[t.first_kv_head + i];
        if (alone) table.begin_alone(first + static_cast<position>(begin + token));
        if (table.reads_queries()) {
            table.observe_queries(cache_access::query_rows(cache, t.first_kv_head + i, begin + token, q), visible);
        }
        table.observe(probabilities(i * t.queries(), shape().heads / tables().size(), t, token, visible));
    }

    void run_exact() const noexcept {
        for (std::size_t begin = 0; begin < tokens(); begin += tile_size()) {
            exact_tile(begin, (std::min)(tile_size(), tokens() - begin));
        }
    }
    void exact_tile(std::size_t begin, std::size_t tokens) const noexcept {
        const auto units = tables();
        for (std::size_t unit = 0; unit < units.size(); ++unit) {
            cache_access::forget_next(cache, layer, unit);
            scratch.base(unit) = units[unit].size();
            for (std::size_t i = 0; i < tokens; ++i) {
                cache_access::write(cache, layer, unit, scratch.base(unit) + i, begin + i, k, v);
            }
            if (!observes()) {
                for (std::size_t i = 0; i < tokens; ++i) place(unit, begin, i);
            }
        }
        const auto n = [&](std::size_t kv_head) { return scratch.base(unit_of(kv_head)) + tokens; };
        in_waves(begin, tokens, [&](const tile& t, std::size_t end) {
            find_logits(t, end, n);
            if (observes()) {
                run_tasks(run, deciders(t, end), [&](std::size_t i) { decide(t, i, begin); });
            } else {
                for_shares(t, end, [&](const share& part) {
                    const placement p = placed(unit_of(part.kv_head), tokens);
                    for (std::size_t row = part.first; row < part.first + part.count; ++row) {
                        p.move_in(scratch.logits(row), row % tokens);
                        p.move_out(scratch.logits(row), row % tokens);
                    }
                });
            }
            mix_values(t, end, n);
        });
        for (std::size_t unit = 0; unit < units.size(); ++unit) {
            for (std::size_t i = 0; i < tokens; ++i) {  // in order: the last to be placed in a row stays there
                const std::size_t from = scratch.base(unit) + i;
                const move settled{static_cast<std::uint32_t>(from), scratch.placed(unit)[i]};
                if (settled.from != settled.to) cache_access::relocate(cache, layer, unit, {&settled, 1});
            }
        }
    }

    placement placed(std::size_t unit, std::size_t tokens) const noexcept {
        return {scratch.placed(unit).first(tokens), scratch.base(unit), tables()[unit].states()};
    }
    void place(std::size_t unit, std::size_t begin, std::size_t i) const noexcept {
        scratch.placed(unit)[i] = static_cast<std::uint32_t>(tables()[unit].place_next(
            first + static_cast<position>(begin + i), cache_access::key_rows(cache, unit, begin + i, k),
            cache_access::value_rows(cache, unit, begin + i, v)));
    }
    /// Table i of a wave, token by token: place, softmax, observe. Serial, because each decision needs the one before.
    void decide(const tile& t, std::size_t i, std::size_t begin) const noexcept {
        const std::size_t heads = shape().heads / tables().size();
        const placement p = placed(t.first_kv_head + i, t.tokens);
        for (std::size_t token = 0; token < t.tokens; ++token) {
            const auto for_rows = [&](auto&& f) {
                for (std::size_t h = 0; h < heads; ++h) {
                    f(scratch.logits(i * t.queries() + h * t.tokens + token));
                }
            };
            place(t.first_kv_head + i, begin, token);
            for_rows([&](float* row) { p.move_in(row, token); });
            observe(t, i, begin, token, p.visible(token));
            for_rows([&](float* row) { p.move_out(row, token); });
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
[[nodiscard]] bool prefill(cache<P, K, V>& cache, std::size_t layer, position first, std::span<const float> q,
                           std::span<const float> k, std::span<const float> v, std::span<float> out,
                           prefill_mode mode = prefill_mode::exact, E&& run = E{}, workspace* own = nullptr) noexcept {
    const shape& s = cache.shape();
    constexpr const char* who = "prefill";
    static_cast<void>(cache.states(layer));  // checks the layer
    const std::size_t tokens = detail::tokens_of(who, "q", "[tokens, heads, head_dim] floats, one or more times ",
                                                 q.size(), s.heads * s.head_dim, s.block);
    detail::expect_floats(who, "k", "[tokens, kv_heads, head_dim] floats, ", k.size(),
                          tokens * s.kv_heads * s.head_dim);
    detail::expect_floats(who, "v", "[tokens, kv_heads, value_dim] floats, ", v.size(),
                          tokens * s.kv_heads * s.value_dim);
    detail::expect_floats(who, "out", "[tokens, heads, value_dim] floats, ", out.size(),
                          tokens * s.heads * s.value_dim);
    detail::expect_apart(who, "q", q, out);
    detail::expect_apart(who, "k", k, out);
    detail::expect_apart(who, "v", v, out);
    detail::expect_workspace(who, s, own != nullptr ? *own : cache.workspace());
    if (tokens == 1) return step(cache, layer, first, q, k, v, out, run, own);
    const bool bounded = multistate::bounded(k) && multistate::bounded(v) &&
                         std::ranges::none_of(detail::cache_access::tables(cache, layer), &table<P>::holds_spoiled);
    const detail::block_of_tokens<multistate::cache<P, K, V>, std::remove_reference_t<E>> block{
        cache, layer, first, q, k, v, out, own != nullptr ? *own : cache.workspace(), run, bounded};
    if (!detail::cache_access::has_room(cache, layer, tokens)) return false;
    const auto tables = detail::cache_access::tables(cache, layer);
    for (auto& table : tables) table.begin();
    if (mode == prefill_mode::block || tables.front().never_forgets()) {
        block.run_block();
    } else if (tables.front().reads_stored() || s.slack > 0) {
        block.run_exact_by_blocks();
    } else {
        block.run_exact();
    }
    return true;
}

}}  // namespace multistate::MULTISTATE_TARGET
