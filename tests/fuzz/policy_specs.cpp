// Any text as policies on the command line: each policy found can be written again and has guards for some k, or
// std::invalid_argument says what is wrong. A budget sums to what k says.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>

#include <multistate/budgets/any_budget.hpp>
#include <multistate/core/shape.hpp>
#include <multistate/policies/spec.hpp>
#include <multistate/policy/guards.hpp>

#include "fuzz/bytes.hpp"

namespace ms = multistate;

namespace {

using spec_type = ms::spec_with<ms::any_budget>;

void apply(const spec_type& spec, std::size_t states) {
    const ms::shape s = spec.applied_to({.layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 4, .states = states});
    const ms::table_shape table{.states = s.states,
                                .slack = s.slack,
                                .sinks = s.sinks,
                                .recent = s.recent,
                                .head_dim = s.head_dim,
                                .value_dim = s.head_dim};
    try {
        const ms::guards kept = ms::guards_in_force(table, spec.policy);
        if (kept.sinks + kept.recent >= states) std::abort();
        std::size_t sum = 0;
        const auto budget = spec.budget.by_layer(3, states, kept);
        for (const std::size_t one : budget) sum += one;
        if (!budget.empty() && sum != 3 * states) std::abort();
    } catch (const std::invalid_argument&) {
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size > 200) return 0;  // each `all` is forty policies: longer lists take time and say nothing new
    try {
        for (const spec_type& spec : ms::parse_policies<spec_type>(fuzz::text_of(data, size))) {
            for (const int states : {1, 16, 1000}) apply(spec, static_cast<std::size_t>(states));
            const auto again = ms::parse_policies<spec_type>(spec.text);
            if (again.size() != 1 || again.front().text != spec.text) std::abort();
        }
    } catch (const std::invalid_argument&) {
    }
    return 0;
}
