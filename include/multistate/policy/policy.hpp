#pragma once

// What the author of a policy reads. A policy is a small struct that scores states; the library forgets the least.
//
//     struct decayed {                                          // a complete policy
//         static constexpr std::string_view name = "decayed";
//         static constexpr ms::per forgets() noexcept { return ms::per::head; }
//         float decay = 0.95f;
//
//         void on_attention(ms::rows probabilities, ms::view states) const noexcept {
//             for (float& s : states.score) s *= decay;
//             ms::add(probabilities, states.score);
//         }
//     };
//     static_assert(ms::observes_attention<decayed>);           // a misspelt hook would silently be Window
//
// Every hook is optional; one that is absent costs nothing. Without any, all scores stay 0 and the oldest state goes:
// that is Window. Guards (sinks, recent), ties, selection, storage and threads are the library's.
//
//     guards      default_guards(states)                     guards the policy wants unless the user says otherwise
//     void        check_shape(shape)                         refuses a table that the policy's own data do not fit
//     void        lay_out(memory, layout)                    how large its struct `memory` is: see memory.hpp
//     void        on_insert(keys, values, states, row)       a state was placed in `row`
//     void        on_query(queries, states)                  the queries of one token, before its probabilities
//     void        on_attention(probabilities, states)        one token attended
//     void        on_forget(states)                          a decision is due: the last chance to score
//     void        on_forget(stored, states)                  the same, reading stored keys and values
//     void        on_compare(states)                         after on_forget, for adaptive_budget: scores by which KV
//                                                            heads can be compared, where the policy's own are not
//     bool        scores_are_comparable()                    false where there are no such scores; true if absent
//     void        merge(stored, gone, states)                rows `gone` are about to be overwritten
//     void        finish_prompt(stored, states)              the prompt has ended
//
// Scores are comparable where they mean the same in all KV heads of a layer: shares of attention do; norms of keys do
// not, because each head has a scale of its own for keys, which its queries undo.
//
// Hooks are noexcept, except check_shape, which throws std::invalid_argument. A policy object is copied into every
// table, so its own members are per table. Of a block of tokens all are inserted before the first attends.
//
// A hook never sees a NaN, an infinity, or a vector longer than 1e9, whose squares may overflow (bounded() in view.hpp).
// So sums and moments need no check, and nothing outlives a bad token:
//   - a state whose key or value is such a vector is spoiled. on_insert sees zeros for it, `stored` reads as zeros and
//     is not written, and at every decision its score is NaN: it is the first to go, whatever the policy says, once it
//     is not guarded. Attention sees it as it is, so that the error shows
//   - queries: zeros for all heads of the table, where one is such a vector
//   - probabilities: a token is not shown to on_attention where those of one of the table's heads are not finite
// A table finds a spoiled state by the keys and values that place or insert is given.
//
// Count in integers, which memory.hpp offers. A float32 sum of attention stops growing where a query head adds less than
// 2^-25 of it, which for steady attention is after some 2^24 / heads tokens of the state's life. For endless texts let
// old tokens fade: count_token in linear_algebra.hpp, modifiers/decayed.hpp.
//
// Numbers that users may set are listed once, with their bounds, and every constructor checks them:
//
//     static constexpr auto parameters = std::tuple{ms::parameter{"decay", &decayed::decay, 0.0f, 1.0f}};
#include <concepts>
#include <cstddef>
#include <string_view>
#include <tuple>

#include "multistate/core/parameter.hpp"
#include "multistate/policy/view.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// What loses a state together: all heads of a layer, each KV head for itself, or nothing ever.
enum class per { layer, head, never };

/// A policy with other numbers, under a name of its own: one_of::named("snapkv:class"). See snapkv's list `presets`.
template <class P>
struct preset {
    std::string_view name;
    P (*make)() noexcept;
};

/// Lists presets of its own, not those of what it derives from.
template <class P>
concept has_presets = requires {
    { P::presets[0] } -> std::convertible_to<const preset<P>&>;
};

/// A policy says who forgets together; that may depend on the object (see one_of), so it is no constant of the type.
template <class P>
concept policy = std::copyable<P> && requires(const P& p) {
    { p.forgets() }
    noexcept->std::same_as<per>;
};

template <class P>
concept names_guards = requires(const P& p, std::size_t states) {
    { p.default_guards(states) }
    noexcept->std::same_as<guards>;
};

/// Has data of its own that must fit the table, and refuses a shape with detail::require or an exception.
template <class P>
concept checks_shape = requires(const P& p, const table_shape& s) {
    p.check_shape(s);
};

/// Wants the new key and value: keys [KV heads of the table, head_dim], values [.., value_dim], as given to append.
template <class P>
concept observes_insertion = requires(P& p, rows keys, rows values, view states, std::size_t row) {
    { p.on_insert(keys, values, states, row) }
    noexcept;
};

/// Wants the queries of every token: [query heads of the table, head_dim], as given to attention.
template <class P>
concept observes_queries = requires(P& p, rows queries, view states) {
    { p.on_query(queries, states) }
    noexcept;
};

/// Wants the probabilities of every token: [query heads of the table, size()], each row sums to 1.
template <class P>
concept observes_attention = requires(P& p, rows probabilities, view states) {
    { p.on_attention(probabilities, states) }
    noexcept;
};

/// Wants to score when a decision is due, from what it remembers.
template <class P>
concept decides_from_memory = requires(P& p, view states) {
    { p.on_forget(states) }
    noexcept;
};

/// Wants to score stored keys and values when a decision is due.
template <class P>
concept decides_from_storage = requires(P& p, const reader& stored, view states) {
    { p.on_forget(stored, states) }
    noexcept;
};

/// Either.
template <class P>
concept observes_decision = decides_from_memory<P> || decides_from_storage<P>;

/// Wants to score anew where KV heads are compared: scores that mean the same in all heads of a layer.
template <class P>
concept observes_comparison = requires(P& p, view states) {
    { p.on_compare(states) }
    noexcept;
};

/// Says whether the scores of KV heads can be compared.
template <class P>
concept knows_comparable = requires(const P& p) {
    { p.scores_are_comparable() }
    noexcept->std::same_as<bool>;
};

/// Wants to save something of the rows `gone`, which ascend and of which all go, before they are overwritten.
template <class P>
concept merges = requires(P& p, const editor& stored, std::span<const std::uint32_t> gone, view states) {
    { p.merge(stored, gone, states) }
    noexcept;
};

/// Wants to know when the prompt ends.
template <class P>
concept observes_prompt_end = requires(P& p, const reader& stored, view states) {
    { p.finish_prompt(stored, states) }
    noexcept;
};

namespace detail {

/// False where a member has the name of a hook and not its form: a mistake that would otherwise pass in silence.
template <class P>
consteval bool hooks_fit() {
    bool fit = true;
    if constexpr (requires { &P::default_guards; }) fit = fit && names_guards<P>;
    if constexpr (requires { &P::check_shape; }) fit = fit && checks_shape<P>;
    if constexpr (requires { &P::on_insert; }) fit = fit && observes_insertion<P>;
    if constexpr (requires { &P::on_query; }) fit = fit && observes_queries<P>;
    if constexpr (requires { &P::on_attention; }) fit = fit && observes_attention<P>;
    if constexpr (requires { &P::on_forget; }) fit = fit && observes_decision<P>;
    if constexpr (requires { &P::on_compare; }) fit = fit && observes_comparison<P>;
    if constexpr (requires { &P::scores_are_comparable; }) fit = fit && knows_comparable<P>;
    if constexpr (requires { &P::merge; }) fit = fit && merges<P>;
    if constexpr (requires { &P::finish_prompt; }) fit = fit && observes_prompt_end<P>;
    return fit;
}

}  // namespace detail

// What a policy object reads; one_of answers for its choice.

template <policy P>
constexpr bool reads_attention(const P& p) noexcept {
    if constexpr (requires {
                      { p.reads_attention() } -> std::same_as<bool>;
                  }) {
        return p.reads_attention();
    } else {
        return observes_attention<P>;
    }
}
template <policy P>
constexpr bool reads_queries(const P& p) noexcept {
    if constexpr (requires {
                      { p.reads_queries() } -> std::same_as<bool>;
                  }) {
        return p.reads_queries();
    } else {
        return observes_queries<P>;
    }
}
/// Whether it looks at each new key and value.
template <policy P>
constexpr bool reads_arrivals(const P& p) noexcept {
    if constexpr (requires {
                      { p.reads_arrivals() } -> std::same_as<bool>;
                  }) {
        return p.reads_arrivals();
    } else {
        return observes_insertion<P>;
    }
}
/// Whether it reads, or merges, stored rows at each decision.
template <policy P>
constexpr bool reads_stored(const P& p) noexcept {
    if constexpr (requires {
                      { p.reads_stored() } -> std::same_as<bool>;
                  }) {
        return p.reads_stored();
    } else {
        return decides_from_storage<P> || merges<P>;
    }
}

/// Whether it wants rows in the order of the text.
template <policy P>
constexpr bool reads_order(const P& p) noexcept {
    if constexpr (requires {
                      { p.reads_order() } -> std::same_as<bool>;
                  }) {
        return p.reads_order();
    } else {
        return observes_decision<P> || observes_comparison<P> || merges<P>;
    }
}

/// Whether adaptive_budget may compare the scores of a layer's KV heads, those of on_compare where there is one.
template <policy P>
constexpr bool scores_are_comparable(const P& p) noexcept {
    if constexpr (knows_comparable<P>) {
        return p.scores_are_comparable();
    } else {
        return true;
    }
}

template <policy P>
constexpr guards default_guards(const P& p, std::size_t states) noexcept {
    if constexpr (names_guards<P>) {
        return p.default_guards(states);
    } else {
        return {};
    }
}

/// Called by every constructor, before anything is allocated.
template <policy P>
void check_shape(const P& p, const table_shape& s) {
    if constexpr (checks_shape<P>) p.check_shape(s);
}

}}  // namespace multistate::MULTISTATE_TARGET
