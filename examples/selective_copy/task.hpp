// The selective copying task: data tokens lie at random places among blanks, then must be repeated in order.
//
//     token     0 0 7 0 0 2 0 5 0 | 15 15 15        0: blank; 15: "say the next one"
//     target                      |  7  2  5
//
// As S4's and Mamba's copying data (arXiv 2312.00752): vocabulary - 2 kinds of data tokens, one kind of blank.
#pragma once

#include <cstddef>

#include "model.hpp"
#include "random.hpp"

namespace selective_copy {

struct task {
    std::size_t length = 64;      ///< blanks and data tokens together
    std::size_t data_tokens = 6;  ///< to remember, then to repeat
    std::size_t vocabulary = 16;
    /// Tokens of a sequence with the answer.
    [[nodiscard]] std::size_t total() const noexcept { return length + data_tokens; }
};

/// New sequences; every choice of places and tokens is equally likely.
[[nodiscard]] training::batch make_batch(const task& t, std::size_t sequences, training::random_source& random);

}  // namespace selective_copy
