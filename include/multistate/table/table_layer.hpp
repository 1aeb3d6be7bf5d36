#pragma once

// One layer of tables.hpp: a handle that costs four words to copy. It is valid while the tables do not move.
//
//     auto layer = tables.layer(i);
//     bool done = layer.append({.first = position, .k = k, .v = v}, stored, write);
//     engine.attend(i, q, out, probabilities);                // rows [0, layer.size(kv_head)), in any order
//     layer.observe_queries(q);                               // both are free if the policy does not read them
//     layer.observe(probabilities);
//
// If each KV head decides alone, its table can do the whole step in one task:
//
//     run(layer.table_count(), [&](std::size_t t) { auto head = layer.restricted_to(t);  head.append(…); … });
#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>

#include "multistate/core/shape.hpp"
#include "multistate/table/table.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Tokens of consecutive positions that arrive at a layer together.
struct arrival {
    position first;
    std::size_t tokens = 1;
    std::span<const float> k = {};  ///< [tokens, kv_heads, head_dim]; needed if the policy reads new keys
    std::span<const float> v = {};  ///< [tokens, kv_heads, value_dim]; needed if it reads new values
};

/// Lent to a policy that reads no stored rows.
struct no_rows {
    editor lend(const table_shape&) const noexcept { return {}; }
};
inline constexpr no_rows nothing_stored;

/// `Tables` is tables<P>, or const tables<P> for a read-only handle. A handle may be restricted to one table: it then
/// reads and decides only for the KV heads of that table. KV heads keep their numbers in the layer, and spans are those
/// of the whole layer.
template <class Tables>
class table_layer {
  public:
    using policy_type = typename Tables::policy_type;
    using table_type = std::conditional_t<std::is_const_v<Tables>, const table<policy_type>, table<policy_type>>;

    table_layer(Tables& owner, std::size_t index) noexcept : owner_(&owner), index_(index) {
        expect_owner("layer");
        detail::check(index < shape().layers, "layer", "index", detail::bound{"less than layers = ", shape().layers},
                      index);
        count_ = owner.tables_per_layer();
    }

    /// The shape of all layers, with its defaults filled in.
    const multistate::shape& shape() const noexcept { return owner_->shape(); }
    /// The index of this layer.
    std::size_t index() const noexcept { return index_; }
    /// The policy of the first table; each table has a copy.
    const policy_type& policy() const noexcept { return front("policy").policy(); }

    /// The maximum number of rows of a KV head: states + slack + block.
    std::size_t rows(std::size_t kv_head = 0) const noexcept { return table_of("rows", kv_head).rows(); }
    /// Live rows of a KV head: the survivors and the later tokens; states + 1 after a single token.
    std::size_t size(std::size_t kv_head = 0) const noexcept { return table_of("size", kv_head).size(); }
    /// The number of states that survive a decision.
    std::size_t states(std::size_t kv_head = 0) const noexcept { return table_of("states", kv_head).states(); }
    /// The position of each live row.
    std::span<const position> positions(std::size_t kv_head = 0) const noexcept {
        return table_of("positions", kv_head).positions();
    }
    /// The score of each live row. May be written between two tokens: see table::scores.
    auto scores(std::size_t kv_head = 0) const noexcept { return table_of("scores", kv_head).scores(); }
    /// The states forgotten by the last append, prefill or forget.
    std::span<const forgotten_state> forgotten(std::size_t kv_head = 0) const noexcept {
        return table_of("forgotten", kv_head).forgotten();
    }
    /// The next RoPE index. It is not size().
    position next_position() const noexcept { return front("next_position").next_position(); }
    /// Live rows of the largest KV head: the width of the newest token's probabilities.
    std::size_t largest_size() const noexcept {
        std::size_t most = 0;
        for (const auto& t : tables()) most = (std::max)(most, t.size());
        return most;
    }
    /// Whether `tokens` can be appended. For policies that forget: always, up to `block`.
    [[nodiscard]] bool has_room(std::size_t tokens) const noexcept { return front("has_room").has_room(tokens); }

    /// The number of tables that decide separately: one, or one per KV head.
    std::size_t table_count() const noexcept { return count_; }
    /// These tables, in the order of their KV heads (table.hpp).
    std::span<table_type> tables() const noexcept {
        expect_owner("tables");
        return owner_->all().subspan(index_ * owner_->tables_per_layer() + first_, count_);
    }
    /// The same layer, restricted to table t. Handles of different tables may be used concurrently.
    table_layer restricted_to(std::size_t t) const noexcept {
        detail::check(t < count_, "restricted_to", "t", detail::bound{"less than table_count() = ", count_}, t);
        table_layer result = *this;
        result.first_ += t;
        result.count_ = 1;
        return result;
    }

    /// Places 1 to `block` tokens. First forgets down to `states` if more than states + slack are held. Then calls
    /// write(kv_head, row, relocations) for every KV head: the owner of the rows applies the relocations, in order, and
    /// writes the tokens into the rows from `row` on. A single token takes the row of the state that it replaces, so
    /// nothing moves. A block takes the last rows; with slack, every token does. If the policy never forgets and the
    /// rows are used up, returns false and changes nothing.
    template <class Stored, class Write>
    [[nodiscard]] bool append(const arrival& a, Stored&& stored, Write&& write,
                              forgotten_log log = forgotten_log::restart) const noexcept {
        const multistate::shape& s = expect_owner("append");
        detail::check(a.tokens >= 1 && a.tokens <= s.block, "append", "tokens",
                      detail::bound{"from 1 to block = ", s.block}, a.tokens);
        detail::expect_floats("append", "k", "nothing or [tokens, kv_heads, head_dim] floats, ", a.k.size(),
                              a.k.empty() ? 0 : a.tokens * s.kv_heads * s.head_dim);
        detail::expect_floats("append", "v", "nothing or [tokens, kv_heads, value_dim] floats, ", a.v.size(),
                              a.v.empty() ? 0 : a.tokens * s.kv_heads * s.value_dim);
        if (!has_room(a.tokens)) return false;
        for (auto& t : tables()) append_to(t, a, lent(stored, t), write, log);
        return true;
    }

    /// Shows the policy the queries of one token, [heads, head_dim] as for attention, before its probabilities. Free if
    /// the policy does not read them.
    void observe_queries(std::span<const float> q) const noexcept {
        const multistate::shape& s = expect_owner("observe_queries");
        detail::expect_floats("observe_queries", "q", "[heads, head_dim] floats, ", q.size(), s.heads * s.head_dim);
        for (auto& t : tables()) t.observe_queries(query_rows(t, 0, q), t.size());
    }

    /// Shows the policy the probabilities of one token: [heads, width] with width = largest_size(). Each KV head reads
    /// only its own number of states. After a block of several tokens, call it once per token, in order, with the rows
    /// that this token could see.
    void observe(multistate::rows probabilities) const noexcept {
        const multistate::shape& s = expect_owner("observe");
        const std::size_t most = largest_size();
        detail::check(probabilities.count == s.heads, "observe", "probabilities",
                      detail::bound{"one row for each query head: ", s.heads}, probabilities.count);
        detail::check(probabilities.width <= most, "observe", "width",
                      detail::bound{"at most the rows of the largest KV head, ", most}, probabilities.width);
        for (auto& t : tables()) {
            detail::check(probabilities.width + t.size() > most, "observe", "width",
                          detail::bound{"more than the rows by which the KV heads differ, ", most - t.size()},
                          probabilities.width);
            t.observe({probabilities[t.shape().kv_head * s.group()].data(), t.shape().heads,
                       t.size() - (most - probabilities.width), probabilities.stride});
        }
    }
    /// The same for one token, [heads, stride] with stride = probabilities.size() / heads.
    void observe(std::span<const float> probabilities) const noexcept {
        const multistate::shape& s = expect_owner("observe");
        const std::size_t stride = probabilities.size() / s.heads;
        detail::check(stride * s.heads == probabilities.size() && stride >= largest_size(), "observe", "probabilities",
                      detail::bound{"floats in rows of one length, for each query head at least ", largest_size()},
                      probabilities.size());
        observe(multistate::rows{probabilities.data(), s.heads, largest_size(), stride});
    }

    /// Makes now the decision that the next append would make: forgets down to `states`. Then calls relocate(kv_head,
    /// relocations) for every KV head.
    template <class Stored, class Relocate>
    void forget(Stored&& stored, Relocate&& relocate, forgotten_log log = forgotten_log::restart) const noexcept {
        for (auto& t : tables()) {
            const auto relocations = t.forget(lent(stored, t), log);
            for_kv_heads(t, [&](std::size_t kv_head) { relocate(kv_head, relocations); });
        }
    }

    /// Tells the policy that the prompt has ended.
    template <class Stored>
    void finish_prompt(Stored&& stored) const noexcept {
        for (auto& t : tables()) t.finish_prompt(lent(stored, t));
    }

    /// The rows of a table for one of its tokens, in spans of the whole layer; no rows if the span is empty.
    multistate::rows query_rows(const table_type& t, std::size_t token, std::span<const float> q) const noexcept {
        return rows_of(q, token * shape().heads + t.shape().kv_head * shape().group(), t.shape().heads,
                       shape().head_dim);
    }
    multistate::rows key_rows(const table_type& t, std::size_t token, std::span<const float> k) const noexcept {
        return rows_of(k, token * shape().kv_heads + t.shape().kv_head, t.shape().kv_heads, shape().head_dim);
    }
    multistate::rows value_rows(const table_type& t, std::size_t token, std::span<const float> v) const noexcept {
        return rows_of(v, token * shape().kv_heads + t.shape().kv_head, t.shape().kv_heads, shape().value_dim);
    }

  protected:
    const multistate::shape& expect_owner(const char* who) const noexcept {
        detail::check(!owner_->all().empty(), who, "the cache", "one that has layers", "moved from");
        return shape();
    }
    /// The table of a KV head; a restricted handle must contain it.
    table_type& table_of(const char* who, std::size_t kv_head) const noexcept {
        const multistate::shape& s = expect_owner(who);
        detail::check(kv_head < s.kv_heads, who, "kv_head", detail::bound{"less than kv_heads = ", s.kv_heads},
                      kv_head);
        const std::size_t t = owner_->tables_per_layer() == 1 ? 0 : kv_head;
        detail::check(t - first_ < count_, who, "kv_head",
                      detail::bound{"that of the table to which the handle is restricted, ", first_}, kv_head);
        return owner_->all()[index_ * owner_->tables_per_layer() + t];
    }
    /// Calls f(kv_head) for the KV heads of a table.
    template <class F>
    static void for_kv_heads(const table_type& t, F f) noexcept {
        for (std::size_t i = 0; i < t.shape().kv_heads; ++i) f(t.shape().kv_head + i);
    }

  private:
    table_type& front(const char* who) const noexcept {
        expect_owner(who);
        return owner_->all()[index_ * owner_->tables_per_layer() + first_];
    }

    template <class Write>
    void append_to(table_type& t, const arrival& a, const editor& stored, Write& write,
                   forgotten_log log) const noexcept {
        std::size_t row = t.size();
        std::span<const relocation> relocations;
        if (a.tokens == 1 && (!t.is_due() || row == t.states() + 1)) {
            row = t.place(a.first, key_rows(t, 0, a.k), value_rows(t, 0, a.v), stored, log);
        } else {
            relocations = t.append(a.first, a.tokens, stored, log);
            row = t.size() - a.tokens;
            for (std::size_t i = 0; i < a.tokens; ++i) {
                t.observe_arrival(row + i, key_rows(t, i, a.k), value_rows(t, i, a.v));
            }
        }
        for_kv_heads(t, [&](std::size_t kv_head) { write(kv_head, row, relocations); });
    }

    /// How the policy reads and merges rows in its decisions; empty if it does neither.
    template <class Stored>
    static editor lent([[maybe_unused]] Stored& stored, [[maybe_unused]] const table_type& t) noexcept {
        if constexpr (detail::has_listed_form<policy_type, hook::on_forget> || has_merge<policy_type> ||
                      has_finish_prompt<policy_type>) {
            const editor rows = stored.lend(t.shape());
            detail::check(!t.writes_stored() || (rows.access != nullptr && rows.access->store != nullptr), "tables",
                          "stored", "lent with a function that stores, as the policy merges", "without");
            return rows;
        } else {
            return {};
        }
    }

    /// `count` rows of `width` floats, starting at row `first` of x.
    static multistate::rows rows_of(std::span<const float> x, std::size_t first, std::size_t count,
                                    std::size_t width) noexcept {
        if (x.empty()) return {};
        return {x.data() + first * width, count, width, width};
    }

    Tables* owner_;
    std::size_t index_;
    std::size_t first_ = 0;  // the first table of the layer in this handle
    std::size_t count_ = 0;
};

}}  // namespace multistate::MULTISTATE_TARGET
