#pragma once

// The hooks of any_policy are those of forty policies: all test programs share one copy, compiled in any_policy.cpp. So
// they do with steps and prefills, as attention/step.hpp shows.
#include <multistate/attention/prefill.hpp>
#include <multistate/cache/cache.hpp>
#include <multistate/policies/list.hpp>

#ifndef SUPPORT_ANY_POLICY
#define SUPPORT_ANY_POLICY extern
#endif

namespace multistate { inline namespace MULTISTATE_TARGET {

#define SUPPORT_ONE_COPY(name, ...) \
    SUPPORT_ANY_POLICY template void any_policy::forward<hook::name>(any_policy&, __VA_ARGS__) noexcept
SUPPORT_ONE_COPY(on_insert, rows&, rows&, view&, std::size_t&);
SUPPORT_ONE_COPY(on_query, rows&, view&);
SUPPORT_ONE_COPY(on_attention, rows&, view&);
SUPPORT_ONE_COPY(on_forget, const reader&, view&);
SUPPORT_ONE_COPY(on_compare, view&);
SUPPORT_ONE_COPY(merge, const editor&, std::span<const std::uint32_t>&, view&);
SUPPORT_ONE_COPY(finish_prompt, const reader&, view&);
#undef SUPPORT_ONE_COPY
SUPPORT_ANY_POLICY template bool step(const cache_layer<cache<any_policy>>&, position, qkv, std::span<float>,
                                      workspace&, serial&&) noexcept;
SUPPORT_ANY_POLICY template bool prefill(const cache_layer<cache<any_policy>>&, position, qkv, std::span<float>,
                                         workspace&, prefill_mode, serial&&) noexcept;

}}  // namespace multistate::MULTISTATE_TARGET
