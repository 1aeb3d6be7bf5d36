#pragma once

// pool: a state's score becomes the mean or maximum of its neighbors' scores in the text.
//
//     ms::composed<ms::h2o, ms::pool> policy;
//     policy.get<ms::pool>().width = 7;
//
//   paper    "SnapKV: LLM Knows What You are Looking for Before Generation", arXiv 2404.14469
//   rule     score[j] = mean (or max) of score[i] over the `width` states held around j, itself in the middle; guarded
//            states are not neighbors of any state
//   cost     `width` operations per state and decision; 4 bytes per state
//   differs  at the ends, a mean uses only the states that exist. With `zero_padded` it is the authors' avg_pool1d: it
//            counts zeros there, so a state beside a guard scores less. A maximum is the same either way.
#include <algorithm>
#include <string_view>

#include "multistate/core/parameter.hpp"
#include "multistate/policy/hooks.hpp"
#include "multistate/policy/view.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct pool {
    static constexpr std::string_view name = "pool";
    static constexpr bool needs_scores = true;
    std::size_t width = 5;     ///< odd; if even, there is one more older neighbor than newer
    bool greatest = false;     ///< the maximum instead of the mean
    bool zero_padded = false;  ///< a mean counts zeros beyond the ends
    static constexpr parameter<pool> parameters[] = {
        {"width", &pool::width, 1, 1024}, {"greatest", &pool::greatest}, {"zero_padded", &pool::zero_padded}};

    struct memory {
        per_state<float> before;  // scratch: scores in the order of the text
    };
    static void lay_out(memory& m, layout& l) noexcept { l(m.before); }

    void modify(view states) const noexcept {
        const auto order = states.unguarded();
        const auto before = states.memory(*this).before;
        for (std::size_t i = 0; i < order.size(); ++i) before[i] = states.score[order[i]];
        for (std::size_t i = 0; i < order.size(); ++i) {
            const std::size_t first = i - (std::min)(i, width / 2);
            const std::size_t last = (std::min)(order.size(), i + (width + 1) / 2);
            float sum = 0;
            float most = before[first];
            for (std::size_t n = first; n < last; ++n) {
                sum += before[n];
                most = (std::max)(most, before[n]);
            }
            states.score[order[i]] = greatest ? most : sum / static_cast<float>(zero_padded ? width : last - first);
        }
    }
};
static_assert(hooks_of<pool> == hook::modify);

}}  // namespace multistate::MULTISTATE_TARGET
