#pragma once

// Parameters of a policy as text, and "did you mean": the details of spec.hpp, for programs that print or parse more.
//
//     ms::parameters_of(policy)                          // {"decay", "0.95", "0 to 1"}, …
//     ms::set_parameter(policy, "decay", "2")            // returns "decay must be from 0 to 1, is 2"
//     ms::did_you_mean("tovaa", ms::any_policy::names)   // "; did you mean 'tova'?"
//
// Allocates.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "multistate/core/errors.hpp"
#include "multistate/core/parameter.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The number, if it is the whole text; otherwise nothing.
template <class Number>
std::optional<Number> parse_number(std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

/// A value of a parameter: true or false, a whole number, or any finite number.
template <class Value>
std::optional<Value> parse_value(std::string_view text) {
    if constexpr (std::same_as<Value, bool>) {
        if (text == "true") return true;
        if (text == "false") return false;
        return std::nullopt;
    } else if constexpr (std::integral<Value>) {
        return parse_number<Value>(text);
    } else {
        // Parsed as double: a number that float rounds to 0 is no error.
        const auto value = parse_number<double>(text);
        if (!value || !(std::fabs(*value) <= std::numeric_limits<Value>::max())) return std::nullopt;
        return static_cast<Value>(*value);
    }
}

/// The shortest decimal text that reads back as the same value.
template <class Value>
std::string text_of(Value value) {
    if constexpr (std::same_as<Value, bool>) {
        return value ? "true" : "false";
    } else {
        std::array<char, 64> digits{};
        return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr};
    }
}

/// "from 0 to 1", or without `from`; a bound at the end of the type's range is omitted.
template <class Value>
std::string range_of(Value least, Value most, std::string_view from = "from ") {
    if constexpr (std::same_as<Value, bool>) {
        return "true or false";
    } else {
        const bool unbounded = most >= std::numeric_limits<Value>::max();
        if (!std::integral<Value> && least <= std::numeric_limits<Value>::lowest()) {
            return unbounded ? "any number" : "at most " + text_of(most);
        }
        return unbounded ? "at least " + text_of(least) : std::string(from) + text_of(least) + " to " + text_of(most);
    }
}

/// "a whole number from 1 to 64"
template <class Value>
std::string numbers_of(Value least, Value most) {
    const std::string range = range_of(least, most);
    if (range == "any number") return "a finite number";
    return (std::integral<Value> ? "a whole number " : "a number ") +
           (range.starts_with("from") ? range : "of " + range);
}

struct parameter_text {
    std::string name;
    std::string value;
    std::string range;
};

/// All parameters of the policy, with their values.
template <class P>
std::vector<parameter_text> parameters_of(const P& policy) {
    std::vector<parameter_text> texts;
    for_each_parameter(
        policy, [&]<class Value>(std::string_view name, const Value& value, const auto& least, const auto& most) {
            texts.push_back({std::string(name), text_of(value), range_of<Value>(least, most, "")});
        });
    return texts;
}

/// Sets the parameter of that name. On an error, returns its description and changes nothing; otherwise returns "".
template <class P>
std::string set_parameter(P& policy, std::string_view name, std::string_view text) {
    std::string problem = "no parameter '" + std::string(name) + "'";
    for_each_parameter(policy,
                       [&]<class Value>(std::string_view known, Value& value, const auto& least, const auto& most) {
                           if (known != name) return;
                           const std::string must = std::string(name) + " must be ";
                           const std::string given = ", is '" + std::string(text) + "'";
                           const auto parsed = parse_value<Value>(text);
                           if constexpr (std::same_as<Value, bool>) {
                               problem = parsed ? "" : must + "true or false" + given;
                           } else if (!parsed) {
                               problem = must + numbers_of<Value>(least, most) + given;
                           } else if (*parsed < least || *parsed > most) {
                               problem = must + range_of<Value>(least, most) + ", is " + std::string(text);
                           } else {
                               problem.clear();
                           }
                           if (problem.empty()) value = *parsed;
                       });
    return problem;
}

/// Levenshtein distance: the number of letters to insert, delete or replace to turn one word into the other.
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

/// The word in lower case with underscores, so that papers' capitals and hyphens do not matter.
inline std::string folded(std::string_view word) {
    std::string result(word);
    for (char& c : result) c = c == '-' ? '_' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return result;
}

/// The distance of a choice from the typed word. If one is a prefix of the other, the distance is at most two slips.
inline std::size_t distance_to(std::string_view choice, std::string_view word) {
    const std::string a = folded(choice);
    const std::string b = folded(word);
    const std::size_t slips = edit_distance(a, b);
    const bool begins = std::min(a.size(), b.size()) >= 3 && (a.starts_with(b) || b.starts_with(a));
    return begins ? std::min<std::size_t>(slips, 2) : slips;
}

/// The choices that are near enough to be a slip, and at most one slip farther than the nearest. Returns up to `most`
/// of them, nearest first; ties keep their order.
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

/// "; did you mean 'X'?", or "'X', 'Y' or 'Z'?" with up to `most` choices; empty if no choice is near.
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

namespace detail {

[[noreturn]] inline void refuse_spec(const std::string& problem) {
#if defined(__cpp_exceptions)
    throw std::invalid_argument(problem);
#else
    fail("policy_spec", "text", problem, "not");
#endif
}
[[noreturn]] inline void refuse_spec(std::string_view spec, const std::string& problem) {
    refuse_spec("policy '" + std::string(spec) + "': " + problem);
}

/// The name that papers use for a policy of the list, alone or with a budget; or a name that is asked for as a policy
/// but is none.
struct policy_alias {
    std::string_view name;
    std::string_view spec;         ///< empty if there is none
    std::string_view explanation;  ///< why there is none
};
inline constexpr std::array<policy_alias, 16> policy_aliases{{
    {"streamingllm", "window+4", ""},
    {"streaming_llm", "window+4", ""},
    {"attention_sinks", "window+4", ""},
    {"lm_infinite", "window+4", ""},
    {"sliding_window", "window", ""},
    {"a2sf", "h2o_decayed", ""},
    {"heavy_hitter", "h2o", ""},
    {"adakv", "snapkv|adaptive", ""},
    {"ada_kv", "snapkv|adaptive", ""},
    {"ada_snapkv", "snapkv|adaptive", ""},
    {"pyramidkv", "snapkv|pyramid", ""},
    {"duoattention", "",
     "it needs a score for each KV head, which a text cannot give: take window and budgets/duo.hpp"},
    {"headkv", "", "it needs a score for each KV head, which a text cannot give: take snapkv and budgets/head.hpp"},
    {"simlayerkv", "", "it needs a measurement of each layer: take window+4 and budgets/lazy_layers.hpp"},
    {"simlayer_kv", "", "it needs a measurement of each layer: take window+4 and budgets/lazy_layers.hpp"},
    {"head_kv", "", "it needs a score for each KV head, which a text cannot give: take snapkv and budgets/head.hpp"},
}};

/// Splits the text at each `separator` outside parentheses, and removes spaces. A space inside a word is an error:
/// "recent=1 6" is not 16.
inline std::vector<std::string> split_spec(std::string_view text, char separator) {
    constexpr std::string_view separators = ",()=+|";
    std::vector<std::string> pieces(1);
    int depth = 0;
    bool space = false;
    for (const char c : text) {
        if (c == ' ') {
            space = true;
            continue;
        }
        std::string& piece = pieces.back();
        const bool separates = separators.find(c) != std::string_view::npos;
        if (space && !separates && !piece.empty() && separators.find(piece.back()) == std::string_view::npos) {
            refuse_spec(text, "a space divides '" + piece + "' from what follows");
        }
        space = false;
        depth += c == '(' ? 1 : c == ')' ? -1 : 0;
        if (c == separator && depth == 0) {
            pieces.emplace_back();
        } else {
            piece += c;
        }
    }
    return pieces;
}

/// NAME(name=value, …)
struct named_with_parameters {
    std::string head;
    std::vector<std::string> parameters;
};
inline named_with_parameters split_parameters(std::string_view spec, const std::string& text) {
    const std::size_t open = text.find('(');
    if (open == std::string::npos) return {text, {}};
    if (text.back() != ')') refuse_spec(spec, "the parenthesis is not closed");
    return {text.substr(0, open), split_spec(std::string_view(text).substr(open + 1, text.size() - open - 2), ',')};
}

}  // namespace detail

}}  // namespace multistate::MULTISTATE_TARGET
