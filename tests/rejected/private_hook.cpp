// A hook that is private.
// prints 4 times: the hook on_attention must be one public, unambiguous member: void on_attention(rows probabilities, view states) noexcept, otherwise it would never be called
#include "wrappers.hpp"

template <int>
struct bad : by_head {
  private:
    void on_attention(ms::rows, ms::view) const noexcept {}
};
// In a composition of a composition GCC says instead, and later, that the member is private.
static_assert(ms::hooks_are_checked<bad<0>>);
template class ms::one_of<by_head, bad<1>>;
template class ms::composed<bad<2>, adds_one>;
template class ms::composed<called<bad<3>>, adds_one>;
