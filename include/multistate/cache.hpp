#pragma once

// A cache that cannot grow: keys and values of one sequence, of which `states` survive each decision in each layer.
//
//     // 32 layers, 32 query heads on 8 KV heads of 128; 512 states survive in each layer
//     ms::cache<ms::tova, ms::bf16> cache({.layers = 32, .heads = 32, .kv_heads = 8, .head_dim = 128, .states = 512});
//
//     cache.append(layer, position, k, v);                    // forgets if it must, then overwrites that row
//     my_attention(q, cache, layer, out, probabilities);      // rows [0, cache.size(layer)), in any order
//     cache.observe(layer, probabilities);                    // free for policies that do not look
//
// ms::step in attention.hpp does the three with the library's own attention. Keys arrive rotated (RoPE) at their
// absolute positions and are never touched. Memory is allocated in the constructor, by clone and by rebudget.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "multistate/storage.hpp"
#include "multistate/table.hpp"
#include "multistate/workspace.hpp"

namespace multistate::inline MULTISTATE_TARGET {

namespace detail {
struct cache_access;
}

/// Layout: [layer][kv_head][row][dimension], rows padded to 16 elements, states + slack + block rows. Calls on
/// different layers and on different caches may run concurrently.
template <policy P, codec KeyCodec = f32, codec ValueCodec = KeyCodec>
class cache {
  public:
    /// `budget` gives states of their own to layers [layers], or to KV heads [layers * kv_heads] under a policy that
    /// forgets per head; shape().states is then the greatest. Throws std::invalid_argument for a shape that cannot be
    /// (see shape.hpp), naming argument, bound and value.
    explicit cache(const multistate::shape& given, const P& policy = {}, std::span<const std::size_t> budget = {})
        : shape_(with_budget(given, budget)),
          per_layer_(policy.forgets() == per::head ? shape_.kv_heads : 1),
          tables_(make_tables(policy, budget)),
          stored_(rows_of_planes(), shape_.kv_heads, shape_.head_dim, shape_.value_dim),
          workspace_(shape_) {}

    cache(cache&&) noexcept = default;
    cache& operator=(cache&&) noexcept = default;
    /// A copy that continues alike. Spelled out because it costs what the cache weighs.
    cache clone() const { return cache(*this); }

    /// The shape with its defaults filled in.
    const multistate::shape& shape() const noexcept { return shape_; }
    /// Live rows of a KV head: the survivors and the tokens since, states + 1 after a single token.
    std::size_t size(std::size_t layer, std::size_t kv_head = 0) const noexcept { return at(layer, kv_head).size(); }
    /// How many states survive a decision.
    std::size_t states(std::size_t layer, std::size_t kv_head = 0) const noexcept {
        return at(layer, kv_head).states();
    }
    /// The position of each live row.
    std::span<const position> positions(std::size_t layer, std::size_t kv_head = 0) const noexcept {
        return at(layer, kv_head).positions();
    }
    std::span<const float> scores(std::size_t layer, std::size_t kv_head = 0) const noexcept {
        return at(layer, kv_head).scores();
    }
    /// May be written between a token and the next: see table::scores.
    std::span<float> scores(std::size_t layer, std::size_t kv_head = 0) noexcept { return at(layer, kv_head).scores(); }
    /// What the last append, prefill or forget of this layer forgot.
    std::span<const forgotten_state> forgotten(std::size_t layer, std::size_t kv_head = 0) const noexcept {
        return at(layer, kv_head).forgotten();
    }
    /// The next RoPE index of a layer, which is not its size.
    position next_position(std::size_t layer = 0) const noexcept { return at(layer, 0).next_position(); }

    stored_rows<KeyCodec> keys(std::size_t layer, std::size_t kv_head) const noexcept {
        return stored_.keys(layer, kv_head);
    }
    stored_rows<ValueCodec> values(std::size_t layer, std::size_t kv_head) const noexcept {
        return stored_.values(layer, kv_head);
    }

    /// Stores tokens of consecutive positions from `first`: k [tokens, kv_heads, head_dim], v [tokens, kv_heads,
    /// value_dim], 1 <= tokens <= block. Forgets down to `states` first, where more than states + slack are held, so a
    /// block comes to lie in the last rows. Returns false, and changes nothing, when the policy never forgets and the
    /// rows are used up.
    bool append(std::size_t layer, position first, std::span<const float> k, std::span<const float> v) noexcept {
        const std::size_t tokens = k.size() / (shape_.kv_heads * shape_.head_dim);
        MULTISTATE_ASSERT(tokens >= 1 && tokens <= shape_.block, "append: from 1 to `block` tokens at once");
        MULTISTATE_ASSERT(k.size() == tokens * shape_.kv_heads * shape_.head_dim,
                          "append: k is not [tokens, kv_heads, head_dim]");
        MULTISTATE_ASSERT(v.size() == tokens * shape_.kv_heads * shape_.value_dim,
                          "append: v is not [tokens, kv_heads, value_dim]");
        if (!has_room(layer, tokens)) return false;
        for (std::size_t unit = 0; unit < per_layer_; ++unit) {
            table_of(layer, unit).begin();
            append_next(layer, unit, first, tokens, k, v);
        }
        return true;
    }

    /// Shows the policy the queries of one token, [heads, head_dim] as attention takes them, before its probabilities.
    /// Free for policies that do not look.
    void observe_queries(std::size_t layer, std::span<const float> q) noexcept {
        MULTISTATE_ASSERT(q.size() == shape_.heads * shape_.head_dim, "observe_queries: q is not [heads, head_dim]");
        for (std::size_t unit = 0; unit < per_layer_; ++unit) {
            table_of(layer, unit).observe_queries(query_rows(unit, 0, q), table_of(layer, unit).size());
        }
    }

    /// Shows the policy the probabilities of one token: [heads, width], where width is the size of the layer's largest
    /// KV head and each head looks at as many as it holds. After a block of several, once for each of its tokens in
    /// order, with the rows that token could see.
    void observe(std::size_t layer, rows probabilities) noexcept {
        const std::size_t most = largest(layer);
        MULTISTATE_ASSERT(probabilities.count == shape_.heads, "observe: one row per query head");
        MULTISTATE_ASSERT(probabilities.width <= most, "observe: more rows than are held");
        const std::size_t heads = shape_.heads / per_layer_;
        for (std::size_t unit = 0; unit < per_layer_; ++unit) {
            table<P>& t = table_of(layer, unit);
            t.observe({probabilities[unit * heads].data(), heads, t.size() - (most - probabilities.width),
                       probabilities.stride});
        }
    }
    /// The same for one token, [heads, stride] with stride = probabilities.size() / heads.
    void observe(std::size_t layer, std::span<const float> probabilities) noexcept {
        const std::size_t stride = probabilities.size() / shape_.heads;
        MULTISTATE_ASSERT(stride >= largest(layer), "observe: fewer probabilities than heads * size(layer)");
        observe(layer, rows{probabilities.data(), shape_.heads, largest(layer), stride});
    }

    /// Makes the decision now that the next append would make: forgets down to `states`.
    void forget(std::size_t layer) noexcept {
        for (std::size_t unit = 0; unit < per_layer_; ++unit) {
            relocate(layer, unit, table_of(layer, unit).forget(stored(layer, unit)));
        }
    }

    /// Tells the policy that the prompt has ended.
    void finish_prompt(std::size_t layer) noexcept {
        for (std::size_t unit = 0; unit < per_layer_; ++unit) {
            table_of(layer, unit).finish_prompt(stored(layer, unit));
        }
    }

    /// Other numbers of states from now on, as the constructor takes them: forgets down to them, then moves into memory
    /// of that size. For budgets that depend on the prompt (budget.hpp). Costs a copy of the cache. Throws
    /// std::invalid_argument for numbers that cannot be, and std::bad_alloc; whatever it throws, nothing has changed.
    void rebudget(std::span<const std::size_t> budget) {
        detail::require(!budget.empty(), "cache", "budget", "a number for each layer or KV head", budget.size());
        cache other(shape_, tables_.front().policy(), budget);
        std::vector<typename table<P>::rebudgeting> work;  // all that may fail comes before the first decision
        work.reserve(tables_.size());
        for (std::size_t i = 0; i < tables_.size(); ++i) {
            work.push_back(tables_[i].prepare_rebudget(other.tables_[i].states()));
        }
        for (std::size_t i = 0; i < tables_.size(); ++i) {
            const std::size_t layer = i / per_layer_, unit = i % per_layer_;
            const auto moves = work[i].finish(other.tables_[i], stored(layer, unit));
            for (std::size_t h = 0; h < heads_per_table(); ++h) {
                other.copy_rows(*this, layer, unit * heads_per_table() + h, other.tables_[i].size(), moves);
            }
        }
        *this = std::move(other);
    }

    /// Forgets everything and keeps the memory.
    void clear() noexcept {
        for (auto& t : tables_) t.clear();
    }

    /// All that this cache allocated: rows, scales, tables and scratch.
    std::size_t memory_bytes() const noexcept {
        std::size_t bytes = stored_.memory_bytes();
        for (const auto& t : tables_) bytes += sizeof t + t.memory_bytes();
        return bytes + workspace_.memory_bytes();
    }

    /// The scratch of calls that bring none.
    multistate::workspace& workspace() noexcept { return workspace_; }

  private:
    friend detail::cache_access;

    cache(const cache&) = default;

    static multistate::shape with_budget(multistate::shape s, std::span<const std::size_t> budget) {
        if (!budget.empty()) s.states = *std::ranges::max_element(budget);
        return detail::checked(s);
    }
    /// The states of table i.
    std::size_t states_of(std::span<const std::size_t> budget, std::size_t i) const {
        if (budget.empty()) return shape_.states;
        if (budget.size() == shape_.layers) return budget[i / per_layer_];
        if (budget.size() == shape_.layers * per_layer_) return budget[i];
        const std::string layers = "one number for each of " + std::to_string(shape_.layers) + " layers";
        detail::require(false, "cache", "budget",
                        per_layer_ == 1
                            ? layers + ", because the policy forgets for all heads of a layer"
                            : layers + ", or for each of their " + std::to_string(shape_.kv_heads) + " KV heads",
                        budget.size());
        return 0;
    }
    std::vector<table<P>> make_tables(const P& policy, std::span<const std::size_t> budget) const {
        std::vector<table<P>> tables;
        const std::size_t count = detail::product("cache", shape_.layers, per_layer_);
        tables.reserve(detail::product("cache", count, sizeof(table<P>)) / sizeof(table<P>));
        for (std::size_t i = 0; i < count; ++i) {
            tables.emplace_back(table_shape{.states = states_of(budget, i),
                                            .block = shape_.block,
                                            .slack = shape_.slack,
                                            .sinks = shape_.sinks,
                                            .recent = shape_.recent,
                                            .layer = i / per_layer_,
                                            .kv_head = i % per_layer_,
                                            .heads = shape_.heads / per_layer_,
                                            .kv_heads = heads_per_table(),
                                            .head_dim = shape_.head_dim,
                                            .value_dim = shape_.value_dim,
                                            .scale = *shape_.scale},
                                policy);
        }
        return tables;
    }

    std::size_t planes() const { return detail::product("cache", shape_.layers, shape_.kv_heads); }
    std::vector<std::size_t> rows_of_planes() const {
        detail::product("cache", planes(), 2 * sizeof(std::size_t));
        std::vector<std::size_t> rows(planes());
        for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = tables_[i / heads_per_table()].rows();
        return rows;
    }

    const table<P>& at(std::size_t layer, std::size_t kv_head) const noexcept {
        return tables_[layer * per_layer_ + (per_layer_ == 1 ? 0 : kv_head)];
    }
    table<P>& at(std::size_t layer, std::size_t kv_head) noexcept {
        return tables_[layer * per_layer_ + (per_layer_ == 1 ? 0 : kv_head)];
    }
    table<P>& table_of(std::size_t layer, std::size_t unit) noexcept { return tables_[layer * per_layer_ + unit]; }
    /// Live rows of the layer's largest KV head.
    std::size_t largest(std::size_t layer) const noexcept {
        std::size_t most = 0;
        for (std::size_t unit = 0; unit < per_layer_; ++unit) most = std::max(most, at(layer, unit).size());
        return most;
    }
    // A table answers for `heads_per_table` KV heads: all of them, or one.
    std::size_t heads_per_table() const noexcept { return shape_.kv_heads / per_layer_; }

    /// append for one table; adds to what is forgotten already.
    void append_next(std::size_t layer, std::size_t unit, position first, std::size_t tokens, std::span<const float> k,
                     std::span<const float> v) noexcept {
        table<P>& t = table_of(layer, unit);
        std::size_t row = t.size();
        if (tokens == 1 && (!t.is_due() || row == t.states() + 1)) {
            row = t.place_next(first, key_rows(unit, 0, k), value_rows(unit, 0, v), stored(layer, unit));
        } else {
            relocate(layer, unit, t.append_next(first, tokens, stored(layer, unit)));
            row = t.size() - tokens;
            for (std::size_t i = 0; i < tokens; ++i) t.insert(row + i, key_rows(unit, i, k), value_rows(unit, i, v));
        }
        for (std::size_t i = 0; i < tokens; ++i) write(layer, unit, row + i, i, k, v);
    }

    bool has_room(std::size_t layer, std::size_t tokens) const noexcept { return at(layer, 0).has_room(tokens); }

    rows key_rows(std::size_t unit, std::size_t token, std::span<const float> k) const noexcept {
        const std::size_t d = shape_.head_dim;
        return {k.data() + (token * shape_.kv_heads + unit * heads_per_table()) * d, heads_per_table(), d, d};
    }
    rows query_rows(std::size_t unit, std::size_t token, std::span<const float> q) const noexcept {
        const std::size_t heads = shape_.heads / per_layer_;
        const std::size_t d = shape_.head_dim;
        return {q.data() + (token * shape_.heads + unit * heads) * d, heads, d, d};
    }
    rows value_rows(std::size_t unit, std::size_t token, std::span<const float> v) const noexcept {
        const std::size_t d = shape_.value_dim;
        return {v.data() + (token * shape_.kv_heads + unit * heads_per_table()) * d, heads_per_table(), d, d};
    }

    void write(std::size_t layer, std::size_t unit, std::size_t row, std::size_t token, std::span<const float> k,
               std::span<const float> v) noexcept {
        const rows key = key_rows(unit, token, k);
        const rows value = value_rows(unit, token, v);
        for (std::size_t i = 0; i < heads_per_table(); ++i) {
            stored_.write(layer, unit * heads_per_table() + i, row, key[i].data(), value[i].data());
        }
    }

    void relocate(std::size_t layer, std::size_t unit, std::span<const move> moves) noexcept {
        for (std::size_t i = 0; i < heads_per_table(); ++i) {
            for (const auto [from, to] : moves) {
                stored_.copy(stored_, layer, unit * heads_per_table() + i, from, to);
            }
        }
    }

    /// Rows [0, size) of a KV head of `old`, after moves.
    void copy_rows(const cache& old, std::size_t layer, std::size_t kv_head, std::size_t size,
                   std::span<const move> moves) noexcept {
        for (std::size_t row = 0; row < size; ++row) stored_.copy(old.stored_, layer, kv_head, row, row);
        for (const auto [from, to] : moves) stored_.copy(old.stored_, layer, kv_head, from, to);
    }

    /// How a policy reads, and merges, this layer's rows when it decides; empty for policies that do not.
    editor stored(std::size_t layer, std::size_t unit) noexcept {
        if constexpr (!decides_from_storage<P> && !merges<P> && !observes_prompt_end<P>) {
            return {};
        } else {
            return stored_.edit(layer, unit * heads_per_table(), heads_per_table());
        }
    }

    multistate::shape shape_;
    std::size_t per_layer_;  // tables of a layer: 1, or one per KV head
    std::vector<table<P>> tables_;
    key_value_storage<KeyCodec, ValueCodec> stored_;
    multistate::workspace workspace_;
};

}  // namespace multistate::inline MULTISTATE_TARGET
