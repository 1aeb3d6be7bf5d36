#pragma once

// leverage: keeps states whose keys are far from the span of the other keys in their chunk of the text.
//
//     ms::leverage policy;
//     policy.rope.base = 500000;                              // rotary positions (rope.hpp): they must be the model's
//
//   paper    "Compactor: Calibrated Query-Agnostic KV Cache Compression with Approximate Leverage Scores", arXiv
//            2507.08143: one half of its score
//   rule     score[j] = x[j] . (X^T X + ridge I)^-1 x[j], X the rows of j's chunk: keys before rotation, times a
//            Gaussian matrix [head_dim, sketch] of variance 1 / sketch, minus their mean
//   reads    new keys
//   forgets  for each KV head; no state is guarded
//   cost     head_dim sketch operations, and head_dim / 2 sines and cosines, per new key; 2 sketch^2 per token of an
//            ended chunk; a decision costs nothing. Measured, for a group of 4: 4 % of the cost of attention with 4096
//            states, 25 % with 512. 8 bytes per state; the matrix, and the sketches of a chunk.
//   differs  chunks of 512 are as in the authors' engine. It inverts by SVD; here, as in kvpress, by Cholesky, with the
//            same result. kvpress takes a prompt as one chunk. The matrix comes from a hash of `seed`, with at most
//            head_dim columns, and at most half a chunk's tokens: otherwise all keys would be far from the others. The
//            authors' z-score would not change the order. A layer (per_layer) sums over its KV heads.
#include <algorithm>
#include <cmath>
#include <numbers>
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
    std::size_t chunk = 512;     ///< tokens; see chunk_length for small tables
    std::size_t sketch = 48;     ///< columns of the random matrix
    float ridge = 0.01f;         ///< ten times more if float32 cannot compute the inverse
    std::size_t seed = 0;
    static constexpr auto member_with_parameters = &leverage::rope;
    static constexpr parameter<leverage> parameters[] = {{"chunk", &leverage::chunk, 4, 1 << 20},
                                                         {"sketch", &leverage::sketch, 1, 4096},
                                                         {"ridge", &leverage::ridge, 1e-6f, 1e6f},
                                                         {"seed", &leverage::seed, 0, static_cast<std::size_t>(-1)}};

    struct memory {
        chunk_memory chunks;
        per_table<bool> drawn;            // whether the matrix exists
        per_table<float> matrix;          // [columns][head_dim], random
        per_table<float> key;             // scratch
        per_table<float> mean, squares;   // scratch of add_leverages
        per_table<float> scores;          // [tokens of the chunk]
        per_table_array<float> sketches;  // [KV heads][tokens][columns]
    };
    void lay_out(memory& m, layout& l) const noexcept {
        const table_shape& s = l.shape();
        const std::size_t n = chunk_length(chunk, s), columns = columns_of(s);
        m.chunks.lay_out(l);
        l(m.drawn);
        l(m.matrix, columns * s.head_dim);
        l(m.key, s.head_dim);
        l(m.mean, columns);
        l(m.squares, columns * columns);
        l(m.scores, n);
        l(m.sketches, s.kv_heads, n * columns);
    }

    void check_shape(const table_shape& s) const { rope.check_shape(s); }

    void on_insert(rows keys, rows, view states, std::size_t row) const noexcept {
        detail::expect_heads(name, "keys", keys, states);
        const memory mine = states.memory(*this);
        const std::size_t columns = columns_of(states.shape);
        const chunk_place token = join_chunk(states, *this, mine.chunks, chunk, row);
        if (!std::exchange(mine.drawn[0], true)) draw(columns, mine.matrix);
        const auto key = mine.key;
        for (std::size_t h = 0; h < keys.count; ++h) {
            std::ranges::copy(keys[h], key.begin());
            rope.unrotate(states.position[row], key);
            const auto x = mine.sketches[h].subspan(token.index * columns, columns);
            for (std::size_t c = 0; c < columns; ++c) x[c] = simd::dot(key, mine.matrix.subspan(c * key.size()));
        }
        if (!token.is_last) return;
        std::ranges::fill(mine.scores, 0.0f);
        for (std::size_t h = 0; h < keys.count; ++h) {
            add_leverages(ridge, mine.sketches[h], mine.mean, mine.squares, mine.scores);
        }
        score_chunk(states, mine.chunks, token.chunk, mine.scores);
    }

  private:
    constexpr std::size_t columns_of(const table_shape& s) const noexcept {
        return (std::max<std::size_t>)(1, (std::min)({sketch, s.head_dim, chunk_length(chunk, s) / 2}));
    }
    /// Gaussian numbers by Box-Muller, column after column.
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
