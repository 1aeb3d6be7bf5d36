#pragma once

// Shared by both modes of prefill: the products of a block of tokens, divided into batches of tokens and KV heads. Only
// prefill.hpp and exact_prefill.hpp include this header.
#include <algorithm>
#include <cstddef>
#include <span>

#include "multistate/attention/qkv.hpp"
#include "multistate/attention/query_batch.hpp"
#include "multistate/core/types.hpp"
#include "multistate/execution/executor.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

/// The arguments of one call of prefill.
template <class Layer, class E>
struct token_block {
    Layer layer;
    position first;
    qkv in;
    std::span<float> out;
    workspace& scratch;
    E& run;
    /// Whether all keys and values that the block sees are bounded. If not, batches have one token: a batch multiplies
    /// the values that a token does not see by 0, and 0 times a NaN is a NaN.
    bool bounded = true;
    bool alone = false;  ///< each token counts as arrived alone, as in single steps

    const multistate::shape& shape() const noexcept { return layer.shape(); }
    std::size_t tokens() const noexcept { return in.q.size() / (shape().heads * shape().head_dim); }
    std::size_t table_count() const noexcept { return layer.table_count(); }
    auto& table(std::size_t t) const noexcept { return layer.tables()[t]; }
    std::size_t table_of(std::size_t kv_head) const noexcept { return table_count() == 1 ? 0 : kv_head; }
    /// Whether the policy reads every token's attention or queries.
    bool observes() const noexcept { return table(0).reads_attention() || table(0).reads_queries(); }
    /// Whether one table must see all heads of a token before the next decision.
    bool heads_decide_together() const noexcept { return table_count() == 1 && observes(); }

    /// Tokens [begin, begin + count), with the same options.
    token_block slice(std::size_t begin, std::size_t count) const noexcept {
        const auto of = [&](auto span) {
            const std::size_t width = span.size() / tokens();
            return span.subspan(begin * width, count * width);
        };
        token_block result = *this;
        result.first += static_cast<position>(begin);
        result.in = {of(in.q), of(in.k), of(in.v)};
        result.out = of(out);
        return result;
    }

    /// The number of tokens that are computed together.
    std::size_t batch_size() const noexcept {
        return bounded ? scratch.tokens_at_once(heads_decide_together() ? shape().kv_heads : 1) : 1;
    }
    /// Calls f(batch, end) for tokens [begin, begin + count) and KV heads [batch.first_kv_head, end). Covers all KV
    /// heads, as many at once as the workspace holds.
    template <class F>
    void for_head_batches(std::size_t begin, std::size_t count, F f) const noexcept {
        const std::size_t heads_at_once = scratch.kv_heads_at_once(count);
        for (std::size_t kv_head = 0; kv_head < shape().kv_heads; kv_head += heads_at_once) {
            const query_batch batch{.s = shape(),
                                    .scratch = scratch,
                                    .q = in.q.data() + begin * shape().heads * shape().head_dim,
                                    .out = out.data() + begin * shape().heads * shape().value_dim,
                                    .tokens = count,
                                    .first_kv_head = kv_head};
            f(batch, (std::min)(shape().kv_heads, kv_head + heads_at_once));
        }
    }
    /// Runs task(row_range) for the workspace rows of KV heads [batch.first_kv_head, end), in parallel.
    template <class F>
    void for_row_ranges(const query_batch& batch, std::size_t end, F task) const noexcept {
        const std::size_t parts = scratch.tasks_per_kv_head();
        run_tasks(run, (end - batch.first_kv_head) * parts, [&](std::size_t i) {
            const std::size_t kv_head = batch.first_kv_head + i / parts;
            equal_parts{batch.rows_per_kv_head(), parts, 4}.with_part(i % parts, [&](std::size_t from, std::size_t to) {
                task(row_range{kv_head, batch.first_row(kv_head) + from, to - from,
                               scratch.products(kv_head * parts + i % parts)});
            });
        });
    }
    // n(kv_head) is the number of states that the batch works on.
    void find_logits(const query_batch& batch, std::size_t end, auto n) const noexcept {
        for_row_ranges(batch, end, [&](const row_range& range) {
            pack_queries(batch, range.first, range.count);
            detail::find_logits(layer, batch, range, {0, n(range.kv_head)});
        });
    }
    void weighted_sums(const query_batch& batch, std::size_t end, auto n) const noexcept {
        for_row_ranges(batch, end,
                       [&](const row_range& range) { weighted_sum_to_output(layer, batch, range, n(range.kv_head)); });
    }

    /// The number of tables that see a batch: one, or one per KV head of the batch.
    std::size_t deciders(const query_batch& batch, std::size_t end) const noexcept {
        return table_count() == 1 ? 1 : end - batch.first_kv_head;
    }
    /// Shows token `token` of a batch to table i of the batch. The batch begins at token `begin` of the block.
    void observe(const query_batch& batch, std::size_t i, std::size_t begin, std::size_t token,
                 std::size_t visible) const noexcept {
        auto& t = table(batch.first_kv_head + i);
        if (alone) t.count_as_alone(first + static_cast<position>(begin + token));
        if (t.reads_queries()) t.observe_queries(layer.query_rows(t, begin + token, in.q), visible);
        t.observe(rows{scratch.logits(i * batch.rows_per_kv_head() + token), t.shape().heads, visible,
                       batch.tokens * scratch.stride()});
    }
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
