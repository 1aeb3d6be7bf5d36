#pragma once

// criticalkv: half of the budget by attention; the rest by attention times the effect of a value on the output.
//
//     std::vector<ms::rows> projections;                             // of each layer, as engines hold them
//     ms::criticalkv policy;
//     policy.output.projection = projections;                        // you own this memory: it must outlive the cache
//
//   paper    "Identify Critical KV Cache in LLM Inference from an Output Perturbation Perspective", arXiv 2502.03805
//   rule     s = snapkv's score, a mean over tokens, heads and 5 neighbors. The floor(first_share * b) greatest stay,
//            where b is the number of unguarded states to keep; of the others, score[j] = (s[j] + epsilon) * sum over
//            the query heads i of the group of |W_o[i] v[j]|_1, or of |v[j]|_1 without a projection
//   reads    the attention probabilities of every token, new values
//   forgets  for each KV head; the newest min(window, states / 2) are guarded unless the user names another `recent`
//   cost     snapkv's, two floats per state, and a partial sort of the scores to decide; a new value costs, with a
//            projection, as much as projecting the output of all heads
//   differs  the paper refines other policies' choices, once, after the prompt (see snapkv). Here it refines SnapKV's,
//            and decoding continues by this rule. kvpress counts guarded states in the first half; here the halves
//            exclude them. All numbers are from the authors' code, a fork of kvpress, whose SnapKV has a window of
//            32 and a mean of 5, with zeros beyond the ends (zero_padded); kvpress itself has a window of 64.
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "multistate/policies/snapkv.hpp"
#include "multistate/policy/output_effect.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct criticalkv : snapkv {
    static constexpr std::string_view name = "criticalkv";
    static constexpr std::string_view paper = "arXiv 2502.03805";

    constexpr criticalkv() noexcept : snapkv(32, {.width = 5}) {}

    output_effect output = {};  ///< the effect of values on the output
    float first_share = 0.5f;   ///< of the budget, kept by attention only
    float epsilon = 1e-4f;

    template <class F>
    void for_each_parameter(F&& f) {
        each_parameter(*this, f);
    }
    template <class F>
    void for_each_parameter(F&& f) const {
        each_parameter(*this, f);
    }
    struct memory {
        per_state<float> effect;  // of the value
        per_state<float> ranked;  // scratch
    };
    void lay_out(memory& m, layout& l) const noexcept {
        l.part(static_cast<const snapkv&>(*this));
        l(m.effect);
        l(m.ranked);
    }
    void check_shape(const table_shape& s) const { output.check(name.data(), s); }

    void on_insert(rows, rows values, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "values", values, states);
        states.memory(*this).effect[row] = output.effect(values, states.shape);
    }

    void on_forget(view states) noexcept {
        snapkv::on_forget({}, states);
        const table_shape& s = states.shape;
        const std::size_t tokens = (std::max<std::size_t>)(get<morphkv>().attention(states).count, 1);
        simd::scale(states.score, 1 / static_cast<float>(tokens * s.heads));
        const auto budget = static_cast<float>(s.states - states.guarded.sinks - states.guarded.recent);
        choose(states, states.unguarded(), static_cast<std::size_t>(first_share * budget));
    }

    /// Compares heads by snapkv's score. The offset of the first stage differs between heads, so it is not used.
    void on_compare(view states) noexcept { snapkv::on_forget({}, states); }

  private:
    template <class Self, class F>
    static void each_parameter(Self& self, F&& f) {
        self.snapkv::for_each_parameter(f);
        f("first_share", self.first_share, 0.0f, 1.0f);
        f("epsilon", self.epsilon, 0.0f, 1.0f);
    }

    /// Both stages: the `first` best of `free` (rows from the oldest to the newest) get scores above all others.
    void choose(view states, std::span<const std::uint32_t> free, std::size_t first) const noexcept {
        const auto mine = states.memory(*this);
        const auto effects = mine.effect;
        const auto ranked = mine.ranked.first(free.size());
        float threshold = std::numeric_limits<float>::infinity();
        std::size_t equal = 0;  // the number of ties at the threshold in the first stage
        if (first > 0) {
            for (std::size_t i = 0; i < free.size(); ++i)
                ranked[i] = (std::max)(0.0f, states.score[free[i]]);  // no NaN
            std::nth_element(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(first - 1), ranked.end(),
                             [](float a, float b) { return a > b; });
            threshold = ranked[first - 1];
            equal = static_cast<std::size_t>(std::ranges::count(ranked.first(first), threshold));
        }
        float most = 0;
        for (const std::uint32_t row : free) most = (std::max)(most, (states.score[row] + epsilon) * effects[row]);
        for (std::size_t i = free.size(); i-- > 0;) {  // among ties, the newest stay
            float& score = states.score[free[i]];
            if (score > threshold || (score == threshold && equal > 0)) {
                if (score == threshold) --equal;
                score += 2 * most + 1;
            } else {
                score = (score + epsilon) * effects[free[i]];
            }
        }
    }
};
static_assert(policy<criticalkv> &&
              hooks_of<criticalkv> == (hook::check_shape | hook::default_guards | hook::on_insert | hook::on_attention |
                                       hook::on_forget | hook::on_compare));

}}  // namespace multistate::MULTISTATE_TARGET
