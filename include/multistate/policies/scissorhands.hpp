#pragma once

// scissorhands: forgets the state that recent tokens most often gave less than average attention.
//
//     ms::cache<ms::scissorhands> cache(shape, {.history = 800});// tokens
//
//   paper    "Scissorhands: Exploiting the Persistence of Importance Hypothesis for LLM KV Cache Compression at Test
//            Time", arXiv 2305.17118
//   rule     score[j] = -(how many of the newest `history` tokens t gave j less than average: the mean of a[i][t][j]
//            over the query heads i of the group was below 1 / the number of states that t saw)
//   reads    the attention probabilities of every token
//   forgets  for each KV head; the newest min(10, states / 2) are guarded unless the user names another `recent`
//   cost     one addition per probability, some bit operations and one pass more per state and token; a bit per state
//            and token of the history: 60 bytes for 400 tokens, while a key and a value of 128 in bf16 have 512
//   differs  only the rule and its numbers were read in the paper; the authors have no clean code. They drop many
//            states at once (see `slack`). cold-compress divides the count by how long a state was seen; here
//            a young state has few counts, so it stays a while. Below 20 states, half of them are guarded, not 10.
#include <algorithm>

#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct scissorhands {
    static constexpr std::string_view name = "scissorhands";
    static constexpr std::string_view paper = "arXiv 2305.17118";
    static constexpr per forgets() noexcept { return per::head; }
    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = 0, .recent = (std::min<std::size_t>)(10, states / 2)};
    }

    std::size_t history = 400;  ///< the number of tokens that are remembered
    static constexpr parameter<scissorhands> parameters[] = {{"history", &scissorhands::history, 1, 65536}};

    struct memory {
        per_state<float> sum;                   // of the newest token's probabilities
        per_state_array<std::uint64_t> record;  // a ring of bits, one per token: whether it attended below average
        per_table<std::uint64_t> tokens;        // so far
    };
    void lay_out(memory& m, layout& l) const noexcept {
        l(m.sum);
        l(m.record, (history + bits - 1) / bits);
        l(m.tokens);
    }

    void on_attention(rows probabilities, view states) const noexcept {
        const auto [sum, record, tokens] = states.memory(*this);
        std::ranges::fill(sum, 0.0f);
        add(probabilities, sum);
        const float average = static_cast<float>(probabilities.count) / static_cast<float>(probabilities.width);
        const std::uint64_t place = tokens[0]++ % history;
        const auto words = record[place / bits];
        const std::uint64_t bit = std::uint64_t{1} << place % bits;
        for (std::size_t j = 0; j < states.size(); ++j) {
            const bool before = (words[j] & bit) != 0, now = sum[j] < average;
            words[j] = (words[j] & ~bit) | (now ? bit : 0);
            states.score[j] += static_cast<float>(before - now);
        }
    }

  private:
    static constexpr std::size_t bits = 64;  // of a word
};
static_assert(policy<scissorhands> && hooks_of<scissorhands> == (hook::default_guards | hook::on_attention));

}}  // namespace multistate::MULTISTATE_TARGET
