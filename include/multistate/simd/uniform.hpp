#pragma once

// Random numbers for many indices at once, vectorized. math/random.hpp computes one at a time: too slow for one number
// per attention probability.
//
//     simd::open_uniforms(ms::random_bits(seed, layer, head), states.position, noise);    // noise[j] in (0, 1)
#include <cstddef>
#include <cstdint>
#include <span>

#include "multistate/simd/vector.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

/// 32 bits for each index and a 64-bit key: the hash lowbias32 by Wellons. Its input is a multiple of the index plus
/// the lower half of the key; the upper half is mixed in before the second multiplication.
MULTISTATE_INLINE naturals hash(integers index, std::uint64_t key) noexcept {
    const auto low = static_cast<std::uint32_t>(key), high = static_cast<std::uint32_t>(key >> 32);
    naturals x = reinterpret_cast<naturals>(index) * 0x9e3779b9u + low;
    x = (x ^ x >> 16) * 0x7feb352du;
    x = x ^ x >> 15 ^ high;
    x = x * 0x846ca68bu;
    return x ^ x >> 16;
}

/// out[j] = one of 2^23 numbers in (0, 1), excluding both ends. It depends on `key` and index[j] only.
inline void open_uniforms(std::uint64_t key, std::span<const std::int32_t> index, std::span<float> out) noexcept {
    const auto draw = [=](integers i) {
        const auto bits = reinterpret_cast<integers>(hash(i, key) >> 9);
        return (__builtin_convertvector(bits, floats) + 0.5f) * 0x1p-23f;
    };
    std::size_t j = 0;
    for (; j + vector_width <= out.size(); j += vector_width) store(draw(load(index.data() + j)), out.data() + j);
    const std::size_t left = out.size() - j;
    if (left > 0) store_first(draw(load_first(index.data() + j, left, 0)), out.data() + j, left);
}

}}}  // namespace multistate::MULTISTATE_TARGET::simd
