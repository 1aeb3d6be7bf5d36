// The little Unicode that tokenizers need: reading UTF-8 without trusting it, and four character classes.
//
//     for (std::string_view rest = text; !rest.empty();) {
//         const demo::character next = demo::decode(rest);
//         if (demo::is_letter(next.code_point)) { ... }
//         rest.remove_prefix(next.length);
//     }
//
// A byte that begins no well-formed character is a character of its own: U+FFFD, one byte long. So every text can be
// walked to its end, no byte is lost or read twice, and what is ill-formed is in none of the classes.
#pragma once

#include <cstddef>
#include <string_view>

namespace demo {

/// A code point and the number of bytes that spell it.
struct character {
    char32_t code_point = 0;
    std::size_t length = 0;
};

/// The first character of `text`; length 0 only when `text` is empty.
[[nodiscard]] character decode(std::string_view text) noexcept;

/// `\p{L}`: general category Lu, Ll, Lt, Lm or Lo.
[[nodiscard]] bool is_letter(char32_t code_point) noexcept;

/// `\p{N}`: general category Nd, Nl or No.
[[nodiscard]] bool is_number(char32_t code_point) noexcept;

/// `\p{P}`: general category Pc, Pd, Ps, Pe, Pi, Pf or Po.
[[nodiscard]] bool is_punctuation(char32_t code_point) noexcept;

/// `\s` as the pre-tokenizers' expressions mean it: the property White_Space.
[[nodiscard]] bool is_space(char32_t code_point) noexcept;

}  // namespace demo
