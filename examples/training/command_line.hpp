// What the command lines of the training programs have in common.
//
//     app.add_option("--steps", o.steps, "training steps")->check(training::whole_number(1, 1000000));
//     if (!training::parse(app, count, arguments)) return std::nullopt;        // --help was printed
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <ranges>
#include <stdexcept>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace training {

/// CLI11 puts the option's name before the message.
inline CLI::Validator whole_number(std::uint64_t least, std::uint64_t most) {
    return {[least, most](std::string& text) -> std::string {
                std::uint64_t value = 0;
                const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
                const bool whole = error == std::errc() && end == text.data() + text.size();
                if (whole && value >= least && value <= most) return {};
                return "must be a whole number from " + std::to_string(least) + " to " + std::to_string(most) +
                       ", is '" + text + "'";
            },
            ""};
}

inline CLI::Validator positive_number() {
    return {[](std::string& text) -> std::string {
                float value = 0;
                const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
                const bool number = error == std::errc() && end == text.data() + text.size();
                if (number && value > 0 && std::isfinite(value)) return {};
                return "must be a positive number, is '" + text + "'";
            },
            ""};
}

/// False after --help or --version, which it prints. Throws std::invalid_argument with one clear sentence.
inline bool parse(CLI::App& app, int count, const char* const* arguments) {
    app.get_formatter()->column_width(28);
    app.allow_extras();
    try {
        app.parse(count, arguments);
    } catch (const CLI::Success& help) {
        app.exit(help, std::cout, std::cerr);
        return false;
    } catch (const CLI::ParseError& error) {
        throw std::invalid_argument(error.what());
    }
    if (const auto extras = app.remaining(); !extras.empty()) {
        throw std::invalid_argument("unknown argument '" + extras.front() + "' (--help lists all)");
    }
    return true;
}

/// "a, b, c".
template <class Choices>
std::string listed(const Choices& choices) {
    std::string all;
    for (const auto& choice : choices) all += (all.empty() ? "" : ", ") + std::string(choice);
    return all;
}

/// Throws std::invalid_argument if a value is not one of the choices, or comes twice.
template <class Choices>
void require_choices(const std::string& option, const std::vector<std::string>& values, const Choices& choices) {
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (std::ranges::find(choices, values[i]) == std::ranges::end(choices)) {
            throw std::invalid_argument(option + " must be of " + listed(choices) + ", is '" + values[i] + "'");
        }
        for (std::size_t j = 0; j < i; ++j) {
            if (values[i] == values[j]) throw std::invalid_argument(option + " has '" + values[i] + "' twice");
        }
    }
}

}  // namespace training
