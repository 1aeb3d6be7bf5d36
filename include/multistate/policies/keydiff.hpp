#pragma once

// keydiff: forgets the state whose key is most similar to all other keys.
//
//     ms::cache<ms::keydiff> cache({.layers = 32, …, .states = 512, .slack = 31});// one decision every 32 tokens
//
//   paper    "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context LLM Inference in Resource-Constrained
//            Environments", arXiv 2504.15364
//   rule     score[j] = -cos(k[j], anchor), anchor = mean of k[i] / |k[i]| over the states held
//   reads    new keys; the stored keys, twice
//   forgets  for each KV head; no state is guarded
//   cost     4 n head_dim operations per decision and KV head: measured, as much as attention costs a group of 4, a
//            tenth of it with a slack of 31. 4 bytes per state and KV head.
//   differs  the paper compresses after each block of 128 tokens: that is slack, or `block` prefill, here. The anchor
//            is recomputed at each decision. Updating it would accumulate a codec's rounding errors. A key of length 0
//            is similar to none. Of two states, the older is forgotten. A layer (per_layer) sums over its KV heads.
#include <algorithm>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct keydiff {
    static constexpr std::string_view name = "keydiff";
    static constexpr std::string_view paper = "arXiv 2504.15364";
    static constexpr per forgets() noexcept { return per::head; }
    struct memory {
        per_state_array<float> inverse_norms;  // [KV heads]: 1 / |k|
        per_state<float> cosines;              // scratch
        per_table<float> anchor, key;          // scratch
    };
    static void lay_out(memory& m, layout& l) noexcept {
        l(m.inverse_norms, l.shape().kv_heads);
        l(m.cosines);
        l(m.anchor, l.shape().head_dim);
        l(m.key, l.shape().head_dim);
    }

    void on_insert(rows keys, rows, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "keys", keys, states);
        const memory mine = states.memory(*this);
        for (std::size_t h = 0; h < keys.count; ++h) {
            const float length = norm(keys[h]);
            mine.inverse_norms[h][row] = length > 0 ? 1 / length : 0;
        }
    }
    void on_forget(const reader& stored, view states) const noexcept {
        const auto [all_inverse_norms, cosines, anchor, key] = states.memory(*this);
        std::ranges::fill(states.score, 0.0f);
        if (states.size() == 2) return;  // the mean of two is equally similar to both, except for rounding
        for (std::size_t h = 0; h < states.shape.kv_heads; ++h) {
            const auto inverse_norms = all_inverse_norms[h];
            std::ranges::fill(anchor, 0.0f);
            for (std::size_t row = 0; row < states.size(); ++row) {
                stored.key(h, row, key);
                simd::add_scaled(inverse_norms[row], key, anchor);
            }
            normalize(anchor);
            stored.dot_keys(h, anchor, cosines);
            simd::multiply(inverse_norms, cosines);
            simd::add_scaled(-1, cosines, states.score);
        }
    }
};
static_assert(policy<keydiff> && hooks_of<keydiff> == (hook::on_insert | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
