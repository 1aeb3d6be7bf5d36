#pragma once

// The number of states that each layer or KV head may keep. Pass a budget as the third argument of cache's constructor,
// or to cache.rebudget after the prompt. This header includes all budgets; each can be included alone.
//
//     ms::cache<ms::snapkv> cache(shape, {}, ms::pyramid_budget(32, 512));  // 32 layers, 512 states in the mean
//
// A budget is a std::vector<std::size_t>. It has one number per layer, for every policy; or one per KV head, [layers *
// kv_heads], for policies that forget per head. If a mean is given, the sum is exact. All functions throw
// std::invalid_argument that names the argument, its bound and the value given.
//
//     known before the prompt    pyramid_budget, head_budget, duo_budget
//     depends on the prompt      cake_budget, lazy_layers_budget, adaptive_budget
//     as text                    "snapkv|pyramid(beta=20)", "AdaKV": any_budget.hpp, which this header does not include
// IWYU pragma: begin_exports
#include "multistate/budgets/adaptive.hpp"
#include "multistate/budgets/attention_profile.hpp"
#include "multistate/budgets/cake.hpp"
#include "multistate/budgets/duo.hpp"
#include "multistate/budgets/head.hpp"
#include "multistate/budgets/lazy_layers.hpp"
#include "multistate/budgets/pyramid.hpp"
// IWYU pragma: end_exports
