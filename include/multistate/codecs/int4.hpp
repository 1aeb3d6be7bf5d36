#pragma once

// int4: 4-bit integers within ±7, in groups of 32 columns. A group has an 8-bit scale; its unit is one float per row.
//
//     ms::cache<ms::tova, ms::int4> cache(shape);
//
// Rows that are not finite or near zero: as in int8.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "multistate/codecs/codec.hpp"
#include "multistate/simd/formats.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

/// 64 columns, in the order of simd::load_int4: two groups of 32, each with its own scale.
struct int4_block {
    std::int8_t scales[2];
    std::uint8_t words[32];
};

}  // namespace detail

struct int4 {
    static constexpr std::string_view name = "int4";
    static constexpr bool scaled = true;
    using element = detail::int4_block;
    using format = simd::in_groups_of_shorts<int4>;
    static constexpr std::size_t stride(std::size_t n) noexcept { return simd::padded(n, 64) / 64; }

    static float store(const float* x, std::size_t n, element* row) noexcept {
        const auto [peak, poison] = simd::peak_of(x, n);
        const float inverse = peak > 1e-33f ? 7 * 127 / peak : 0;
        for (std::size_t c = 0; c < n; c += 64, ++row) {
            alignas(64) std::int8_t integers[64] = {};
            row->scales[1] = 0;
            for (std::size_t g = 0; g < 2 && c + g * 32 < n; ++g) {
                const float* const group = x + c + g * 32;
                const std::size_t columns = (std::min<std::size_t>)(32, n - c - g * 32);
                // Rounded up, so that nothing is clipped; minus 2^-6, so that decoded rows encode to the same row.
                const float scale = std::ceil(simd::peak_of(group, columns).peak * inverse / 7 - 0x1p-6f);
                row->scales[g] = static_cast<std::int8_t>(scale < 127 ? scale : 127);  // NaN if not finite
                simd::store_int8(group, columns, scale > 0 ? inverse / scale : 0, integers + g * 32);
            }
            simd::pack_int4(integers, row->words);
        }
        return peak / (7 * 127) + poison;
    }
    static MULTISTATE_INLINE simd::float_vector load(const element* row, std::size_t c) noexcept {
        return simd::load_int4(row[c / 64].words, c % 64, row[c / 64].scales[c / 32 % 2]);
    }
};
static_assert(codec<int4>);

}}  // namespace multistate::MULTISTATE_TARGET
