#pragma once

// A policy whose scores pass through modifiers before each decision, itself a policy.
//
//     using smooth_h2o = ms::modified<ms::h2o, ms::pool>;                  // neighbours in the text share their scores
//     ms::modified<ms::tova_head, ms::value_norm, ms::pool> policy;        // first times the size of the value
//     policy.modifiers.width = 7;                                          // pool's
//
// The policy's own scores stay as they are, so sums go on summing. A modifier is a small struct as a policy is:
//
//     void        modify(states)                          changes states.score; states.by_position is there
//     struct memory, lay_out(memory, layout)              optional: memory of its own (memory.hpp)
//     void        on_insert(keys, values, states, row)    optional
//
// Costs one float per state and a copy of the scores per decision, and what the modifiers cost. Guards, grace among
// them (`recent`), need no modifier: the library has them for every policy.
#include <algorithm>

#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

template <class M>
concept modifier = std::copyable<M> && requires(const M& m, view states) {
    { m.modify(states) }
    noexcept;
};

template <policy P, modifier... Modifiers>
struct modified {
    struct in_order : Modifiers... {};  // a tuple would make policies costly to copy

    P base;
    in_order modifiers;

    per forgets() const noexcept { return base.forgets(); }
    guards default_guards(std::size_t states) const noexcept { return multistate::default_guards(base, states); }
    struct memory {
        per_state<float> base_scores;
    };
    void lay_out(memory& m, layout& l) const noexcept {
        l.part(base);
        l(m.base_scores);
        (l.part(static_cast<const Modifiers&>(modifiers)), ...);
    }
    void check_shape(const table_shape& s) const { multistate::check_shape(base, s); }
    template <class F>
    void for_each_parameter(F&& f) {
        multistate::for_each_parameter(base, f);
        (multistate::for_each_parameter(static_cast<Modifiers&>(modifiers), f), ...);
    }
    template <class F>
    void for_each_parameter(F&& f) const {
        multistate::for_each_parameter(base, f);
        (multistate::for_each_parameter(static_cast<const Modifiers&>(modifiers), f), ...);
    }

    void on_insert(rows keys, rows values, view states, std::size_t row) noexcept
        requires(observes_insertion<P> || (observes_insertion<Modifiers> || ...)) {
        if constexpr (observes_insertion<P>) base.on_insert(keys, values, own_scores(states), row);
        for_each_modifier(states, [&]<class M>(M& m, view its) {
            if constexpr (observes_insertion<M>) m.on_insert(keys, values, its, row);
        });
    }
    void on_query(rows queries, view states) noexcept requires observes_queries<P> {
        base.on_query(queries, own_scores(states));
    }
    void on_attention(rows probabilities, view states) noexcept requires observes_attention<P> {
        base.on_attention(probabilities, own_scores(states));
    }
    void on_forget(view states) noexcept requires(!decides_from_storage<P>) {
        if constexpr (decides_from_memory<P>) base.on_forget(own_scores(states));
        modify(states);
    }
    void on_forget(const reader& stored, view states) noexcept requires decides_from_storage<P> {
        base.on_forget(stored, own_scores(states));
        modify(states);
    }
    void on_compare(view states) noexcept requires observes_comparison<P> {
        base.on_compare(own_scores(states));
        modify(states);
    }
    bool scores_are_comparable() const noexcept { return multistate::scores_are_comparable(base); }
    void merge(const editor& stored, std::span<const std::uint32_t> gone, view states) noexcept requires merges<P> {
        base.merge(stored, gone, own_scores(states));
    }
    void finish_prompt(const reader& stored, view states) noexcept requires observes_prompt_end<P> {
        base.finish_prompt(stored, own_scores(states));
    }

  private:
    /// What comes before the memory of the modifiers.
    struct base_and_scores {
        const P& base;
        using memory = typename modified::memory;
        void lay_out(memory& m, layout& l) const noexcept {
            l.part(base);
            l(m.base_scores);
        }
    };
    view own_scores(view states) const noexcept {
        states.score = states.memory(base_and_scores{base}).base_scores;
        return states;
    }
    template <class F>
    void for_each_modifier(view states, F f) noexcept {
        states.skip(base_and_scores{base});
        const auto visit = [&]<class M>(M& m) {
            f(m, states);
            states.skip(m);
        };
        (visit(static_cast<Modifiers&>(modifiers)), ...);
    }
    void modify(view states) noexcept {
        std::ranges::copy(own_scores(states).score, states.score.begin());
        for_each_modifier(states, [](auto& m, view its) { m.modify(its); });
    }
};

}}  // namespace multistate::MULTISTATE_TARGET
