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
//     std::size_t floats_per_state()                         memory of its own: view::memory(i), zeroed at placing
//     void        on_insert(keys, values, states, row)       a state was placed in `row`
//     void        on_attention(probabilities, states)        one token attended
//     void        on_forget(stored, states)                  a decision is due: score from the stored keys and values
//     void        finish_prompt(stored, states)              the prompt has ended: for methods that judge once
//
// Hooks are noexcept. A policy object is copied into every table, so its own members are per table.
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "multistate/simd/arithmetic.hpp"
#include "multistate/target.hpp"

namespace multistate::inline MULTISTATE_TARGET {

/// Index of a token in its sequence, 0-based; never changes while its state lives.
using position = std::int32_t;

/// What loses a state together: all heads of a layer, each KV head for itself, or nothing ever.
enum class per { layer, head, never };

/// Read-only matrix [count, width] of floats; `stride` is the distance between rows in floats.
struct rows {
    const float* data = nullptr;
    std::size_t count = 0;
    std::size_t width = 0;
    std::size_t stride = 0;

    std::span<const float> operator[](std::size_t r) const noexcept { return {data + r * stride, width}; }
};

/// States that the policy may not forget: the first `sinks` arrivals and the `recent` newest held at the decision.
struct guards {
    std::size_t sinks = 0;
    std::size_t recent = 0;
};

/// What a hook sees of a table: entry j of every span belongs to row j. Row order means nothing.
struct view {
    std::span<const multistate::position> position;
    std::span<float> score;       ///< to be written by the policy; 0 when a state is placed
    float* planes;                ///< see memory()
    std::size_t plane_stride;     ///< rows of the table
    multistate::position newest;  ///< the newest position held
    std::size_t layer;            ///< as given to the table
    std::size_t kv_head;          ///< as given to the table; 0 where a layer decides

    std::size_t size() const noexcept { return score.size(); }
    /// The policy's own memory, i < floats_per_state(): one float per row.
    std::span<float> memory(std::size_t i) const noexcept { return {planes + i * plane_stride, size()}; }
};

/// Reads stored keys and values as floats, whatever the codec; each call decodes a row. KV heads are counted from the
/// first of the table.
struct reader {
    using load_function = void(const void* owner, std::size_t layer, std::size_t kv_head, std::size_t row, float* key,
                               float* value) noexcept;

    const void* owner = nullptr;
    load_function* load = nullptr;  ///< decodes into key and value, of which one may be null
    std::size_t layer = 0;
    std::size_t first_kv_head = 0;
    std::size_t kv_heads = 0;
    std::size_t head_dim = 0;
    std::size_t value_dim = 0;

    void key(std::size_t kv_head, std::size_t row, std::span<float> out) const noexcept {
        load(owner, layer, first_kv_head + kv_head, row, out.data(), nullptr);
    }
    void value(std::size_t kv_head, std::size_t row, std::span<float> out) const noexcept {
        load(owner, layer, first_kv_head + kv_head, row, nullptr, out.data());
    }
};

/// score[j] += the sum of column j of `probabilities`.
inline void add(rows probabilities, std::span<float> score) noexcept {
    simd::add_rows(probabilities.data, probabilities.count, probabilities.stride, score);
}

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

template <class P>
concept keeps_memory = requires(const P& p) {
    { p.floats_per_state() }
    noexcept->std::convertible_to<std::size_t>;
};

/// Wants the new key and value: keys [KV heads of the table, head_dim], values [.., value_dim], as given to append.
template <class P>
concept observes_insertion = requires(P& p, rows keys, rows values, view states, std::size_t row) {
    { p.on_insert(keys, values, states, row) }
    noexcept;
};

/// Wants the probabilities of every token: [query heads of the table, size()], each row sums to 1.
template <class P>
concept observes_attention = requires(P& p, rows probabilities, view states) {
    { p.on_attention(probabilities, states) }
    noexcept;
};

/// Wants to score stored keys and values when a decision is due.
template <class P>
concept observes_decision = requires(P& p, const reader& stored, view states) {
    { p.on_forget(stored, states) }
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
    if constexpr (requires { &P::floats_per_state; }) fit = fit && keeps_memory<P>;
    if constexpr (requires { &P::on_insert; }) fit = fit && observes_insertion<P>;
    if constexpr (requires { &P::on_attention; }) fit = fit && observes_attention<P>;
    if constexpr (requires { &P::on_forget; }) fit = fit && observes_decision<P>;
    if constexpr (requires { &P::finish_prompt; }) fit = fit && observes_prompt_end<P>;
    return fit;
}

}  // namespace detail

/// Whether this policy object must be shown probabilities; one_of answers for its choice.
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

/// Whether this policy object scores stored rows at each decision; one_of answers for its choice.
template <policy P>
constexpr bool reads_stored(const P& p) noexcept {
    if constexpr (requires {
                      { p.reads_stored() } -> std::same_as<bool>;
                  }) {
        return p.reads_stored();
    } else {
        return observes_decision<P>;
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

template <policy P>
constexpr std::size_t floats_per_state(const P& p) noexcept {
    if constexpr (keeps_memory<P>) {
        return p.floats_per_state();
    } else {
        return 0;
    }
}

}  // namespace multistate::inline MULTISTATE_TARGET
