#pragma once

// Listens to Google Benchmark: prints as it always does, and keeps the counters for the report.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "interleaved.hpp"
#include "report.hpp"

namespace bench {

class reporter final : public benchmark::BenchmarkReporter {
  public:
    bool ReportContext(const Context& context) override { return console_->ReportContext(context); }
    void Finalize() override { console_->Finalize(); }
    void ReportRuns(const std::vector<Run>& runs) override {
        console_->ReportRuns(runs);
        for (const Run& run : runs) {
            if (run.run_type == Run::RT_Iteration) keep(run);
        }
    }

    /// In the order of their first runs, each counter the median over repetitions.
    std::vector<result> results() const {
        std::vector<result> all;
        for (const repeated& r : benchmarks_) {
            all.push_back({.name = r.name, .counters = {}, .error = r.error});
            for (const auto& [counter, values] : r.counters) all.back().counters[counter] = median(values);
        }
        return all;
    }

  private:
    struct repeated {
        std::string name;
        std::map<std::string, std::vector<double>> counters = {};
        std::string error = {};
    };

    void keep(const Run& run) {
        const std::string& name = run.run_name.function_name;
        auto at = std::find_if(benchmarks_.begin(), benchmarks_.end(), [&](const auto& b) { return b.name == name; });
        if (at == benchmarks_.end()) at = benchmarks_.insert(at, repeated{.name = name});
        if (run.error_occurred) at->error = run.error_message;
        for (const auto& [counter, value] : run.counters) at->counters[counter].push_back(value);
    }

    benchmark::BenchmarkReporter* console_ = benchmark::CreateDefaultDisplayReporter();  // the library's own
    std::vector<repeated> benchmarks_;
};

}  // namespace bench
