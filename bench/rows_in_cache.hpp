#pragma once

// Limits of what works on rows in cache: reading them, and copying them.
#include <cstring>
#include <vector>

#include "probe.hpp"

namespace bench {

/// Elements of four bytes in one turn, in rows of n: long enough for the clock.
inline constexpr std::size_t total = 65536;

/// Reads or copies as many bytes, in rows as long, out of the same level of the caches: done twice, the second counts.
class rows_in_cache {
  public:
    explicit rows_in_cache(std::size_t n) : words_of_row_(n / 2) {}

    double read() {
        return second_time([&](words row, std::size_t) { benchmark::DoNotOptimize(read_in_order<0>(row)); });
    }
    double copy() {
        return second_time(
            [&](words row, std::size_t at) { std::memcpy(target_.data() + at, row.data(), row.size_bytes()); });
    }

  private:
    double second_time(auto&& work) {
        const auto all_rows = [&] {
            for (std::size_t at = 0; at < source_.size(); at += words_of_row_) {
                work(words(source_).subspan(at, words_of_row_), at);
            }
        };
        all_rows();
        return seconds(all_rows);
    }

    std::size_t words_of_row_;
    std::vector<std::uint64_t> source_ = std::vector<std::uint64_t>(total / 2, 1);
    std::vector<std::uint64_t> target_ = std::vector<std::uint64_t>(total / 2);
};

}  // namespace bench
