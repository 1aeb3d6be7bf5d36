#pragma once

// bf16: the upper half of a float, rounded to nearest, ties to even. Two bytes per column, the range of floats.
//
//     ms::cache<ms::tova, ms::bf16> cache(shape);
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "multistate/codecs/codec.hpp"
#include "multistate/simd/formats.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct bf16 {
    static constexpr std::string_view name = "bf16";
    static constexpr bool scaled = false;
    using element = std::uint16_t;  ///< the bits
    using format = simd::in_bfloat16<bf16>;
    static constexpr std::size_t stride(std::size_t n) noexcept { return simd::padded(n); }

    static float store(const float* x, std::size_t n, element* row) noexcept {
        simd::store_bfloat16(x, n, row);
        return 1;
    }
    static MULTISTATE_INLINE simd::float_vector load(const element* row, std::size_t c) noexcept {
        return simd::load_bfloat16(row + c);
    }
};
static_assert(codec<bf16>);

}}  // namespace multistate::MULTISTATE_TARGET
