#pragma once

// The list of every merger in the library. A new merger is one new file in mergers/ and one line here. Policies as text
// (policies/spec.hpp) can name what is listed: `tova_head|into_nearest`.
// IWYU pragma: begin_exports
#include "multistate/mergers/into_following.hpp"
#include "multistate/mergers/into_nearest.hpp"
#include "multistate/mergers/into_similar.hpp"
// IWYU pragma: end_exports
#include "multistate/core/type_list.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

using mergers = type_list<into_following, into_nearest, into_similar>;

}}  // namespace multistate::MULTISTATE_TARGET
