#pragma once

// Scores by pieces of the text: for policies that score a stretch of tokens at once, when it has ended, and never
// again. Until then its states wait, above all others. So a score depends on the text, not on what the table still
// holds, and a decision costs such a policy nothing.
#include <algorithm>
#include <cstddef>
#include <span>

#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The score of a state that waits for the end of its piece.
inline constexpr float waiting = 1e30f;

/// The tokens of a piece: as many as are wanted, but no more than a quarter of the states, so that those which wait
/// leave room. A table of fewer than 16 has pieces of one token, which say nothing: all score 0, and the oldest goes.
constexpr std::size_t piece_length(std::size_t wanted, const table_shape& s) noexcept {
    const std::size_t length = (std::min)(wanted, s.states / 4);
    return length < 4 ? 1 : length;
}

/// Counts tokens, as they arrive or as they attend, in two floats of a policy's memory: up to 2^24 pieces, 67 million
/// tokens in the shortest pieces, and all that positions can number in those of 128.
class piece_counter {
  public:
    static constexpr std::size_t floats = 2;
    explicit piece_counter(std::span<float> memory) noexcept : tokens_(memory[0]), number_(memory[1]) {}

    /// One more token; returns its index in its piece.
    std::size_t count(std::size_t length) noexcept {
        if (number_ == 0 || ended(length)) {
            tokens_ = 0;
            ++number_;
        }
        return static_cast<std::size_t>(tokens_++);
    }
    /// The piece of the token that was counted last, from 1 on; whether that was its last.
    float number() const noexcept { return number_; }
    bool ended(std::size_t length) const noexcept { return tokens_ == static_cast<float>(length); }

  private:
    float& tokens_;
    float& number_;
};

/// What each state remembers: the piece it waits for, 0 when it has a score, and its index there.
inline constexpr std::size_t floats_of_pieces = 2;

/// To be called at each arrival, before anything is remembered; own[0] is the length. Where it changes (at first, and
/// after another budget) the policy starts anew with empty memory, and what waited scores 0.
inline void start_pieces(view states, std::size_t length) noexcept {
    if (states.own[0] == static_cast<float>(length)) return;
    std::ranges::fill(states.own, 0.0f);
    states.own[0] = static_cast<float>(length);
    std::ranges::fill(states.memory(0), 0.0f);
    std::ranges::replace(states.score, waiting, 0.0f);
}
/// The state in `row` joins a piece and waits.
inline void join_piece(view states, std::size_t row, float number, std::size_t index) noexcept {
    states.memory(0)[row] = number;
    states.memory(1)[row] = static_cast<float>(index);
    states.score[row] = waiting;
}
/// Gives the states of a piece their scores, by index; 0 where the piece is one token.
inline void score_piece(view states, float number, std::span<const float> scores) noexcept {
    const auto piece = states.memory(0), index = states.memory(1);
    for (std::size_t row = 0; row < states.size(); ++row) {
        if (piece[row] != number) continue;
        piece[row] = 0;
        states.score[row] = scores.size() > 1 ? scores[static_cast<std::size_t>(index[row])] : 0;
    }
}

}}  // namespace multistate::MULTISTATE_TARGET
