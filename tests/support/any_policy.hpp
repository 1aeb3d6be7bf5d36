#pragma once

// The hooks of any_policy are those of forty policies: all test programs share one copy, compiled in any_policy.cpp. So
// they do with steps and prefills, as attention/step.hpp shows.
#include <multistate/attention/prefill.hpp>
#include <multistate/policies/list.hpp>

#ifndef SUPPORT_ANY_POLICY
#define SUPPORT_ANY_POLICY extern
#endif

#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpedantic"  // the list has a name here, where the standard wants it written out
#endif

namespace multistate { inline namespace MULTISTATE_TARGET {

SUPPORT_ANY_POLICY template void any_policy::on_insert(rows, rows, view, std::size_t) noexcept;
SUPPORT_ANY_POLICY template void any_policy::on_query(rows, view) noexcept;
SUPPORT_ANY_POLICY template void any_policy::on_attention(rows, view) noexcept;
SUPPORT_ANY_POLICY template void any_policy::on_forget(const reader&, view) noexcept;
SUPPORT_ANY_POLICY template void any_policy::on_compare(view) noexcept;
SUPPORT_ANY_POLICY template void any_policy::merge(const editor&, std::span<const std::uint32_t>, view) noexcept;
SUPPORT_ANY_POLICY template void any_policy::finish_prompt(const reader&, view) noexcept;
SUPPORT_ANY_POLICY template bool step(const cache_layer<cache<any_policy>>&, position, qkv, std::span<float>,
                                      workspace&, serial&&) noexcept;
SUPPORT_ANY_POLICY template bool prefill(const cache_layer<cache<any_policy>>&, position, qkv, std::span<float>,
                                         workspace&, prefill_mode, serial&&) noexcept;

}}  // namespace multistate::MULTISTATE_TARGET

#ifdef __clang__
#pragma clang diagnostic pop
#endif
