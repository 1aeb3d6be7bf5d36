#pragma once

// One layer of a cache, for decoding steps. A handle that costs five words to copy. It is valid while its cache does
// not move.
//
//     auto layer = cache.layer(i);
//     bool done = layer.append(position, k, v);               // forgets one state if it must, then overwrites its row
//     my_attention(q, layer, out, probabilities);             // rows [0, layer.size(kv_head)), in any order
//     layer.observe_queries(q);                               // both are free if the policy does not read them
//     layer.observe(probabilities);
//
// The functions that describe its states (size, states, positions, scores, forgotten, next_position, policy) and that
// show it tokens (observe, observe_queries) are in table/table_layer.hpp.
#include <cstddef>
#include <span>
#include <type_traits>

#include "multistate/cache/storage.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/table/table_layer.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

template <policy P>
class tables;

namespace detail {

/// T, const if C is const.
template <class C, class T>
using as_constant_as = std::conditional_t<std::is_const_v<C>, const T, T>;

}  // namespace detail

/// `Cache` is cache<P, K, V>, or const cache<P, K, V> for a read-only handle.
template <class Cache>
class cache_layer : public table_layer<detail::as_constant_as<Cache, tables<typename Cache::policy_type>>> {
    using tables_type = detail::as_constant_as<Cache, multistate::tables<typename Cache::policy_type>>;
    using storage_type = detail::as_constant_as<Cache, typename Cache::storage_type>;
    using base = table_layer<tables_type>;

  public:
    /// Use cache::layer(i) instead.
    cache_layer(tables_type& tables, storage_type& stored, std::size_t index) noexcept
        : base(tables, index), stored_(&stored) {}

    using base::shape;

    /// Stored keys and values of a KV head, in place: row j belongs to positions(kv_head)[j].
    auto keys(std::size_t kv_head) const noexcept { return stored_->keys(plane("keys", kv_head)); }
    auto values(std::size_t kv_head) const noexcept { return stored_->values(plane("values", kv_head)); }

    /// The same layer, restricted to the KV heads of table t: see table_layer. k, v, q and probabilities are still for
    /// all heads of the layer.
    cache_layer restricted_to(std::size_t t) const noexcept { return {base::restricted_to(t), *stored_}; }

    /// Stores tokens of consecutive positions from `first`: k [tokens, kv_heads, head_dim], v [tokens, kv_heads,
    /// value_dim], 1 <= tokens <= block. First forgets down to `states` if more than states + slack are held, so that a
    /// block takes the last rows. If the policy never forgets and the rows are used up, returns false and changes
    /// nothing. Allocates nothing.
    [[nodiscard]] bool append(position first, std::span<const float> k, std::span<const float> v,
                              forgotten_log log = forgotten_log::restart) const noexcept {
        const arrival a = arrival_of("append", first, k, v);
        const auto write = [&](std::size_t kv_head, std::size_t row, std::span<const relocation> relocations) {
            relocate(kv_head, relocations);
            write_tokens(kv_head, a, row);
        };
        return base::append(a, *stored_, write, log);
    }

    /// Makes now the decision that the next append would make: forgets down to `states`.
    void forget(forgotten_log log = forgotten_log::restart) const noexcept {
        const auto move_rows = [&](std::size_t kv_head, std::span<const relocation> relocations) {
            relocate(kv_head, relocations);
        };
        base::forget(*stored_, move_rows, log);
    }

    /// Tells the policy that the prompt has ended.
    void finish_prompt() const noexcept { base::finish_prompt(*stored_); }

    // For attention that decides several tokens at once, such as an exact prefill. It works on tables() and stores with
    // these functions.

    /// Encodes tokens in the rows after the live ones; k and v as in append. Decides nothing.
    void stage(std::span<const float> k, std::span<const float> v) const noexcept {
        const arrival a = arrival_of("stage", base::next_position(), k, v);
        for (const auto& t : base::tables()) {
            detail::check(a.tokens <= t.rows() - t.size(), "stage", "tokens",
                          detail::bound{"at most the rows that are left, ", t.rows() - t.size()}, a.tokens);
            base::for_kv_heads(t, [&](std::size_t kv_head) { write_tokens(kv_head, a, t.size()); });
        }
    }
    /// Copies rows, in order. Decides nothing.
    void relocate(std::span<const relocation> relocations) const noexcept {
        for (const auto& t : base::tables()) {
            base::for_kv_heads(t, [&](std::size_t kv_head) { relocate(kv_head, relocations); });
        }
    }
    /// The stored rows of table t, in the form that its hooks read.
    auto stored(std::size_t t) const noexcept { return stored_->lend(base::tables()[t].shape()); }

  private:
    cache_layer(const base& restricted, storage_type& stored) noexcept : base(restricted), stored_(&stored) {}

    std::size_t plane(const char* who, std::size_t kv_head) const noexcept {
        static_cast<void>(base::table_of(who, kv_head));
        return stored_->plane(base::index(), kv_head);
    }
    arrival arrival_of(const char* who, position first, std::span<const float> k,
                       std::span<const float> v) const noexcept {
        const multistate::shape& s = base::expect_owner(who);
        const std::size_t tokens =
            detail::tokens_of(who, "k", "[tokens, kv_heads, head_dim] floats, one or more times ", k.size(),
                              s.kv_heads * s.head_dim, s.block);
        detail::expect_floats(who, "v", "[tokens, kv_heads, value_dim] floats, ", v.size(),
                              tokens * s.kv_heads * s.value_dim);
        return {first, tokens, k, v};
    }
    /// Encodes the tokens into the rows from `row` on.
    void write_tokens(std::size_t kv_head, const arrival& a, std::size_t row) const noexcept {
        const multistate::shape& s = shape();
        for (std::size_t i = 0; i < a.tokens; ++i) {
            const std::size_t head = i * s.kv_heads + kv_head;
            stored_->write(stored_->plane(base::index(), kv_head), row + i, a.k.data() + head * s.head_dim,
                           a.v.data() + head * s.value_dim);
        }
    }
    void relocate(std::size_t kv_head, std::span<const relocation> relocations) const noexcept {
        for (const relocation r : relocations) {
            stored_->copy(*stored_, stored_->plane(base::index(), kv_head), r);
        }
    }

    storage_type* stored_;
};

}}  // namespace multistate::MULTISTATE_TARGET
