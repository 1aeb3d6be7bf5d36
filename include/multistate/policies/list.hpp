#pragma once

// THE list: every policy the library ships. A new method is one new file in policies/ and one line here; tests, benches
// and the demo iterate over it.
#include "multistate/policies/cake.hpp"
#include "multistate/policies/cake_prompt.hpp"
#include "multistate/policies/cam.hpp"
#include "multistate/policies/caote.hpp"
#include "multistate/policies/capkv.hpp"
#include "multistate/policies/chunkkv.hpp"
#include "multistate/policies/citrus.hpp"
#include "multistate/policies/citrus_probe.hpp"
#include "multistate/policies/compactor.hpp"
#include "multistate/policies/criticalkv.hpp"
#include "multistate/policies/cur.hpp"
#include "multistate/policies/d2o.hpp"
#include "multistate/policies/defensivekv.hpp"
#include "multistate/policies/expected_attention.hpp"
#include "multistate/policies/full.hpp"
#include "multistate/policies/given.hpp"
#include "multistate/policies/h2o.hpp"
#include "multistate/policies/h2o_decayed.hpp"
#include "multistate/policies/h2o_grace.hpp"
#include "multistate/policies/h2o_layer.hpp"
#include "multistate/policies/h2o_local.hpp"
#include "multistate/policies/h2o_normalized.hpp"
#include "multistate/policies/keydiff.hpp"
#include "multistate/policies/keyformer.hpp"
#include "multistate/policies/knorm.hpp"
#include "multistate/policies/lagkv.hpp"
#include "multistate/policies/leverage.hpp"
#include "multistate/policies/morphkv.hpp"
#include "multistate/policies/noncausal.hpp"
#include "multistate/policies/observed_attention.hpp"
#include "multistate/policies/q_filters.hpp"
#include "multistate/policies/r_kv.hpp"
#include "multistate/policies/random.hpp"
#include "multistate/policies/roco.hpp"
#include "multistate/policies/scissorhands.hpp"
#include "multistate/policies/snapkv.hpp"
#include "multistate/policies/tova.hpp"
#include "multistate/policies/tova_head.hpp"
#include "multistate/policies/tova_kvpress.hpp"
#include "multistate/policies/triattention.hpp"
#include "multistate/policies/value_merge.hpp"
#include "multistate/policies/vatp.hpp"
#include "multistate/policies/window.hpp"
#include "multistate/policy/one_of.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Any of them, chosen at run time: any_policy::named("tova").
// clang-format off
using any_policy = one_of<
    full, window, random, given,
    tova, tova_head, tova_kvpress, caote,
    h2o, h2o_layer, h2o_normalized, h2o_decayed, h2o_grace, h2o_local, observed_attention,
    vatp, scissorhands, roco, keyformer,
    morphkv, snapkv, criticalkv, defensivekv, chunkkv, cake, cake_prompt, citrus, citrus_probe,
    knorm, keydiff, lagkv, cur, leverage, noncausal, compactor, q_filters, expected_attention, capkv,
    triattention, r_kv,
    cam, d2o, value_merge>;
// clang-format on

}}  // namespace multistate::MULTISTATE_TARGET
