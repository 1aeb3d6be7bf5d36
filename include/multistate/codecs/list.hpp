#pragma once

// The list of every codec in the library. A new codec is one new file in codecs/ and one line here. Tests and the demo
// iterate over this list.
//
//     ms::codecs::for_each([&]<class Codec>() {                    // a codec chosen at run time, by its name
//         if (Codec::name == chosen) run<ms::cache<ms::tova, Codec>>();
//     });
// IWYU pragma: begin_exports
#include "multistate/codecs/bf16.hpp"
#include "multistate/codecs/f16.hpp"
#include "multistate/codecs/f32.hpp"
#include "multistate/codecs/int4.hpp"
#include "multistate/codecs/int8.hpp"
// IWYU pragma: end_exports
#include "multistate/core/type_list.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

using codecs = type_list<f32, f16, bf16, int8, int4>;

}}  // namespace multistate::MULTISTATE_TARGET
