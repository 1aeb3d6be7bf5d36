#pragma once

// q_filters: keeps states whose keys point like the queries: one direction per KV head predicts the attention.
//
//     ms::q_filters policy{.filters = filters, .kv_heads = 8};   // [layers][kv_heads][head_dim]; must outlive `policy`
//     ms::cache<ms::q_filters> cache(shape, policy);             // without filters: computed from the observed queries
//
//   paper    "Q-Filters: Leveraging QK Geometry for Efficient KV Cache Compression", arXiv 2503.02812
//   rule     score[j] = -f . k[j], f = minus the first right singular vector of many queries, not centered, on the side
//            where most queries are; averaged over the group
//   reads    new keys if filters are given; otherwise queries and, at a decision, the stored keys
//   forgets  for each KV head; no state is guarded (the authors' example guards the newest 64 of 128)
//   cost     with filters, head_dim operations per new key, and a decision costs nothing. Without, head_dim^2 per query
//            and `steps` times that per decision and KV head. Measured, for a group of 4: from half (4096 states) to
//            all (512) of the cost of attention; a third of that with a slack of 31. 4 head_dim^2 bytes per KV head.
//   differs  with filters (published by the authors or computed by q_filter): nothing differs. Without filters, the
//            direction is that of all queries of the group so far: their mean, turned by power iteration towards the
//            singular vector, on the side of the mean (see count_token for more than a million tokens). A layer
//            (per_layer) sums over its KV heads.
#include <algorithm>
#include <vector>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct q_filters {
    static constexpr std::string_view name = "q_filters";
    static constexpr std::string_view paper = "arXiv 2503.02812";
    static constexpr per forgets() noexcept { return per::head; }
    /// Each head's keys have their own scale.
    static constexpr bool scores_are_comparable() noexcept { return false; }

    std::span<const float> filters = {};  ///< [layers][kv_heads][head_dim]; empty: from the observed queries
    std::size_t kv_heads = 0;             ///< of a layer; used if filters are given
    std::size_t steps = 4;                ///< power iterations; used if no filters are given
    static constexpr parameter<q_filters> parameters[] = {{"steps", &q_filters::steps, 0, 1000}};

    reads what_is_read() const noexcept {
        const bool given = !filters.empty();
        return {.queries = !given, .arrivals = true, .stored = !given, .order = true};
    }
    struct memory {                          // used if no filters are given
        per_state<float> products;           // scratch
        per_table<std::uint64_t> count;      // of tokens; see count_token
        per_table_array<float> queries;      // [KV heads][head_dim]: their sum
        per_table_array<float> squares;      // [KV heads][head_dim, head_dim]: the sum of q q^T
        per_table<float> direction, vector;  // scratch
    };
    void lay_out(memory& m, layout& l) const noexcept {
        if (!filters.empty()) return;
        const std::size_t heads = l.shape().kv_heads, d = l.shape().head_dim;
        l(m.products);
        l(m.count);
        l(m.queries, heads, d);
        l(m.squares, heads, d * d);
        l(m.direction, d);
        l(m.vector, d);
    }

    void check_shape(const table_shape& s) const {
        using detail::require;
        const bool given = !filters.empty();
        require(given || kv_heads == 0, name.data(), "filters", "given, as kv_heads is", filters.size());
        if (!given) return;
        require(kv_heads >= s.kv_head + s.kv_heads, name.data(), "kv_heads", "those of a layer", kv_heads);
        require(s.head_dim >= 1, name.data(), "head_dim", "at least 1", s.head_dim);
        const std::size_t layer = kv_heads * s.head_dim;
        if (filters.size() % layer == 0 && filters.size() / layer > s.layer) return;
        detail::refuse_value(name.data(), "filters",
                             "[layers][kv_heads][head_dim], " + std::to_string(layer) + " floats for each layer",
                             filters.size());
    }

    void on_insert(rows keys, rows, view states, std::size_t row) const noexcept {
        if (filters.empty()) return;
        detail::expect_heads(name, "keys", keys, states);
        const std::size_t first = states.shape.layer * kv_heads + states.shape.kv_head;
        for (std::size_t h = 0; h < keys.count; ++h) {
            states.score[row] -= simd::dot(filters.subspan((first + h) * keys.width, keys.width), keys[h]);
        }
    }
    void on_query(rows queries, view states) const noexcept {
        if (!filters.empty()) return;
        const memory mine = states.memory(*this);
        if (count_token(mine.count[0])) {
            for (std::size_t h = 0; h < states.shape.kv_heads; ++h) {  // the directions stay
                simd::scale(mine.queries[h], 0.5f);
                simd::scale(mine.squares[h], 0.5f);
            }
        }
        for (std::size_t i = 0; i < queries.count; ++i) {
            const std::size_t h = i / states.shape.group();
            simd::add(queries[i], mine.queries[h]);
            add_square(1, queries[i], mine.squares[h]);
        }
    }
    void on_forget(const reader& stored, view states) const noexcept {
        if (!filters.empty()) return;
        const memory mine = states.memory(*this);
        std::ranges::fill(states.score, 0.0f);
        for (std::size_t h = 0; h < states.shape.kv_heads; ++h) {
            std::ranges::copy(mine.queries[h], mine.direction.begin());
            power_iteration(mine.squares[h], steps, mine.direction, mine.vector);
            stored.dot_keys(h, mine.direction, mine.products);
            simd::add(mine.products, states.score);
        }
    }
};
static_assert(policy<q_filters> && hooks_of<q_filters> == (hook::check_shape | hook::scores_are_comparable |
                                                           hook::on_insert | hook::on_query | hook::on_forget));

/// The filter of one query head from its queries [tokens, head_dim], rotated as in attention; the authors use 3000 from
/// ten texts. Average the filters of a group, and pass the averages to the policy. Allocates.
inline std::vector<float> q_filter(rows queries, std::size_t steps = 100) {
    const std::size_t d = queries.width;
    std::vector<float> filter(d), squares(d * d), scratch(d);
    for (std::size_t t = 0; t < queries.count; ++t) {
        simd::add(queries[t], filter);
        add_square(1, queries[t], squares);
    }
    power_iteration(squares, steps, filter, scratch);
    std::size_t along = 0;
    for (std::size_t t = 0; t < queries.count; ++t) along += simd::dot(queries[t], filter) > 0;
    if (2 * along > queries.count) simd::scale(filter, -1);
    return filter;
}

}}  // namespace multistate::MULTISTATE_TARGET
