#pragma once

// Random numbers that are the same on every platform: the distributions of <random> are not.
#include <cstddef>
#include <cstdint>
#include <vector>

namespace support {

/// splitmix64.
class random_numbers {
  public:
    explicit random_numbers(std::uint64_t seed) : state_(seed) {}

    std::uint64_t next() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    /// From 0 to limit - 1.
    std::size_t below(std::size_t limit) { return static_cast<std::size_t>(next() % limit); }
    /// Between -bound and bound.
    float within(float bound) {
        return static_cast<float>((static_cast<double>(next() >> 11) / 4503599627370496.0 - 1) * bound);
    }
    std::vector<float> floats(std::size_t n, float bound) {
        std::vector<float> result(n);
        for (float& x : result) x = within(bound);
        return result;
    }

  private:
    std::uint64_t state_;
};

}  // namespace support
