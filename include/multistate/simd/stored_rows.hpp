#pragma once

// Stored rows, as kernels see them, and what all kernels over them share.
//
//     const simd::matrix<f16> keys{data, nullptr, stride};    // row j begins at data + j * stride
#include <cstddef>
#include <type_traits>

#include "multistate/simd/formats.hpp"
#include "multistate/simd/prefetch.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

/// Rows in memory as a codec stores them: row j begins at data + j * stride and counts scales[j] times, where the codec
/// has scales.
template <class Codec>
struct matrix {
    const typename Codec::element* data;
    const float* scales;
    std::size_t stride;

    const typename Codec::element* row(std::size_t j) const noexcept { return data + j * stride; }
};

namespace detail {

inline constexpr bool many_registers = lanes == 16 || HWY_ARCH_ARM_A64;
/// Queries that share the loading of a stored row in dot products.
inline constexpr std::size_t dot_queries = many_registers ? 4 : 2;
/// Registers of one sum.
template <class Format>
inline constexpr std::size_t registers = sizeof(typename Format::sum) / sizeof(float_vector);
/// Whether groups of columns have their own scales, and so their own weights.
template <class Format>
inline constexpr bool has_groups = requires {
    Format::group;
};

template <class Codec>
constexpr std::size_t row_bytes(matrix<Codec> rows) noexcept {
    return rows.stride * sizeof(typename Codec::element);
}

/// Columns [c, c + lanes) of row j, times its scale.
template <class Codec>
MULTISTATE_INLINE float_vector load_scaled(matrix<Codec> rows, std::size_t j, std::size_t c) noexcept {
    const auto x = load<Codec>(rows.row(j), c);
    if constexpr (Codec::scaled) {
        return hn::Mul(x, hn::Set(float_tag{}, rows.scales[j]));
    } else {
        return x;
    }
}

/// f(i, Queries) for i in steps of `Queries` below count, then for the rest one by one.
template <std::size_t Queries, class F>
MULTISTATE_INLINE void in_groups(std::size_t count, F f) noexcept {
    std::size_t i = 0;
    for (; i + Queries <= count; i += Queries) f(i, std::integral_constant<std::size_t, Queries>{});
    for (; i < count; ++i) f(i, std::integral_constant<std::size_t, 1>{});
}
constexpr std::size_t group_count(std::size_t count, std::size_t queries) noexcept {
    return count / queries + count % queries;
}

template <class Codec>
MULTISTATE_INLINE void prefetch_scales(matrix<Codec> rows, std::size_t first, std::size_t count) noexcept {
    if constexpr (Codec::scaled) rows_ahead(rows.scales + first).next(count * sizeof(float));
}

}  // namespace detail
}}}  // namespace multistate::MULTISTATE_TARGET::simd
