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
//     struct memory, lay_out(memory, layout)              optional: memory of its own (memory.hpp)
//     parameters                                          optional
//
// A survivor keeps its row, its position and its score, and may be a guard. A merged state is stored afresh, so a
// narrow codec rounds it once more. Policies that merge take the tokens of an exact prefill one at a time.
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

template <policy P, merges Merger>
requires(!merges<P>) struct merging : P {
    Merger merger;

    struct memory {};  // the policy's, then the merger's
    void lay_out(memory&, layout& l) const noexcept {
        l.part(base());
        l.part(merger);
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

    void merge(const editor& stored, std::span<const std::uint32_t> gone, view states) noexcept {
        merger.merge(stored, gone, states.after(base()));
    }

  private:
    const P& base() const noexcept { return *this; }
};

}}  // namespace multistate::MULTISTATE_TARGET
