// Results that nobody measured, for the tests of what is printed and written.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "report.hpp"
#include "terminal.hpp"

namespace made {

/// With the sums and the numbers of tokens of each sequence.
inline demo::run made_run(const std::string& policy, std::size_t states,
                          std::vector<multistate::likelihood> sequences) {
    demo::outcome m;
    m.sequences = std::move(sequences);
    m.bytes = {.cache = 1234567, .rows = 1000000, .scratch = 7654, .state = 256, .cache_at_32k = 500000};
    m.seconds = 0;
    for (const auto& s : m.sequences) m.seconds += static_cast<double>(s.tokens) / 8;  // 8 tokens per second
    return {{.policy = demo::parse_policies(policy).front(), .states = states}, std::move(m)};
}

inline demo::results made_results(std::vector<demo::run> runs) {
    demo::results all;
    all.about = {.model = "model.gguf",
                 .model_bytes = 1234567,
                 .model_fingerprint = "0123456789abcdef",
                 .layers = 5,
                 .heads = 8,
                 .kv_heads = 4,
                 .key_dim = 32,
                 .value_dim = 16,
                 .width = 256,
                 .vocabulary = 4096,
                 .trained_context = 2048,
                 .text = "text.txt",
                 .text_fingerprint = "fedcba9876543210",
                 .context = 1024,
                 .limit = 77,
                 .prefill = "exact",
                 .block = 64,
                 .threads = 3,
                 .cpu = "a processor",
                 .target = "a target",
                 .version = "1.2.3",
                 .date = "2026-11-28T12:00:00Z"};
    all.full = runs.empty() ? made_run("full", 1, {{4, 2}, {5, 2}}).result : runs.front().result;
    all.runs = std::move(runs);
    all.complete = true;
    return all;
}

}  // namespace made
