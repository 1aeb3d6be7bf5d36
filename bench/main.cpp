// Google Benchmark's main, with our context and a shorter default time.
#include <algorithm>
#include <vector>

#include <benchmark/benchmark.h>

#include "context.hpp"

int main(int argc, char** argv) {
    static char short_time[] = "--benchmark_min_time=0.05";  // a later option of the user replaces it
    std::vector<char*> arguments(argv, argv + argc);
    arguments.insert(arguments.begin() + std::min(argc, 1), short_time);
    int count = static_cast<int>(arguments.size());
    arguments.push_back(nullptr);

    benchmark::Initialize(&count, arguments.data());
    if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 1;
    for (const auto& [key, value] : bench::describe_context()) benchmark::AddCustomContext(key, value);
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}
