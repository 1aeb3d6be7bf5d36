// Google Benchmark's main, with our context and a shorter default time: the whole suite in two to three minutes.
#include <vector>

#include <benchmark/benchmark.h>

#include "context.hpp"

int main(int argc, char** argv) {
    static char short_time[] = "--benchmark_min_time=0.1";  // the user's own comes later and wins
    std::vector<char*> arguments(argv, argv + argc);
    arguments.insert(arguments.begin() + (argc > 0 ? 1 : 0), short_time);
    int count = static_cast<int>(arguments.size());
    arguments.push_back(nullptr);

    benchmark::Initialize(&count, arguments.data());
    if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 1;
    bench::describe_context();
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}
