#pragma once

// roco: forgets the state with the least mean attention, but spares states with the most variable attention.
//
//     ms::cache<ms::roco> cache(shape, {.unstable = 0.2f});   // share of the states that are spared
//
//   paper    "On the Efficacy of Eviction Policy for Key-Value Constrained Generative Language Model Inference" (RoCo),
//            arXiv 2402.06262
//   rule     score[j] = mean of a[t][j] over all tokens t since j's own, a[t][j] the mean over the query heads of the
//            group; plus 2, above any mean, for the states with the greatest variance over these tokens. Their number
//            is `unstable` times the states, plus one; the guarded `recent` count among them
//   reads    the attention probabilities of every token
//   forgets  for each KV head; the newest min(10, unstable * states) are guarded unless the user names another `recent`
//   cost     one addition per probability, one pass with a division and 16 bytes per state; a partial sort to decide
//   differs  EasyKV, the authors' code, spares 0.3 of the states in decoding and 0.1 in encoding; here 0.3. Its
//            variance is a difference of means, which may be negative under the root; here it is Welford's, without the
//            root, which gives the same order. If variances tie at the border, neither is spared. EasyKV forgets
//            nothing of the prompt while it decodes. From a state's 2^20th token on, old tokens fade (see count_token).
#include <algorithm>

#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct roco {
    static constexpr std::string_view name = "roco";
    static constexpr std::string_view paper = "arXiv 2402.06262";
    static constexpr per forgets() noexcept { return per::head; }
    guards default_guards(std::size_t states) const noexcept {
        return {.sinks = 0, .recent = (std::min<std::size_t>)(10, share(states))};
    }

    float unstable = 0.3f;  ///< share of the states that are spared
    static constexpr parameter<roco> parameters[] = {{"unstable", &roco::unstable, 0.0f, 0.9f}};

    struct memory {
        per_state<float> mean;          // of the attention to the state
        per_state<float> squares;       // the sum of squared deviations from the mean
        per_state<std::int32_t> count;  // of the tokens that attended to it; halved like count_token
        per_state<float> sorted;        // scratch
    };
    static void lay_out(memory& m, layout& l) noexcept {
        l(m.mean);
        l(m.squares);
        l(m.count);
        l(m.sorted);
    }

    void on_attention(rows probabilities, view states) const noexcept {
        const auto [mean, squares, count, sorted] = states.memory(*this);
        const auto attention = states.score;  // scores are computed at the decision
        std::ranges::fill(attention, 0.0f);
        add(probabilities, attention);
        simd::scale(attention, 1 / static_cast<float>(probabilities.count));
        for (std::size_t j = 0; j < states.size(); ++j) {
            const float distance = attention[j] - mean[j];
            const bool halve = count[j] + 1 >= 1 << 20;
            count[j] = halve ? 1 << 19 : count[j] + 1;
            mean[j] += distance / static_cast<float>(count[j]);
            const float before = halve ? 0.5f * squares[j] : squares[j];
            squares[j] = before + distance * (attention[j] - mean[j]);
        }
    }
    void on_forget(view states) const noexcept {
        const table_shape& s = states.shape;
        const memory mine = states.memory(*this);
        std::ranges::copy(mine.mean, states.score.begin());
        const auto among = states.unguarded();
        const std::size_t recent = states.guarded.recent;
        const std::size_t excess = states.size() - s.states;
        const std::size_t wanted = share(s.states) + excess;
        const std::size_t spared = (std::min)(wanted - (std::min)(wanted, recent), among.size() - excess);
        const auto variance = [&](std::uint32_t row) {  // 0 for a NaN, which could not be sorted
            return (std::max)(0.0f, mine.squares[row] / static_cast<float>(mine.count[row]));
        };
        const auto sorted = mine.sorted.first(among.size());
        std::ranges::transform(among, sorted.begin(), variance);
        const auto border = sorted.begin() + static_cast<std::ptrdiff_t>(spared);
        std::ranges::nth_element(sorted, border, [](float a, float b) { return a > b; });
        for (const std::uint32_t row : among) {
            if (variance(row) > *border) states.score[row] += 2;
        }
    }

    /// Each head spares the same number of states, so heads are compared by mean attention.
    void on_compare(view states) const noexcept { std::ranges::copy(states.memory(*this).mean, states.score.begin()); }

  private:
    std::size_t share(std::size_t states) const noexcept {
        return static_cast<std::size_t>(unstable * static_cast<float>(states));
    }
};
static_assert(policy<roco> &&
              hooks_of<roco> == (hook::default_guards | hook::on_attention | hook::on_forget | hook::on_compare));

}}  // namespace multistate::MULTISTATE_TARGET
