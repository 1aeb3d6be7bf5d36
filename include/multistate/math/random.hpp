#pragma once

// Counter-based random numbers: a hash of seed, layer, head, position, …, so results do not depend on call order or
// threads.
//
//     float draw = ms::uniform(ms::random_bits(seed, layer, kv_head, position));
#include <concepts>
#include <cstdint>

#include "multistate/core/target.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

/// Number `index` of the splitmix64 generator with seed `bits`.
constexpr std::uint64_t splitmix64(std::uint64_t bits, std::uint64_t index) noexcept {
    bits += (index + 1) * 0x9e3779b97f4a7c15u;
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9u;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebu;
    return bits ^ (bits >> 31);
}

}  // namespace detail

/// 64 bits that depend on all of `counters` and on their order: each counter is an index into the generator seeded with
/// the bits so far. random_bits(a, b) is random_bits_after(random_bits(a), b).
template <std::integral... Counters>
constexpr std::uint64_t random_bits_after(std::uint64_t bits, Counters... counters) noexcept {
    ((bits = detail::splitmix64(bits, static_cast<std::uint64_t>(counters))), ...);
    return bits;
}
template <std::integral... Counters>
constexpr std::uint64_t random_bits(Counters... counters) noexcept {
    return random_bits_after(0, counters...);
}

/// One of 2^24 numbers in [0, 1), evenly spaced: floats represent them exactly.
constexpr float uniform(std::uint64_t bits) noexcept { return static_cast<float>(bits >> 40) * 0x1p-24f; }

/// One of 2^23 numbers in (0, 1), excluding both ends: both log(x) and log(1 - x) are finite.
constexpr float open_uniform(std::uint64_t bits) noexcept { return (static_cast<float>(bits >> 41) + 0.5f) * 0x1p-23f; }

}}  // namespace multistate::MULTISTATE_TARGET
