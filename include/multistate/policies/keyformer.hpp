#pragma once

// keyformer: h2o with noise on the logits and a rising temperature, to counter the effect of forgetting on softmax.
//
//     ms::cache<ms::keyformer> cache(shape, {.generation = 500});
//     …                                                       // the prompt
//     for (std::size_t i = 0; i < layers; ++i) cache.layer(i).finish_prompt();   // tau rises from here on
//
//   paper    "Keyformer: KV Cache Reduction through Key Tokens Selection for Efficient Generative Inference",
//            arXiv 2403.09054
//   rule     score[j] = sum over the query heads i of the group and all tokens t since j's own of
//            softmax over j of ((log a[i][t][j] + g) / tau), g = -log(-log u), u drawn for each (i, t, j);
//            tau = 1 in the prompt, and 1 + n / generation, at most 2, for the n-th token after it
//   reads    the attention probabilities of every token; finish_prompt (if it is never called, tau stays 1)
//   forgets  for each KV head; the newest 30 % of `states` are guarded unless the user names another `recent`
//   cost     a logarithm, a division and a hash per probability, plus a logarithm and an exponential if tau is above 1;
//            4 bytes per state
//   differs  the authors draw noise from a generator; here it is a hash of seed, layer, query head and the positions of
//            query and key, so that a run repeats. Logits equal log a plus a constant, which softmax ignores. If a is
//            0, the score does not change. In the paper tau reaches 2 at the end of the text. In the code it rises by
//            0.01 per token without end, so `generation` is 100 here. Their budget is 60 % of the prompt. Sums stop
//            growing as in h2o: see policy.hpp.
#include <algorithm>
#include <cmath>

#include "multistate/math/random.hpp"
#include "multistate/math/softmax.hpp"
#include "multistate/policy/policy.hpp"
#include "multistate/simd/elementwise.hpp"
#include "multistate/simd/uniform.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct keyformer {
    static constexpr std::string_view name = "keyformer";
    static constexpr std::string_view paper = "arXiv 2403.09054";
    static constexpr per forgets() noexcept { return per::head; }
    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = 0, .recent = states * 3 / 10};
    }

    std::size_t seed = 0;
    float first_temperature = 1;  ///< tau in the prompt
    float last_temperature = 2;
    std::size_t generation = 100;  ///< tokens after the prompt until tau is the last
    static constexpr parameter<keyformer> parameters[] = {
        {"seed", &keyformer::seed, 0, static_cast<std::size_t>(-1)},
        {"first_temperature", &keyformer::first_temperature, 0.01f, 100.0f},
        {"last_temperature", &keyformer::last_temperature, 0.01f, 100.0f},
        {"generation", &keyformer::generation, 1, 1 << 23}};

    struct memory {
        per_state<float> noisy;                 // scratch
        per_table<std::uint64_t> after_prompt;  // 0 in the prompt, then the number of the next token after it
    };
    static void lay_out(memory& m, layout& l) noexcept {
        l(m.noisy);
        l(m.after_prompt);
    }

    void on_attention(rows probabilities, view states) const noexcept {
        const table_shape& s = states.shape;
        const auto [noisy, after_prompt] = states.memory(*this);
        const auto last = static_cast<float>(generation), now = static_cast<float>(after_prompt[0]);
        const float tau = first_temperature + (last_temperature - first_temperature) * now / last;
        for (std::size_t i = 0; i < probabilities.count; ++i) {
            const auto key = random_bits(seed, s.layer, s.kv_head * s.group() + i, states.newest);
            simd::open_uniforms(key, states.position, noisy);
            simd::combine(probabilities[i], noisy, [](simd::floats u, simd::floats a) {
                return a / -simd::log(u);  // e^(log a + g)
            });
            if (tau == 1) {
                const float total = simd::sum(noisy);
                simd::scale(noisy, total > 0 ? 1 / total : 0);
            } else {
                simd::transform(noisy, 1, [](simd::floats x) { return simd::log(x); });
                simd::scale(noisy, 1 / tau);
                softmax(noisy);
                if (std::isnan(noisy[0])) continue;  // one NaN probability would make all sums NaN
            }
            simd::add(noisy, states.score);
        }
        if (after_prompt[0] > 0) after_prompt[0] = (std::min<std::uint64_t>)(after_prompt[0] + 1, generation);
    }
    void finish_prompt(const reader&, view states) const noexcept { states.memory(*this).after_prompt[0] = 1; }
};
static_assert(policy<keyformer> &&
              hooks_of<keyformer> == (hook::default_guards | hook::on_attention | hook::finish_prompt));

}}  // namespace multistate::MULTISTATE_TARGET
