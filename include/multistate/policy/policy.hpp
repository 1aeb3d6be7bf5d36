#pragma once

// For authors of policies. A policy is a small struct that scores states; the library forgets the lowest scores.
//
//     struct decayed {                                          // a complete policy
//         static constexpr std::string_view name = "decayed";
//         static constexpr ms::per forgets() noexcept { return ms::per::head; }
//         float decay = 0.95f;
//         static constexpr ms::parameter<decayed> parameters[] = {{"decay", &decayed::decay, 0.0f, 1.0f}};
//
//         void on_attention(ms::rows probabilities, ms::view states) const noexcept {
//             for (float& s : states.score) s *= decay;
//             ms::add(probabilities, states.score);
//         }
//     };
//     static_assert(ms::hooks_of<decayed> == ms::hook::on_attention);   // fails if a hook is misspelled
//
// Every hook is optional and costs nothing if absent. A policy without hooks is Window: all scores stay 0, so the
// oldest state is forgotten. A hook whose signature differs from this list does not compile (hooks.hpp):
//
//     guards default_guards(states)             const    guards that the policy wants unless the user sets others
//     void   check_shape(shape)                 const    throws std::invalid_argument if the policy's data do not fit
//     void   lay_out(memory, layout)            const    what the policy remembers (memory.hpp)
//     void   on_insert(keys, values, states, row)        a state was placed in `row`: keys [KV heads, head_dim]
//     void   on_query(queries, states)                   queries of one token [query heads, head_dim], before ...
//     void   on_attention(probabilities, states)         ... its attention probabilities [query heads, size()]
//     void   on_forget([stored,] states)                 a decision is due: the last chance to score, from stored keys
//                                                        and values if the hook takes them
//     void   on_compare(states)                          after on_forget, for adaptive_budget: scores that can be
//                                                        compared between KV heads, if the policy's own cannot
//     bool   scores_are_comparable()            const    false if there are no such scores; absent: true
//     void   merge(stored, gone, states)                 rows `gone`, ascending, are about to be overwritten
//     void   finish_prompt([stored,] states)             the prompt has ended
//     reads  what_is_read()                     const    if it depends on the object; absent: as the hooks imply
//
// The library does guards, ties, selection, storage and threads. All hooks except check_shape are noexcept. The policy
// object is copied into every table, so its members are per table. All tokens of a block are inserted before the first
// one attends. Scores are comparable if they mean the same in all KV heads of a layer. Sums of attention are
// comparable. Norms of keys are not: each head has its own scale.
//
// Hooks never see a NaN, an infinity, or a vector longer than 1e9, whose squares may overflow (bounded(), view.hpp). So
// sums and moments need no check:
//   - A state with such a key or value is "spoiled". on_insert gets zeros for it. `stored` reads it as zeros and does
//     not write it. Its score is NaN at every decision, so it is forgotten first, unless it is guarded.
//   - If one query of a token is such a vector, the queries of all heads of the table are zeros.
//   - If the probabilities of one head are not finite, on_attention is not called for that token.
// A table detects spoiled states from the keys and values passed to place or insert. Attention sees the state
// unchanged.
//
// Count in integers (memory.hpp offers them). A float32 sum of attention stops growing if a query head adds less than
// 2^-25 of it: for steady attention after about 2^24 / heads tokens of the state's life. For endless texts, let old
// tokens fade: modifiers/decayed.hpp, count_token in linear_algebra.hpp.
#include <concepts>
#include <cstddef>
#include <string_view>

#include "multistate/core/parameter.hpp"
#include "multistate/policy/hooks.hpp"
#include "multistate/policy/view.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// A policy with other parameters, under its own name: one_of::named("snapkv:class"). See snapkv's list `presets`.
template <class P>
struct preset {
    std::string_view name;
    P (*make)() noexcept;
};

/// Whether P has presets of its own, not those of a base class.
template <class P>
concept has_presets = requires {
    { P::presets[0] } -> std::convertible_to<const preset<P>&>;
};

/// The guards that a policy wants for this number of states; none if it has no such hook.
template <policy P>
constexpr guards default_guards(const P& p, std::size_t states) noexcept {
    return call_hook<hook::default_guards>(p, states);
}

/// Whether adaptive_budget may compare scores between the KV heads of a layer (the scores of on_compare, if it exists).
template <policy P>
constexpr bool scores_are_comparable(const P& p) noexcept {
    return call_hook<hook::scores_are_comparable>(p);
}

}}  // namespace multistate::MULTISTATE_TARGET
