#pragma once

// The products of attention (logits, then softmax, then weighted sum of values) for query heads that are computed
// together. Only step.hpp and prefill.hpp build on this header.
#include <algorithm>
#include <cstddef>
#include <span>

#include "multistate/attention/workspace.hpp"
#include "multistate/simd/attention_products.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

/// Queries that are computed together: `tokens` consecutive tokens, and the query heads of some KV heads. Workspace row
/// h * tokens + t belongs to token t and query head h, counted from the first head.
struct query_batch {
    const shape& s;
    workspace& scratch;
    const float* q;  // [tokens, heads, head_dim]
    float* out;      // [tokens, heads, value_dim]
    std::size_t tokens = 1;
    std::size_t first_kv_head = 0;

    std::size_t rows_per_kv_head() const noexcept { return s.group() * tokens; }
    std::size_t first_row(std::size_t kv_head) const noexcept { return (kv_head - first_kv_head) * rows_per_kv_head(); }
    const float* query(std::size_t row) const noexcept { return q + token_and_head(row) * s.head_dim; }
    float* output(std::size_t row) const noexcept { return out + token_and_head(row) * s.value_dim; }

  private:
    std::size_t token_and_head(std::size_t row) const noexcept {
        return row % tokens * s.heads + first_kv_head * s.group() + row / tokens;
    }
};

/// Workspace rows [first, first + count), all of one KV head: the work of one task.
struct row_range {
    std::size_t kv_head;
    std::size_t first;
    std::size_t count;
    float* products;  // scratch of the task

    std::size_t end() const noexcept { return first + count; }
};

/// Stored rows [begin, end) of a KV head.
struct state_range {
    std::size_t begin;
    std::size_t end;

    std::size_t size() const noexcept { return end - begin; }
};

/// Copies queries into the workspace, scaled and padded with zeros.
inline void pack_queries(const query_batch& batch, std::size_t first, std::size_t count) noexcept {
    for (std::size_t row = first; row < first + count; ++row) {
        float* const packed = batch.scratch.queries(row);
        std::copy_n(batch.query(row), batch.s.head_dim, packed);
        std::fill(packed + batch.s.head_dim, packed + simd::query_stride(batch.s.head_dim), 0.0f);
        simd::scale({packed, batch.s.head_dim}, *batch.s.scale);
    }
}

/// Logits of packed queries against some states of their KV head.
template <class Layer>
void find_logits(const Layer& layer, const query_batch& batch, const row_range& range, state_range states) noexcept {
    float* const logits = batch.scratch.logits(range.first) + states.begin;
    simd::dot_products(batch.scratch.queries(range.first), range.count, batch.s.head_dim,
                       layer.keys(range.kv_head).matrix(states.begin), states.size(), logits, batch.scratch.stride(),
                       range.products);
    if (batch.s.softcap == 0) return;
    for (std::size_t i = 0; i < range.count; ++i) {
        simd::softcap({logits + i * batch.scratch.stride(), states.size()}, batch.s.softcap);
    }
}

/// sums [range.count] = probabilities times the values of some states of their KV head.
template <class Layer>
void weighted_sum(const Layer& layer, const query_batch& batch, const row_range& range, state_range states,
                  float* sums) noexcept {
    simd::weighted_sums(batch.scratch.logits(range.first) + states.begin, batch.scratch.stride(), range.count,
                        layer.values(range.kv_head).matrix(states.begin), states.size(), batch.s.value_dim, sums,
                        range.products);
}

/// The same over states [0, n), into the caller's output.
template <class Layer>
void weighted_sum_to_output(const Layer& layer, const query_batch& batch, const row_range& range,
                            std::size_t n) noexcept {
    weighted_sum(layer, batch, range, {0, n}, batch.scratch.sums(range.first));
    for (std::size_t row = range.first; row < range.end(); ++row) {
        std::copy_n(batch.scratch.sums(row), batch.s.value_dim, batch.output(row));
    }
}

/// [0, n), divided into at most `parts` parts at multiples of `step`.
struct equal_parts {
    std::size_t n;
    std::size_t parts;
    std::size_t step;

    /// Calls f(begin, end) for part i if it is not empty.
    template <class F>
    void with_part(std::size_t i, F f) const noexcept {
        const std::size_t size = simd::padded((n + parts - 1) / parts, step);
        if (i * size < n) f(i * size, (std::min)(n, (i + 1) * size));
    }
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
