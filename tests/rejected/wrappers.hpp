#pragma once

// The wrappers that a policy with a faulty hook must not get through. Each number is another type, so that each wrapper
// is an error of its own.
#include <multistate/policy/composed.hpp>
#include <multistate/policy/one_of.hpp>

namespace ms = multistate;

struct by_head {
    static constexpr std::string_view name = "by_head";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
};
struct adds_one {
    void modify(ms::view states) const noexcept {
        for (float& s : states.score) s += 1;
    }
};

template <class P>
struct called : P {
    static constexpr std::string_view name = "called";
};

#define REJECT_IN_EVERY_WRAPPER(bad)                                            \
    static_assert(ms::hooks_are_checked<bad<0>>);                               \
    template class ms::one_of<by_head, bad<1>>;                                 \
    template class ms::composed<bad<2>, adds_one>;                              \
    template class ms::composed<ms::composed<bad<3>, adds_one>, adds_one>;      \
    template class ms::one_of<by_head, called<ms::composed<bad<4>, adds_one>>>; \
    template class ms::composed<called<bad<5>>, adds_one>
