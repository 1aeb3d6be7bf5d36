// How a policy and a budget are written on the command line: see multistate/policies/spec.hpp and
// budgets/any_budget.hpp.
#pragma once

#include <string_view>
#include <vector>

#include <multistate/budgets/any_budget.hpp>
#include <multistate/multistate.hpp>
#include <multistate/policies/spec.hpp>

namespace demo {

namespace ms = multistate;
using policy_spec = ms::spec_with<ms::any_budget>;

/// Specs separated by commas outside parentheses; `all` stands for every policy that forgets. Throws
/// std::invalid_argument that says what is wrong and what would be right.
[[nodiscard]] inline std::vector<policy_spec> parse_policies(std::string_view text) {
    return ms::parse_policies<policy_spec>(text, "--list-policies");
}

}  // namespace demo
