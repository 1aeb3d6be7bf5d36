// What --list-policies prints: every policy that can be chosen, by what it says of itself.
#pragma once

#include <iosfwd>
#include <span>
#include <string>
#include <vector>

#include "policy_spec.hpp"

namespace demo {

struct policy_description {
    std::string name;
    std::string forgets;  ///< layer, head or never
    std::string paper;    ///< "-" for none
    std::string reads;
    std::vector<ms::parameter_text> parameters;  ///< with their default values
    std::vector<std::string> presets = {};       ///< each with the parameters that it sets otherwise
};

/// What a policy chosen at run time (ms::one_of) says of itself.
template <class OneOf>
policy_description describe(const OneOf& policy) {
    std::string reads;
    const auto add = [&](bool whether, const char* what) {
        if (whether) reads.append(reads.empty() ? "" : ", ").append(what);
    };
    const ms::reads what = ms::reads_of(policy);
    add(what.attention, "probabilities");
    add(what.queries, "queries");
    const bool arrivals = what.arrivals;
    const bool stored = what.stored;
    add(arrivals && stored, "new and stored keys and values");
    add(arrivals && !stored, "new keys and values");
    add(stored && !arrivals, "stored keys and values");
    const ms::per forgets = policy.forgets();
    return {.name = std::string(policy.name()),
            .forgets = forgets == ms::per::layer  ? "layer"
                       : forgets == ms::per::head ? "head"
                                                  : "never",
            .paper = policy.paper().empty() ? "-" : std::string(policy.paper()),
            .reads = reads.empty() ? "nothing" : reads,
            .parameters = ms::parameters_of(policy)};
}

/// "snapkv:class: window=64, width=5" for the presets of that policy.
[[nodiscard]] std::vector<std::string> presets_of(std::string_view policy);

/// THE list, in its order.
[[nodiscard]] std::vector<policy_description> describe_all_policies();

/// A line for each, its parameters below it, and then what all of them take. In few columns a paragraph for each.
void print_policies(std::ostream& out, std::span<const policy_description> policies, std::size_t columns);

}  // namespace demo
