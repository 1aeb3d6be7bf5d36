#pragma once

// scissorhands: forgets the state that was most often attended to less than average, of late.
//
//   paper    "Scissorhands: Exploiting the Persistence of Importance Hypothesis for LLM KV Cache Compression at Test
//            Time", arXiv 2305.17118
//   rule     score[j] = -(how many of the newest `history` tokens t gave j less than average: the mean of a[i][t][j]
//            over the query heads i of the group was below 1 / the number of states that t saw)
//   reads    the attention probabilities of every token
//   forgets  for each KV head; the newest min(10, states / 2) are guarded unless the user names another `recent`
//   cost     one addition per probability, some bit operations and one pass more per state and token; 1 + history / 24
//            floats per state, rounded up: 72 bytes for 400 tokens, where a key and a value of 128 in bf16 have 512
//   differs  of the paper only the rule and its numbers are known here, and the authors have no clean code of it. They
//            drop many states at once (see `slack`). cold-compress divides the count by how long a state was seen; here
//            a young state has few counts and so stays a while. Below 20 states half of them are guarded, not 10.
#include <algorithm>
#include <tuple>

#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct scissorhands {
    static constexpr std::string_view name = "scissorhands";
    static constexpr std::string_view paper = "arXiv 2305.17118";
    static constexpr per forgets() noexcept { return per::head; }
    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = 0, .recent = (std::min<std::size_t>)(10, states / 2)};
    }

    std::size_t history = 400;  ///< tokens that are remembered
    static constexpr auto parameters =
        std::tuple{parameter{"history", &scissorhands::history, std::size_t{1}, std::size_t{65536}}};

    /// A state's record is a ring of `history` bits, one per token. A float holds whole numbers of 24 bits exactly.
    static constexpr std::size_t bits = 24;
    std::size_t floats_per_state(const table_shape&) const noexcept { return 1 + (history + bits - 1) / bits; }
    static constexpr std::size_t floats_per_table(const table_shape&) noexcept { return 1; }

    void on_attention(rows probabilities, view states) const noexcept {
        const auto sum = states.memory(0);
        std::ranges::fill(sum, 0.0f);
        add(probabilities, sum);
        const float average = static_cast<float>(probabilities.count) / static_cast<float>(probabilities.width);
        const auto place = static_cast<std::size_t>(states.own[0]);  // of this token in the ring
        const auto record = states.memory(1 + place / bits);
        const int bit = 1 << place % bits;
        for (std::size_t j = 0; j < states.size(); ++j) {
            const int word = static_cast<int>(record[j]);
            const int before = word & bit;
            const int now = sum[j] < average ? bit : 0;
            record[j] = static_cast<float>(word - before + now);
            states.score[j] += static_cast<float>((before != 0) - (now != 0));
        }
        states.own[0] = static_cast<float>((place + 1) % history);
    }
};
static_assert(policy<scissorhands> && names_guards<scissorhands> && observes_attention<scissorhands>);
static_assert(remembers_states<scissorhands> && remembers_more<scissorhands> && has_parameters<scissorhands>);

}}  // namespace multistate::MULTISTATE_TARGET
