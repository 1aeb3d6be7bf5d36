// Kinds of tokens, by what a tokenizer can see: the paper's table of parts of speech without a tagger.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace demo {

inline constexpr std::array<std::string_view, 7> token_classes{"first token", "newline", "quote",      "punctuation",
                                                               "digit",       "capital", "other words"};

/// The index in token_classes of the token at `position`, by the first of its characters that is no space.
[[nodiscard]] std::size_t token_class(std::string_view text, std::size_t position);

}  // namespace demo
