// Shipped parts around policies that they cannot change.
// prints 2 times: a part with before_attention needs a policy with on_attention
// prints: decayed needs a policy that sums attention in its scores: without on_forget
// prints: decayed has no effect on a policy that scores by one token alone
// prints: a composition merges in one way at most
// prints: a composition has one scope at most: per_layer or per_head
// prints: per_layer has no effect on a policy that forgets for all heads of a layer already
// prints: per_head has no effect on a policy that forgets for each KV head already
// prints: a merger by scores needs a policy that scores by attention
// prints 4 times: a part that changes scores has no effect on a policy without scores
#include <multistate/mergers/into_following.hpp>
#include <multistate/mergers/into_nearest.hpp>
#include <multistate/modifiers/chunk.hpp>
#include <multistate/modifiers/decayed.hpp>
#include <multistate/modifiers/max_over_heads.hpp>
#include <multistate/modifiers/pool.hpp>
#include <multistate/modifiers/scope.hpp>
#include <multistate/modifiers/value_norm.hpp>
#include <multistate/policies/cam.hpp>
#include <multistate/policies/given.hpp>
#include <multistate/policies/h2o.hpp>
#include <multistate/policies/snapkv.hpp>
#include <multistate/policies/tova_head.hpp>
#include <multistate/policies/window.hpp>

namespace ms = multistate;

template class ms::composed<ms::window, ms::decayed>;
template class ms::composed<ms::window, ms::max_over_heads>;
template class ms::composed<ms::snapkv, ms::decayed>;
template class ms::composed<ms::cam, ms::into_nearest>;
template class ms::composed<ms::tova_head, ms::decayed>;
template class ms::composed<ms::h2o, ms::per_layer, ms::per_head>;
template class ms::composed<ms::tova, ms::per_layer>;
template class ms::composed<ms::h2o, ms::per_head>;
template class ms::composed<ms::window, ms::pool>;
template class ms::composed<ms::window, ms::chunk>;
template class ms::composed<ms::composed<ms::window, ms::per_head>, ms::value_norm>;
template class ms::composed<ms::given, ms::pool>;
template class ms::composed<ms::window, ms::into_following>;
