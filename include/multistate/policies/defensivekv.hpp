#pragma once

// defensivekv: keeps states that received much attention from any recent token (not on average), times the effect of
// the value on the output.
//
//     std::vector<ms::rows> projections;                             // of each layer, as engines hold them
//     ms::defensivekv policy;
//     policy.output.projection = projections;                        // you own this memory: it must outlive the cache
//
//   paper    "Taming the Fragility of KV Cache Eviction in LLM Inference" (DefensiveKV), arXiv 2510.13334
//   rule     score[j] = max(m[j], mean of m) * e[j] / sum of e. m[j] = maximum over the last `window` tokens t and the
//            query heads i of the group of a[i][t][j] pooled: the sum over `width` neighbors in the text, scaled so
//            that all j still have the same sum. e[j] = sum over i of |W_o[i] v[j]|_1, or |v[j]|_1 without a
//            projection. Before that, with s[j] = mean of a[i][t][j] over t and i, the states with the greatest s are
//            safe while their share of the sum of s is below first_share - (the sum of s over the last `window`
//            states), up to the room that there is. Only unguarded states take part.
//   reads    the attention probabilities of every token; new values
//   forgets  for each KV head; the newest min(window, states / 2) are guarded unless the user names another `recent`
//   cost     4 * `window` bytes per state and query head, and a copy of the probabilities. A decision takes about 2
//            width operations per such float, and a sort: measured, 2.5 to 5 times the cost of attention; with a slack
//            of 31, 0.3 times. A new value costs as much as in criticalkv.
//   differs  The rule was read in the authors' code, and the abstract of the paper. The authors compress a prompt once,
//            and all heads of a layer compete (adaptive_budget); here decoding continues by the same rule. They
//            subtract from first_share a mean over the layer's heads; here it is over the table's. A layer (per_layer)
//            takes the maximum over all its query heads.
#include <algorithm>

#include "multistate/policy/output_effect.hpp"
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct defensivekv {
    static constexpr std::string_view name = "defensivekv";
    static constexpr std::string_view paper = "arXiv 2510.13334";
    static constexpr per forgets() noexcept { return per::head; }

    output_effect output = {};  ///< the effect of values on the output
    std::size_t window = 32;    ///< tokens
    std::size_t width = 5;      ///< odd number of states; if even, there is one more older neighbor than newer
    float first_share = 0.9f;   ///< share of the attention whose states stay, whatever their values
    static constexpr parameter<defensivekv> parameters[] = {{"window", &defensivekv::window, 1, 1024},
                                                            {"width", &defensivekv::width, 1, 1024},
                                                            {"first_share", &defensivekv::first_share, 0.0f, 1.0f}};

    constexpr guards default_guards(std::size_t states) const noexcept {
        return {.sinks = 0, .recent = (std::min)(window, states / 2)};
    }
    struct memory {
        per_state_array<float> attention;            // a ring [window * query heads] of the last tokens
        per_state<float> effect;                     // of the value
        per_state<float> given, pooled, most, mean;  // scratch, in the order of the text
        per_table<std::uint64_t> tokens;             // so far
    };
    void lay_out(memory& m, layout& l) const noexcept {
        l(m.attention, window * l.shape().heads);
        l(m.effect);
        l(m.given);
        l(m.pooled);
        l(m.most);
        l(m.mean);
        l(m.tokens);
    }

    void check_shape(const table_shape& s) const { output.check(name.data(), s); }

    void on_insert(rows, rows values, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "values", values, states);
        states.memory(*this).effect[row] = output.effect(values, states.shape);
    }
    void on_attention(rows probabilities, view states) const noexcept {
        const memory mine = states.memory(*this);
        const std::size_t first = mine.tokens[0]++ % window * states.shape.heads;
        for (std::size_t i = 0; i < probabilities.count; ++i) {
            std::ranges::copy(probabilities[i].first(states.size()), mine.attention[first + i].begin());
        }
    }
    void on_forget(view states) const noexcept {
        const memory mine = states.memory(*this);
        const auto tokens = static_cast<std::size_t>((std::min<std::uint64_t>)(window, mine.tokens[0]));
        const auto free = states.unguarded();
        const auto given = mine.given.first(free.size()), pooled = mine.pooled.first(free.size());
        const auto most = mine.most.first(free.size()), mean = mine.mean.first(free.size());
        std::ranges::fill(states.score, 0.0f);
        std::ranges::fill(most, 0.0f);
        std::ranges::fill(mean, 0.0f);
        for (std::size_t i = 0; i < tokens * states.shape.heads; ++i) {
            const auto probabilities = mine.attention[i];
            for (std::size_t j = 0; j < free.size(); ++j) given[j] = probabilities[free[j]];
            const float sum = simd::sum(given);
            if (sum == 0) continue;
            simd::add(given, mean);
            pool(given, pooled);
            simd::scale(pooled, sum / simd::sum(pooled));
            for (std::size_t j = 0; j < free.size(); ++j) most[j] = (std::max)(most[j], pooled[j]);
        }
        float all = 0;
        for (const std::uint32_t row : free) all += mine.effect[row];
        const float least = simd::sum(most) / static_cast<float>((std::max<std::size_t>)(free.size(), 1));
        for (std::size_t j = 0; j < free.size(); ++j) {
            states.score[free[j]] = all > 0 ? (std::max)(most[j], least) * mine.effect[free[j]] / all : 0;
        }
        spare(states, mean, pooled, static_cast<float>(tokens * states.shape.heads));
    }

  private:
    /// Sums of neighbors.
    void pool(std::span<const float> x, std::span<float> sums) const noexcept {
        std::ranges::copy(x, sums.begin());
        for (std::size_t n = 1; n <= (std::min)(width / 2, x.size()); ++n) {
            simd::add(x.first(x.size() - n), sums.subspan(n));
            if (n <= (width - 1) / 2) simd::add(x.subspan(n), sums.first(x.size() - n));
        }
    }
    /// The first stage: scores are at most 1; those of safe states become 1 + the state's share of the attention.
    void spare(view states, std::span<float> share, std::span<float> ranked, float rows) const noexcept {
        const auto free = states.unguarded();
        const guards& g = states.guarded;
        const std::size_t room = states.shape.states - (std::min)(states.shape.states, g.sinks + g.recent);
        const float sum = simd::sum(share);
        if (sum == 0) return;
        const float wanted = first_share - simd::sum(share.last((std::min)(window, share.size()))) / rows;
        simd::scale(share, 1 / sum);
        std::ranges::copy(share, ranked.begin());
        std::ranges::sort(ranked, [](float a, float b) { return a > b; });
        std::size_t first = 0;
        for (float held = 0; first < (std::min)(room, ranked.size()); ++first) {
            if ((held += ranked[first]) >= wanted) break;
        }
        if (first == 0) return;
        auto equal = std::ranges::count(ranked.first(first), ranked[first - 1]);  // among ties, the newest stay
        for (std::size_t j = free.size(); j-- > 0;) {
            const float last = ranked[first - 1];
            if (share[j] > last || (share[j] == last && equal-- > 0)) states.score[free[j]] = 1 + share[j];
        }
    }
};
static_assert(policy<defensivekv> && hooks_of<defensivekv> == (hook::check_shape | hook::default_guards |
                                                               hook::on_insert | hook::on_attention | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
