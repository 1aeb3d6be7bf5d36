#pragma once

// Queries, keys and values of the arriving tokens. Pass them by name, so that none are swapped by mistake:
//
//     ms::step(layer, position, {.q = q, .k = k, .v = v}, out, scratch);
#include <span>

#include "multistate/core/target.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Queries, keys and values of consecutive tokens in one layer, after RoPE: token by token, and within a token head by
/// head.
struct qkv {
    std::span<const float> q;  ///< [tokens, heads, head_dim]
    std::span<const float> k;  ///< [tokens, kv_heads, head_dim]
    std::span<const float> v;  ///< [tokens, kv_heads, value_dim]
};

}}  // namespace multistate::MULTISTATE_TARGET
