#pragma once

// into_similar: a state that goes is merged into the survivor with the most similar key, if that is similar enough.
//
//   paper    "D2O: Dynamic Discriminative Operations for Efficient Long-Context Inference of Large Language Models",
//            arXiv 2406.13035
//   rule     j = the survivor whose key has the greatest cosine s_i with k_i; if s_i >= threshold and s_i > 0:
//            v_j = (v_j + sum of s_i v_i) / (1 + sum of s_i) over all i merged into j, and keys alike if `keys` is set.
//            Before that, at each decision, threshold = alpha * threshold + beta * mean of s_i; at the first the mean
//   reads    stored keys and values
//   cost     the stored keys are read per KV head, once for four states that go together: slack spreads that; 7 floats
//            per state for one KV head and one more for each further
//   differs  read in the authors' code, not the paper. It merges keys, too; here that must be asked for: keys come
//            rotated, each by its own position, and their mean is the key of neither. It divides by the number of
//            states merged although their weights are below 1, which shrinks what survives; here by the weights. Its
//            threshold is one for the heads of a layer, here each KV head has its own. Layers' shares of the budget by
//            the variance of attention are not part of it.
#include <string_view>
#include <tuple>

#include "multistate/mergers/neighbors.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct into_similar {
    static constexpr std::string_view name = "into_similar";
    float alpha = 0.5f;  ///< how much of the threshold stays
    float beta = 0.5f;   ///< how much the mean of the cosines counts in it
    bool keys = false;   ///< merge keys, too; for keys that are not rotated
    static constexpr auto parameters = std::tuple{parameter{"alpha", &into_similar::alpha, 0.0f, 1.0f},
                                                  parameter{"beta", &into_similar::beta, 0.0f, 1.0f},
                                                  parameter{"keys", &into_similar::keys, false, true}};

    static constexpr std::size_t floats_per_state(const table_shape& s) noexcept {
        return detail::neighbors::floats_per_state(s);
    }
    /// And for each KV head the threshold, and whether there is one.
    static constexpr std::size_t floats_per_table(const table_shape& s) noexcept {
        return detail::neighbors::floats_per_table(s) + 2 * s.kv_heads;
    }

    void merge(const editor& stored, std::span<const std::uint32_t> gone, view states) const noexcept {
        for (std::size_t h = 0; h < stored.kv_heads; ++h) {
            detail::neighbors found(stored, h, gone, states);
            found.find();
            float mean = 0;
            for (const std::uint32_t row : gone) mean += found.weight(row) / static_cast<float>(gone.size());
            const auto mine = states.own.subspan(detail::neighbors::floats_per_table(states.shape) + 2 * h, 2);
            float& threshold = mine[0];
            float& begun = mine[1];
            threshold = begun > 0 ? alpha * threshold + beta * mean : mean;
            begun = 1;
            for (const std::uint32_t row : gone) {
                if (found.weight(row) < threshold) found.weight(row) = 0;
            }
            found.blend(keys);
        }
    }
};
static_assert(hooks_of<into_similar> == hook::merge);

}}  // namespace multistate::MULTISTATE_TARGET
