#include "token_class.hpp"

#include <algorithm>
#include <cctype>

namespace demo {

namespace {

std::size_t class_named(std::string_view name) {
    return static_cast<std::size_t>(std::ranges::find(token_classes, name) - token_classes.begin());
}

/// UTF-8: straight quotes, and those that books use.
bool begins_with_quote(std::string_view text) {
    constexpr std::array<std::string_view, 8> quotes{"\"", "'", "`", "“", "”", "‘", "’", "«"};
    return std::ranges::any_of(quotes, [&](std::string_view quote) { return text.starts_with(quote); });
}

}  // namespace

std::size_t token_class(std::string_view text, std::size_t position) {
    if (position == 0) return class_named("first token");
    const std::size_t begin = text.find_first_not_of(' ');
    if (begin == std::string_view::npos) return class_named("other words");
    text.remove_prefix(begin);
    const auto first = static_cast<unsigned char>(text.front());
    if (first == '\n' || first == '\r') return class_named("newline");
    if (begins_with_quote(text)) return class_named("quote");
    if (std::isdigit(first) != 0) return class_named("digit");
    if (std::ispunct(first) != 0 || text.starts_with("—") || text.starts_with("–")) return class_named("punctuation");
    if (std::isupper(first) != 0) return class_named("capital");
    return class_named("other words");
}

}  // namespace demo
