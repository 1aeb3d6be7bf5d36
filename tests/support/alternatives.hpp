#pragma once

// The policies of THE list and one more; the names of policies for typed suites.
#include <gtest/gtest.h>
#include <multistate/policies/list.hpp>

namespace support {

template <class Choice>
struct alternatives;
template <class... Policies>
struct alternatives<multistate::one_of<Policies...>> {
    template <class... More>
    using with = multistate::one_of<Policies..., More...>;
};

/// Names the tests of a typed suite after the policies.
struct policy_names {
    template <class P>
    static std::string GetName(int) {
        return std::string(P::name);
    }
};

}  // namespace support
