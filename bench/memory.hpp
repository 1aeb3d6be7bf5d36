#pragma once

// Test data, and memory too large for any cache. All of it is allocated as the library's own (huge pages where it has
// them), so that no rival reads from better memory than another.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include <multistate/core/aligned_array.hpp>

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
        : size_(std::max(cold_bytes / sizeof(Element), 2 * whole_lines(longest_stretch))), elements_(size_) {
        for (std::size_t i = 0; i < size_; i += pattern.size()) {
            std::copy_n(pattern.data(), std::min(pattern.size(), size_ - i), elements_.data() + i);
        }
    }

    /// The next n elements; they begin with a cache line.
    std::span<const Element> next(std::size_t n) noexcept {
        if (at_ + n > size_) at_ = 0;
        const std::span<const Element> stretch{elements_.data() + at_, n};
        at_ += whole_lines(n);
        return stretch;
    }

  private:
    static constexpr std::size_t whole_lines(std::size_t n) noexcept {
        constexpr std::size_t line = 64 / sizeof(Element);
        return (n + line - 1) / line * line;
    }

    std::size_t size_;
    multistate::aligned_array<Element> elements_;
    std::size_t at_ = 0;
};

}  // namespace bench
