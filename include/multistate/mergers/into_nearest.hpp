#pragma once

// into_nearest: the value of a forgotten state is merged into the value of the survivor with the most similar key.
//
//     ms::composed<ms::tova, ms::into_nearest> policy;
//     policy.get<ms::into_nearest>().threshold = 0.5f;        // merge only if the cosine of the keys is at least this
//
//   paper    none; MergingPress of NVIDIA's kvpress, after Token Merging (arXiv 2210.09461) and D2O (2406.13035)
//   rule     j = the survivor whose key has the greatest cosine c_i with k_i; v_j = (v_j + sum of w_i v_i) / (1 + sum
//            of w_i) over all i with that j, w_i = c_i |v_i| / (|v_i| + |v_j|), 0 unless c_i > 0 and c_i >= threshold
//   reads    stored keys and values; keys stay as they are
//   cost     as into_similar
//   differs  kvpress can leave a share of the forgotten states unmerged: the states with the lowest cosines. This is
//            pointless if states are forgotten one at a time
#include <string_view>

#include "multistate/mergers/neighbors.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct into_nearest {
    static constexpr std::string_view name = "into_nearest";
    float threshold = 0;  ///< minimum cosine at which values are merged
    static constexpr parameter<into_nearest> parameters[] = {{"threshold", &into_nearest::threshold, 0.0f, 1.0f}};

    using memory = detail::neighbor_memory;
    static void lay_out(memory& m, layout& l) noexcept { m.lay_out(l); }

    void merge(const editor& stored, std::span<const std::uint32_t> gone, view states) const noexcept {
        for (std::size_t h = 0; h < stored.kv_heads; ++h) {
            detail::neighbors found(stored, h, gone, states, states.memory(*this));
            found.find();
            for (const std::uint32_t row : gone) {
                float& weight = found.weight(row);
                const float mine = found.value_length(row);
                const bool merged = weight > 0 && weight >= threshold && mine > 0;
                weight = merged ? weight * mine / (mine + found.value_length(found.nearest(row))) : 0;
            }
            found.blend(false);
        }
    }
};
static_assert(hooks_of<into_nearest> == hook::merge);

}}  // namespace multistate::MULTISTATE_TARGET
