#pragma once

// All tables of a model, one per layer or per KV head as the policy forgets: for engines that store rows themselves.
//
//     ms::tables<ms::d2o> tables({.layers = 32, .heads = 32, .kv_heads = 8, .head_dim = 128, .states = 512});
//
//     const auto write = [&](std::size_t kv_head, std::size_t row, std::span<const ms::move> moves) {
//         for (const auto [from, to] : moves) engine.copy(layer, kv_head, from, to);
//         engine.write(layer, kv_head, row, k, v);
//     };
//     bool done = tables.append(layer, {.first = position, .k = k, .v = v}, stored, write);
//     engine.attend(layer, q, out, probabilities);            // rows [0, tables.size(layer, kv_head)), in any order
//     tables.observe_queries(layer, q);                       // both are free for policies that do not look
//     tables.observe(layer, probabilities);
//
// `stored` lends the engine's rows to policies that read or merge them; others take nothing_stored (reading.hpp).
#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "multistate/core/shape.hpp"
#include "multistate/table/table.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

template <policy P>
std::size_t tables_per_layer(const shape& s, const P& policy) noexcept {
    return policy.forgets() == per::head ? s.kv_heads : 1;
}

}  // namespace detail

/// Tokens of consecutive positions that come to a layer at once.
struct arrival {
    position first;
    std::size_t tokens = 1;
    std::span<const float> k = {};  ///< [tokens, kv_heads, head_dim]; needed where the policy reads new keys
    std::span<const float> v = {};  ///< [tokens, kv_heads, value_dim]; needed where it reads new values
};

/// Calls on different layers may run concurrently. Allocates in the constructor.
template <policy P>
class tables {
  public:
    /// `budget` gives states of their own to layers [layers], or to KV heads [layers * kv_heads] under a policy that
    /// forgets per head; shape().states is then the greatest. Throws std::invalid_argument for a shape that cannot be
    /// (see shape.hpp), or that needs more memory than the machine has, naming argument, bound and value.
    explicit tables(const multistate::shape& given, const P& policy = {}, std::span<const std::size_t> budget = {})
        : tables(given, policy, budget, std::nullopt) {}

    /// The shape with its defaults filled in.
    const multistate::shape& shape() const noexcept { return shape_; }
    /// Rows that a KV head may come to use: states + slack + block.
    std::size_t rows(std::size_t layer, std::size_t kv_head = 0) const noexcept {
        return expect("rows", layer, kv_head).rows();
    }
    /// Live rows of a KV head: the survivors and the tokens since, states + 1 after a single token.
    std::size_t size(std::size_t layer, std::size_t kv_head = 0) const noexcept {
        return expect("size", layer, kv_head).size();
    }
    /// How many states survive a decision.
    std::size_t states(std::size_t layer, std::size_t kv_head = 0) const noexcept {
        return expect("states", layer, kv_head).states();
    }
    /// The position of each live row.
    std::span<const position> positions(std::size_t layer, std::size_t kv_head = 0) const noexcept {
        return expect("positions", layer, kv_head).positions();
    }
    std::span<const float> scores(std::size_t layer, std::size_t kv_head = 0) const noexcept {
        return expect("scores", layer, kv_head).scores();
    }
    /// May be written between a token and the next: see table::scores.
    std::span<float> scores(std::size_t layer, std::size_t kv_head = 0) noexcept {
        expect("scores", layer, kv_head);
        return tables_[index(layer, kv_head)].scores();
    }
    /// What the last append, prefill or forget of this layer forgot.
    std::span<const forgotten_state> forgotten(std::size_t layer, std::size_t kv_head = 0) const noexcept {
        return expect("forgotten", layer, kv_head).forgotten();
    }
    /// The next RoPE index of a layer, which is not its size.
    position next_position(std::size_t layer = 0) const noexcept {
        return expect("next_position", layer).next_position();
    }

    /// Places from 1 to `block` tokens. Forgets down to `states` first, where more than states + slack are held. Then
    /// calls write(kv_head, row, moves) for every KV head: whoever stores the rows applies the moves, in order, and
    /// writes the tokens into the rows from `row` on. A single token takes the row of the state that it replaces, and
    /// nothing moves; a block comes to lie in the last rows, as with slack every token does. Returns false, and changes
    /// nothing, when the policy never forgets and the rows are used up.
    template <class Stored, class Write>
    [[nodiscard]] bool append(std::size_t layer, const arrival& a, Stored&& stored, Write&& write) noexcept {
        expect("append", layer);
        detail::check(a.tokens >= 1 && a.tokens <= shape_.block, "append", "tokens",
                      detail::bound{"from 1 to block = ", shape_.block}, a.tokens);
        detail::expect_floats("append", "k", "nothing or [tokens, kv_heads, head_dim] floats, ", a.k.size(),
                              a.k.empty() ? 0 : a.tokens * shape_.kv_heads * shape_.head_dim);
        detail::expect_floats("append", "v", "nothing or [tokens, kv_heads, value_dim] floats, ", a.v.size(),
                              a.v.empty() ? 0 : a.tokens * shape_.kv_heads * shape_.value_dim);
        if (!has_room(layer, a.tokens)) return false;
        for (std::size_t unit = 0; unit < per_layer_; ++unit) {
            of_layer(layer)[unit].begin();
            append_next(layer, unit, a, stored, write);
        }
        return true;
    }

    /// Shows the policy the queries of one token, [heads, head_dim] as attention takes them, before its probabilities.
    /// Free for policies that do not look.
    void observe_queries(std::size_t layer, std::span<const float> q) noexcept {
        expect("observe_queries", layer);
        detail::expect_floats("observe_queries", "q", "[heads, head_dim] floats, ", q.size(),
                              shape_.heads * shape_.head_dim);
        for (std::size_t unit = 0; unit < per_layer_; ++unit) {
            table<P>& t = of_layer(layer)[unit];
            t.observe_queries(query_rows(unit, 0, q), t.size());
        }
    }

    /// Shows the policy the probabilities of one token: [heads, width], where width is the size of the layer's largest
    /// KV head and each head looks at as many as it holds. After a block of several, once for each of its tokens in
    /// order, with the rows that token could see.
    void observe(std::size_t layer, multistate::rows probabilities) noexcept {
        expect("observe", layer);
        const std::size_t most = largest(layer);
        detail::check(probabilities.count == shape_.heads, "observe", "probabilities",
                      detail::bound{"one row for each query head: ", shape_.heads}, probabilities.count);
        detail::check(probabilities.width <= most, "observe", "width",
                      detail::bound{"at most the rows of the largest KV head, ", most}, probabilities.width);
        const std::size_t heads = shape_.heads / per_layer_;
        for (std::size_t unit = 0; unit < per_layer_; ++unit) {
            table<P>& t = of_layer(layer)[unit];
            detail::check(probabilities.width + t.size() > most, "observe", "width",
                          detail::bound{"more than the rows by which the KV heads differ, ", most - t.size()},
                          probabilities.width);
            t.observe({probabilities[unit * heads].data(), heads, t.size() - (most - probabilities.width),
                       probabilities.stride});
        }
    }
    /// The same for one token, [heads, stride] with stride = probabilities.size() / heads.
    void observe(std::size_t layer, std::span<const float> probabilities) noexcept {
        expect("observe", layer);
        const std::size_t stride = probabilities.size() / shape_.heads;
        detail::check(stride * shape_.heads == probabilities.size() && stride >= largest(layer), "observe",
                      "probabilities",
                      detail::bound{"floats in rows of one length, for each query head at least ", largest(layer)},
                      probabilities.size());
        observe(layer, multistate::rows{probabilities.data(), shape_.heads, largest(layer), stride});
    }

    /// Makes the decision now that the next append would make: forgets down to `states`. Then calls
    /// move(kv_head, moves) for every KV head.
    template <class Stored, class Move>
    void forget(std::size_t layer, Stored&& stored, Move&& move) noexcept {
        expect("forget", layer);
        for (std::size_t unit = 0; unit < per_layer_; ++unit) {
            of_layer(layer)[unit].begin();
            forget_next(layer, unit, stored, move);
        }
    }

    /// Tells the policy that the prompt has ended.
    template <class Stored>
    void finish_prompt(std::size_t layer, Stored&& stored) noexcept {
        expect("finish_prompt", layer);
        for (table<P>& t : of_layer(layer)) t.finish_prompt(lent(stored, t));
    }

    /// Forgets everything and keeps the memory.
    void clear() noexcept {
        for (table<P>& t : tables_) t.clear();
    }

    std::size_t memory_bytes() const noexcept {
        std::size_t bytes = 0;
        for (const table<P>& t : tables_) bytes += sizeof t + t.memory_bytes();
        return bytes;
    }

    /// The tables of a layer: one, or one for each KV head. For what is done to one at a time (table.hpp).
    std::span<table<P>> of_layer(std::size_t layer) noexcept {
        return std::span(tables_).subspan(layer * per_layer_, per_layer_);
    }
    std::span<const table<P>> of_layer(std::size_t layer) const noexcept {
        return std::span(tables_).subspan(layer * per_layer_, per_layer_);
    }

  protected:  // for the cache, which takes one table at a time: the `unit`-th of a layer
    /// KV heads that a table answers for.
    std::size_t heads_per_table() const noexcept { return shape_.kv_heads / per_layer_; }
    /// Live rows of the layer's largest KV head.
    std::size_t largest(std::size_t layer) const noexcept {
        std::size_t most = 0;
        for (const table<P>& t : of_layer(layer)) most = (std::max)(most, t.size());
        return most;
    }
    [[nodiscard]] bool has_room(std::size_t layer, std::size_t tokens) const noexcept {
        return of_layer(layer).front().has_room(tokens);
    }
    /// append for one table; adds to what is forgotten already.
    template <class Stored, class Write>
    void append_next(std::size_t layer, std::size_t unit, const arrival& a, Stored& stored, Write& write) noexcept {
        table<P>& t = of_layer(layer)[unit];
        std::size_t row = t.size();
        std::span<const move> moves;
        if (a.tokens == 1 && (!t.is_due() || row == t.states() + 1)) {
            row = t.place_next(a.first, key_rows(unit, 0, a.k), value_rows(unit, 0, a.v), lent(stored, t));
        } else {
            moves = t.append_next(a.first, a.tokens, lent(stored, t));
            row = t.size() - a.tokens;
            for (std::size_t i = 0; i < a.tokens; ++i) {
                t.insert(row + i, key_rows(unit, i, a.k), value_rows(unit, i, a.v));
            }
        }
        for_heads(unit, [&](std::size_t kv_head) { write(kv_head, row, moves); });
    }
    /// forget for one table; adds to what is forgotten already.
    template <class Stored, class Move>
    void forget_next(std::size_t layer, std::size_t unit, Stored& stored, Move& move) noexcept {
        table<P>& t = of_layer(layer)[unit];
        const auto moves = t.forget_next(lent(stored, t));
        for_heads(unit, [&](std::size_t kv_head) { move(kv_head, moves); });
    }

    // What a table is shown of a token of a block: k [tokens, kv_heads, head_dim], and so on.
    multistate::rows key_rows(std::size_t unit, std::size_t token, std::span<const float> k) const noexcept {
        return part_of(k, token, unit, heads_per_table(), shape_.head_dim);
    }
    multistate::rows value_rows(std::size_t unit, std::size_t token, std::span<const float> v) const noexcept {
        return part_of(v, token, unit, heads_per_table(), shape_.value_dim);
    }
    multistate::rows query_rows(std::size_t unit, std::size_t token, std::span<const float> q) const noexcept {
        return part_of(q, token, unit, shape_.heads / per_layer_, shape_.head_dim);
    }

    /// With guards in force, if any, instead of the policy's and the shape's.
    tables(const multistate::shape& given, const P& policy, std::span<const std::size_t> budget,
           const std::optional<guards>& guarded)
        : shape_(detail::with_budget(given, budget)), per_layer_(detail::tables_per_layer(shape_, policy)) {
        detail::require_memory("cache", bytes_and_rows_for(shape_, policy, budget, guarded).first);
        tables_.reserve(shape_.layers * per_layer_);
        for (std::size_t i = 0; i < shape_.layers * per_layer_; ++i) {
            tables_.emplace_back(detail::table_shape_of(shape_, per_layer_, i, budget, guarded), policy);
        }
    }
    /// What memory_bytes() will be, and the rows of all KV heads.
    static std::pair<std::size_t, std::size_t> bytes_and_rows_for(const multistate::shape& given, const P& policy,
                                                                  std::span<const std::size_t> budget,
                                                                  const std::optional<guards>& guarded) {
        constexpr const char* who = "cache";
        const multistate::shape s = detail::with_budget(given, budget);
        const std::size_t per_layer = detail::tables_per_layer(s, policy);
        const std::size_t count = detail::product(who, s.layers, per_layer);
        std::size_t bytes = detail::bytes<table<P>>(who, count), rows = 0;
        const std::size_t alike = budget.empty() ? count : 1;
        for (std::size_t i = 0; i < count; i += alike) {
            const table_shape t = detail::table_shape_of(s, per_layer, i, budget, guarded);
            bytes = detail::sum(who, bytes, detail::product(who, table<P>::bytes_for(t, policy), alike));
            rows = detail::sum(who, rows,
                               detail::product(who, detail::rows_of(t), detail::product(who, t.kv_heads, alike)));
        }
        return {bytes, rows};
    }
    /// The border of whatever takes a layer.
    const table<P>& expect(const char* who, std::size_t layer, std::size_t kv_head = 0) const noexcept {
        detail::check(!tables_.empty(), who, "the cache", "one that has layers", "moved from");
        detail::check(layer < shape_.layers, who, "layer", detail::bound{"less than layers = ", shape_.layers}, layer);
        detail::check(kv_head < shape_.kv_heads, who, "kv_head",
                      detail::bound{"less than kv_heads = ", shape_.kv_heads}, kv_head);
        return tables_[index(layer, kv_head)];
    }

    std::span<table<P>> all() noexcept { return tables_; }
    /// Calls f(kv_head) for the KV heads of a unit.
    template <class F>
    void for_heads(std::size_t unit, F f) const noexcept {
        for (std::size_t i = 0; i < heads_per_table(); ++i) f(unit * heads_per_table() + i);
    }

  private:
    std::size_t index(std::size_t layer, std::size_t kv_head) const noexcept {
        return layer * per_layer_ + (per_layer_ == 1 ? 0 : kv_head);
    }
    /// How the policy reads, and merges, rows when it decides; empty for policies that do not.
    template <class Stored>
    static editor lent([[maybe_unused]] Stored& stored, [[maybe_unused]] const table<P>& t) noexcept {
        if constexpr (detail::has_listed_form<P, hook::on_forget> || has_merge<P> || has_finish_prompt<P>) {
            const editor rows = stored.lend(t.shape());
            detail::check(!t.writes_stored() || (rows.access != nullptr && rows.access->store != nullptr), "tables",
                          "stored", "lent with a function that stores, as the policy merges", "without");
            return rows;
        } else {
            return {};
        }
    }
    /// The heads of a unit in x [tokens, heads of all units, width]; nothing of nothing.
    multistate::rows part_of(std::span<const float> x, std::size_t token, std::size_t unit, std::size_t heads,
                             std::size_t width) const noexcept {
        if (x.empty()) return {};
        return {x.data() + (token * per_layer_ + unit) * heads * width, heads, width, width};
    }

    multistate::shape shape_;
    std::size_t per_layer_;  // tables of a layer: 1, or one per KV head
    std::vector<table<P>> tables_;
};

}}  // namespace multistate::MULTISTATE_TARGET
