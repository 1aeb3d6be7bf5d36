#pragma once

// For policies that score a chunk of consecutive tokens once, when its last token has arrived.
//
//     struct memory {
//         ms::chunk_memory chunks;                             // which chunk each state belongs to
//     };
//     static void lay_out(memory& m, ms::layout& l) noexcept { m.chunks.lay_out(l); }
//     void on_insert(ms::rows keys, ms::rows values, ms::view states, std::size_t row) const noexcept {
//         const auto chunks = states.memory(*this).chunks;
//         const ms::chunk_place token = ms::join_chunk(states, *this, chunks, 256, row);   // the state waits
//         ...                                                  // remember the token: number token.index of its chunk
//         if (token.is_last) ms::score_chunk(states, chunks, token.chunk, scores);         // one score for each token
//     }
//
// Until its chunk has ended, a state waits: its score is above all others. So a score depends on the text, not on the
// states that the table still holds. A decision needs no work from such a policy.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The score of a state that waits for the end of its chunk.
inline constexpr float waiting = 1e30f;

/// The number of tokens in a chunk: `wanted`, but at most a quarter of the states, so that waiting states leave room
/// for others. A table of fewer than 16 states has chunks of one token, which carry no information: all scores are 0,
/// and the oldest state is forgotten.
constexpr std::size_t chunk_length(std::size_t wanted, const table_shape& s) noexcept {
    const std::size_t length = (std::min)(wanted, s.states / 4);
    return length < 4 ? 1 : length;
}

/// Counts tokens as they arrive or attend. An element of a policy's memory.
class chunk_counter {
  public:
    /// Counts one more token; returns its index in its chunk.
    std::size_t count(std::size_t length) noexcept {
        if (number_ == 0 || ended(length)) {
            tokens_ = 0;
            ++number_;
        }
        return tokens_++;
    }
    /// The number of the chunk of the last counted token; the first chunk is 1.
    std::uint32_t number() const noexcept { return static_cast<std::uint32_t>(number_); }
    /// Whether the last counted token was the last of its chunk.
    bool ended(std::size_t length) const noexcept { return tokens_ == length; }

  private:
    // A chunk has at least one token, so positions run out before chunk numbers do.
    static_assert(last_position < (std::numeric_limits<std::uint32_t>::max)());

    std::uint64_t tokens_ = 0;  // of the current chunk
    std::uint64_t number_ = 0;
};

/// A member of the policy's memory: the chunk of each state.
struct chunk_memory {
    per_state<std::uint32_t> chunk;   ///< the chunk that the state waits for; 0 if it has a score
    per_state<std::uint32_t> index;   ///< index of the state's token in its chunk
    per_table<std::uint64_t> length;  ///< [1]: tokens per chunk
    per_table<chunk_counter> text;    ///< [1]: counts the tokens

    void lay_out(layout& l) noexcept {
        l(chunk);
        l(index);
        l(length);
        l(text);
    }
};

/// The place of a token in the text.
struct chunk_place {
    std::uint32_t chunk;  ///< its number, as in chunk_counter
    std::size_t index;    ///< of the token in the chunk
    bool is_last;         ///< whether the chunk has ended
};

/// For policies without chunk_memory: call it at each arrival, before anything is remembered. If the length changes (at
/// first, and after a rebudget), it clears the policy's table memory and gives waiting states score 0; returns true.
template <class P>
bool start_chunks(view states, const P& policy, std::span<std::uint64_t> known_length, std::size_t length) noexcept {
    if (known_length[0] == length) return false;
    states.clear_table_memory(policy);
    known_length[0] = length;
    std::ranges::replace(states.score, waiting, 0.0f);
    return true;
}
/// Call it at each arrival: the state in `row` joins the current chunk and waits. Chunks have
/// chunk_length(wanted, states.shape) tokens. If another budget changes this length, the policy starts anew.
template <class P>
chunk_place join_chunk(view states, const P& policy, const chunk_memory& mine, std::size_t wanted,
                       std::size_t row) noexcept {
    const std::size_t n = chunk_length(wanted, states.shape);
    if (start_chunks(states, policy, mine.length, n)) std::ranges::fill(mine.chunk, 0u);
    chunk_counter& text = mine.text[0];
    const std::size_t index = text.count(n);
    mine.chunk[row] = text.number();
    mine.index[row] = static_cast<std::uint32_t>(index);
    states.score[row] = waiting;
    return {text.number(), index, text.ended(n)};
}
/// Gives the states of a chunk their scores, by index; 0 if the chunk is one token.
inline void score_chunk(view states, const chunk_memory& mine, std::uint32_t chunk,
                        std::span<const float> scores) noexcept {
    for (std::size_t row = 0; row < states.size(); ++row) {
        if (mine.chunk[row] != chunk) continue;
        mine.chunk[row] = 0;
        states.score[row] = scores.size() > 1 ? scores[mine.index[row]] : 0;
    }
}

}}  // namespace multistate::MULTISTATE_TARGET
