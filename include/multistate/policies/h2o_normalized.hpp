#pragma once

// h2o_normalized: forgets the state of the layer with the least attention on average over its life, between guards.
//
//     ms::cache<ms::h2o_normalized> cache({.layers = 32, …, .states = 672});// guards 32 + 128
//
//   paper    none: NORM_SUM, the default of OpenVINO GenAI's cache eviction
//   rule     score[j] = sum of a[i][t][j] over all query heads i of the layer and all tokens t since j's own, divided
//            by the number of these tokens
//   reads    the attention probabilities of every token
//   forgets  for the layer; the first min(32, states / 8) and the newest min(128, states / 4) are guarded
//   cost     one addition per probability, one float per state, one division per state and decision
//   differs  OpenVINO guards 32 and 128 of 672 states; here, below 512 states, they are shares of the states, so that
//            some candidates remain. Of a prompt it counts the attention of the last 8 tokens only
//            (snapkv_window_size), and divides by 8; here all tokens count. It forgets blocks of its paged cache, by
//            the sum of their scores, and nothing before the prompt ends; it replaces each probability by the maximum
//            of it and the next few. Here: single states, at every decision, no pooling (see modifiers/pool.hpp). For
//            endless texts see observed_attention.
#include <algorithm>

#include "multistate/modifiers/scope.hpp"
#include "multistate/policies/observed_attention.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct h2o_normalized : composed<observed_attention, per_layer> {
    static constexpr std::string_view name = "h2o_normalized";
    static constexpr std::string_view paper = "OpenVINO GenAI";
    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = (std::min<std::size_t>)(32, states / 8), .recent = (std::min<std::size_t>)(128, states / 4)};
    }
};
static_assert(policy<h2o_normalized> &&
              hooks_of<h2o_normalized> == (hook::default_guards | hook::on_attention | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
