#pragma once

// A codec says how a row of a cache is stored. Keys and values of a cache may use different codecs.
//
//     struct f64 {                                                              // your own codec
//         static constexpr std::string_view name = "f64";
//         static constexpr bool scaled = false;                                 // whether a row has a float scale
//         using element = double;                                               // the type in memory
//         static constexpr std::size_t stride(std::size_t n) noexcept { return (n + 15) / 16 * 16; }
//         static float store(const float* x, std::size_t n, element* row) noexcept {
//             std::fill(std::copy_n(x, n, row), row + stride(n), 0.0);
//             return 1;                                                         // the scale
//         }
//         static void decode(const element* row, std::size_t first, std::span<float> out) noexcept {
//             for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(row[first + i]);
//         }
//     };
//     ms::cache<ms::tova, f64, ms::f16> cache(shape);
//
// `store` encodes n floats into `stride(n)` elements. `decode` gives columns [first, first + out.size()) of a row,
// without its scale. Kernels ask for columns up to n rounded up to 16: columns after n must decode as zeros.
//
// The library's codecs have a vectorized `load` instead of `decode`, and a `format` that says how the kernels of
// attention multiply their rows (simd/formats.hpp). Without a `format`, rows are converted to floats:
//
//     codec   bytes per column       error of a stored number       range               error of attention
//     f32     4                      0                              all                 1e-11
//     f16     2                      2^-11 of it                    to ±65504           1e-11
//     bf16    2                      2^-8 of it                     to ±3.3895e38       1e-11; dot instruction: 1e-4
//     int8    1 (+ 4 per row)        1/254 of the row's peak        all                 1e-8
//     int4    17/32 (+ 4 per row)    1/14 of its group's peak       all                 1e-7
//                                    + 1/1778 of the row's
//
// A finite number beyond the range is stored as the largest of its sign, never as an infinity. An infinity or a NaN
// stays one, so that errors show: in int8 and int4 it makes the whole row NaN.
//
// The last column bounds the error that kernels add to the rounding of the stored numbers: the squared error of the
// output over its squared length, against double precision on the same stored numbers, for logits within ±8. f32, f16
// and bf16 are converted to float32; bf16 is multiplied as bf16 if the target has instructions for it. int8 and int4
// are multiplied with queries and weights as 16-bit integers if the target has vectors. Sums are float32 or exact. A
// block of tokens is always converted to float32.
#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>
#include <type_traits>

#include "multistate/core/target.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

template <class C>
concept has_name_scaled_element_and_stride = requires(std::size_t n) {
    { C::name } -> std::convertible_to<std::string_view>;
    { C::scaled } -> std::convertible_to<bool>;
    { C::stride(n) } -> std::same_as<std::size_t>;
    requires std::is_trivially_copyable_v<typename C::element>;
};

template <class C>
concept has_noexcept_store = requires(const float* x, std::size_t n, typename C::element* row) {
    { C::store(x, n, row) }
    noexcept->std::same_as<float>;
};

template <class C>
concept has_noexcept_decode_or_load = requires(const typename C::element* row, std::size_t first,
                                               std::span<float> out) {
    { C::decode(row, first, out) }
    noexcept;
}
|| requires(const typename C::element* row, std::size_t first) {
    { C::load(row, first) }
    noexcept;
};

}  // namespace detail

/// A codec that a cache can use, see above. If one is refused, the compiler names the missing part.
template <class C>
concept codec = detail::has_name_scaled_element_and_stride<C> && detail::has_noexcept_store<C> &&
    detail::has_noexcept_decode_or_load<C>;

}}  // namespace multistate::MULTISTATE_TARGET
