// The command line of language_model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace language_model {

struct options {
    std::vector<std::string> models;
    std::vector<std::filesystem::path> text;        ///< to train on
    std::vector<std::filesystem::path> validation;  ///< empty: the last tenth of the text
    std::size_t width = 128;
    std::size_t blocks = 4;
    std::size_t heads = 4;  ///< of the transformer
    std::size_t length = 256;
    std::size_t batch = 8;
    std::size_t steps = 400;
    std::size_t every = 50;  ///< steps between validations
    std::size_t validation_sequences = 32;
    double learning_rate = 3e-3;
    std::uint64_t seed = 1;
    std::size_t threads = 1;
    std::optional<std::filesystem::path> json;
    bool quiet = false;
};

/// Throws std::invalid_argument with one clear sentence. Empty after --help or --version, which it prints.
[[nodiscard]] std::optional<options> parse_options(int count, const char* const* arguments);

}  // namespace language_model
