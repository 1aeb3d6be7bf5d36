// The model and the text that are measured unless others are named. They lie in the program itself: it can be moved and
// installed, and knows no path.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace demo {

inline constexpr std::string_view bundled_model_name = "books-5m-f16.gguf";
inline constexpr std::string_view bundled_text_name = "bell-at-sallow-ferry.txt";

[[nodiscard]] std::span<const std::byte> bundled_model() noexcept;
[[nodiscard]] std::string_view bundled_text() noexcept;

}  // namespace demo
