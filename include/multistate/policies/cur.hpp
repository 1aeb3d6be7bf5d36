#pragma once

// cur: keeps states that carry much of the keys and of the values around them: a CUR decomposition by norms.
//
//   paper    "Value-Guided KV Compression for LLMs via Approximated CUR Decomposition" (CurDKV), arXiv 2509.15038
//   rule     score[j] = |k[j]|^2 / sum of |k[i]|^2 * |v[j]|^2 / sum of |v[i]|^2, where the sums are over the `window`
//            tokens of j's piece of the text
//   reads    new keys and values
//   forgets  for each KV head; the first min(4, states / 8) are guarded
//   cost     one product per float of a new key and value; a decision costs nothing. Two floats per state, two per
//            token of a window and KV head.
//   differs  read in kvpress, whose default this is; the authors' own code was not read. It compresses a prompt once.
//            Here each window is scored when it has ended, with the same numbers; until then its states stay. It
//            divides the scores of a head by their sum, which changes no order. Random projections, or keys or values
//            alone, are other rules. A layer (per_layer) sums over its KV heads.
#include <algorithm>
#include <numeric>
#include <tuple>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/policy/chunks.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct cur {
    static constexpr std::string_view name = "cur";
    static constexpr std::string_view paper = "arXiv 2509.15038";
    static constexpr per forgets() noexcept { return per::head; }

    std::size_t window = 16;  ///< tokens; see piece_length for small tables
    static constexpr auto parameters =
        std::tuple{parameter{"window", &cur::window, std::size_t{4}, std::size_t{1} << 20}};

    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = (std::min<std::size_t>)(4, states / 8), .recent = 0};
    }
    static constexpr std::size_t floats_per_state(const table_shape&) noexcept { return floats_of_pieces; }
    /// Squared norms of the keys and the values of a window, for each KV head.
    constexpr std::size_t floats_per_table(const table_shape& s) const noexcept {
        return 1 + piece_counter::floats + 2 * s.kv_heads * piece_length(window, s);
    }

    void on_insert(rows keys, rows values, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "keys", keys, states);
        detail::expect_heads(name, "values", values, states);
        const std::size_t n = piece_length(window, states.shape);
        start_pieces(states, n);
        piece_counter text(states.own.subspan(1));
        const std::size_t token = text.count(n);
        join_piece(states, row, text.number(), token);
        const auto squares = [&](std::size_t i) { return states.own.subspan(1 + piece_counter::floats + i * n, n); };
        for (std::size_t h = 0; h < keys.count; ++h) {
            squares(2 * h)[token] = simd::dot(keys[h], keys[h]);
            squares(2 * h + 1)[token] = simd::dot(values[h], values[h]);
        }
        if (!text.ended(n)) return;
        for (std::size_t h = 0; h < keys.count; ++h) {
            share(squares(2 * h));
            share(squares(2 * h + 1));
            simd::multiply(squares(2 * h + 1), squares(2 * h));
            if (h > 0) simd::add(squares(2 * h), squares(0));
        }
        score_piece(states, text.number(), squares(0));
    }

  private:
    static void share(std::span<float> x) noexcept {
        const float sum = std::accumulate(x.begin(), x.end(), 0.0f);
        simd::scale(x, sum > 0 ? 1 / sum : 0);
    }
};
static_assert(policy<cur> && hooks_of<cur> == (hook::default_guards | hook::on_insert));

}}  // namespace multistate::MULTISTATE_TARGET
