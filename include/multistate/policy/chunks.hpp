#pragma once

// For policies that score a chunk of consecutive tokens once, when its last token has arrived.
//
//     struct memory {
//         ms::chunk_memory chunks;                             // which chunk each state belongs to
//         ms::per_table<ms::chunk_counter> text;               // [1]: counts the tokens
//     };
//     void on_insert(ms::rows keys, ms::rows values, ms::view states, std::size_t row) const noexcept {
//         const auto mine = states.memory(*this);
//         const std::size_t n = ms::chunk_length(256, states.shape);
//         ms::start_chunks(states, *this, mine.chunks, n);
//         const std::size_t index = mine.text[0].count(n);
//         ms::join_chunk(states, mine.chunks, row, mine.text[0].number(), index);    // waits
//         if (mine.text[0].ended(n)) ms::score_chunk(states, mine.chunks, mine.text[0].number(), scores);
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

/// What a policy remembers to know the chunk of each state. A member of the policy's memory.
struct chunk_memory {
    per_state<std::uint32_t> chunk;   ///< the chunk that the state waits for; 0 when it has a score
    per_state<std::uint32_t> index;   ///< index of the state's token in its chunk
    per_table<std::uint64_t> length;  ///< [1]: tokens per chunk

    void lay_out(layout& l) noexcept {
        l(chunk);
        l(index);
        l(length);
    }
};

/// Call it at each arrival, before anything is remembered. If the length changes (at first, and after a rebudget), it
/// clears the policy's table memory, gives waiting states the score 0 and returns true.
template <class P>
bool start_chunks(view states, const P& policy, std::span<std::uint64_t> known_length, std::size_t length) noexcept {
    if (known_length[0] == length) return false;
    states.clear_table_memory(policy);
    known_length[0] = length;
    std::ranges::replace(states.score, waiting, 0.0f);
    return true;
}
/// The same for a policy with chunk_memory: afterwards no state waits for a chunk.
template <class P>
void start_chunks(view states, const P& policy, const chunk_memory& mine, std::size_t length) noexcept {
    if (start_chunks(states, policy, mine.length, length)) std::ranges::fill(mine.chunk, 0u);
}
/// The state in `row` joins a chunk and waits.
inline void join_chunk(view states, const chunk_memory& mine, std::size_t row, std::uint32_t chunk,
                       std::size_t index) noexcept {
    mine.chunk[row] = chunk;
    mine.index[row] = static_cast<std::uint32_t>(index);
    states.score[row] = waiting;
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
