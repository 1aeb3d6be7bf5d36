#pragma once

// into_similar: a forgotten state is merged into the survivor with the most similar key, if it is similar enough.
//
//     ms::composed<ms::h2o, ms::into_similar> policy;
//     policy.get<ms::into_similar>().alpha = 0.9f;            // the threshold of similarity changes slowly
//
//   paper    "D2O: Dynamic Discriminative Operations for Efficient Long-Context Inference of Large Language Models",
//            arXiv 2406.13035
//   rule     j = the survivor whose key has the greatest cosine s_i with k_i; if s_i >= threshold and s_i > 0: v_j =
//            (v_j + sum of s_i v_i) / (1 + sum of s_i) over all i merged into j, and keys likewise if `keys` is set.
//            Before, each decision sets threshold = alpha * threshold + beta * mean of s_i (at first: the mean)
//   reads    stored keys and values
//   cost     the stored keys are read per KV head, once for four states forgotten together, so slack reduces the cost;
//            28 bytes per state for one KV head and 4 more for each further head
//   differs  read in the authors' code, not the paper. It also merges keys. Here that is optional: each key is rotated
//            by its own position, so the mean of two keys belongs to neither. The authors' code divides by the number
//            of states merged although their weights are below 1, which shrinks survivors; here it divides by the
//            weights. Theirs is one threshold for the heads of a layer; here each KV head has its own. Their layer
//            budgets by variance of attention are not part of this merger.
#include <string_view>
#include <utility>

#include "multistate/mergers/neighbors.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct into_similar {
    static constexpr std::string_view name = "into_similar";
    float alpha = 0.5f;  ///< share of the old threshold that stays
    float beta = 0.5f;   ///< weight of the mean of the cosines
    bool keys = false;   ///< merge keys as well; only for keys that are not rotated
    static constexpr parameter<into_similar> parameters[] = {{"alpha", &into_similar::alpha, 0.0f, 1.0f},
                                                             {"beta", &into_similar::beta, 0.0f, 1.0f},
                                                             {"keys", &into_similar::keys}};

    struct memory {
        detail::neighbor_memory neighbors;
        per_table<float> threshold;  // [KV heads]
        per_table<bool> begun;       // [KV heads]: whether the threshold is set
    };
    static void lay_out(memory& m, layout& l) noexcept {
        m.neighbors.lay_out(l);
        l(m.threshold, l.shape().kv_heads);
        l(m.begun, l.shape().kv_heads);
    }

    void merge(const editor& stored, std::span<const std::uint32_t> gone, view states) const noexcept {
        const memory mine = states.memory(*this);
        for (std::size_t h = 0; h < stored.kv_heads; ++h) {
            detail::neighbors found(stored, h, gone, states, mine.neighbors);
            found.find();
            float mean = 0;
            for (const std::uint32_t row : gone) mean += found.weight(row) / static_cast<float>(gone.size());
            float& threshold = mine.threshold[h];
            threshold = std::exchange(mine.begun[h], true) ? alpha * threshold + beta * mean : mean;
            for (const std::uint32_t row : gone) {
                if (found.weight(row) < threshold) found.weight(row) = 0;
            }
            found.blend(keys);
        }
    }
};
static_assert(hooks_of<into_similar> == hook::merge);

}}  // namespace multistate::MULTISTATE_TARGET
