#pragma once

// value_norm: multiplies a state's score by the size of its value.
//
//     ms::cache<ms::composed<ms::scissorhands, ms::value_norm>> cache(shape);   // small values are forgotten first
//
//   paper    "Attention Score is not All You Need for Token Importance Indicator" (VATP), arXiv 2406.12335
//   rule     score[j] = score[j] * |v_j|_1, summed over the KV heads of the table
//   reads    new values
//   cost     one addition per float of a new value, 4 bytes per state, one product per state and decision
//   differs  the norm is that of the value before a codec rounds it
#include <cmath>
#include <string_view>

#include "multistate/policy/composed.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct value_norm {
    static constexpr std::string_view name = "value_norm";
    static constexpr bool needs_scores = true;
    struct memory {
        per_state<float> norm;
    };
    static void lay_out(memory& m, layout& l) noexcept { l(m.norm); }

    void on_insert(rows, rows values, view states, std::size_t row) const noexcept {
        detail::expect_heads("value_norm", "values", values, states);
        float sum = 0;
        for (std::size_t h = 0; h < values.count; ++h) {
            for (const float x : values[h]) sum += std::abs(x);
        }
        states.memory(*this).norm[row] = sum;
    }
    void modify(view states) const noexcept { simd::multiply(states.memory(*this).norm, states.score); }
};
static_assert(hooks_of<value_norm> == (hook::on_insert | hook::modify));

}}  // namespace multistate::MULTISTATE_TARGET
