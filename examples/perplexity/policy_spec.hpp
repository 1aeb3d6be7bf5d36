// A policy as it is written on the command line:
//
//     tova    window+4    h2o(recent=16)    h2o(recent=0.25, sinks=2)
//
// NAME, +N for N sinks, and parameters in parentheses. A whole number counts states; a number with a point is a share
// of k, rounded down.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <multistate/multistate.hpp>

namespace demo {

namespace ms = multistate;

/// A number of states, or a share of k.
using amount = std::variant<std::size_t, double>;

struct policy_spec {
    std::string text;  ///< as written, without spaces
    ms::any_policy policy;
    amount sinks = std::size_t{0};
    std::optional<amount> recent;

    /// The shape with this spec's guards for its k.
    [[nodiscard]] ms::shape guarded(ms::shape shape) const;
};

/// Specs separated by commas outside parentheses. Throws std::invalid_argument that says what is wrong and what would
/// be right.
[[nodiscard]] std::vector<policy_spec> parse_policies(std::string_view text);

}  // namespace demo
