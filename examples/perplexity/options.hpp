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

enum class table_format { text, markdown, csv };

/// k as it was given: a number of states, or a share of the context.
struct state_count {
    std::size_t number = 0;
    std::size_t parts = 0;  ///< 0: `number` states; else `number` of so many parts of the context

    bool operator==(const state_count&) const = default;
    /// In states, at least 1.
    [[nodiscard]] std::size_t at(std::size_t context) const;
};

[[nodiscard]] feeding feeding_named(std::string_view prefill);

struct options {
    std::optional<std::filesystem::path> model;  ///< none: the bundled one
    std::optional<std::filesystem::path> text;   ///< none: the bundled one
    std::optional<std::filesystem::path> tokens;
    std::vector<policy_spec> policies;
    std::vector<state_count> states{{1, 8}, {1, 4}, {1, 2}};
    std::optional<std::size_t> context;  ///< none: 1024, or the trained length where that is less
    std::optional<std::size_t> limit;
    std::vector<std::string> codecs{"f32"};
    std::string prefill = "exact";
    bool oracle = false;           ///< measure that too, at every k
    bool shorter_context = false;  ///< measure that too, at every k
    std::size_t block = 64;
    std::size_t threads = 1;
    std::optional<std::filesystem::path> json, report, nll, trace;
    std::optional<std::filesystem::path> resume;  ///< what it has is not measured again; also `json` unless given
    std::vector<std::filesystem::path> compare;   ///< two results, and nothing is measured; else none
    table_format format = table_format::text;
    std::vector<std::string> columns{"summary"};  ///< groups of columns
    std::string sort;                             ///< empty: as measured
    bool shared_states = false;                   ///< print which states policies share
    bool paper = false;                           ///< reproduce the tables of arXiv 2401.06104
    bool recall = false;                          ///< also ask for hidden facts, and compare repeats
    std::size_t recall_tries = 6;                 ///< per kind, length and depth
    bool print_tokens = false;
    std::optional<profile_setting> profile;  ///< with --profile: where heads look, and no measurement
    bool quiet = false;
    std::string command;  ///< the line that was typed, for the report

    [[nodiscard]] demo::feeding feeding() const { return feeding_named(prefill); }
};

/// The file names of model and text, as results show them: without folders, "standard input" for `-`.
[[nodiscard]] std::string model_name(const options& o);
[[nodiscard]] std::string text_name(const options& o);

/// Throws std::invalid_argument with one clear sentence. Empty after --help, --version or
/// --list-policies, which it prints.
[[nodiscard]] std::optional<options> parse_options(int count, const char* const* arguments);

}  // namespace demo
