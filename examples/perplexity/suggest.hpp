// "Did you mean": the valid choices nearest to a mistyped word.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace demo {

/// Letters to insert, delete or replace to turn one word into the other (Levenshtein's distance).
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = std::exchange(row[0], i);
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = row[j];
            row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
        }
    }
    return row.back();
}

/// The word in small letters with underscores: what papers capitalize and hyphenate is the same name.
inline std::string folded(std::string_view word) {
    std::string result(word);
    for (char& c : result) c = c == '-' ? '_' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return result;
}

/// How far a choice is from what was typed; a word that begins the choice, or that the choice begins, counts as two
/// slips at most.
inline std::size_t distance_to(std::string_view choice, std::string_view word) {
    const std::string a = folded(choice);
    const std::string b = folded(word);
    const std::size_t slips = edit_distance(a, b);
    const bool begins = std::min(a.size(), b.size()) >= 3 && (a.starts_with(b) || b.starts_with(a));
    return begins ? std::min<std::size_t>(slips, 2) : slips;
}

/// The choices that are near enough to be a slip and no more than one slip farther than the nearest: `most` of them,
/// nearest first, of equals in their order.
template <class Choices>
std::vector<std::string> nearest(std::string_view word, const Choices& choices, std::size_t most) {
    word = word.substr(0, 64);  // no choice is longer
    std::vector<std::pair<std::size_t, std::string>> near;
    for (const std::string_view choice : choices) {
        const std::size_t distance = distance_to(choice, word);
        if (!word.empty() && distance <= std::max<std::size_t>(2, word.size() / 3)) near.emplace_back(distance, choice);
    }
    std::ranges::stable_sort(near, {}, &std::pair<std::size_t, std::string>::first);
    std::vector<std::string> names;
    for (const auto& [distance, choice] : near) {
        if (names.size() < most && distance <= near.front().first + 1) names.push_back(choice);
    }
    return names;
}

/// "; did you mean 'X'?", or "'X', 'Y' or 'Z'?" of up to `most`; nothing where no choice is near.
template <class Choices>
std::string did_you_mean(std::string_view word, const Choices& choices, std::size_t most = 1) {
    const std::vector<std::string> names = nearest(word, choices, most);
    std::string text;
    for (std::size_t i = 0; i < names.size(); ++i) {
        text += i == 0 ? "; did you mean " : i + 1 == names.size() ? " or " : ", ";
        text += '\'' + names[i] + '\'';
    }
    return text.empty() ? "" : text + '?';
}

/// "a, b, c"
template <class Choices>
std::string listed(const Choices& choices) {
    std::string text;
    for (const std::string_view choice : choices) text.append(text.empty() ? "" : ", ").append(choice);
    return text;
}

}  // namespace demo
