#pragma once

// All tables of a model: one per layer or per KV head, depending on the policy. For engines that store rows themselves.
//
//     ms::tables<ms::d2o> tables({.layers = 32, .heads = 32, .kv_heads = 8, .head_dim = 128, .states = 512});
//
//     const auto write = [&](std::size_t kv_head, std::size_t row, std::span<const ms::relocation> relocations) {
//         for (const auto [from, to] : relocations) engine.copy(i, kv_head, from, to);
//         engine.write(i, kv_head, row, k, v);
//     };
//     auto layer = tables.layer(i);                           // a cheap handle: table_layer.hpp
//     bool done = layer.append({.first = position, .k = k, .v = v}, stored, write);
//     engine.attend(i, q, out, probabilities);                // rows [0, layer.size(kv_head)), in any order
//     layer.observe_queries(q);                               // both are free if the policy does not read them
//     layer.observe(probabilities);
//
// `stored` lends the engine's rows to policies that read or merge them (reading.hpp). Others take nothing_stored.
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "multistate/core/shape.hpp"
#include "multistate/table/table_layer.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Numbers of states for KV heads that all have the same guards: see adaptive_budget.
struct guarded_budget {
    std::vector<std::size_t> states;  ///< [layers * kv_heads]
    guards guarded;
};

/// Calls on different layers may run concurrently. Allocates in the constructor.
template <policy P>
class tables {
  public:
    using policy_type = P;

    /// `budget` gives each layer [layers] its own number of states, or each KV head [layers * kv_heads] if the policy
    /// forgets per head; shape().states is then the largest. `guarded` as in table_shape. Throws std::invalid_argument
    /// for an invalid shape (see shape.hpp), or one that needs more memory than the machine has; the message names
    /// argument, bound and value.
    explicit tables(const multistate::shape& given, const P& policy = {}, std::span<const std::size_t> budget = {},
                    const std::optional<guards>& guarded = {})
        : shape_(detail::with_budget(given, budget)), per_layer_(tables_per_layer(shape_, policy)) {
        detail::require_memory("cache", size_for(shape_, policy, budget, guarded).bytes);
        tables_.reserve(shape_.layers * per_layer_);
        for (std::size_t i = 0; i < shape_.layers * per_layer_; ++i) {
            tables_.emplace_back(detail::table_shape_of(shape_, per_layer_, i, budget, guarded), policy);
        }
    }

    /// The shape with its defaults filled in.
    const multistate::shape& shape() const noexcept { return shape_; }

    /// A handle of layer i (table_layer.hpp).
    table_layer<tables> layer(std::size_t i) noexcept { return {*this, i}; }
    table_layer<const tables> layer(std::size_t i) const noexcept { return {*this, i}; }

    /// Forgets everything and keeps the memory.
    void clear() noexcept {
        for (table<P>& t : tables_) t.clear();
    }

    std::size_t memory_bytes() const noexcept {
        std::size_t bytes = 0;
        for (const table<P>& t : tables_) bytes += sizeof t + t.memory_bytes();
        return bytes;
    }

    /// The needs of such tables: memory_bytes(), and the rows of all KV heads, which the engine stores.
    struct needs {
        std::size_t bytes = 0;
        std::size_t rows = 0;
    };
    /// Allocates nothing; throws for an invalid shape.
    static needs size_for(const multistate::shape& given, const P& policy, std::span<const std::size_t> budget = {},
                          const std::optional<guards>& guarded = {}) {
        constexpr const char* who = "cache";
        const multistate::shape s = detail::with_budget(given, budget);
        const std::size_t per_layer = tables_per_layer(s, policy);
        const std::size_t count = detail::product(who, s.layers, per_layer);
        needs result{.bytes = detail::bytes<table<P>>(who, count)};
        const std::size_t alike = budget.empty() ? count : 1;
        for (std::size_t i = 0; i < count; i += alike) {
            const table_shape t = detail::table_shape_of(s, per_layer, i, budget, guarded);
            const std::size_t rows = detail::product(who, detail::rows_of(t), t.kv_heads);
            result.bytes = detail::sum(who, result.bytes, detail::product(who, table<P>::bytes_for(t, policy), alike));
            result.rows = detail::sum(who, result.rows, detail::product(who, rows, alike));
        }
        return result;
    }

    /// All tables, layer after layer; empty after a move. Each layer has tables_per_layer() of them.
    std::span<table<P>> all() noexcept { return tables_; }
    std::span<const table<P>> all() const noexcept { return tables_; }
    std::size_t tables_per_layer() const noexcept { return per_layer_; }

  private:
    static std::size_t tables_per_layer(const multistate::shape& s, const P& policy) noexcept {
        return policy.forgets() == per::head ? s.kv_heads : 1;
    }

    multistate::shape shape_;
    std::size_t per_layer_;  // tables of a layer: 1, or one per KV head
    std::vector<table<P>> tables_;
};

}}  // namespace multistate::MULTISTATE_TARGET
