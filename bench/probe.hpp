#pragma once

// How fast memory can be read and copied: what everything that reads a cache is held against.
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include <hwy/cache_control.h>
#include <multistate/core/target.hpp>

#include "interleaved.hpp"
#include "memory.hpp"

namespace bench {

namespace hn = hwy::HWY_NAMESPACE;

using words = std::span<const std::uint64_t>;

/// Reads everything once, in order: the widest loads, four sums that do not wait for each other. In the first-level
/// cache it is some twenty times as fast as DRAM, so in DRAM it waits for nothing else (memory/…/first_level_cache
/// shows it). Asks for the line that many bytes ahead, unless 0.
template <std::size_t Ahead>
std::uint64_t read_in_order(words memory) noexcept {
    const hn::ScalableTag<std::uint64_t> d;
    const std::size_t lanes = hn::Lanes(d);
    auto a = hn::Zero(d), b = a, c = a, e = a;
    for (std::size_t i = 0; i + 4 * lanes <= memory.size(); i += 4 * lanes) {
        const std::uint64_t* p = memory.data() + i;
        if constexpr (Ahead > 0) {
            const auto* line = reinterpret_cast<const char*>(p) + Ahead;
            for (std::size_t byte = 0; byte < 4 * lanes * sizeof *p; byte += 64) hwy::Prefetch(line + byte);
        }
        a = hn::Add(a, hn::LoadU(d, p));
        b = hn::Add(b, hn::LoadU(d, p + lanes));
        c = hn::Add(c, hn::LoadU(d, p + 2 * lanes));
        e = hn::Add(e, hn::LoadU(d, p + 3 * lanes));
    }
    return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
}

/// Reads the four quarters side by side: hardware that fetches ahead follows each, and more of it works.
inline std::uint64_t read_in_quarters(words memory) noexcept {
    const hn::ScalableTag<std::uint64_t> d;
    const std::size_t lanes = hn::Lanes(d);
    const std::size_t quarter = memory.size() / 4;
    auto a = hn::Zero(d), b = a, c = a, e = a;
    for (std::size_t i = 0; i + lanes <= quarter; i += lanes) {
        const std::uint64_t* p = memory.data() + i;
        a = hn::Add(a, hn::LoadU(d, p));
        b = hn::Add(b, hn::LoadU(d, p + quarter));
        c = hn::Add(c, hn::LoadU(d, p + 2 * quarter));
        e = hn::Add(e, hn::LoadU(d, p + 3 * quarter));
    }
    return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
}

struct way_to_read {
    std::string_view name;
    std::uint64_t (*read)(words) noexcept;
};
inline constexpr std::array<way_to_read, 3> ways_to_read{{
    {"in_order", read_in_order<0>},
    {"in_order_prefetching", read_in_order<4096>},
    {"in_quarters", read_in_quarters},
}};

/// The probe: of these ways the fastest on this machine, by turns, found once.
inline const way_to_read& fastest_way_to_read() {
    static const way_to_read& fastest = [&]() -> const way_to_read& {
        constexpr std::size_t stretch = (std::size_t{8} << 20) / sizeof(std::uint64_t);
        cold_memory<std::uint64_t> memory(std::vector<std::uint64_t>(4096, 1), stretch);
        std::array<turns, ways_to_read.size()> times;
        for (int turn = 0; turn < 21; ++turn) {
            for (std::size_t i = 0; i < times.size(); ++i) {
                const words next = memory.next(stretch);
                times[i].push_back(seconds([&] { benchmark::DoNotOptimize(ways_to_read[i].read(next)); }));
            }
        }
        std::size_t best = 0;
        for (std::size_t i = 1; i < times.size(); ++i) best = median(times[i]) < median(times[best]) ? i : best;
        return ways_to_read[best];
    }();
    return fastest;
}

/// Reads or copies so many bytes at each call, from DRAM.
class probe {
  public:
    explicit probe(std::size_t bytes)
        : size_(bytes / sizeof(std::uint64_t)),
          source_(std::vector<std::uint64_t>(4096, 1), size_),
          target_(size_),
          read_(fastest_way_to_read().read) {}

    double read() {
        const words next = source_.next(size_);
        return seconds([&] { benchmark::DoNotOptimize(read_(next)); });
    }
    /// The same read, cut into as many parts as the executor has threads.
    double read(auto& run, std::size_t threads) {
        const words next = source_.next(size_);
        return seconds([&] {
            run.run(threads, [&](std::size_t i) {
                const std::size_t begin = size_ * i / threads;
                benchmark::DoNotOptimize(read_(next.subspan(begin, size_ * (i + 1) / threads - begin)));
            });
        });
    }
    /// A copied byte counts once, as memcpy is usually quoted: it is read and written.
    double copy() {
        const words next = source_.next(size_);
        return seconds([&] { std::memcpy(target_.data(), next.data(), next.size_bytes()); });
    }

  private:
    std::size_t size_;
    cold_memory<std::uint64_t> source_;
    multistate::aligned_array<std::uint64_t> target_;
    std::uint64_t (*read_)(words) noexcept;
};

}  // namespace bench
