#pragma once

// Random numbers by the vector, where random.hpp's, one after the other, would cost too much.
#include <cstddef>
#include <cstdint>
#include <span>

#include "multistate/simd/vector.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

/// 32 bits for each index under a key of 64: Wellons' lowbias32 of a multiple of the index plus the lower half of the
/// key, with the upper half entering before the second multiplication.
HWY_INLINE auto hash(hn::Vec<integer_tag> index, std::uint64_t key) noexcept {
    const hn::RebindToUnsigned<integer_tag> d;
    const auto low = static_cast<std::uint32_t>(key), high = static_cast<std::uint32_t>(key >> 32);
    auto x = hn::Add(hn::Mul(hn::BitCast(d, index), hn::Set(d, 0x9e3779b9u)), hn::Set(d, low));
    x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(d, 0x7feb352du));
    x = hn::Xor(hn::Xor(x, hn::ShiftRight<15>(x)), hn::Set(d, high));
    x = hn::Mul(x, hn::Set(d, 0x846ca68bu));
    return hn::Xor(x, hn::ShiftRight<16>(x));
}

/// out[j] = one of 2^23 numbers in (0, 1), neither end, that depends on `key` and index[j].
inline void open_uniforms(std::uint64_t key, std::span<const std::int32_t> index, std::span<float> out) noexcept {
    const float_tag d;
    const integer_tag integers;
    const auto draw = [=](auto i) {
        const auto bits = hn::BitCast(integers, hn::ShiftRight<9>(hash(i, key)));
        return hn::Mul(hn::Add(hn::ConvertTo(d, bits), hn::Set(d, 0.5f)), hn::Set(d, 0x1p-23f));
    };
    std::size_t j = 0;
    for (; j + lanes <= out.size(); j += lanes)
        hn::StoreU(draw(hn::LoadU(integers, index.data() + j)), d, out.data() + j);
    const std::size_t left = out.size() - j;
    if (left > 0) store_first(d, draw(load_first(integers, index.data() + j, left, 0)), out.data() + j, left);
}

}}}  // namespace multistate::MULTISTATE_TARGET::simd
