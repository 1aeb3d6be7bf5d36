#pragma once

// leverage: keeps states whose keys are far from what the other keys of their piece of the text span.
//
//     ms::leverage policy;
//     policy.rope.base = 500000;                              // rotary positions (rope.hpp): they must be the model's
//
//   paper    "Compactor: Calibrated Query-Agnostic KV Cache Compression with Approximate Leverage Scores", arXiv
//            2507.08143: one half of its score
//   rule     score[j] = x[j] . (X^T X + ridge I)^-1 x[j], X the rows of j's piece: keys before rotation, times a
//            Gaussian matrix [head_dim, sketch] of variance 1 / sketch, minus their mean
//   reads    new keys
//   forgets  for each KV head; no state is guarded
//   cost     head_dim sketch operations, and head_dim / 2 sines and cosines, per new key; 2 sketch^2 per token of a
//            piece that has ended; a decision costs nothing. Measured, 4 % of what attention costs a group of 4 with
//            4096 states, 25 % with 512. Two floats per state; the matrix, and the sketches of a piece.
//   differs  pieces of 512 are those of the authors' engine, which takes the inverse by SVD; by Cholesky, as kvpress,
//            it is the same. kvpress takes a prompt as one piece. The matrix comes from a hash of `seed`, and has no
//            more columns than a key has numbers, or a piece half its tokens: else every key would be far from the
//            others. The authors' z-score would change no order. A layer (per_layer) sums over its KV heads.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <tuple>
#include <utility>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/math/random.hpp"
#include "multistate/math/rope.hpp"
#include "multistate/policy/chunks.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct leverage {
    static constexpr std::string_view name = "leverage";
    static constexpr std::string_view paper = "arXiv 2507.08143";
    static constexpr per forgets() noexcept { return per::head; }

    multistate::rope rope = {};  ///< the model's rotary positions
    std::size_t chunk = 512;     ///< tokens of a piece; see piece_length for small tables
    std::size_t sketch = 48;     ///< columns of the random matrix
    float ridge = 0.01f;         ///< ten times more where float32 cannot take the inverse
    std::size_t seed = 0;
    static constexpr auto parameters = std::tuple{
        member_parameters{&leverage::rope}, parameter{"chunk", &leverage::chunk, std::size_t{4}, std::size_t{1} << 20},
        parameter{"sketch", &leverage::sketch, std::size_t{1}, std::size_t{4096}},
        parameter{"ridge", &leverage::ridge, 1e-6f, 1e6f},
        parameter{"seed", &leverage::seed, std::size_t{0}, static_cast<std::size_t>(-1)}};

    static constexpr std::size_t floats_per_state(const table_shape&) noexcept { return floats_of_pieces; }
    constexpr std::size_t floats_per_table(const table_shape& s) const noexcept {
        const auto sizes = memory(s);
        return std::accumulate(sizes.begin(), sizes.end(), std::size_t{0});
    }

    void check_shape(const table_shape& s) const { rope.check_shape(s); }

    void on_insert(rows keys, rows, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "keys", keys, states);
        const std::size_t n = piece_length(chunk, states.shape), m = columns(states.shape);
        start_pieces(states, n);
        const auto [start, counter, drawn, key, matrix, mean, squares, scores, sketches] =
            cut(states.own, memory(states.shape));
        piece_counter text(counter);
        const std::size_t token = text.count(n);
        join_piece(states, row, text.number(), token);
        if (std::exchange(drawn[0], 1.0f) == 0) draw(m, matrix);
        for (std::size_t h = 0; h < keys.count; ++h) {
            std::ranges::copy(keys[h], key.begin());
            rope.unrotate(states.position[row], key);
            const auto x = sketches.subspan((h * n + token) * m, m);
            for (std::size_t c = 0; c < m; ++c) x[c] = simd::dot(key, matrix.subspan(c * key.size()));
        }
        if (!text.ended(n)) return;
        std::ranges::fill(scores, 0.0f);
        for (std::size_t h = 0; h < keys.count; ++h) {
            add_leverages(ridge, sketches.subspan(h * n * m, n * m), mean, squares, scores);
        }
        score_piece(states, text.number(), scores);
    }

  private:
    constexpr std::size_t columns(const table_shape& s) const noexcept {
        return (std::max<std::size_t>)(1, (std::min)({sketch, s.head_dim, piece_length(chunk, s) / 2}));
    }
    /// The length, a counter, whether columns were drawn, a key, the random matrix, two for add_leverages, scores,
    /// sketches.
    constexpr std::array<std::size_t, 9> memory(const table_shape& s) const noexcept {
        const std::size_t n = piece_length(chunk, s), m = columns(s);
        return {1, piece_counter::floats, 1, s.head_dim, m * s.head_dim, m, m * m, n, s.kv_heads * n * m};
    }
    /// Gaussian numbers by Box and Muller, column after column.
    void draw(std::size_t columns, std::span<float> matrix) const noexcept {
        for (std::size_t i = 0; i < matrix.size(); ++i) {
            const float radius = std::sqrt(-2 * std::log(open_uniform(random_bits(seed, i, 0))));
            const float angle = 2 * std::numbers::pi_v<float> * uniform(random_bits(seed, i, 1));
            matrix[i] = radius * std::cos(angle) / std::sqrt(static_cast<float>(columns));
        }
    }
};
static_assert(policy<leverage> && hooks_of<leverage> == (hook::check_shape | hook::on_insert));

}}  // namespace multistate::MULTISTATE_TARGET
