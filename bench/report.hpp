#pragma once

// The benchmarks' results as Markdown tables, and their place in a file: everything between two markers. Knows nothing
// of Google Benchmark, so that a test can make results up.
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace bench {

/// One benchmark: each counter is the median over its repetitions.
struct result {
    std::string name;  ///< family/part/part…
    std::map<std::string, double, std::less<>> counters;
    std::string error = {};  ///< why it failed, if it did
};

/// The goals that these results speak of, then a table for each family.
std::string markdown(std::span<const result> results);

inline constexpr std::string_view first_marker = "<!-- results: written by the target bench_report -->";
inline constexpr std::string_view last_marker = "<!-- end of results -->";

/// Throws std::runtime_error unless the file has both markers, each once and in this order.
void require_markers(const std::filesystem::path& file);

/// Puts the text between the markers and leaves the rest as it is. The file changes at once or not at all. Throws
/// std::runtime_error as require_markers does, and where the file cannot be written.
void write_between_markers(const std::filesystem::path& file, std::string_view text);

}  // namespace bench
