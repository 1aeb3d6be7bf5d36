// One hook with each fault that there is, through every wrapper.
// prints 40 times: the hook on_attention must be one public, unambiguous member: void on_attention(rows probabilities, view states) noexcept, otherwise it would never be called
// prints 2 times: a policy or part must not be final: its hooks could not be checked
#include "wrappers.hpp"

template <int>
struct too_few_arguments : by_head {
    void on_attention(ms::rows) const noexcept {}
};
REJECT_IN_EVERY_WRAPPER(too_few_arguments);

template <int>
struct may_throw : by_head {
    void on_attention(ms::rows, ms::view) const {}
};
REJECT_IN_EVERY_WRAPPER(may_throw);

template <int>
struct another_result : by_head {
    bool on_attention(ms::rows, ms::view) const noexcept { return true; }
};
REJECT_IN_EVERY_WRAPPER(another_result);

/// The address of an overloaded member cannot be taken.
template <int>
struct overloaded : by_head {
    void on_attention(ms::rows) const noexcept {}
    void on_attention(ms::rows, int) const noexcept {}
};
REJECT_IN_EVERY_WRAPPER(overloaded);

template <int>
struct ambiguous : by_head {
    void on_attention(ms::rows, ms::view, int = 0) const noexcept {}
    void on_attention(ms::rows, ms::view, float = 0) const noexcept {}
};
REJECT_IN_EVERY_WRAPPER(ambiguous);

template <int>
struct data_member : by_head {
    float on_attention = 1;
};
REJECT_IN_EVERY_WRAPPER(data_member);

/// In a composition of a composition GCC says instead, and later, that the member is private.
template <int>
struct private_member : by_head {
  private:
    void on_attention(ms::rows, ms::view) const noexcept {}
};
static_assert(ms::hooks_are_checked<private_member<0>>);
template class ms::one_of<by_head, private_member<1>>;
template class ms::composed<private_member<2>, adds_one>;
template class ms::composed<called<private_member<3>>, adds_one>;

template <int>
struct final_policy final {
    static constexpr std::string_view name = "final_policy";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    void on_attention(ms::rows) const noexcept {}
};
static_assert(ms::hooks_are_checked<final_policy<0>>);
template class ms::one_of<by_head, final_policy<1>>;
