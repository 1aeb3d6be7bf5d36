// Shipped parts around policies that they cannot change.
// prints 2 times: a part with before_attention needs a policy with on_attention
// prints: decayed needs a policy that sums attention in its scores: without on_forget
// prints: a composition merges in one way at most
#include <multistate/mergers/into_nearest.hpp>
#include <multistate/modifiers/decayed.hpp>
#include <multistate/modifiers/max_over_heads.hpp>
#include <multistate/policies/cam.hpp>
#include <multistate/policies/snapkv.hpp>
#include <multistate/policies/window.hpp>

namespace ms = multistate;

template class ms::composed<ms::window, ms::decayed>;
template class ms::composed<ms::window, ms::max_over_heads>;
template class ms::composed<ms::snapkv, ms::decayed>;
template class ms::composed<ms::cam, ms::into_nearest>;
