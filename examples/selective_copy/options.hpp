// The command line of selective_copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "task.hpp"

namespace selective_copy {

struct options {
    std::vector<std::string> cells{"min_lstm", "min_gru"};
    std::vector<std::size_t> layers{1, 2, 3};
    selective_copy::task task;
    std::size_t width = 64;
    std::size_t expansion = 2;
    std::size_t batch = 64;
    std::size_t steps = 1500;
    double learning_rate = 6e-3;
    std::uint64_t seed = 1;
    std::size_t seeds = 3;
    std::size_t threads = 1;
    std::optional<std::filesystem::path> json;
    bool quiet = false;
};

/// Throws std::invalid_argument with one clear sentence. Empty after --help or --version, which it prints.
[[nodiscard]] std::optional<options> parse_options(int count, const char* const* arguments);

}  // namespace selective_copy
