#pragma once

// f16: IEEE binary16, rounded to nearest, ties to even. Two bytes per column, range ±65504.
//
//     ms::cache<ms::tova, ms::f16> cache(shape);
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "multistate/codecs/codec.hpp"
#include "multistate/simd/formats.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct f16 {
    static constexpr std::string_view name = "f16";
    static constexpr bool scaled = false;
    using element = std::uint16_t;  ///< the bits
    using format = simd::in_floats<f16>;
    static constexpr std::size_t stride(std::size_t n) noexcept { return simd::padded(n); }

    static float store(const float* x, std::size_t n, element* row) noexcept {
        simd::store_float16(x, n, row);
        return 1;
    }
    static MULTISTATE_INLINE simd::float_vector load(const element* row, std::size_t c) noexcept {
        return simd::load_float16(row + c);
    }
};
static_assert(codec<f16>);

}}  // namespace multistate::MULTISTATE_TARGET
