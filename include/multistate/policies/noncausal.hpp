#pragma once

// noncausal: keeps states that the tokens around them attend to, both later and earlier tokens in the text.
//
//     ms::cache<ms::noncausal> cache(shape, {.chunk = 128});  // tokens
//
//   paper    "Compactor: Calibrated Query-Agnostic KV Cache Compression with Approximate Leverage Scores", arXiv
//            2507.08143: the other half of its score
//   rule     s[j] = |v[j]|_2 * the sum over the query heads of the group and the tokens t of j's chunk of the text of
//            softmax over j in the chunk of q[t] . k[j]; score[j] = mean of s over j and its two neighbors
//   reads    queries; new keys and values
//   forgets  for each KV head; no state is guarded
//   cost     head_dim operations per query and token of its chunk, all at the end of the chunk; a decision costs
//            nothing. Measured, for a group of 4: 4 % of the cost of attention with 4096 states, 20 % with 512. 8 bytes
//            per state; the queries and keys of a chunk, and the keys of a block.
//   differs  kvpress compresses a prompt once. Here each chunk is scored when it has ended; until then its states stay.
//            The numbers are the same, except that means of three end with the chunk. Also, kvpress counts zeros beyond
//            the ends of the prompt and lets its last, short chunk attend to padding. The authors' engine has chunks of
//            128, and neither values nor neighbors. Neither scales the logits; set `scaled` to scale them. kvpress's
//            z-score would not change the order. A layer (per_layer) sums over its KV heads.
#include <algorithm>
#include <numeric>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/math/packed_products.hpp"
#include "multistate/math/softmax.hpp"
#include "multistate/policy/chunks.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct noncausal {
    static constexpr std::string_view name = "noncausal";
    static constexpr std::string_view paper = "arXiv 2507.08143";
    static constexpr per forgets() noexcept { return per::head; }

    std::size_t chunk = 256;  ///< tokens; see chunk_length for small tables
    bool scaled = false;      ///< whether logits are multiplied by the scale of attention
    static constexpr parameter<noncausal> parameters[] = {{"chunk", &noncausal::chunk, 4, 1 << 20},
                                                          {"scaled", &noncausal::scaled}};

    struct memory {
        chunk_memory chunks;
        per_table<chunk_counter> attended;  // counts the tokens that have attended
        per_table_array<float> queries;     // [query heads][tokens][head_dim]: of the chunk
        per_table_array<float> panels;      // [open chunks * KV heads]: keys, panel after panel
        per_table_array<float> norms;       // [open chunks * KV heads][tokens]: of the values
        per_table<float> logits;            // scratch: of a tile of queries
        per_table<float> attention;         // scratch: [tokens]
        per_table<float> scores;            // scratch: [tokens]
    };
    void lay_out(memory& m, layout& l) const noexcept {
        const table_shape& s = l.shape();
        const std::size_t n = chunk_length(chunk, s), padded = simd::padded(n, panel_width);
        m.chunks.lay_out(l);
        l(m.attended);
        l(m.queries, s.heads, n * s.head_dim);
        l(m.panels, open_chunks(s) * s.kv_heads, padded * s.head_dim);
        l(m.norms, open_chunks(s) * s.kv_heads, n);
        l(m.logits, tile * padded);
        l(m.attention, n);
        l(m.scores, n);
    }

    void on_insert(rows keys, rows values, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "keys", keys, states);
        detail::expect_heads(name, "values", values, states);
        const memory mine = states.memory(*this);
        const auto [number, token, is_last] = join_chunk(states, *this, mine.chunks, chunk, row);
        for (std::size_t h = 0; h < keys.count; ++h) {
            const std::size_t head = head_of(states.shape, number, h);
            const auto panel = mine.panels[head].subspan(token / panel_width * panel_width * keys.width);
            stand(keys[h], panel, token % panel_width);
            mine.norms[head][token] = norm(values[h]);
        }
    }
    void on_query(rows queries, view states) const noexcept {
        const table_shape& s = states.shape;
        const memory mine = states.memory(*this);
        const std::size_t n = chunk_length(chunk, s), d = s.head_dim;
        if (mine.chunks.length[0] != n) return;  // after a rebudget, the next arrival starts new chunks
        chunk_counter& attended = mine.attended[0];
        const std::size_t token = attended.count(n);
        for (std::size_t i = 0; i < queries.count; ++i) {
            std::ranges::copy(queries[i], mine.queries[i].subspan(token * d).begin());
        }
        if (!attended.ended(n)) return;
        std::ranges::fill(mine.scores, 0.0f);
        for (std::size_t h = 0; h < s.kv_heads; ++h) {
            const std::size_t head = head_of(s, attended.number(), h);
            const std::size_t group = n * s.group();
            std::ranges::fill(mine.attention, 0.0f);
            for (std::size_t t = 0; t < group; t += tile) {
                const rows some{mine.queries.data() + (h * group + t) * d, (std::min)(tile, group - t), d, d};
                add_attention(some, mine.panels[head], scaled ? s.scale : 1, mine.logits, mine.attention);
            }
            simd::multiply(mine.norms[head], mine.attention);
            add_means_of_three(mine.attention, mine.scores);
        }
        score_chunk(states, mine.chunks, attended.number(), mine.scores);
    }
    /// Whether the newest query was the last of its chunk.
    bool ended(view states) const noexcept {
        return states.memory(*this).attended[0].ended(chunk_length(chunk, states.shape));
    }

  private:
    /// The number of queries that are multiplied with the keys together.
    static constexpr std::size_t tile = 16;
    /// The number of chunks whose keys may wait for queries: all keys of a block come before its first query.
    constexpr std::size_t open_chunks(const table_shape& s) const noexcept {
        const std::size_t n = chunk_length(chunk, s);
        return 1 + (s.block + n - 2) / n;
    }
    /// The index of the keys of a KV head in a chunk.
    constexpr std::size_t head_of(const table_shape& s, std::size_t number, std::size_t kv_head) const noexcept {
        return number % open_chunks(s) * s.kv_heads + kv_head;
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
