#pragma once

// The layout of the tokens of several sequences in one array, and the blocks of time that parallel scans work on.
//
//     const detail::sequence_layout all("min_gru", tokens, sequences, lengths);   // checks that they fit
//     const detail::time_blocks blocks(all, indices);                             // indices: the caller's scratch
//     blocks[b].first, blocks[b].end, blocks[b].sequence                          // b < blocks.count()
#include <algorithm>
#include <cstddef>
#include <span>

#include "multistate/core/errors.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

/// Tokens in a block of time. Blocks depend on lengths only, so results do not depend on the number of threads.
inline constexpr std::size_t time_block = 64;

/// Sequence after sequence, without padding. If lengths is empty, all have the same length.
class sequence_layout {
  public:
    sequence_layout(const char* who, std::size_t tokens, std::size_t sequences,
                    std::span<const std::size_t> lengths) noexcept
        : tokens_(tokens), sequences_(sequences), lengths_(lengths) {
        check(sequences >= 1, who, "state", "the states of at least 1 sequence", sequences);
        check(tokens >= 1, who, "x", "at least 1 token", tokens);
        if (lengths.empty()) {
            check(tokens % sequences == 0, who, "tokens without lengths",
                  bound{"a multiple of the sequences of state, ", sequences}, tokens);
            return;
        }
        check(lengths.size() == sequences, who, "lengths", bound{"one for each sequence of state, ", sequences},
              lengths.size());
        std::size_t sum = 0;
        for (const std::size_t length : lengths) {
            check(length >= 1 && length <= tokens, who, "lengths", bound{"each from 1 to the tokens of x, ", tokens},
                  length);
            sum += length;
        }
        check(sum == tokens, who, "the sum of lengths", bound{"the tokens of x, ", tokens}, sum);
    }

    std::size_t tokens() const noexcept { return tokens_; }
    std::size_t sequences() const noexcept { return sequences_; }
    std::size_t length(std::size_t s) const noexcept { return lengths_.empty() ? tokens_ / sequences_ : lengths_[s]; }

  private:
    std::size_t tokens_;
    std::size_t sequences_;
    std::span<const std::size_t> lengths_;
};

/// A part of one sequence: tokens [first, end).
struct time_span {
    std::size_t first;
    std::size_t end;
    std::size_t sequence;
    bool begins;  ///< with the first token of its sequence
    bool ends;    ///< with the last
};

/// The blocks of all sequences, in order.
class time_blocks {
  public:
    /// The size of the index scratch for this many tokens and sequences.
    static constexpr std::size_t indices(std::size_t tokens, std::size_t sequences) noexcept {
        return 2 * most(tokens, sequences);
    }
    /// The maximum number of blocks for this many tokens and sequences.
    static constexpr std::size_t most(std::size_t tokens, std::size_t sequences) noexcept {
        return tokens / time_block + sequences;
    }

    time_blocks(const sequence_layout& layout, std::span<std::size_t> table) noexcept
        : table_(table.data()), tokens_(layout.tokens()) {
        for (std::size_t s = 0, first = 0; s < layout.sequences(); first += layout.length(s++)) {
            for (std::size_t t = 0; t < layout.length(s); t += time_block, ++count_) {
                table_[2 * count_] = first + t;
                table_[2 * count_ + 1] = s;
            }
        }
    }

    std::size_t count() const noexcept { return count_; }
    time_span operator[](std::size_t b) const noexcept {
        const bool last = b + 1 == count_;
        return {table_[2 * b], last ? tokens_ : table_[2 * b + 2], table_[2 * b + 1],
                b == 0 || table_[2 * b - 1] != table_[2 * b + 1], last || table_[2 * b + 3] != table_[2 * b + 1]};
    }

  private:
    std::size_t* table_;
    std::size_t tokens_;
    std::size_t count_ = 0;
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
