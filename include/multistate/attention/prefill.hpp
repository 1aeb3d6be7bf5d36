#pragma once

// Attention of a block of tokens: the prompt, or any text whose tokens are all known.
//
//     ms::workspace scratch(cache.shape());                    // shape.block: the most tokens in one call
//     auto layer = cache.layer(i);
//     done = ms::prefill(layer, first, {.q = q, .k = k, .v = v}, out, scratch);  // same result as single steps
//     done = ms::prefill(layer, first, {.q = q, .k = k, .v = v}, out, scratch, ms::prefill_mode::block);
//
// A block of m tokens can have two meanings, with different results:
//
//     exact   the same states survive as if the tokens came one at a time; the papers' perplexities measure this
//     block   the block attends to the survivors and causally to itself, then the table shrinks to `states` once; with
//             the whole prompt in one block, the authors' TOVA code and prompt compression do the same
//
// Multithreading: pass an executor as the last argument (execution/executor.hpp).
#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>

#include "multistate/attention/exact_prefill.hpp"
#include "multistate/attention/step.hpp"
#include "multistate/attention/token_block.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

enum class prefill_mode { exact, block };

namespace detail {

/// Softmax of a token that sees the first `visible` of the n states of its batch.
inline void mask_and_softmax(float* row, std::size_t visible, std::size_t n) noexcept {
    softmax({row, visible});
    std::fill(row + visible, row + n, 0.0f);
}

/// `Block` is a token_block.
template <class Block>
struct block_prefill : Block {
    using base = Block;
    using base::layer, base::first, base::in, base::scratch, base::run;

    void compute(forgotten_log log = forgotten_log::restart) const noexcept {
        static_cast<void>(layer.append(first, in.k, in.v, log));  // there is room
        for (std::size_t begin = 0; begin < base::tokens(); begin += base::batch_size()) {
            const std::size_t count = (std::min)(base::batch_size(), base::tokens() - begin);
            base::for_head_batches(begin, count,
                                   [&](const query_batch& batch, std::size_t end) { attend(batch, end, begin); });
        }
    }
    /// Exact prefill if a decision needs the stored rows, or if there is slack: computes as many tokens at once as fit
    /// between two decisions.
    void compute_between_decisions() noexcept {
        base::alone = true;
        for (std::size_t begin = 0; begin < base::tokens();) {
            std::size_t count = (std::min)(base::tokens() - begin, base::shape().block);
            for (const auto& t : layer.tables()) {
                const std::size_t least = t.states() + t.shape().slack + 1;
                count = (std::min)(count, t.is_due() ? t.shape().slack + 1 : least - t.size());
            }
            const block_prefill next{base::slice(begin, count)};
            next.compute(begin == 0 ? forgotten_log::restart : forgotten_log::extend);
            begin += count;
        }
    }

  private:
    void attend(const query_batch& batch, std::size_t end, std::size_t begin) const noexcept {
        const auto n = [&](std::size_t kv_head) {
            return base::table(base::table_of(kv_head)).size() - base::tokens() + begin + batch.tokens;
        };
        base::find_logits(batch, end, n);
        base::for_row_ranges(batch, end, [&](const row_range& range) {
            const std::size_t last = n(range.kv_head);
            for (std::size_t row = range.first; row < range.end(); ++row) {
                mask_and_softmax(scratch.logits(row), last - batch.tokens + row % batch.tokens + 1, last);
            }
        });
        if (base::observes()) {
            run_tasks(run, base::deciders(batch, end), [&](std::size_t i) {
                const std::size_t first_sees = n(batch.first_kv_head + i) - batch.tokens + 1;
                for (std::size_t token = 0; token < batch.tokens; ++token) {
                    base::observe(batch, i, begin, token, first_sees + token);
                }
            });
        }
        base::weighted_sums(batch, end, n);
    }
};

/// The checks of prefill's arguments; returns the number of tokens.
inline std::size_t expect_prefill(const shape& s, const qkv& in, std::span<const float> out,
                                  const workspace& scratch) noexcept {
    constexpr const char* who = "prefill";
    const std::size_t tokens = tokens_of(who, "q", "[tokens, heads, head_dim] floats, one or more times ", in.q.size(),
                                         s.heads * s.head_dim, s.block);
    expect_floats(who, "k", "[tokens, kv_heads, head_dim] floats, ", in.k.size(), tokens * s.kv_heads * s.head_dim);
    expect_floats(who, "v", "[tokens, kv_heads, value_dim] floats, ", in.v.size(), tokens * s.kv_heads * s.value_dim);
    expect_floats(who, "out", "[tokens, heads, value_dim] floats, ", out.size(), tokens * s.heads * s.value_dim);
    expect_apart(who, "q", in.q, out);
    expect_apart(who, "k", in.k, out);
    expect_apart(who, "v", in.v, out);
    expect_workspace(who, s, scratch);
    return tokens;
}

}  // namespace detail

/// Appends tokens of consecutive positions from `first`, attends and observes. 1 <= tokens <= block; out [tokens,
/// heads, value_dim] must not overlap the inputs.
///
/// Works on up to 64 tokens at once, fewer if one table reads the logits of many heads: a product for the logits,
/// decisions row by row, a product for the values. `exact` makes the same decisions as single steps if each decision's
/// margin exceeds the rounding of float32; it is not bit-identical. Policies that score stored keys and values take one
/// token at a time. If the policy never forgets and the rows are used up, returns false and changes nothing. Allocates
/// nothing.
template <class Cache, executor E = serial>
[[nodiscard]] bool prefill(const cache_layer<Cache>& layer, position first, qkv in, std::span<float> out,
                           workspace& scratch, prefill_mode mode = prefill_mode::exact, E&& run = E{}) noexcept {
    static_assert(!std::is_const_v<Cache>, "prefill changes the cache: take the handle from one that is not const");
    using layer_type = cache_layer<Cache>;
    using block_type = detail::token_block<layer_type, std::remove_reference_t<E>>;
    const std::size_t tokens = detail::expect_prefill(layer.shape(), in, out, scratch);
    if (tokens == 1) return step(layer, first, in, out, scratch, run);
    if (!layer.has_room(tokens)) return false;
    const auto tables = layer.tables();
    const bool bounded = multistate::bounded(in.k) && multistate::bounded(in.v) &&
                         std::ranges::none_of(tables, &layer_type::table_type::holds_spoiled);
    const block_type block{layer, first, in, out, scratch, run, bounded};
    if (mode == prefill_mode::block || tables.front().never_forgets()) {
        detail::block_prefill<block_type>{block}.compute();
    } else if (tables.front().reads_stored() || layer.shape().slack > 0) {
        detail::block_prefill<block_type>{block}.compute_between_decisions();
    } else {
        detail::exact_prefill<block_type>{block}.compute();
    }
    return true;
}

}}  // namespace multistate::MULTISTATE_TARGET
