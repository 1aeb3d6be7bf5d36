#pragma once

// window: keeps the newest states. With i sinks it is Window+i, which also keeps the first i arrivals.
//
//     ms::cache<ms::window> cache({.layers = 32, …, .states = 512, .sinks = 4});// Window+4
//
//   paper    "Transformers are Multi-State RNNs", arXiv 2401.06104, section 3; sinks: StreamingLLM, arXiv 2309.17453
//   rule     all scores are 0, so the oldest state is forgotten
//   reads    nothing
//   forgets  for the layer
//   cost     one pass over the positions
//   differs  StreamingLLM's code stores keys before RoPE and rotates them at their place in the cache; here, as in the
//            paper's Window+i, keys keep their absolute positions
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct window {
    static constexpr std::string_view name = "window";
    static constexpr std::string_view paper = "arXiv 2401.06104";
    static constexpr per forgets() noexcept { return per::layer; }
};
static_assert(policy<window> && hooks_of<window> == hook::none);

}}  // namespace multistate::MULTISTATE_TARGET
