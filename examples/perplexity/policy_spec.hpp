// How a policy is written on the command line: see multistate/policies/spec.hpp.
#pragma once

#include <string_view>
#include <vector>

#include <multistate/multistate.hpp>
#include <multistate/policies/spec.hpp>

namespace demo {

namespace ms = multistate;
using ms::policy_spec;

/// Specs separated by commas outside parentheses; `all` stands for every policy that forgets. Throws
/// std::invalid_argument that says what is wrong and what would be right.
[[nodiscard]] inline std::vector<policy_spec> parse_policies(std::string_view text) {
    return ms::parse_policies(text, "--list-policies");
}

}  // namespace demo
