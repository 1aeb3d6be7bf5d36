#pragma once

// cake_prompt: scores a state by the mean and the variance of the attention that the last tokens give it.
//
//     ms::cake_prompt policy;
//     policy.get<ms::mean_and_variance>().gamma = 5;          // the weight of the variance
//
//   paper    "CAKE: Cascading and Adaptive KV Cache Eviction with Layer Preferences", arXiv 2503.12491
//   rule     score[j] = mean, over the states around j in the text that are not guarded, of mean + gamma * variance of
//            a[t][j] over the last `window` tokens t, where a[t][j] is the mean over the query heads of the group. The
//            score kept is the number of heads times that.
//   reads    the attention probabilities of every token
//   forgets  for each KV head; the newest min(window, states / 2) are guarded unless the user names another `recent`
//   cost     morphkv's and 8 bytes per state; four operations per float of memory to decide
//   differs  the authors compute the variance per query head and then its mean over the group, which needs the window
//            of every head. Here it is the variance of the mean. They count zeros beyond the ends (zero_padded). Their
//            layer budgets are not part of this policy (for use on a prompt, see snapkv). The numbers are from
//            their code: window 32, gamma 200.
#include "multistate/modifiers/pool.hpp"
#include "multistate/policies/morphkv.hpp"
#include "multistate/policy/composed.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The rule before pooling: morphkv with another use of its window.
struct mean_and_variance : morphkv {
    float gamma = 200;
    static constexpr parameter<mean_and_variance> parameters[] = {{"window", &morphkv::window, 1, 1024},
                                                                  {"gamma", &mean_and_variance::gamma, 0.0f, 1e6f}};

    struct memory {
        per_state<float> mean;  // scratch
    };
    void lay_out(memory& m, layout& l) const noexcept {
        l.part(static_cast<const morphkv&>(*this));
        l(m.mean);
    }

    void on_forget(view states) const noexcept {
        const rows given = attention(states);
        const auto mean = states.memory(*this).mean;
        std::ranges::fill(mean, 0.0f);
        std::ranges::fill(states.score, 0.0f);
        if (given.count == 0) return;
        add(given, mean);
        simd::scale(mean, 1 / static_cast<float>(given.count));
        for (std::size_t t = 0; t < given.count; ++t) {
            const auto row = given[t];
            for (std::size_t j = 0; j < row.size(); ++j) states.score[j] += (row[j] - mean[j]) * (row[j] - mean[j]);
        }
        const std::size_t degrees = (std::max<std::size_t>)(given.count, 2) - 1;  // the variance of one token is 0
        simd::scale(states.score, gamma / static_cast<float>(degrees * states.shape.heads));
        simd::add(mean, states.score);
    }
};

struct cake_prompt : composed<mean_and_variance, pool> {
    static constexpr std::string_view name = "cake_prompt";
    static constexpr std::string_view paper = "arXiv 2503.12491";

    constexpr cake_prompt() noexcept : composed({{.window = 32}}, {}) {}
};
static_assert(policy<cake_prompt> &&
              hooks_of<cake_prompt> == (hook::default_guards | hook::on_attention | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
