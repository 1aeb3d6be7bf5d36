// "Did you mean": the valid choice nearest to a mistyped word.
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

/// "; did you mean 'X'?" where X is near enough to be a slip, else nothing.
template <class Choices>
std::string did_you_mean(std::string_view word, const Choices& choices) {
    word = word.substr(0, 64);  // no choice is longer
    std::string_view best;
    std::size_t least = std::max<std::size_t>(2, word.size() / 3) + 1;
    for (const std::string_view choice : choices) {
        const std::size_t distance = edit_distance(word, choice);
        if (distance < least) {
            least = distance;
            best = choice;
        }
    }
    return best.empty() ? "" : "; did you mean '" + std::string(best) + "'?";
}

/// "a, b, c"
template <class Choices>
std::string listed(const Choices& choices) {
    std::string text;
    for (const std::string_view choice : choices) text.append(text.empty() ? "" : ", ").append(choice);
    return text;
}

}  // namespace demo
