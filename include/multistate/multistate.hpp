#pragma once

// The library without its opt-in headers: policies/spec.hpp, budgets/budgets.hpp, execution/thread_pool.hpp,
// execution/openmp.hpp and attention/reference.hpp (needs Eigen).
//
//     ms::cache<ms::tova> cache({.layers = 32, .heads = 32, .kv_heads = 8, .head_dim = 128, .states = 512});
//     ms::workspace scratch(cache.shape());
//     bool done = ms::step(cache.layer(i), position, {.q = q, .k = k, .v = v}, out, scratch);   // attention/step.hpp
// IWYU pragma: begin_exports
#include "multistate/attention/prefill.hpp"
#include "multistate/attention/qkv.hpp"
#include "multistate/attention/step.hpp"
#include "multistate/attention/workspace.hpp"
#include "multistate/cache/cache.hpp"
#include "multistate/cache/layer.hpp"
#include "multistate/codecs/codec.hpp"
#include "multistate/codecs/list.hpp"
#include "multistate/core/parameter.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/core/target.hpp"
#include "multistate/core/type_list.hpp"
#include "multistate/core/types.hpp"
#include "multistate/execution/executor.hpp"
#include "multistate/math/rope.hpp"
#include "multistate/math/select.hpp"
#include "multistate/math/softmax.hpp"
#include "multistate/mergers/list.hpp"
#include "multistate/modifiers/list.hpp"
#include "multistate/policies/list.hpp"
#include "multistate/policy/composed.hpp"
#include "multistate/policy/guards.hpp"
#include "multistate/policy/one_of.hpp"
#include "multistate/policy/policy.hpp"
#include "multistate/policy/view.hpp"
#include "multistate/table/reading.hpp"
#include "multistate/table/table.hpp"
#include "multistate/table/table_layer.hpp"
#include "multistate/table/tables.hpp"
#include "multistate/version.hpp"
// IWYU pragma: end_exports
