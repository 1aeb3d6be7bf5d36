#pragma once

// What a report must say to mean anything: which code, for which instructions, by which compiler, on which processor.
#include <fstream>
#include <string>

#include <benchmark/benchmark.h>
#include <multistate/target.hpp>
#include <multistate/version.hpp>

namespace bench {

/// The processor's own name, where the system tells (Linux on x86); else "unknown".
inline std::string processor() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
    }
    return "unknown";
}

inline void describe_context() {
    benchmark::AddCustomContext("multistate", MULTISTATE_VERSION);
    benchmark::AddCustomContext("target", std::string(multistate::target_name()));
    benchmark::AddCustomContext("processor", processor());
#if defined(__clang__)
    benchmark::AddCustomContext("compiler", __VERSION__);
#else
    benchmark::AddCustomContext("compiler", "GCC " __VERSION__);
#endif
    benchmark::AddCustomContext("flags", MULTISTATE_BENCH_FLAGS);
#ifdef NDEBUG
    benchmark::AddCustomContext("assertions", "off");
#else
    benchmark::AddCustomContext("assertions", "on: these times mean nothing");
#endif
}

}  // namespace bench
