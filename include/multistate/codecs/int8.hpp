#pragma once

// int8: 8-bit integers, symmetric, one float scale per row: the row's peak is ±127.
//
//     ms::cache<ms::tova, ms::int8> cache(shape);
//
// A row with an infinity or NaN gets the scale NaN, so that the error shows. A row whose peak is below 1e-36 reads as
// zeros.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "multistate/codecs/codec.hpp"
#include "multistate/simd/formats.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct int8 {
    static constexpr std::string_view name = "int8";
    static constexpr bool scaled = true;
    using element = std::int8_t;
    using format = simd::in_bytes<int8>;
    static constexpr std::size_t stride(std::size_t n) noexcept { return simd::padded(n); }

    static float store(const float* x, std::size_t n, element* row) noexcept {
        const auto [peak, poison] = simd::peak_of(x, n);
        simd::store_int8(x, n, peak > 1e-36f ? 127 / peak : 0, row);  // otherwise 127 / peak may overflow
        // Slightly less than the largest float: 127 times the scale would overflow.
        return (std::min)(peak, 0x1.fffffcp127f) / 127 + poison;
    }
    static MULTISTATE_INLINE simd::float_vector load(const element* row, std::size_t c) noexcept {
        return simd::load_int8(row + c);
    }
#if MULTISTATE_DOTS_INTEGERS
    static MULTISTATE_INLINE simd::short_vector load_shorts(const element* row, std::size_t c) noexcept {
        return simd::load_shorts(row + c);
    }
#endif
};
static_assert(codec<int8>);

}}  // namespace multistate::MULTISTATE_TARGET
