// A hook that returns something, through every wrapper.
// prints 6 times: the hook on_attention must be one public, unambiguous member: void on_attention(rows probabilities, view states) noexcept, otherwise it would never be called
#include "wrappers.hpp"

template <int>
struct bad : by_head {
    bool on_attention(ms::rows, ms::view) const noexcept { return true; }
};
REJECT_IN_EVERY_WRAPPER(bad);
