#pragma once

// given: forgets by scores that you supply. For trained methods, and for methods that run the model once more.
//
//     ms::cache<ms::given> cache(shape);
//     ...                                                        // the prompt, with `block` large enough to hold it
//     auto layer = cache.layer(i);
//     for (std::size_t row = 0; row < layer.size(kv_head); ++row) {
//         layer.scores(kv_head)[row] = worth[layer.positions(kv_head)[row]];
//     }
//     layer.forget();                                            // or wait: the next append forgets
//
//   paper    none. KVzip (arXiv 2505.23416) scores by a second pass that repeats the prompt; KVzap (2601.07891), Locret
//            (2410.01805) and others train a small model to score
//   rule     score[j] = the last value written to scores()[j], 0 when j is placed
//   reads    nothing
//   forgets  for each KV head
//   cost     one pass to decide
//   differs  a score stays until its state is forgotten. A state that you never scored has score 0. If your scores are
//            positive, it is forgotten next, unless you score it before the next append or guard it with `recent`. Rows
//            are reused, so use positions(), not the order of the rows.
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct given {
    static constexpr std::string_view name = "given";
    static constexpr per forgets() noexcept { return per::head; }
    static constexpr bool scored_by_user = true;
};
static_assert(policy<given> && hooks_of<given> == hook::none);

}}  // namespace multistate::MULTISTATE_TARGET
