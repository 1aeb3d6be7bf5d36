#pragma once

// The numbers of simd::open_uniforms one by one, for whoever must draw the same.
#include <cstdint>

namespace support {

inline double open_uniform(std::uint64_t key, std::uint32_t index) {
    std::uint32_t x = index * 0x9e3779b9u + static_cast<std::uint32_t>(key);
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15) ^ static_cast<std::uint32_t>(key >> 32)) * 0x846ca68bu;
    x ^= x >> 16;
    return (static_cast<double>(x >> 9) + 0.5) / 8388608;
}

}  // namespace support
