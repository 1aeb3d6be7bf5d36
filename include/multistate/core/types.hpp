#pragma once

// The basic types of the library: positions, rows of floats, guards, the size of a table.
//
//     ms::position p = 4095;                                  // the 4096th token of a sequence
//     ms::rows queries{q, 8, 128, 128};                       // 8 vectors of 128 floats, directly after each other
//     std::span<const float> third = queries[2];
//     ms::table_shape shape{.states = 512, .sinks = 4};       // 512 states survive; the first 4 are never forgotten
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

#include "multistate/core/target.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Index of a token in its sequence, 0-based; never changes while its state lives. Selection compares positions in
/// 32-bit vector lanes, so a sequence ends at last_position; later positions are refused (errors.hpp). That is more
/// than 24 hours at 20,000 tokens per second. clear() starts anew.
using position = std::int32_t;
/// 2^31 - 2: the position after it still fits in a `position`.
inline constexpr position last_position = (std::numeric_limits<position>::max)() - 1;

/// Read-only matrix [count, width] of floats; `stride` is the distance between rows in floats.
struct rows {
    const float* data = nullptr;
    std::size_t count = 0;
    std::size_t width = 0;
    std::size_t stride = 0;

    std::span<const float> operator[](std::size_t r) const noexcept { return {data + r * stride, width}; }
};

/// The state in row `from` moves to row `to`: the owner of the keys and values must do the same.
struct relocation {
    std::uint32_t from;
    std::uint32_t to;
};

/// States that the policy may not forget: the first `sinks` arrivals and the `recent` newest held at the decision.
struct guards {
    std::size_t sinks = 0;
    std::size_t recent = 0;
};

/// The size of one table: rows that are kept and forgotten together. A cache fills in all members after `recent`. If
/// you use tables alone, fill them in for policies that draw random numbers (layer, kv_head; otherwise all tables draw
/// the same), that cover several heads, or that read queries, keys or values.
struct table_shape {
    std::size_t states;                      ///< how many states survive a decision: k
    std::size_t block = 1;                   ///< the maximum number of tokens that arrive at once
    std::size_t slack = 0;                   ///< states beyond k that may wait for a decision, so that one falls every
                                             ///< slack + 1 steps; the table has states + slack + block rows. Results
                                             ///< differ from slack 0: attention sees the waiting states
    std::size_t sinks = 0;                   ///< first arrivals never forgotten, added to the policy's own
    std::optional<std::size_t> recent = {};  ///< newest states never forgotten; replaces the policy's own
    std::size_t layer = 0;                   ///< for policies that differ by layer or head, and for logs
    std::size_t kv_head = 0;                 ///< the table's first KV head
    std::size_t heads = 1;                   ///< the number of query heads of the table
    std::size_t kv_heads = 1;                ///< the number of KV heads of the table
    std::size_t head_dim = 0;                ///< floats in a key
    std::size_t value_dim = 0;               ///< floats in a value
    float scale = 0;                         ///< of the logits; if 0, all logits that a policy computes are equal
    std::optional<guards> guarded = {};      ///< overrides the guards of the policy, sinks and recent: for KV
                                             ///< heads that share the guards of their mean budget

    std::size_t group() const noexcept { return heads / kv_heads; }
};

}}  // namespace multistate::MULTISTATE_TARGET
