#pragma once

// The policies of THE list as types, so that typed suites run over whatever any_policy names.
#include <gtest/gtest.h>
#include <multistate/policies.hpp>

namespace support {

template <class Choice>
struct alternatives;
template <class... Policies>
struct alternatives<multistate::one_of<Policies...>> {
    using types = testing::Types<Policies...>;
    template <class... More>
    using with = multistate::one_of<Policies..., More...>;
};

/// testing::Types of every policy that the library ships.
using every_policy = alternatives<multistate::any_policy>::types;

/// Names the tests of a typed suite after the policies.
struct policy_names {
    template <class P>
    static std::string GetName(int) {
        return std::string(P::name);
    }
};

}  // namespace support
