// A hook whose overloads do not fit, so that its address cannot be taken, through every wrapper.
// prints 6 times: the hook on_attention must be one public, unambiguous member: void on_attention(rows probabilities, view states) noexcept, otherwise it would never be called
#include "wrappers.hpp"

template <int>
struct bad : by_head {
    void on_attention(ms::rows) const noexcept {}
    void on_attention(ms::rows, int) const noexcept {}
};
REJECT_IN_EVERY_WRAPPER(bad);
