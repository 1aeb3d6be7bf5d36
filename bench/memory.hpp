#pragma once

// Test data, and memory too large for any cache.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace bench {

/// Bytes in rotation that make a read come from DRAM: several times the last-level cache.
inline constexpr std::size_t cold_bytes = std::size_t{160} << 20;

/// Floats between -1 and 1, the same on every platform.
inline std::vector<float> random_floats(std::size_t n, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<float> result(n);
    for (float& x : result) x = static_cast<float>(static_cast<std::int32_t>(random())) * 0x1p-31f;
    return result;
}

/// A pattern repeated until it fills cold_bytes and two of the longest stretches, handed out stretch by stretch, so
/// that a stretch comes again only after all the others were read.
template <class Element>
class cold_memory {
  public:
    cold_memory(std::span<const Element> pattern, std::size_t longest_stretch)
        : elements_(std::max(cold_bytes / sizeof(Element), 2 * longest_stretch)) {
        for (std::size_t i = 0; i < elements_.size(); i += pattern.size()) {
            std::copy_n(pattern.data(), std::min(pattern.size(), elements_.size() - i), elements_.data() + i);
        }
    }

    std::span<const Element> next(std::size_t n) noexcept {
        if (at_ + n > elements_.size()) at_ = 0;
        at_ += n;
        return {elements_.data() + at_ - n, n};
    }

  private:
    std::vector<Element> elements_;
    std::size_t at_ = 0;
};

/// Reads everything once, in order: the compiler makes vector loads and additions of it, far faster than DRAM.
inline std::uint64_t read_all(std::span<const std::uint64_t> memory) noexcept {
    std::uint64_t sum = 0;
    for (const std::uint64_t x : memory) sum += x;
    return sum;
}

}  // namespace bench
