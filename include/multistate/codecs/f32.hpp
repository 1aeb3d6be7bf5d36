#pragma once

// f32: rows are stored unchanged.
//
//     ms::cache<ms::tova, ms::f32> cache(shape);
#include <cstddef>
#include <string_view>

#include "multistate/codecs/codec.hpp"
#include "multistate/simd/formats.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct f32 {
    static constexpr std::string_view name = "f32";
    static constexpr bool scaled = false;
    using element = float;
    using format = simd::in_floats<f32>;
    static constexpr std::size_t stride(std::size_t n) noexcept { return simd::padded(n); }

    static float store(const float* x, std::size_t n, element* row) noexcept {
        simd::store_float32(x, n, row);
        return 1;
    }
    static MULTISTATE_INLINE simd::float_vector load(const element* row, std::size_t c) noexcept {
        return simd::load_float32(row + c);
    }
};
static_assert(codec<f32>);

}}  // namespace multistate::MULTISTATE_TARGET
