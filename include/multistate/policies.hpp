#pragma once

// THE list: every policy the library ships. A new method is one new file in policies/ and one line here; tests, benches
// and the demo iterate over it.
#include "multistate/one_of.hpp"
#include "multistate/policies/full.hpp"
#include "multistate/policies/h2o.hpp"
#include "multistate/policies/h2o_layer.hpp"
#include "multistate/policies/tova.hpp"
#include "multistate/policies/tova_head.hpp"
#include "multistate/policies/window.hpp"

namespace multistate::inline MULTISTATE_TARGET {

/// Any of them, chosen at run time: any_policy::named("tova").
using any_policy = one_of<full, window, h2o, h2o_layer, tova, tova_head>;

}  // namespace multistate::inline MULTISTATE_TARGET
