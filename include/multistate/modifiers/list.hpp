#pragma once

// The list of every modifier in the library. A new modifier is one new file in modifiers/ and one line here. Policies
// as text (policies/spec.hpp) can name what is listed: `h2o|pool(width=7)`.
// IWYU pragma: begin_exports
#include "multistate/modifiers/chunk.hpp"
#include "multistate/modifiers/decayed.hpp"
#include "multistate/modifiers/max_over_heads.hpp"
#include "multistate/modifiers/pool.hpp"
#include "multistate/modifiers/scope.hpp"
#include "multistate/modifiers/value_norm.hpp"
// IWYU pragma: end_exports
#include "multistate/core/type_list.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

using modifiers = type_list<pool, chunk, value_norm, decayed, max_over_heads, per_layer, per_head>;

}}  // namespace multistate::MULTISTATE_TARGET
