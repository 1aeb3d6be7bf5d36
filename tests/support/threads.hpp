#pragma once

// Executors for tests: many threads, and one that takes the tasks from the end.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace support {

/// Shares the tasks among up to four threads, started anew at every call.
struct threads {
    void run(std::size_t n, auto&& task) const {
        std::atomic<std::size_t> next = 0;
        std::vector<std::jthread> team;
        for (std::size_t i = 0; i < std::min<std::size_t>(n, 4); ++i) {
            team.emplace_back([&] {
                for (std::size_t t = next++; t < n; t = next++) task(t);
            });
        }
    }
};

/// A plain function object, without a member `run`.
inline constexpr auto backwards = [](std::size_t n, auto&& task) {
    while (n > 0) task(--n);
};

}  // namespace support
