#pragma once

// citrus_probe: forgets the states to which given queries attend least, for example the queries of an instruction.
//
//     std::vector<ms::rows> probe;                     // for each layer: [tokens of the instruction, heads * head_dim]
//     ms::citrus_probe policy{.probe = probe};         // the caller owns `probe`: it must outlive the cache
//
//   paper    "CItruS: Chunked Instruction-aware State Eviction for Long Sequence Modeling", arXiv 2406.12018
//   rule     score[j] = mean over all query heads i of the layer and all tokens t of the probe of
//            softmax_j(scale * q[i][t] . k[j]). The score kept is the sum. Without a probe: citrus.
//   reads    the attention probabilities of every token; the stored keys
//   forgets  for the layer; no state is guarded
//   cost     with a probe, the attention logits of all its tokens at each decision, so use it with blocks; 4 bytes per
//            state
//   differs  the authors run the instruction through the model for each chunk; here its queries are given once.
//            The caller rotates them to the positions from which they should attend. They attend only to stored keys,
//            not to the instruction's own. No soft capping. For chunks, and for states and recent, see citrus.
#include <span>

#include "multistate/math/softmax.hpp"
#include "multistate/policies/citrus.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct citrus_probe {
    static constexpr std::string_view name = "citrus_probe";
    static constexpr std::string_view paper = "arXiv 2406.12018";
    static constexpr per forgets() noexcept { return per::layer; }

    std::span<const rows> probe;  ///< [layers]: queries [tokens, query heads of the layer * head_dim]; none: citrus

    struct memory {
        per_state<float> attention;  // scratch: of one query
    };
    static void lay_out(memory& m, layout& l) noexcept { l(m.attention); }

    void check_shape(const table_shape& s) const {
        if (probe.empty()) return;
        using detail::require;
        require(s.layer < probe.size(), name.data(), "probe", "one matrix of queries for each layer", probe.size());
        const rows& queries = probe[s.layer];
        const std::size_t columns = s.group() * s.head_dim, least = (s.kv_head + s.kv_heads) * columns;
        require(queries.count >= 1 && queries.data != nullptr, name.data(), "probe", "at least one token",
                queries.count);
        if (queries.width >= least && queries.width % columns == 0) return;
        detail::refuse_value(name.data(), "probe",
                             "[tokens, heads * head_dim], a multiple of " + std::to_string(columns) + ", at least " +
                                 std::to_string(least),
                             queries.width);
    }

    void on_attention(rows probabilities, view states) const noexcept { citrus{}.on_attention(probabilities, states); }

    void on_forget(const reader& stored, view states) const noexcept {
        if (probe.empty()) return;
        const table_shape& s = states.shape;
        const rows queries = probe[s.layer];
        const auto attention = states.memory(*this).attention;
        std::ranges::fill(states.score, 0.0f);
        for (std::size_t t = 0; t < queries.count; ++t) {
            const auto token = queries[t].subspan(s.kv_head * s.group() * s.head_dim);
            for (std::size_t i = 0; i < s.heads; ++i) {
                stored.dot_keys(i / s.group(), token.subspan(i * s.head_dim, s.head_dim), attention);
                simd::scale(attention, s.scale);
                softmax(attention);
                simd::add(attention, states.score);
            }
        }
    }
};
static_assert(policy<citrus_probe> &&
              hooks_of<citrus_probe> == (hook::check_shape | hook::on_attention | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
