// A data member with the name of a hook, through every wrapper.
// prints 6 times: the hook on_attention must be one public, unambiguous member: void on_attention(rows probabilities, view states) noexcept, otherwise it would never be called
#include "wrappers.hpp"

template <int>
struct bad : by_head {
    float on_attention = 1;
};
REJECT_IN_EVERY_WRAPPER(bad);
