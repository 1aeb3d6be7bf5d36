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
// absolute positions and are never touched. Memory is allocated in the constructor and never again.
#include <utility>
#include <vector>

#include "multistate/storage.hpp"
#include "multistate/table.hpp"
#include "multistate/workspace.hpp"

namespace multistate::inline MULTISTATE_TARGET {

namespace detail {
struct cache_access;
}

/// Layout: [layer][kv_head][row][dimension], rows padded to 16 elements, states + block rows. Calls on different layers
/// and on different caches may run concurrently.
template <policy P, codec KeyCodec = f32, codec ValueCodec = KeyCodec>
class cache {
  public:
    /// Throws std::invalid_argument for a shape that cannot be (see shape.hpp), naming argument, bound and value.
    explicit cache(const multistate::shape& given, const P& policy = {})
        : shape_(detail::checked(given)),
          per_layer_(policy.forgets() == per::head ? shape_.kv_heads : 1),
          tables_(make_tables(policy)),
          rows_(tables_.front().rows()),
          keys_(planes(), rows_, shape_.head_dim),
          values_(planes(), rows_, shape_.value_dim),
          workspace_(shape_) {}

    cache(cache&&) noexcept = default;
    cache& operator=(cache&&) noexcept = default;
    /// A copy that continues alike. Spelled out because it costs what the cache weighs.
    cache clone() const { return cache(*this); }

    /// The shape with its defaults filled in.
    const multistate::shape& shape() const noexcept { return shape_; }
    /// Live rows of a KV head: the survivors and the tokens since, states + 1 after a single token.
    std::size_t size(std::size_t layer, std::size_t kv_head = 0) const noexcept { return at(layer, kv_head).size(); }
    /// The position of each live row.
    std::span<const position> positions(std::size_t layer, std::size_t kv_head = 0) const noexcept {
        return at(layer, kv_head).positions();
    }
    std::span<const float> scores(std::size_t layer, std::size_t kv_head = 0) const noexcept {
        return at(layer, kv_head).scores();
    }
    /// What the last append, prefill or forget of this layer forgot.
    std::span<const forgotten_state> forgotten(std::size_t layer, std::size_t kv_head = 0) const noexcept {
        return at(layer, kv_head).forgotten();
    }
    /// The next RoPE index of a layer, which is not its size.
    position next_position(std::size_t layer = 0) const noexcept { return at(layer, 0).next_position(); }

    stored_rows<KeyCodec> keys(std::size_t layer, std::size_t kv_head) const noexcept {
        return keys_.plane(layer * shape_.kv_heads + kv_head);
    }
    stored_rows<ValueCodec> values(std::size_t layer, std::size_t kv_head) const noexcept {
        return values_.plane(layer * shape_.kv_heads + kv_head);
    }

    /// Stores tokens of consecutive positions from `first`: k [tokens, kv_heads, head_dim], v [tokens, kv_heads,
    /// value_dim], 1 <= tokens <= block. Forgets down to `states` first, so a block comes to lie in the last rows.
    /// Returns false, and changes nothing, when the policy never forgets and the rows are used up.
    bool append(std::size_t layer, position first, std::span<const float> k, std::span<const float> v) noexcept {
        const std::size_t tokens = k.size() / (shape_.kv_heads * shape_.head_dim);
        MULTISTATE_ASSERT(tokens >= 1 && tokens <= shape_.block, "append: from 1 to `block` tokens at once");
        MULTISTATE_ASSERT(k.size() == tokens * shape_.kv_heads * shape_.head_dim,
                          "append: k is not [tokens, kv_heads, head_dim]");
        MULTISTATE_ASSERT(v.size() == tokens * shape_.kv_heads * shape_.value_dim,
                          "append: v is not [tokens, kv_heads, value_dim]");
        if (!has_room(layer, tokens)) return false;
        for (std::size_t unit = 0; unit < per_layer_; ++unit) append(layer, unit, first, tokens, k, v);
        return true;
    }

    /// Shows the policy the probabilities of one token: [heads, width], width = size(layer). After a block of several,
    /// once for each of its tokens in order, with the rows that token could see.
    void observe(std::size_t layer, rows probabilities) noexcept {
        MULTISTATE_ASSERT(probabilities.count == shape_.heads, "observe: one row per query head");
        for (std::size_t unit = 0; unit < per_layer_; ++unit) observe(layer, unit, probabilities);
    }
    /// The same for one token, [heads, stride] with stride = probabilities.size() / heads >= size(layer).
    void observe(std::size_t layer, std::span<const float> probabilities) noexcept {
        const std::size_t stride = probabilities.size() / shape_.heads;
        MULTISTATE_ASSERT(stride >= size(layer), "observe: fewer probabilities than heads * size(layer)");
        observe(layer, rows{probabilities.data(), shape_.heads, size(layer), stride});
    }

    /// Makes the decision now that the next append would make: forgets down to `states`.
    void forget(std::size_t layer) noexcept {
        for (std::size_t unit = 0; unit < per_layer_; ++unit) {
            relocate(layer, unit, tables_[layer * per_layer_ + unit].forget(stored(layer, unit)));
        }
    }

    /// Tells the policy that the prompt has ended.
    void finish_prompt(std::size_t layer) noexcept {
        for (std::size_t unit = 0; unit < per_layer_; ++unit) {
            tables_[layer * per_layer_ + unit].finish_prompt(stored(layer, unit));
        }
    }

    /// Forgets everything and keeps the memory.
    void clear() noexcept {
        for (auto& t : tables_) t.clear();
    }

    /// All that this cache allocated: rows, scales, tables and scratch.
    std::size_t memory_bytes() const noexcept {
        std::size_t bytes = keys_.memory_bytes() + values_.memory_bytes();
        for (const auto& t : tables_) bytes += sizeof t + t.memory_bytes();
        return bytes + workspace_.memory_bytes();
    }

    /// The scratch of calls that bring none.
    multistate::workspace& workspace() noexcept { return workspace_; }

  private:
    friend detail::cache_access;

    cache(const cache&) = default;

    std::vector<table<P>> make_tables(const P& policy) const {
        std::vector<table<P>> tables;
        const std::size_t count = detail::product("cache", shape_.layers, per_layer_);
        tables.reserve(detail::product("cache", count, sizeof(table<P>)) / sizeof(table<P>));
        for (std::size_t i = 0; i < count; ++i) {
            tables.emplace_back(table_shape{.states = shape_.states,
                                            .block = shape_.block,
                                            .sinks = shape_.sinks,
                                            .recent = shape_.recent,
                                            .layer = i / per_layer_,
                                            .kv_head = i % per_layer_},
                                policy);
        }
        return tables;
    }

    std::size_t planes() const { return detail::product("cache", shape_.layers, shape_.kv_heads); }

    const table<P>& at(std::size_t layer, std::size_t kv_head) const noexcept {
        return tables_[layer * per_layer_ + (per_layer_ == 1 ? 0 : kv_head)];
    }
    // A table answers for `heads_per_table` KV heads: all of them, or one.
    std::size_t heads_per_table() const noexcept { return shape_.kv_heads / per_layer_; }
    std::size_t plane(std::size_t layer, std::size_t unit, std::size_t i) const noexcept {
        return layer * shape_.kv_heads + unit * heads_per_table() + i;
    }

    /// append for one table.
    void append(std::size_t layer, std::size_t unit, position first, std::size_t tokens, std::span<const float> k,
                std::span<const float> v) noexcept {
        table<P>& t = tables_[layer * per_layer_ + unit];
        std::size_t row = t.size();
        if (tokens == 1 && row <= t.states() + 1) {
            row = t.place(first, key_rows(unit, 0, k), value_rows(unit, 0, v), stored(layer, unit));
        } else {
            relocate(layer, unit, t.append(first, tokens, stored(layer, unit)));
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
    rows value_rows(std::size_t unit, std::size_t token, std::span<const float> v) const noexcept {
        const std::size_t d = shape_.value_dim;
        return {v.data() + (token * shape_.kv_heads + unit * heads_per_table()) * d, heads_per_table(), d, d};
    }

    void write(std::size_t layer, std::size_t unit, std::size_t row, std::size_t token, std::span<const float> k,
               std::span<const float> v) noexcept {
        const rows key = key_rows(unit, token, k);
        const rows value = value_rows(unit, token, v);
        for (std::size_t i = 0; i < heads_per_table(); ++i) {
            keys_.write(plane(layer, unit, i), row, key[i].data());
            values_.write(plane(layer, unit, i), row, value[i].data());
        }
    }

    void relocate(std::size_t layer, std::size_t unit, std::span<const move> moves) noexcept {
        for (std::size_t i = 0; i < heads_per_table(); ++i) {
            for (const auto [from, to] : moves) {
                keys_.move(plane(layer, unit, i), from, to);
                values_.move(plane(layer, unit, i), from, to);
            }
        }
    }

    void observe(std::size_t layer, std::size_t unit, rows probabilities) noexcept {
        const std::size_t heads = shape_.heads / per_layer_;
        tables_[layer * per_layer_ + unit].observe({probabilities.data + unit * heads * probabilities.stride, heads,
                                                    probabilities.width, probabilities.stride});
    }

    /// How a policy reads this layer's rows when it decides; empty for policies that do not.
    reader stored(std::size_t layer, std::size_t unit) const noexcept {
        if constexpr (!observes_decision<P> && !observes_prompt_end<P>) return {};
        return {.owner = this,
                .load =
                    [](const void* owner, std::size_t l, std::size_t kv_head, std::size_t row, float* key,
                       float* value) noexcept {
                        const auto& self = *static_cast<const cache*>(owner);
                        if (key != nullptr) self.keys(l, kv_head).read(row, key);
                        if (value != nullptr) self.values(l, kv_head).read(row, value);
                    },
                .layer = layer,
                .first_kv_head = unit * heads_per_table(),
                .kv_heads = heads_per_table(),
                .head_dim = shape_.head_dim,
                .value_dim = shape_.value_dim};
    }

    multistate::shape shape_;
    std::size_t per_layer_;  // tables of a layer: 1, or one per KV head
    std::vector<table<P>> tables_;
    std::size_t rows_;
    storage<KeyCodec> keys_;
    storage<ValueCodec> values_;
    multistate::workspace workspace_;
};

namespace detail {

/// What step and prefill need beyond the public interface: they take tables, and decisions, one at a time.
struct cache_access {
    template <class C>
    static bool has_room(const C& cache, std::size_t layer, std::size_t tokens) noexcept {
        return cache.has_room(layer, tokens);
    }
    template <class C>
    static void append(C& cache, std::size_t layer, std::size_t unit, position first, std::span<const float> k,
                       std::span<const float> v) noexcept {
        cache.append(layer, unit, first, 1, k, v);
    }
    template <class C>
    static auto tables(C& cache, std::size_t layer) noexcept {
        return std::span(cache.tables_).subspan(layer * cache.per_layer_, cache.per_layer_);
    }
    template <class C>
    static void forget_next(C& cache, std::size_t layer, std::size_t unit) noexcept {
        cache.relocate(layer, unit, tables(cache, layer)[unit].forget_next(cache.stored(layer, unit)));
    }
    template <class C>
    static void relocate(C& cache, std::size_t layer, std::size_t unit, std::span<const move> moves) noexcept {
        cache.relocate(layer, unit, moves);
    }
    template <class C>
    static void write(C& cache, std::size_t layer, std::size_t unit, std::size_t row, std::size_t token,
                      std::span<const float> k, std::span<const float> v) noexcept {
        cache.write(layer, unit, row, token, k, v);
    }
    template <class C>
    static rows key_rows(const C& cache, std::size_t unit, std::size_t token, std::span<const float> k) noexcept {
        return cache.key_rows(unit, token, k);
    }
    template <class C>
    static rows value_rows(const C& cache, std::size_t unit, std::size_t token, std::span<const float> v) noexcept {
        return cache.value_rows(unit, token, v);
    }
};

}  // namespace detail
}  // namespace multistate::inline MULTISTATE_TARGET
