#pragma once

// compactor: leverage plus noncausal: keeps unusual keys, and states that their neighbors attend to.
//
//     ms::compactor policy;
//     policy.rope.base = 500000;                              // rotary positions (rope.hpp): they must be the model's
//
//   paper    "Compactor: Calibrated Query-Agnostic KV Cache Compression with Approximate Leverage Scores", arXiv
//            2507.08143
//   rule     score[j] = blend * z(leverage[j]) + z(noncausal[j]), z(x) = (x - mean) / deviation over j's chunk of the
//            text; chunks begin after the sinks
//   reads    queries; new keys and values
//   forgets  for each KV head; the first min(8, states / 8) and the newest min(4, states / 8) are guarded
//   cost     that of its two parts, and 8 bytes per state
//   differs  like its parts. The authors' engine has a blend of 0.5 and guards 16 and 64. kvpress guards 8 and 4, and
//            its blend is the share of states that it removes; a table of fixed size has no such share. Its z is over
//            the prompt and all heads, here it is over a chunk and the heads of a table.
#include <algorithm>
#include <cmath>

#include "multistate/math/rope.hpp"
#include "multistate/policies/leverage.hpp"
#include "multistate/policies/noncausal.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct compactor {
    static constexpr std::string_view name = "compactor";
    static constexpr std::string_view paper = "arXiv 2507.08143";
    static constexpr per forgets() noexcept { return per::head; }
    /// Each head normalizes by its own deviations.
    static constexpr bool scores_are_comparable() noexcept { return false; }

    multistate::rope rope = {};  ///< the model's rotary positions
    std::size_t chunk = 256;     ///< tokens; see chunk_length for small tables
    std::size_t sketch = 48;     ///< columns of the random matrix of leverage
    float blend = 0.5f;          ///< weight of leverage
    bool scaled = false;         ///< whether noncausal multiplies its logits by the scale of attention
    std::size_t seed = 0;
    static constexpr auto member_with_parameters = &compactor::rope;
    static constexpr parameter<compactor> parameters[] = {{"chunk", &compactor::chunk, 4, 1 << 20},
                                                          {"sketch", &compactor::sketch, 1, 4096},
                                                          {"blend", &compactor::blend, 0.0f, 1e6f},
                                                          {"scaled", &compactor::scaled},
                                                          {"seed", &compactor::seed, 0, static_cast<std::size_t>(-1)}};

    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = (std::min<std::size_t>)(8, states / 8), .recent = (std::min<std::size_t>)(4, states / 8)};
    }
    struct memory {
        per_state<float> leverage, noncausal;  // the scores of the two parts
        per_table<std::uint64_t> length;       // of a chunk
    };
    void lay_out(memory& m, layout& l) const noexcept {
        l.part(keys());
        l.part(attention());
        l(m.leverage);
        l(m.noncausal);
        l(m.length);
    }

    void check_shape(const table_shape& s) const { rope.check_shape(s); }

    void on_insert(rows new_keys, rows values, view states, std::size_t row) const noexcept {
        start_chunks(states, *this, states.memory(*this).length, chunk_length(chunk, states.shape));
        if (row < states.guarded.sinks) return;
        keys().on_insert(new_keys, values, of_keys(states), row);
        attention().on_insert(new_keys, values, of_attention(states), row);
        states.score[row] = waiting;
    }
    void on_query(rows queries, view states) const noexcept {
        if (states.size() <= states.guarded.sinks) return;  // sinks came first
        const view mine = of_attention(states);
        attention().on_query(queries, mine);
        if (attention().ended(mine)) score(states, of_keys(states).score, mine.score);
    }

  private:
    noncausal attention() const noexcept { return {.chunk = chunk, .scaled = scaled}; }
    leverage keys() const noexcept {
        leverage result;
        result.rope = rope;
        result.chunk = chunk;
        result.sketch = sketch;
        result.seed = seed;
        return result;
    }
    view of_keys(view states) const noexcept {
        states.score = states.memory(*this).leverage;
        return states;
    }
    view of_attention(view states) const noexcept {
        states.score = states.memory(*this).noncausal;
        states.skip(keys());
        return states;
    }
    /// Scores the states that wait for the chunk that has ended.
    void score(view states, std::span<const float> leverages, std::span<const float> attentions) const noexcept {
        const auto is_new = [&](std::size_t row) { return states.score[row] == waiting && attentions[row] != waiting; };
        const auto z = [&](std::span<const float> x) {
            float count = 0, mean = 0, squares = 0;
            for (std::size_t row = 0; row < states.size(); ++row) {
                if (is_new(row)) mean += (x[row] - mean) / ++count;
            }
            for (std::size_t row = 0; row < states.size(); ++row) {
                if (is_new(row)) squares += (x[row] - mean) * (x[row] - mean);
            }
            const float deviation = (std::max)(1e-6f, std::sqrt(squares / (std::max)(1.0f, count - 1)));
            return [=](std::size_t row) { return (x[row] - mean) / deviation; };
        };
        const auto spanned = z(leverages), attended = z(attentions);
        for (std::size_t row = 0; row < states.size(); ++row) {
            if (is_new(row)) states.score[row] = blend * spanned(row) + attended(row);
        }
    }
};
static_assert(policy<compactor> &&
              hooks_of<compactor> == (hook::check_shape | hook::default_guards | hook::scores_are_comparable |
                                      hook::on_insert | hook::on_query));

}}  // namespace multistate::MULTISTATE_TARGET
