#pragma once

// The policies of THE list and one more.
#include <multistate/policies/list.hpp>

namespace support {

template <class Choice>
struct alternatives;
template <class... Policies>
struct alternatives<multistate::one_of<Policies...>> {
    template <class... More>
    using with = multistate::one_of<Policies..., More...>;
};

}  // namespace support
