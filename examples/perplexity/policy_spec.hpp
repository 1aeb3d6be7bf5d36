// A policy as it is written on the command line:
//
//     tova    window+4    h2o(recent=16)    h2o(recent=0.25, sinks=2, slack=8)    snapkv:class
//     all     all(slack=0.1)
//
// NAME, or NAME:PRESET for other defaults, +N for N sinks, and parameters in parentheses: those of the policy itself,
// and for every policy that forgets `sinks`, `recent` and `slack`. Of these three a whole number counts states; one with
// a point is a share of k, rounded down. `all` stands for every policy that forgets.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <multistate/multistate.hpp>

namespace demo {

namespace ms = multistate;

/// A number of states, or a share of k.
using amount = std::variant<std::size_t, double>;

struct policy_spec {
    std::string text;       ///< as written, without spaces
    ms::any_policy policy;  ///< with its own parameters set
    amount sinks = std::size_t{0};
    std::optional<amount> recent;
    std::optional<amount> slack;
    std::vector<std::pair<std::string, std::string>> own;  ///< the policy's own parameters that were given, and values

    /// The slack at k = `states`; 0 unless given.
    [[nodiscard]] std::size_t slack_at(std::size_t states) const;
    /// The shape with this spec's guards and slack for its k.
    [[nodiscard]] ms::shape applied_to(ms::shape shape) const;
};

/// Specs separated by commas outside parentheses. Throws std::invalid_argument that says what is wrong and what would
/// be right.
[[nodiscard]] std::vector<policy_spec> parse_policies(std::string_view text);

}  // namespace demo
