// A hook that is not noexcept, through every wrapper.
// prints 6 times: the hook on_attention must be one public, unambiguous member: void on_attention(rows probabilities, view states) noexcept, otherwise it would never be called
#include "wrappers.hpp"

template <int>
struct bad : by_head {
    void on_attention(ms::rows, ms::view) const {}
};
REJECT_IN_EVERY_WRAPPER(bad);
