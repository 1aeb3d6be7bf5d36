// The command line of the demo.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "measurement.hpp"
#include "policy_spec.hpp"
#include "profile.hpp"

namespace demo {

struct options {
    std::filesystem::path model;
    std::filesystem::path text;
    std::optional<std::filesystem::path> tokens;
    std::vector<policy_spec> policies;
    std::vector<std::size_t> states;     ///< empty: an eighth, a quarter and a half of the context
    std::optional<std::size_t> context;  ///< none: 1024, or the trained length where that is less
    std::optional<std::size_t> limit;
    std::string codec = "f32";
    std::string prefill = "exact";
    std::size_t block = 64;
    std::size_t threads = 1;
    std::optional<std::filesystem::path> json, nll, trace;
    bool print_tokens = false;
    std::optional<profile_setting> profile;  ///< with --profile: where heads look, and no measurement
    bool quiet = false;

    [[nodiscard]] demo::feeding feeding() const;
};

/// Throws std::invalid_argument with one clear sentence. Empty after --help, --version or
/// --list-policies, which it prints.
[[nodiscard]] std::optional<options> parse_options(int count, const char* const* arguments);

}  // namespace demo
