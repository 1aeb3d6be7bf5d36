#pragma once

// Checks of a policy before anything is allocated: its parameters, its data, its guards.
//
//     const ms::guards g = ms::guards_in_force({.states = 512, .sinks = 4}, ms::h2o{});   // sinks 4, recent 256
//     ms::check_parameters(ms::pool{.width = 0});                                         // throws: from 1 to 1024
#include <string>
#include <string_view>

#include "multistate/core/errors.hpp"
#include "multistate/core/parameter.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/policy/hooks.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Throws std::invalid_argument unless every parameter of the policy is within its bounds.
template <class P>
void check_parameters(const P& policy) {
    for_each_parameter(policy, [](std::string_view name, const auto& value, const auto& least, const auto& most) {
        if (value >= least && value <= most) return;  // not a NaN
        detail::refuse("policy", std::string(name).c_str(),
                       "from " + std::to_string(least) + " to " + std::to_string(most), std::to_string(value));
    });
}

/// The guards in force. The user's sinks add to the policy's; the user's `recent` replaces the policy's; `guarded`
/// replaces all. Throws std::invalid_argument unless: states and block are 1 to 2^30 - 1; slack is below that; sinks +
/// recent <= states - 1; parameters are in bounds; check_shape accepts the policy's data; and the dimensions are given
/// if the policy reads queries or stored rows, or remembers keys. `who` begins the messages.
template <has_forgets P>
guards guards_in_force(const table_shape& s, const P& policy, const char* who = "table") {
    using detail::require;
    detail::require_size(who, "states", s.states);
    detail::require_size(who, "block", s.block);
    detail::require_slack(who, s.slack);
    require(s.kv_heads >= 1, who, "kv_heads", "at least 1", s.kv_heads);
    require(s.heads >= 1 && s.heads % s.kv_heads == 0, who, "heads", "a multiple of kv_heads", s.heads);
    const std::size_t widest = (std::max)(s.head_dim, s.value_dim);
    detail::product(who, detail::product(who, s.heads, widest), widest);  // policies ask for only a few of these
    check_parameters(policy);
    const auto memory = [&](std::size_t head_dim) {
        table_shape other = s;
        other.head_dim = head_dim;
        return detail::size_of_memory(policy, other, 1).per_table;
    };
    const bool reads = reads_of(policy).queries || reads_of(policy).stored;
    if (reads || memory(0) != memory(1)) {
        require(s.head_dim >= 1, who, "head_dim", "at least 1 for a policy that reads queries or keys", s.head_dim);
    }
    if (reads) {
        require(s.value_dim >= 1, who, "value_dim", "at least 1 for a policy that reads queries or keys", s.value_dim);
    }
    call_hook<hook::check_shape>(policy, s);
    if (policy.forgets() == per::never) return {};
    const guards wanted = call_hook<hook::default_guards>(policy, s.states);
    const guards result =
        s.guarded.value_or(guards{.sinks = s.sinks + wanted.sinks, .recent = s.recent.value_or(wanted.recent)});
    const detail::bound bound{"at most states - 1 = ", s.states - 1};
    require(s.sinks < s.states, who, "sinks", bound, s.sinks);
    require(result.recent < s.states, who, "recent", bound, result.recent);
    require(result.sinks + result.recent < s.states, who, "sinks + recent", bound, result.sinks + result.recent);
    return result;
}

}}  // namespace multistate::MULTISTATE_TARGET
