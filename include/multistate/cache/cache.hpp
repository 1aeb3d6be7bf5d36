#pragma once

// A cache of bounded size: keys and values of one sequence. In each layer, `states` survive each decision.
//
//     // 32 layers, 32 query heads on 8 KV heads of 128; 512 states survive in each layer
//     ms::cache<ms::tova, ms::bf16> cache({.layers = 32, .heads = 32, .kv_heads = 8, .head_dim = 128, .states = 512});
//
//     auto layer = cache.layer(i);                            // a cheap handle: layer.hpp
//     bool done = layer.append(position, k, v);               // forgets one state if it must, then overwrites its row
//     my_attention(q, layer, out, probabilities);             // rows [0, layer.size(kv_head)), in any order
//     layer.observe_queries(q);                               // both are free if the policy does not read them
//     layer.observe(probabilities);
//
// ms::step in attention/step.hpp does all three with the library's own attention. Keys arrive rotated (RoPE) at their
// absolute positions and are never changed. Only the constructor, clone and rebudget allocate memory.
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "multistate/cache/layer.hpp"
#include "multistate/cache/storage.hpp"
#include "multistate/codecs/f32.hpp"
#include "multistate/table/tables.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Layout: [layer][kv_head][row][dimension], rows padded to 16 elements, states + slack + block rows. Calls on
/// different layers and on different caches may run concurrently.
template <policy P, codec KeyCodec = f32, codec ValueCodec = KeyCodec>
class cache {
  public:
    using policy_type = P;
    using storage_type = key_value_storage<KeyCodec, ValueCodec>;

    /// `budget` gives each layer [layers] its own number of states, or each KV head [layers * kv_heads] if the policy
    /// forgets per head; shape().states is then the largest. Throws std::invalid_argument for an invalid shape (see
    /// shape.hpp) or one that needs more memory than the machine has; the message names argument, bound and value.
    explicit cache(const multistate::shape& given, const P& policy = {}, std::span<const std::size_t> budget = {})
        : tables_(make_tables(given, policy, budget, {})), stored_(rows_of_planes(), shape()) {}

    cache(cache&&) noexcept = default;
    cache& operator=(cache&&) noexcept = default;
    /// A copy that continues identically. Not a copy constructor, because it costs as much memory as the cache. Takes
    /// as long as copying the rows that hold states.
    cache clone() const {
        cache other(tables_, uncleared);
        for (const table<P>& t : other.tables_.all()) other.copy_rows(*this, t, {});
        return other;
    }

    /// The shape with its defaults filled in.
    const multistate::shape& shape() const noexcept { return tables_.shape(); }
    /// The policy of the first layer's first table; each table has a copy.
    const P& policy() const noexcept { return layer(0).policy(); }

    /// Layer i, for all operations on tokens. Checks i; a cache that was moved from has no layers.
    cache_layer<cache> layer(std::size_t i) noexcept { return {tables_, stored_, i}; }
    cache_layer<const cache> layer(std::size_t i) const noexcept { return {tables_, stored_, i}; }

    /// Changes the numbers of states, given as in the constructor: forgets down to them, then moves into memory of that
    /// size. For budgets that depend on the prompt (budgets/). Costs a copy of the cache. Throws std::invalid_argument
    /// for invalid numbers, and std::bad_alloc; after a throw, nothing has changed. A workspace that was made for fewer
    /// states no longer fits: make one of the new shape().
    void rebudget(std::span<const std::size_t> budget) { rebudget(budget, std::nullopt); }
    /// The same, with guards that apply to each table until the next rebudget.
    void rebudget(const guarded_budget& budget) { rebudget(budget.states, budget.guarded); }

    /// Forgets everything and keeps the memory.
    void clear() noexcept { tables_.clear(); }

    /// All memory that this cache allocated: rows, scales and tables. One more sequence costs this much. The scratch of
    /// attention is a workspace (attention/workspace.hpp), one per worker.
    std::size_t memory_bytes() const noexcept { return tables_.memory_bytes() + stored_.memory_bytes(); }

    /// Predicts memory_bytes() of such a cache. Allocates nothing; throws for an invalid shape.
    static std::size_t bytes_for(const multistate::shape& given, const P& policy = {},
                                 std::span<const std::size_t> budget = {}, const std::optional<guards>& guarded = {}) {
        constexpr const char* who = "cache";
        const multistate::shape s = detail::with_budget(given, budget);
        const auto needed = tables<P>::size_for(given, policy, budget, guarded);
        const std::size_t planes = detail::product(who, s.layers, s.kv_heads);
        return detail::sum(who, needed.bytes, storage_type::bytes_for(planes, needed.rows, s));
    }

  private:
    /// For states of another cache: attention reads no row before it is written, so none is cleared.
    cache(tables<P> made, uncleared_t) : tables_(std::move(made)), stored_(rows_of_planes(), shape(), uncleared) {}

    void rebudget(std::span<const std::size_t> budget, const std::optional<guards>& guarded) {
        const std::span<table<P>> before = tables_.all();
        detail::require(!before.empty(), "cache", "layers", "those of a cache that was not moved from", before.size());
        detail::require(!budget.empty(), "cache", "budget", "a number for each layer or KV head", budget.size());
        cache other(make_tables(shape(), policy(), budget, guarded), uncleared);
        std::vector<typename table<P>::rebudgeting> work;  // everything that may fail comes before the first decision
        work.reserve(before.size());
        for (std::size_t i = 0; i < before.size(); ++i) {
            work.push_back(before[i].prepare_rebudget(other.tables_.all()[i].states(), guarded));
        }
        for (std::size_t i = 0; i < work.size(); ++i) {
            table<P>& after = other.tables_.all()[i];
            const auto relocations = work[i].finish(after, stored_.lend(before[i].shape()));
            other.copy_rows(*this, after, relocations);
        }
        *this = std::move(other);
    }

    /// The tables of a cache; throws if the cache needs more memory than the machine has.
    static tables<P> make_tables(const multistate::shape& given, const P& policy, std::span<const std::size_t> budget,
                                 const std::optional<guards>& guarded) {
        detail::require_memory("cache", bytes_for(given, policy, budget, guarded));
        return tables<P>(given, policy, budget, guarded);
    }
    std::vector<std::size_t> rows_of_planes() const {
        std::vector<std::size_t> rows;
        for (const table<P>& t : tables_.all()) rows.insert(rows.end(), t.shape().kv_heads, t.rows());
        return rows;
    }

    /// Copies the states of a table from `old`: its first rows, then relocations.
    void copy_rows(const cache& old, const table<P>& t, std::span<const relocation> relocations) noexcept {
        const table_shape& s = t.shape();
        for (std::size_t h = 0; h < s.kv_heads; ++h) {
            const std::size_t plane = stored_.plane(s.layer, s.kv_head + h);
            stored_.copy(old.stored_, plane, t.size());
            for (const relocation r : relocations) stored_.copy(old.stored_, plane, r);
        }
    }

    tables<P> tables_;
    storage_type stored_;
};

}}  // namespace multistate::MULTISTATE_TARGET
