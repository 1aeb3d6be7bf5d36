// Google Benchmark's main, with our context, a shorter default time, and one more option:
//
//     --report=<file>    writes the results as tables between the markers in that file
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include <benchmark/benchmark.h>

#include "context.hpp"
#include "reporter.hpp"

namespace {

constexpr std::string_view report_option = "--report=";

/// The command as it may be typed anywhere: no folders, no report.
std::string command(const std::vector<char*>& arguments) {
    std::string result = "multistate_bench";
    for (std::size_t i = 1; i < arguments.size(); ++i) {
        if (!std::string_view(arguments[i]).starts_with(report_option)) result.append(" ").append(arguments[i]);
    }
    return result;
}

/// Takes our option out of the arguments; empty if it is not there.
std::string take_report(std::vector<char*>& arguments) {
    const auto at = std::find_if(arguments.begin(), arguments.end(),
                                 [](std::string_view a) { return a.starts_with(report_option); });
    if (at == arguments.end()) return "";
    std::string file(std::string_view(*at).substr(report_option.size()));
    arguments.erase(at);
    return file;
}

int run(int argc, char** argv) {
    static char short_time[] = "--benchmark_min_time=0.05";  // the user's own comes later and wins
    std::vector<char*> arguments(argv, argv + argc);
    const std::string typed = command(arguments);
    const std::string report = take_report(arguments);
    if (!report.empty()) bench::require_markers(report);  // now, not after ten minutes
    arguments.insert(arguments.begin() + (argc > 0 ? 1 : 0), short_time);
    int count = static_cast<int>(arguments.size());
    arguments.push_back(nullptr);

    benchmark::Initialize(&count, arguments.data());
    if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 1;
    const bench::facts facts = bench::describe_context();
    for (const auto& [key, value] : facts) benchmark::AddCustomContext(key, value);
    bench::reporter reporter;
    benchmark::RunSpecifiedBenchmarks(&reporter);
    const std::vector<bench::result> results = reporter.results();
    if (!report.empty() && !results.empty()) {
        std::string text;
        for (const auto& [key, value] : facts) text.append("- ").append(key).append(": ").append(value).append("\n");
        text.append("\n```\n").append(typed).append("\n```\n").append(bench::markdown(results));
        bench::write_between_markers(report, text);
    }
    benchmark::Shutdown();
    return std::any_of(results.begin(), results.end(), [](const auto& r) { return !r.error.empty(); }) ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) try { return run(argc, argv); } catch (const std::exception& e) {
    std::fprintf(stderr, "multistate_bench: %s\n", e.what());
    return 1;
}
