#pragma once

// How the rows of a codec are multiplied: as floats, as pairs of 16-bit numbers, or as groups of four bytes, if the
// codec is narrow and the target has such instructions. One kernel (gemv.hpp) takes its arithmetic from the format that
// a codec names:
//
//     struct int8 { using format = simd::in_bytes<int8>; … };
//
//     number, sum               the element type of a converted query; the vector type of the sums of products
//     columns                   columns of a row in one load
//     rows                      rows whose weights are loaded at once: 1, a pair or four
//     load(row, c), load(q)     vectors of a row's columns and of a query's
//     load(row, c, end)         the same, with zeros for the columns from `end` on
//     same(weights, j)          a vector of one weight, of one pair or of four
//     interleave(x)             makes pairs or fours of a column from vectors of as many rows
//     add(sum, x, y)            sum + x * y, pair by pair or four by four
//     narrow<Rows>(x, stride, n, terms, to, to_stride, units)   numbers of n floats of each row, for sums of `terms`
//                               products, and the values of their units
//
// A format in which groups of columns have scales (in_groups_of_shorts) has instead of interleave:
//
//     group, block              columns that share a scale, and columns of one element
//     load_rows(row, c, x)      pairs of a column from two rows, without scales; they belong to column place(c, r)
//     scales, scale_weights     weights of rows times the scales of a group
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "multistate/simd/conversions.hpp"
#include "multistate/simd/dot.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd {

/// Columns [c, c + lanes) of a stored row as floats, c a multiple of lanes; without the scale of the row. A codec has a
/// vectorized `load`, or a plain `decode`, which is slower.
template <class Codec>
MULTISTATE_INLINE float_vector load(const typename Codec::element* row, std::size_t c) noexcept {
    if constexpr (requires { Codec::load(row, c); }) {
        return Codec::load(row, c);
    } else {
        alignas(64) float columns[lanes];
        Codec::decode(row, c, columns);
        return hn::Load(float_tag{}, columns);
    }
}

/// Rows and queries are multiplied as floats.
template <class Codec>
struct in_floats {
    using number = float;
    using sum = float_vector;
    using element = typename Codec::element;
    static constexpr std::size_t rows = 1;
    static constexpr std::size_t columns = lanes;

    static MULTISTATE_INLINE sum zero() noexcept { return hn::Zero(float_tag{}); }
    static MULTISTATE_INLINE float_vector load(const element* row, std::size_t c) noexcept {
        return simd::load<Codec>(row, c);
    }
    static MULTISTATE_INLINE float_vector load(const element* row, std::size_t c, std::size_t) noexcept {
        return simd::load<Codec>(row, c);
    }
    static MULTISTATE_INLINE float_vector load_query(const float* q) noexcept { return hn::LoadU(float_tag{}, q); }
    static MULTISTATE_INLINE float_vector same(const float* weights, std::size_t j) noexcept {
        return hn::Set(float_tag{}, weights[j]);
    }
    static MULTISTATE_INLINE void interleave(float_vector (&)[1]) noexcept {}
    static MULTISTATE_INLINE sum add(sum s, float_vector x, float_vector y) noexcept { return hn::MulAdd(x, y, s); }
    static MULTISTATE_INLINE float_vector floats(sum s) noexcept { return s; }
    template <std::size_t Rows>
    static void narrow(const float* x, std::size_t stride, std::size_t n, std::size_t, number* to,
                       std::size_t to_stride, float* units) noexcept {
        for (std::size_t i = 0; i < Rows; ++i) {
            std::copy_n(x + i * stride, n, to + i * to_stride);
            units[i] = 1;
        }
    }
};

#if MULTISTATE_DOTS_INTEGERS
namespace detail {

/// Shared by all 16-bit formats.
template <class Sum>
struct in_pairs {
    using number = std::int16_t;
    using sum = Sum;
    static constexpr std::size_t rows = 2;
    static constexpr std::size_t columns = 2 * lanes;

    static MULTISTATE_INLINE short_vector load_query(const number* q) noexcept { return hn::LoadU(short_tag{}, q); }
    static MULTISTATE_INLINE short_vector same(const number* weights, std::size_t j) noexcept {
        return same_pair<sum>(weights + j);
    }
    static MULTISTATE_INLINE void interleave(short_vector (&x)[2]) noexcept { make_pairs<sum>(x); }
    static MULTISTATE_INLINE sum add(sum s, short_vector x, short_vector y) noexcept { return add_pairs(s, x, y); }
};

}  // namespace detail

/// Rows and queries as 16-bit integers. Codec::load_shorts gives the columns of a row, at most `largest` in magnitude.
template <class Codec, int largest>
struct in_shorts : detail::in_pairs<integer_vector> {
    using element = typename Codec::element;

    static MULTISTATE_INLINE integer_vector zero() noexcept { return hn::Zero(integer_tag{}); }
    static MULTISTATE_INLINE short_vector load(const element* row, std::size_t c, std::size_t = 0) noexcept {
        return Codec::load_shorts(row, c);
    }
    static MULTISTATE_INLINE float_vector floats(integer_vector s) noexcept { return hn::ConvertTo(float_tag{}, s); }
    /// 16 bits, or as many as keep the sum of `terms` products below 2^31.
    template <std::size_t Rows>
    static void narrow(const float* x, std::size_t stride, std::size_t n, std::size_t terms, number* to,
                       std::size_t to_stride, float* units, float limit = 32767) noexcept {
        const float most = std::floor(2147483000.0f / static_cast<float>(largest) / static_cast<float>(terms));
        to_shorts<Rows>(x, stride, n, (std::min)(limit, most), to, to_stride, units);
    }
};

namespace detail {

/// Columns [c, c + 2 * lanes) of the 64 that load_int4 reads.
MULTISTATE_INLINE short_vector load_shorts_of_int4(const std::uint8_t* words, std::size_t c) noexcept {
    const short_tag d;
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
    const auto shift = hn::Set(hn::Half<short_tag>{}, static_cast<std::int16_t>(12 - c / 16 * 4));
    const auto next = hn::Set(hn::Half<short_tag>{}, static_cast<std::int16_t>(8 - c / 16 * 4));
    return hn::ShiftRight<12>(hn::Shl(load_twice(words), hn::Combine(d, next, shift)));
#else
    return load_int4(d, words, c);
#endif
}

}  // namespace detail

/// As int4 stores them: integers within ±7 in blocks of two groups of 32 columns, which count `scales[g]` times, 0 to
/// 127. Queries meet integers times scale; weights of rows are multiplied by the scales beforehand (scale_weights).
template <class Codec>
struct in_groups_of_shorts : detail::in_pairs<integer_vector> {
    using element = typename Codec::element;
    static constexpr std::size_t group = 32;
    static constexpr std::size_t block = 64;

    static MULTISTATE_INLINE integer_vector zero() noexcept { return hn::Zero(integer_tag{}); }
    static MULTISTATE_INLINE short_vector load(const element* row, std::size_t c, std::size_t = 0) noexcept {
        // All bytes are the scale, then every other: through a general register would take longer.
        const auto bytes = hn::Set(hn::Repartition<std::int8_t, short_tag>{}, row->scales[c / group]);
        const auto scale = hn::And(hn::BitCast(short_tag{}, bytes), hn::Set(short_tag{}, std::int16_t{255}));
        return hn::Mul(detail::load_shorts_of_int4(row->words, c), scale);
    }
    /// x[r] = pairs of columns place(c, r), … of two rows, without scales; all of one group.
    static MULTISTATE_INLINE void load_rows(const element* const (&row)[2], std::size_t c,
                                            short_vector (&x)[2]) noexcept {
        const std::size_t b = c / block, byte = c % group;  // two bytes per word, for pairs of 2 * lanes columns
        const auto pairs = load_pairs<sum>(row[0][b].words + byte, row[1][b].words + byte);
        const int shift = static_cast<int>(12 - c % block / group * 8);
        x[0] = hn::ShiftRight<12>(hn::ShiftLeftSame(pairs, shift));
        x[1] = hn::ShiftRight<12>(hn::ShiftLeftSame(pairs, shift - 4));
    }
    static constexpr std::size_t place(std::size_t c, std::size_t r) noexcept {
        return c / group * group + c % group / 2 + r * group / 2;
    }
    static MULTISTATE_INLINE float_vector floats(integer_vector s) noexcept { return hn::ConvertTo(float_tag{}, s); }
    template <std::size_t Rows>
    static void narrow(const float* x, std::size_t stride, std::size_t n, std::size_t terms, number* to,
                       std::size_t to_stride, float* units) noexcept {
        in_shorts<Codec, 7 * 127>::template narrow<Rows>(x, stride, n, terms, to, to_stride, units);
    }
    /// The scales of a block as scale_weights reads them.
    static MULTISTATE_INLINE std::int16_t scales(const element& from) noexcept {
        std::int16_t both;
        std::memcpy(&both, from.scales, sizeof both);
        return both;
    }
    /// first[j] and second[j] = weights[j] * scales[j] / 128, rounded, for n rows, a multiple of 32.
    static MULTISTATE_INLINE void scale_weights(const number* weights, const std::int16_t* scales, std::size_t n,
                                                number* first, number* second) noexcept {
        const short_tag d;
        for (std::size_t j = 0; j < n; j += columns) {
            const auto weight = hn::LoadU(d, weights + j);
            const auto scale = hn::LoadU(d, scales + j);
            const auto upper = hn::And(scale, hn::Set(d, std::int16_t{127 * 256}));
            hn::StoreU(hn::MulFixedPoint15(weight, hn::ShiftLeft<8>(scale)), d, first + j);
            hn::StoreU(hn::MulFixedPoint15(weight, upper), d, second + j);
        }
    }
};
#else
template <class Codec, int largest>
using in_shorts = in_floats<Codec>;
template <class Codec>
using in_groups_of_shorts = in_floats<Codec>;
#endif

#if MULTISTATE_DOTS_BYTES
/// Rows as bytes, for codecs of 8-bit integers. Each 16-bit number of a query is two bytes.
template <class Codec>
struct in_bytes {
    using number = std::int16_t;
    using sum = in_two<integer_vector>;
    static constexpr std::size_t rows = 4;
    static constexpr std::size_t columns = 4 * lanes;

    static MULTISTATE_INLINE sum zero() noexcept { return {hn::Zero(integer_tag{}), hn::Zero(integer_tag{})}; }
    static MULTISTATE_INLINE byte_vector load(const std::int8_t* row, std::size_t c, std::size_t = 0) noexcept {
        return hn::LoadU(byte_tag{}, row + c);
    }
    static MULTISTATE_INLINE in_two<byte_vector> load_query(const number* q) noexcept {
        const short_tag d;
        return {hn::BitCast(byte_tag{}, hn::LoadU(d, q)), hn::BitCast(byte_tag{}, hn::LoadU(d, q + 8))};
    }
    static MULTISTATE_INLINE in_two<byte_vector> same(const number* weights, std::size_t j) noexcept {
        const number* const four = weights + j / 16 * 16 + j % 16 / 2;  // two bytes of each 16 in one number
        return {hn::BitCast(byte_tag{}, same_bits(four)), hn::BitCast(byte_tag{}, same_bits(four + 8))};
    }
    static MULTISTATE_INLINE void interleave(byte_vector (&x)[4]) noexcept { make_fours(x); }
    static MULTISTATE_INLINE sum add(sum s, byte_vector x, in_two<byte_vector> y) noexcept {
        return add_fours(s, x, y);
    }
    static MULTISTATE_INLINE float_vector floats(sum s) noexcept { return hn::ConvertTo(float_tag{}, in_one(s)); }
    template <std::size_t Rows>
    static void narrow(const float* x, std::size_t stride, std::size_t n, std::size_t terms, number* to,
                       std::size_t to_stride, float* units) noexcept {
        in_shorts<Codec, 127>::template narrow<Rows>(x, stride, n, terms, to, to_stride, units, most_in_two);
        for (std::size_t i = 0; i < Rows; ++i) cut_in_two(to + i * to_stride, n);
    }
};
#else
template <class Codec>
using in_bytes = in_shorts<Codec, 127>;
#endif

#if MULTISTATE_DOTS_BFLOAT16
/// Rows and queries as bf16, for codecs of bf16.
template <class Codec>
struct in_bfloat16 : detail::in_pairs<float_vector> {
    static MULTISTATE_INLINE float_vector zero() noexcept { return hn::Zero(float_tag{}); }
    static MULTISTATE_INLINE short_vector load(const std::uint16_t* row, std::size_t c) noexcept {
        return load_shorts(row + c);
    }
    static MULTISTATE_INLINE short_vector load(const std::uint16_t* row, std::size_t c, std::size_t end) noexcept {
        return load_shorts(row + c, end - c);
    }
    static MULTISTATE_INLINE float_vector floats(float_vector s) noexcept { return s; }
    template <std::size_t Rows>
    static void narrow(const float* x, std::size_t stride, std::size_t n, std::size_t, number* to,
                       std::size_t to_stride, float* units) noexcept {
        const hn::Rebind<std::uint16_t, float_tag> d;
        for (std::size_t i = 0; i < Rows; ++i, x += stride, to += to_stride) {
            for (std::size_t j = 0; j < n; j += lanes) {
                hn::StoreU(to_bfloat16(hn::LoadU(float_tag{}, x + j)), d, reinterpret_cast<std::uint16_t*>(to + j));
            }
            units[i] = 1;
        }
    }
};
#else
template <class Codec>
using in_bfloat16 = in_floats<Codec>;
#endif

namespace detail {

template <class Codec>
struct format_of {
    using type = in_floats<Codec>;
};
template <class Codec>
requires requires { typename Codec::format; }
struct format_of<Codec> {
    using type = typename Codec::format;
};

}  // namespace detail

/// The codec's own format; floats if it names none.
template <class Codec>
using format = typename detail::format_of<Codec>::type;

}}}  // namespace multistate::MULTISTATE_TARGET::simd
