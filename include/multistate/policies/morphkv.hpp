#pragma once

// morphkv: forgets the state that received the least attention from the last tokens, outside these tokens.
//
//     ms::cache<ms::morphkv> cache(shape, {.window = 100});   // tokens
//
//   paper    "Dialogue Without Limits: Constant-Sized KV Caches for Extended Responses in LLMs" (MorphKV),
//            arXiv 2503.00979
//   rule     score[j] = sum (or maximum) over the last `window` tokens t of the sum of a[i][t][j] over the query heads
//            i of the group
//   reads    the attention probabilities of every token
//   forgets  for each KV head; the newest min(window, states / 2) are guarded unless the user names another `recent`
//   cost     4 * `window` bytes per state; one addition per probability; `window` additions per state to decide
//   differs  read in the authors' code, which sums the logits of a group and recomputes their softmax over the states
//            outside the window. Here probabilities count as they were when the token attended. Their scripts use the
//            maximum and windows from 16 to 200.
#include <algorithm>

#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct morphkv {
    static constexpr std::string_view name = "morphkv";
    static constexpr std::string_view paper = "arXiv 2503.00979";
    static constexpr per forgets() noexcept { return per::head; }

    std::size_t window = 30;  ///< tokens
    bool maximum = false;     ///< the maximum of the attention of the window's tokens, instead of its sum
    static constexpr parameter<morphkv> parameters[] = {{"window", &morphkv::window, 1, 1024},
                                                        {"maximum", &morphkv::maximum}};

    constexpr guards default_guards(std::size_t states) const noexcept {
        return {.sinks = 0, .recent = (std::min)(window, states / 2)};
    }
    struct memory {
        per_state_array<float> given;     // a ring [window]: the attention of each of the last tokens
        per_table<std::uint64_t> tokens;  // so far
    };
    void lay_out(memory& m, layout& l) const noexcept {
        l(m.given, window);
        l(m.tokens);
    }

    void on_attention(rows probabilities, view states) const noexcept {
        const memory mine = states.memory(*this);
        const auto given = mine.given[mine.tokens[0]++ % window];
        std::ranges::fill(given, 0.0f);
        add(probabilities, given);
    }
    void on_forget(view states) const noexcept {
        std::ranges::fill(states.score, 0.0f);
        const rows given = attention(states);
        if (!maximum) return add(given, states.score);
        for (std::size_t t = 0; t < given.count; ++t) {
            const auto row = given[t];
            for (std::size_t j = 0; j < row.size(); ++j) states.score[j] = (std::max)(states.score[j], row[j]);
        }
    }

    /// The attention of the window's tokens, in any order: [tokens, size()].
    rows attention(view states) const noexcept {
        const memory mine = states.memory(*this);
        const auto tokens = (std::min<std::uint64_t>)(window, mine.tokens[0]);
        return {mine.given.data(), static_cast<std::size_t>(tokens), states.size(), mine.given.stride()};
    }
};
static_assert(policy<morphkv> && hooks_of<morphkv> == (hook::default_guards | hook::on_attention | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
