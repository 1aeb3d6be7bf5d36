#pragma once

// max_over_heads: the policy sees, for each state, the greatest probability that any of its query heads gives.
//
//     ms::cache<ms::max_over_heads<ms::tova>> cache(shape);   // a state stays while one head of the layer wants it
//
//   rule     a[j] = max of a[i][j] over the query heads i of the table, where the policy would sum (or average) them
//   reads    what the policy reads, and the probabilities
//   cost     one comparison per probability, one float per state
#include <algorithm>

#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

template <policy P>
requires observes_attention<P>
struct max_over_heads : P {
    struct memory {
        per_state<float> most;
    };
    void lay_out(memory& m, layout& l) const noexcept {
        l.part(static_cast<const P&>(*this));
        l(m.most);
    }

    void on_attention(rows probabilities, view states) noexcept {
        const auto most = states.memory(*this).most;
        std::ranges::copy(probabilities[0], most.begin());
        for (std::size_t i = 1; i < probabilities.count; ++i) {
            const auto row = probabilities[i];
            for (std::size_t j = 0; j < most.size(); ++j) most[j] = (std::max)(most[j], row[j]);
        }
        P::on_attention({most.data(), 1, most.size(), most.size()}, states);
    }
};

}}  // namespace multistate::MULTISTATE_TARGET
