#pragma once

// cur: keeps states with large keys and values relative to their neighbors: a CUR decomposition by norms.
//
//     ms::cache<ms::cur> cache(shape, {.window = 32});        // tokens
//
//   paper    "Value-Guided KV Compression for LLMs via Approximated CUR Decomposition" (CurDKV), arXiv 2509.15038
//   rule     score[j] = |k[j]|^2 / sum of |k[i]|^2 * |v[j]|^2 / sum of |v[i]|^2, where the sums are over the `window`
//            tokens of j's chunk of the text
//   reads    new keys and values
//   forgets  for each KV head; the first min(4, states / 8) are guarded
//   cost     one product per float of a new key and value; a decision costs nothing. 8 bytes per state, 8 per token
//            of a window and KV head.
//   differs  read in kvpress, whose default this is; the authors' own code was not read. It compresses a prompt once.
//            Here each window is scored when it has ended, with the same numbers; until then its states stay. kvpress
//            divides the scores of a head by their sum, which does not change the order. Random projections, or keys or
//            values alone, are other rules. A layer (per_layer) sums over its KV heads.
#include <algorithm>
#include <numeric>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/policy/chunks.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct cur {
    static constexpr std::string_view name = "cur";
    static constexpr std::string_view paper = "arXiv 2509.15038";
    static constexpr per forgets() noexcept { return per::head; }

    std::size_t window = 16;  ///< tokens; see chunk_length for small tables
    static constexpr parameter<cur> parameters[] = {{"window", &cur::window, 4, 1 << 20}};

    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = (std::min<std::size_t>)(4, states / 8), .recent = 0};
    }
    struct memory {
        chunk_memory chunks;
        per_table_array<float> keys;    // [KV heads, tokens of the window]: squared norms, then shares of their sum
        per_table_array<float> values;  // the same
    };
    void lay_out(memory& m, layout& l) const noexcept {
        const std::size_t heads = l.shape().kv_heads, n = chunk_length(window, l.shape());
        m.chunks.lay_out(l);
        l(m.keys, heads, n);
        l(m.values, heads, n);
    }

    void on_insert(rows keys, rows values, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "keys", keys, states);
        detail::expect_heads(name, "values", values, states);
        const memory mine = states.memory(*this);
        const chunk_place token = join_chunk(states, *this, mine.chunks, window, row);
        for (std::size_t h = 0; h < keys.count; ++h) {
            mine.keys[h][token.index] = simd::dot(keys[h], keys[h]);
            mine.values[h][token.index] = simd::dot(values[h], values[h]);
        }
        if (!token.is_last) return;
        const auto scores = mine.keys[0];
        for (std::size_t h = 0; h < keys.count; ++h) {
            divide_by_sum(mine.keys[h]);
            divide_by_sum(mine.values[h]);
            simd::multiply(mine.values[h], mine.keys[h]);
            if (h > 0) simd::add(mine.keys[h], scores);
        }
        score_chunk(states, mine.chunks, token.chunk, scores);
    }

  private:
    static void divide_by_sum(std::span<float> x) noexcept {
        const float sum = std::accumulate(x.begin(), x.end(), 0.0f);
        simd::scale(x, sum > 0 ? 1 / sum : 0);
    }
};
static_assert(policy<cur> && hooks_of<cur> == (hook::default_guards | hook::on_insert));

}}  // namespace multistate::MULTISTATE_TARGET
