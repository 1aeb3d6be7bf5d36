#pragma once

// noncausal: keeps what the tokens around a state attend to, those after it in the text and those before it alike.
//
//   paper    "Compactor: Calibrated Query-Agnostic KV Cache Compression with Approximate Leverage Scores", arXiv
//            2507.08143: the other half of its score
//   rule     s[j] = |v[j]|_2 * the sum over the query heads of the group and the tokens t of j's piece of the text of
//            softmax over j in the piece of q[t] . k[j]; score[j] = mean of s over j and its two neighbours
//   reads    queries; new keys and values
//   forgets  for each KV head; no state is guarded
//   cost     head_dim operations per query and token of its piece, all when the piece has ended; a decision costs
//            nothing. Measured, 4 % of what attention costs a group of 4 with 4096 states, 20 % with 512. Two floats
//            per state; the queries and keys of a piece, and the keys of a block.
//   differs  kvpress compresses a prompt once. Here each piece is scored when it has ended, until then its states stay;
//            the numbers are the same, but that means of three end with the piece, and that kvpress counts zeros beyond
//            the ends of the prompt and lets its last, short piece attend to padding. The authors' engine has pieces of
//            128, and neither values nor neighbours. Both leave the logits without a scale, and so does the rule;
//            `scaled` gives them one. kvpress's z-score would change no order. A layer (per_layer) sums over its KV
//            heads.
#include <algorithm>
#include <array>
#include <numeric>
#include <tuple>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/math/packed_products.hpp"
#include "multistate/math/softmax.hpp"
#include "multistate/policy/chunks.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct noncausal {
    static constexpr std::string_view name = "noncausal";
    static constexpr std::string_view paper = "arXiv 2507.08143";
    static constexpr per forgets() noexcept { return per::head; }

    std::size_t chunk = 256;  ///< tokens; see piece_length for small tables
    bool scaled = false;      ///< whether logits are multiplied with the scale of attention
    static constexpr auto parameters =
        std::tuple{parameter{"chunk", &noncausal::chunk, std::size_t{4}, std::size_t{1} << 20},
                   parameter{"scaled", &noncausal::scaled, false, true}};

    static constexpr std::size_t floats_per_state(const table_shape&) noexcept { return floats_of_pieces; }
    constexpr std::size_t floats_per_table(const table_shape& s) const noexcept {
        const auto sizes = memory(s);
        return std::accumulate(sizes.begin(), sizes.end(), std::size_t{0});
    }

    void on_insert(rows keys, rows values, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "keys", keys, states);
        detail::expect_heads(name, "values", values, states);
        const table_shape& s = states.shape;
        start_pieces(states, piece_length(chunk, s));
        piece_counter text(states.own.subspan(1));
        const std::size_t token = text.count(piece_length(chunk, s));
        join_piece(states, row, text.number(), token);
        for (std::size_t h = 0; h < keys.count; ++h) {
            const auto [panels, lengths] = keys_of(states, text.number(), h);
            stand(keys[h], panels.subspan(token / panel_width * panel_width * keys.width), token % panel_width);
            lengths[token] = norm(values[h]);
        }
    }
    void on_query(rows queries, view states) const noexcept {
        const table_shape& s = states.shape;
        const std::size_t n = piece_length(chunk, s), d = s.head_dim;
        const auto [start, inserted, counter, logits, attention, scores, all_queries, all_keys] =
            cut(states.own, memory(s));
        piece_counter attended(counter);
        const std::size_t token = attended.count(n);
        for (std::size_t i = 0; i < queries.count; ++i) {
            std::ranges::copy(queries[i], all_queries.subspan((i * n + token) * d).begin());
        }
        if (!attended.ended(n)) return;
        std::ranges::fill(scores, 0.0f);
        for (std::size_t h = 0; h < s.kv_heads; ++h) {
            const auto [panels, lengths] = keys_of(states, attended.number(), h);
            const std::size_t group = n * s.group();
            std::ranges::fill(attention, 0.0f);
            for (std::size_t t = 0; t < group; t += tile) {
                const rows some{all_queries.data() + (h * group + t) * d, (std::min)(tile, group - t), d, d};
                add_attention(some, panels, scaled ? s.scale : 1, logits, attention);
            }
            simd::multiply(lengths, attention);
            add_means_of_three(attention, scores);
        }
        score_piece(states, attended.number(), scores);
    }
    /// Whether the query that came last was the last of its piece.
    bool ended(view states) const noexcept {
        const piece_counter attended(states.own.subspan(1 + piece_counter::floats));
        return attended.ended(piece_length(chunk, states.shape));
    }

  private:
    /// Queries that meet the keys together.
    static constexpr std::size_t tile = 16;
    /// The length, counters of keys and of queries; logits of a tile, two numbers for each token of a piece, its
    /// queries, and the keys and lengths of values of those pieces that may be open: of a block all keys come before
    /// its queries.
    constexpr std::array<std::size_t, 8> memory(const table_shape& s) const noexcept {
        const std::size_t n = piece_length(chunk, s), counter = piece_counter::floats;
        const std::size_t keys = open(s) * s.kv_heads * floats_of_keys(s);
        return {1, counter, counter, tile * simd::padded(n, panel_width), n, n, n * s.heads * s.head_dim, keys};
    }
    constexpr std::size_t open(const table_shape& s) const noexcept {
        const std::size_t n = piece_length(chunk, s);
        return 1 + (s.block + n - 2) / n;
    }
    constexpr std::size_t floats_of_keys(const table_shape& s) const noexcept {
        const std::size_t n = piece_length(chunk, s);
        return simd::padded(n, panel_width) * s.head_dim + n;
    }
    /// The keys of a KV head in a piece, panel after panel, and the lengths of its values.
    std::array<std::span<float>, 2> keys_of(view states, float piece, std::size_t kv_head) const noexcept {
        const table_shape& s = states.shape;
        const std::size_t head = static_cast<std::size_t>(piece) % open(s) * s.kv_heads + kv_head;
        const auto keys = cut(states.own, memory(s)).back().subspan(head * floats_of_keys(s));
        const std::size_t n = piece_length(chunk, s);
        return cut<2>(keys, {floats_of_keys(s) - n, n});
    }
    /// attention[j] += the sum over the queries of softmax_j(scale * q . k[j])
    static void add_attention(rows queries, std::span<const float> panels, float scale, std::span<float> logits,
                              std::span<float> attention) noexcept {
        const std::size_t stride = logits.size() / tile, d = queries.width;
        for (std::size_t j = 0; j < stride; j += panel_width) {
            products(queries, panels.subspan(j * d, panel_width * d), logits.subspan(j), stride);
        }
        for (std::size_t t = 0; t < queries.count; ++t) {
            const auto row = logits.subspan(t * stride, attention.size());
            simd::scale(row, scale);
            softmax(row);
            simd::add(row, attention);
        }
    }
    static void add_means_of_three(std::span<const float> x, std::span<float> means) noexcept {
        for (std::size_t j = 0; j < x.size(); ++j) {
            const std::size_t first = j - (std::min<std::size_t>)(j, 1), end = (std::min)(x.size(), j + 2);
            const float sum = std::accumulate(x.data() + first, x.data() + end, 0.0f);
            means[j] += sum / static_cast<float>(end - first);
        }
    }
};
static_assert(policy<noncausal> && hooks_of<noncausal> == (hook::on_insert | hook::on_query));

}}  // namespace multistate::MULTISTATE_TARGET
