#pragma once

// What a report must say to mean anything: which code, for which instructions, by which compiler, on which machine.
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

#include <Eigen/Core>
#include <multistate/core/target.hpp>
#include <multistate/version.hpp>

#include "probe.hpp"

namespace bench {

using facts = std::vector<std::pair<std::string, std::string>>;

/// The processor's own name, where the system tells (Linux on x86); else "unknown".
inline std::string processor() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
    }
    return "unknown";
}

/// The size of pages and, on Linux, whether there are huge ones: for all memory, where asked for (madvise), or never.
inline std::string pages() {
    std::string result;
#if defined(_SC_PAGESIZE)
    result = std::to_string(sysconf(_SC_PAGESIZE) / 1024) + " KiB";
#endif
    std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
    std::string choices;
    if (!std::getline(file, choices) || choices.find('[') == choices.npos) return result;
    const std::size_t begin = choices.find('[') + 1;
    return result + ", huge ones: " + choices.substr(begin, choices.find(']') - begin);
}

/// How many were at work when we came: with more than the processors, times and gains of threads mean little.
inline std::string load() {
    const std::vector<double>& averages = benchmark::CPUInfo::Get().load_avg;
    return averages.empty() ? "unknown" : std::to_string(averages.front()).substr(0, 4);
}

inline facts describe_context() {
    return {
        {"multistate", MULTISTATE_VERSION}, {"target", std::string(multistate::target_name())},
            {"processor", processor()}, {"processors in use", std::to_string(std::thread::hardware_concurrency())},
            {"load average of the last minute", load()}, {"pages", pages()},
#if defined(__clang__)
            {"compiler", __VERSION__},
#else
            {"compiler", "GCC " __VERSION__},
#endif
            {"flags", MULTISTATE_BENCH_FLAGS},
            {"Eigen", std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
                          std::to_string(EIGEN_MINOR_VERSION)},
            {"read probe", std::string(fastest_way_to_read().name)},
#ifdef NDEBUG
            {"assertions", "off"},
#else
            {"assertions", "on: these times mean nothing"},
#endif
    };
}

}  // namespace bench
