#pragma once

// A cache that cannot grow: keys and values of one sequence, of which `states` survive each decision in each layer.
//
//     // 32 layers, 32 query heads on 8 KV heads of 128; 512 states survive in each layer
//     ms::cache<ms::tova, ms::bf16> cache({.layers = 32, .heads = 32, .kv_heads = 8, .head_dim = 128, .states = 512});
//
//     bool done = cache.append(layer, position, k, v);        // forgets if it must, then overwrites that row
//     my_attention(q, cache, layer, out, probabilities);      // rows [0, cache.size(layer)), in any order
//     cache.observe_queries(layer, q);                        // both are free for policies that do not look
//     cache.observe(layer, probabilities);
//
// ms::step in attention/step.hpp does the three with the library's own attention. Keys arrive rotated (RoPE) at their
// absolute positions and are never touched. Memory is allocated in the constructor, by clone and by rebudget.
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "multistate/attention/workspace.hpp"
#include "multistate/cache/storage.hpp"
#include "multistate/table/tables.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {
struct cache_access;
}

/// Numbers of states for KV heads that all have the same guards: see adaptive_budget.
struct guarded_budget {
    std::vector<std::size_t> states;  ///< [layers * kv_heads]
    guards guarded;
};

/// Layout: [layer][kv_head][row][dimension], rows padded to 16 elements, states + slack + block rows. Calls on
/// different layers and on different caches may run concurrently.
template <policy P, codec KeyCodec = f32, codec ValueCodec = KeyCodec>
class cache : private tables<P> {
    using base = tables<P>;

  public:
    /// `budget` gives states of their own to layers [layers], or to KV heads [layers * kv_heads] under a policy that
    /// forgets per head; shape().states is then the greatest. Throws std::invalid_argument for a shape that cannot be
    /// (see shape.hpp), or that needs more memory than the machine has, naming argument, bound and value.
    explicit cache(const multistate::shape& given, const P& policy = {}, std::span<const std::size_t> budget = {})
        : cache(given, policy, budget, std::nullopt) {}

    cache(cache&&) noexcept = default;
    cache& operator=(cache&&) noexcept = default;
    /// A copy that continues alike. Spelled out because it costs what the cache weighs.
    cache clone() const { return cache(*this); }

    // What tables.hpp says of each layer: the shape with its defaults filled in, live rows, survivors, and so on.
    using base::forgotten;
    using base::next_position;
    using base::observe;
    using base::observe_queries;
    using base::positions;
    using base::scores;
    using base::shape;
    using base::size;
    using base::states;

    stored_rows<KeyCodec> keys(std::size_t layer, std::size_t kv_head) const noexcept {
        this->expect("keys", layer, kv_head);
        return stored_.keys(layer, kv_head);
    }
    stored_rows<ValueCodec> values(std::size_t layer, std::size_t kv_head) const noexcept {
        this->expect("values", layer, kv_head);
        return stored_.values(layer, kv_head);
    }

    /// Stores tokens of consecutive positions from `first`: k [tokens, kv_heads, head_dim], v [tokens, kv_heads,
    /// value_dim], 1 <= tokens <= block. Forgets down to `states` first, where more than states + slack are held, so a
    /// block comes to lie in the last rows. Returns false, and changes nothing, when the policy never forgets and the
    /// rows are used up.
    [[nodiscard]] bool append(std::size_t layer, position first, std::span<const float> k,
                              std::span<const float> v) noexcept {
        const std::size_t tokens =
            detail::tokens_of("append", "k", "[tokens, kv_heads, head_dim] floats, one or more times ", k.size(),
                              shape().kv_heads * shape().head_dim, shape().block);
        detail::expect_floats("append", "v", "[tokens, kv_heads, value_dim] floats, ", v.size(),
                              tokens * shape().kv_heads * shape().value_dim);
        const arrival a{first, tokens, k, v};
        return base::append(layer, a, stored_, writer(layer, a));
    }

    /// Makes the decision now that the next append would make: forgets down to `states`.
    void forget(std::size_t layer) noexcept { base::forget(layer, stored_, mover(layer)); }
    /// Tells the policy that the prompt has ended.
    void finish_prompt(std::size_t layer) noexcept { base::finish_prompt(layer, stored_); }

    /// Other numbers of states from now on, as the constructor takes them: forgets down to them, then moves into memory
    /// of that size. For budgets that depend on the prompt (budgets/). Costs a copy of the cache. Throws
    /// std::invalid_argument for numbers that cannot be, and std::bad_alloc; whatever it throws, nothing has changed.
    void rebudget(std::span<const std::size_t> budget) { rebudget(budget, std::nullopt); }
    /// The same, with guards that hold in each table until the next rebudget.
    void rebudget(const guarded_budget& budget) { rebudget(budget.states, budget.guarded); }

    /// Forgets everything and keeps the memory.
    using base::clear;

    /// All that this cache allocated: rows, scales, tables and scratch.
    std::size_t memory_bytes() const noexcept {
        return base::memory_bytes() + stored_.memory_bytes() + workspace_.memory_bytes();
    }

    /// The scratch of calls that bring none.
    multistate::workspace& workspace() noexcept { return workspace_; }

    /// What memory_bytes() of such a cache will be. Allocates nothing; throws for a shape that cannot be.
    static std::size_t bytes_for(const multistate::shape& given, const P& policy = {},
                                 std::span<const std::size_t> budget = {}, const std::optional<guards>& guarded = {}) {
        constexpr const char* who = "cache";
        const multistate::shape s = detail::with_budget(given, budget);
        const auto [tables, rows] = base::bytes_and_rows_for(given, policy, budget, guarded);
        const std::size_t planes = detail::product(who, s.layers, s.kv_heads);
        std::size_t bytes = detail::sum(who, tables, storage<KeyCodec>::bytes_for(planes, rows, s.head_dim));
        bytes = detail::sum(who, bytes, storage<ValueCodec>::bytes_for(planes, rows, s.value_dim));
        return detail::sum(who, bytes, workspace::bytes_for(s));
    }

  private:
    friend detail::cache_access;

    cache(const cache&) = default;
    cache(const multistate::shape& given, const P& policy, std::span<const std::size_t> budget,
          const std::optional<guards>& guarded)
        : base(affordable(given, policy, budget, guarded), policy, budget, guarded),
          stored_(rows_of_planes(), shape().kv_heads, shape().head_dim, shape().value_dim),
          workspace_(shape()) {}

    void rebudget(std::span<const std::size_t> budget, const std::optional<guards>& guarded) {
        detail::require(!this->all().empty(), "cache", "layers", "those of a cache that was not moved from",
                        this->all().size());
        detail::require(!budget.empty(), "cache", "budget", "a number for each layer or KV head", budget.size());
        cache other(shape(), this->all().front().policy(), budget, guarded);
        std::vector<typename table<P>::rebudgeting> work;  // all that may fail comes before the first decision
        work.reserve(this->all().size());
        for (std::size_t i = 0; i < this->all().size(); ++i) {
            work.push_back(this->all()[i].prepare_rebudget(other.all()[i].states(), guarded));
        }
        const std::size_t per_layer = this->of_layer(0).size(), heads = this->heads_per_table();
        for (std::size_t i = 0; i < work.size(); ++i) {
            table<P>& target = other.all()[i];
            const auto moves = work[i].finish(target, stored_.lend(this->all()[i].shape()));
            for (std::size_t h = 0; h < heads; ++h) {
                other.copy_rows(*this, i / per_layer, i % per_layer * heads + h, target.size(), moves);
            }
        }
        *this = std::move(other);
    }

    static const multistate::shape& affordable(const multistate::shape& given, const P& policy,
                                               std::span<const std::size_t> budget,
                                               const std::optional<guards>& guarded) {
        detail::require_memory("cache", bytes_for(given, policy, budget, guarded));
        return given;
    }
    std::vector<std::size_t> rows_of_planes() const {
        std::vector<std::size_t> rows;
        for (std::size_t layer = 0; layer < shape().layers; ++layer) {
            for (std::size_t h = 0; h < shape().kv_heads; ++h) rows.push_back(base::rows(layer, h));
        }
        return rows;
    }

    /// Writes the tokens that come to a KV head, once what stays has moved.
    auto writer(std::size_t layer, const arrival& a) noexcept {
        return [this, layer, &a](std::size_t kv_head, std::size_t row, std::span<const move> moves) {
            relocate(layer, kv_head, moves);
            for (std::size_t i = 0; i < a.tokens; ++i) write(layer, kv_head, row + i, i, a.k, a.v);
        };
    }
    auto mover(std::size_t layer) noexcept {
        return [this, layer](std::size_t kv_head, std::span<const move> moves) { relocate(layer, kv_head, moves); };
    }
    /// Token `i` of a block.
    void write(std::size_t layer, std::size_t kv_head, std::size_t row, std::size_t i, std::span<const float> k,
               std::span<const float> v) noexcept {
        const std::size_t head = i * shape().kv_heads + kv_head;
        stored_.write(layer, kv_head, row, k.data() + head * shape().head_dim, v.data() + head * shape().value_dim);
    }
    void relocate(std::size_t layer, std::size_t kv_head, std::span<const move> moves) noexcept {
        for (const auto [from, to] : moves) stored_.copy(stored_, layer, kv_head, from, to);
    }
    /// Rows [0, count) of a KV head of `old`, after moves.
    void copy_rows(const cache& old, std::size_t layer, std::size_t kv_head, std::size_t count,
                   std::span<const move> moves) noexcept {
        for (std::size_t row = 0; row < count; ++row) stored_.copy(old.stored_, layer, kv_head, row, row);
        for (const auto [from, to] : moves) stored_.copy(old.stored_, layer, kv_head, from, to);
    }

    key_value_storage<KeyCodec, ValueCodec> stored_;
    multistate::workspace workspace_;
};

}}  // namespace multistate::MULTISTATE_TARGET
