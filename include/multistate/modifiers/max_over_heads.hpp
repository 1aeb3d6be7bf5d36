#pragma once

// max_over_heads: the policy sees, for each state, the greatest probability that any of its query heads gives.
//
//     ms::cache<ms::composed<ms::tova, ms::max_over_heads>> cache(shape);   // one head is enough to keep a state
//
//   rule     a[j] = max of a[i][j] over the query heads i of the table, instead of a sum or mean over them
//   reads    the attention probabilities
//   cost     one comparison per probability, one float per state
#include <algorithm>
#include <string_view>

#include "multistate/policy/composed.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct max_over_heads {
    static constexpr std::string_view name = "max_over_heads";
    struct memory {
        per_state<float> greatest;  // scratch
    };
    void lay_out(memory& m, layout& l) const noexcept { l(m.greatest); }
    static void check_shape(const table_shape& s) {
        detail::require(s.heads >= 2, "max_over_heads", "query heads of a table", "at least 2 to have an effect",
                        s.heads);
    }

    rows before_attention(rows probabilities, view states) const noexcept {
        const auto greatest = states.memory(*this).greatest;
        std::ranges::copy(probabilities[0], greatest.begin());
        for (std::size_t i = 1; i < probabilities.count; ++i) {
            const auto row = probabilities[i];
            for (std::size_t j = 0; j < greatest.size(); ++j) greatest[j] = (std::max)(greatest[j], row[j]);
        }
        return {greatest.data(), 1, greatest.size(), greatest.size()};
    }
};
static_assert(hooks_of<max_over_heads> == (hook::check_shape | hook::before_attention));

}}  // namespace multistate::MULTISTATE_TARGET
