#pragma once

// Typed suites over the library's codecs, and how exactly kernels multiply the rows of each.
#include <type_traits>

#include <gtest/gtest.h>
#include <multistate/codecs/list.hpp>
#include <multistate/simd/formats.hpp>

#include "support/type_names.hpp"

namespace support {

using every_codec = multistate::codecs::apply<testing::Types>;

/// Whether queries and weights are rounded to bf16 where they meet rows of this codec.
template <class Codec>
constexpr bool rounds_to_bfloat16 =
    MULTISTATE_DOTS_BFLOAT16&& std::is_same_v<multistate::simd::format<Codec>, multistate::simd::in_bfloat16<Codec>>;

/// The greatest integer that a row of a codec with integers is multiplied as.
template <class Format>
constexpr int greatest_integer = 127;
#if MULTISTATE_DOTS_INTEGERS
template <class Codec, int largest>
constexpr int greatest_integer<multistate::simd::in_shorts<Codec, largest>> = largest;
template <class Codec>
constexpr int greatest_integer<multistate::simd::in_groups_of_shorts<Codec>> = 7 * 127;
#endif

}  // namespace support
