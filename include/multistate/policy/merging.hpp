#pragma once

// A policy that saves something of each state that it forgets, in states that stay: itself a policy.
//
//     using mine = ms::merging<ms::tova_head, ms::into_nearest>;                 // see mergers/*.hpp
//     mine policy;
//     policy.merger.threshold = 0.5f;
//
// The policy decides as it did; the merger changes stored keys and values of the survivors, before rows are
// overwritten. It is a small struct as a policy is:
//
//     void        merge(stored, gone, states)             as in policy.hpp: `gone` ascends, all else stays
//     std::size_t floats_per_state(shape)                 optional: memory(i) of its own, 0 when a state is placed
//     std::size_t floats_per_table(shape)                 optional: view::own of its own
//     parameters                                          optional
//
// A survivor keeps its row, its position and its score, and may be a guard. A merged state is stored afresh, so a
// narrow codec rounds it once more. Policies that merge take the tokens of an exact prefill one at a time.
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

template <policy P, merges Merger>
requires(!merges<P>) struct merging : P {
    Merger merger;

    std::size_t floats_per_state(const table_shape& s) const noexcept {
        std::size_t mine = 0;
        if constexpr (remembers_states<Merger>) mine = merger.floats_per_state(s);
        return multistate::floats_per_state(base(), s) + mine;
    }
    std::size_t floats_per_table(const table_shape& s) const noexcept {
        std::size_t mine = 0;
        if constexpr (remembers_more<Merger>) mine = merger.floats_per_table(s);
        return multistate::floats_per_table(base(), s) + mine;
    }
    template <class F>
    void for_each_parameter(F&& f) {
        multistate::for_each_parameter(static_cast<P&>(*this), f);
        multistate::for_each_parameter(merger, f);
    }
    template <class F>
    void for_each_parameter(F&& f) const {
        multistate::for_each_parameter(base(), f);
        multistate::for_each_parameter(merger, f);
    }

    /// The policy's memory comes first, then the merger's.
    void merge(const editor& stored, std::span<const std::uint32_t> gone, view states) noexcept {
        states.planes = states.memory(multistate::floats_per_state(base(), states.shape)).data();
        states.own = states.own.subspan(multistate::floats_per_table(base(), states.shape));
        merger.merge(stored, gone, states);
    }

  private:
    const P& base() const noexcept { return *this; }
};

}}  // namespace multistate::MULTISTATE_TARGET
