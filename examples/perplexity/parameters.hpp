// The parameters of a policy as text: what users may write for each, and what they are told.
//
//     demo::parameters_of(policy)                        // {"decay", "0.95", "0 to 1"}, …
//     demo::set_parameter(policy, "decay", "2")          // "decay must be from 0 to 1, is 2"
#pragma once

#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace demo {

/// The number that is all of the text, or nothing.
template <class Number>
std::optional<Number> parse_number(std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

/// A value of a parameter: true or false, a whole number, or any finite one.
template <class Value>
std::optional<Value> parse_value(std::string_view text) {
    if constexpr (std::same_as<Value, bool>) {
        if (text == "true") return true;
        if (text == "false") return false;
        return std::nullopt;
    } else if constexpr (std::integral<Value>) {
        return parse_number<Value>(text);
    } else {
        // By way of double: what float rounds to 0 is no error.
        const auto value = parse_number<double>(text);
        if (!value || !(std::fabs(*value) <= std::numeric_limits<Value>::max())) return std::nullopt;
        return static_cast<Value>(*value);
    }
}

/// The value in the fewest digits that read back as the same.
template <class Value>
std::string text_of(Value value) {
    if constexpr (std::same_as<Value, bool>) {
        return value ? "true" : "false";
    } else {
        std::array<char, 64> digits{};
        return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr};
    }
}

/// "from 0 to 1", or without `from`; a bound at the end of the type's range is none.
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

/// Every parameter of the policy and the value that it has.
template <class Policy>
std::vector<parameter_text> parameters_of(const Policy& policy) {
    std::vector<parameter_text> texts;
    policy.for_each_parameter(
        [&]<class Value>(std::string_view name, const Value& value, const auto& least, const auto& most) {
            texts.push_back({std::string(name), text_of(value), range_of<Value>(least, most, "")});
        });
    return texts;
}

/// Sets the parameter of that name. Returns what is wrong with the text, and changes nothing then, else nothing.
template <class Policy>
std::string set_parameter(Policy& policy, std::string_view name, std::string_view text) {
    std::string problem = "no parameter '" + std::string(name) + "'";
    policy.for_each_parameter(
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

}  // namespace demo
