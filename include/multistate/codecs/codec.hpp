#pragma once

// How a row is stored: f32, f16, bf16, int8, int4. Keys and values of a cache may use different codecs.
//
// A codec is a stateless struct: `element` is what lies in memory, `stride` how many of them a row takes, `scaled`
// whether a row also has a float scale; `store` encodes one row. Rows are padded with zeros: to a multiple of 16
// columns, int4 to 64.
//
//     codec   bytes per column       error of a stored number       range               error of attention
//     f32     4                      0                              all                 1e-11
//     f16     2                      2^-11 of it                    to ±65504           1e-11
//     bf16    2                      2^-8 of it                     to ±3.3895e38       1e-11; dot instruction: 1e-4
//     int8    1 (+ 4 per row)        1/254 of the row's peak        all                 1e-8
//     int4    17/32 (+ 4 per row)    1/14 of its group's peak       all                 1e-7
//                                    + 1/1778 of the row's
//
// A finite number beyond the range is stored as the greatest of its sign, so that none becomes an infinity. An infinity
// or a NaN stays one, so that an error shows: in int8 and int4 it makes the whole row NaN.
//
// The last column bounds what kernels add to the rounding of the stored numbers: the squared error of the output over
// its squared length, against double precision on the same stored numbers, for logits within ±8. f32, f16 and bf16 are
// widened to float32. int8 and int4 meet queries and weights in integers of 16 bits where the target has vectors, bf16
// meets them in bf16 where there are instructions for it. Sums are float32, or exact. A block of tokens is always
// widened.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

#include "multistate/simd/vector.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

template <class C>
concept codec = requires(const float* x, std::size_t n, typename C::element* row, float& scale) {
    { C::name } -> std::convertible_to<std::string_view>;
    { C::scaled } -> std::convertible_to<bool>;
    { C::stride(n) } -> std::same_as<std::size_t>;  // elements of a row of n columns
    { C::store(x, n, row) }
    noexcept->std::same_as<float>;  // the row's scale: 1 unless `scaled`
};

namespace detail {

/// Calls f(i, vector of x[i] …) for i = 0, lanes, … up to padded(n), with zeros behind the n floats of x.
template <class F>
HWY_INLINE void for_padded(const float* x, std::size_t n, F f) noexcept {
    const simd::float_tag d;
    std::size_t i = 0;
    for (; i + simd::lanes <= n; i += simd::lanes) f(i, simd::hn::LoadU(d, x + i));
    for (; i < simd::padded(n); i += simd::lanes) {
        alignas(64) float buffer[simd::lanes] = {};
        if (i < n) std::copy_n(x + i, n - i, buffer);
        f(i, simd::hn::Load(d, buffer));
    }
}

struct row_peak {
    float peak;
    float poison;  ///< 0, or NaN where an element is not finite
};

inline row_peak peak_of(const float* x, std::size_t n) noexcept {
    namespace hn = simd::hn;
    const simd::float_tag d;
    auto peaks = hn::Zero(d);
    auto poison = hn::Zero(d);  // 0 * x is NaN where x is not finite
    for_padded(x, n, [&](std::size_t, auto v) {
        peaks = hn::Max(peaks, hn::Abs(v));
        poison = hn::MulAdd(v, hn::Zero(d), poison);
    });
    return {hn::GetLane(hn::MaxOfLanes(d, peaks)), simd::sum(poison)};
}

/// v within ±greatest; what is not finite stays.
HWY_INLINE simd::float_vector saturated(simd::float_vector v, float greatest) noexcept {
    namespace hn = simd::hn;
    const simd::float_tag d;
    const auto most = hn::Set(d, greatest);
    const auto finite = hn::Lt(hn::Abs(v), hn::Set(d, std::numeric_limits<float>::infinity()));
    return hn::IfThenElse(finite, hn::Max(hn::Min(v, most), hn::Neg(most)), v);
}

/// bytes[i] = x[i] * factor, rounded; padded with zeros.
inline void to_bytes(const float* x, std::size_t n, float factor, std::int8_t* bytes) noexcept {
    namespace hn = simd::hn;
    for_padded(x, n, [=](std::size_t i, auto v) {
        const hn::Rebind<std::int8_t, simd::float_tag> d;
        const auto scaled = hn::Mul(v, hn::Set(simd::float_tag{}, factor));
        hn::StoreU(hn::DemoteTo(d, hn::NearestInt(scaled)), d, bytes + i);
    });
}

/// Round to nearest, ties to even, in plain integers: Highway 1.0.3 truncates where F16C is missing.
inline half to_half(float x) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
    const std::uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return {static_cast<std::uint16_t>(sign | 0x7e00)};   // NaN
    if (magnitude == 0x7f800000) return {static_cast<std::uint16_t>(sign | 0x7c00)};  // infinity
    if (magnitude >= 0x477ff000) return {static_cast<std::uint16_t>(sign | 0x7bff)};  // saturates at 65504
    if (magnitude < 0x38800000) {  // subnormal in f16: adding 0.5 leaves its bits, rounded, at the end of the float
        const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
        return {static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000))};
    }
    const std::uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000;
    return {static_cast<std::uint16_t>(sign | rounded >> 13)};
}

}  // namespace detail

struct f32 {
    static constexpr std::string_view name = "f32";
    static constexpr bool scaled = false;
    using element = float;
    static constexpr std::size_t stride(std::size_t n) noexcept { return simd::padded(n); }

    static float store(const float* x, std::size_t n, element* row) noexcept {
        detail::for_padded(x, n, [=](std::size_t i, auto v) { simd::hn::StoreU(v, simd::float_tag{}, row + i); });
        return 1;
    }
};

/// IEEE binary16, rounded to nearest, ties to even.
struct f16 {
    static constexpr std::string_view name = "f16";
    static constexpr bool scaled = false;
    using element = half;
    static constexpr std::size_t stride(std::size_t n) noexcept { return simd::padded(n); }

    static float store(const float* x, std::size_t n, element* row) noexcept {
        detail::for_padded(x, n, [=](std::size_t i, auto v) {
            namespace hn = simd::hn;
#if MULTISTATE_CONVERTS_F16
            const hn::Rebind<hwy::float16_t, simd::float_tag> halves;
            hn::StoreU(hn::DemoteTo(halves, detail::saturated(v, 65504)), halves,
                       reinterpret_cast<hwy::float16_t*>(row + i));
#else
            alignas(64) float buffer[simd::lanes];
            hn::Store(v, simd::float_tag{}, buffer);
            std::transform(buffer, buffer + simd::lanes, row + i, detail::to_half);
#endif
        });
        return 1;
    }
};

/// The upper half of a float, rounded to nearest, ties to even.
struct bf16 {
    static constexpr std::string_view name = "bf16";
    static constexpr bool scaled = false;
    using element = brain;
    static constexpr std::size_t stride(std::size_t n) noexcept { return simd::padded(n); }

    static float store(const float* x, std::size_t n, element* row) noexcept {
        detail::for_padded(x, n, [=](std::size_t i, auto v) {
            const simd::hn::Rebind<std::uint16_t, simd::float_tag> d;
            simd::hn::StoreU(simd::to_brains(detail::saturated(v, 0x1.fep127f)), d,
                             reinterpret_cast<std::uint16_t*>(row + i));
        });
        return 1;
    }
};

/// 8-bit integers, symmetric, one float scale per row: the row's peak is ±127. A row with an infinity or NaN gets the
/// scale NaN, so that the error shows; one whose peak is below 1e-36 reads as zeros.
struct int8 {
    static constexpr std::string_view name = "int8";
    static constexpr bool scaled = true;
    using element = std::int8_t;
    static constexpr std::size_t stride(std::size_t n) noexcept { return simd::padded(n); }

    static float store(const float* x, std::size_t n, element* row) noexcept {
        const auto [peak, poison] = detail::peak_of(x, n);
        detail::to_bytes(x, n, peak > 1e-36f ? 127 / peak : 0, row);  // else 127 / peak may overflow
        return (std::min)(peak, 0x1.fffffcp127f) / 127 +
               poison;  // of the greatest float, 127 times that would overflow
    }
};

/// 4-bit integers within ±7, in groups of 32 columns: a scale of 8 bits per group, in units of one float per row. Rows
/// that are not finite or near zero: as int8.
struct int4 {
    static constexpr std::string_view name = "int4";
    static constexpr bool scaled = true;
    using element = nibbles;
    static constexpr std::size_t stride(std::size_t n) noexcept { return simd::padded(n, 64) / 64; }

    static float store(const float* x, std::size_t n, element* row) noexcept {
        const auto [peak, poison] = detail::peak_of(x, n);
        const float inverse = peak > 1e-33f ? 7 * 127 / peak : 0;
        for (std::size_t c = 0; c < n; c += 64, ++row) {
            alignas(64) std::int8_t groups[2][32] = {};
            for (std::size_t g = 0; g < 2 && c + g * 32 < n; ++g) {
                const float* const group = x + c + g * 32;
                const std::size_t columns = (std::min<std::size_t>)(32, n - c - g * 32);
                // Rounded up, so that nothing is cut off; by a hair less, so that what was read stores as it was.
                const float scale = std::ceil(detail::peak_of(group, columns).peak * inverse / 7 - 0x1p-6f);
                row->scales[g] = static_cast<std::int8_t>(scale < 127 ? scale : 127);  // NaN where not finite
                detail::to_bytes(group, columns, scale > 0 ? inverse / scale : 0, groups[g]);
            }
            if (n - c <= 32) row->scales[1] = 0;
            simd::pack_nibbles(groups[0], groups[1], row->bytes);
        }
        return peak / (7 * 127) + poison;
    }
};

static_assert(codec<f32> && codec<f16> && codec<bf16> && codec<int8> && codec<int4>);

}}  // namespace multistate::MULTISTATE_TARGET
