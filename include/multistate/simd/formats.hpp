#pragma once

// What stored rows meet queries and weights as: floats, or pairs of 16 bits or fours of bytes where the codec is narrow
// and the target multiplies these well. One kernel serves all (gemv.hpp); meeting<Element> is its arithmetic:
//
//     number, sum               what a query becomes, and the vectors that products are added up in
//     columns                   columns of a row in one load
//     rows                      rows that weights come for at once: 1, a pair or four
//     load(row, c), load(q)     vectors of a row's columns and of a query's
//     load(row, c, end)         the same, where a query's zeros must hide what lies behind column `end`
//     same(weights, j)          a vector of one weight, of one pair or of four
//     side_by_side(x)           makes pairs or fours of a column from vectors of as many rows
//     add(sum, x, y)            sum + x * y, pair by pair or four by four
//     narrow(x, n, terms, to)   numbers of n floats, of which sums have `terms` products; returns the value of a unit
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "multistate/simd/dot.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd { namespace detail {

/// Rows and queries meet as floats …
template <class Element>
struct as_floats {
    using number = float;
    using sum = float_vector;
    static constexpr std::size_t rows = 1;
    static constexpr std::size_t columns = lanes;

    static HWY_INLINE sum zero() noexcept { return hn::Zero(float_tag{}); }
    static HWY_INLINE float_vector load(const Element* row, std::size_t c) noexcept { return simd::load(row, c); }
    static HWY_INLINE float_vector load(const Element* row, std::size_t c, std::size_t) noexcept {
        return load(row, c);
    }
    static HWY_INLINE float_vector load(const float* q) noexcept { return hn::LoadU(float_tag{}, q); }
    static HWY_INLINE float_vector same(const float* weights, std::size_t j) noexcept {
        return hn::Set(float_tag{}, weights[j]);
    }
    static HWY_INLINE void side_by_side(float_vector (&)[1]) noexcept {}
    static HWY_INLINE sum add(sum s, float_vector x, float_vector y) noexcept { return hn::MulAdd(x, y, s); }
    static HWY_INLINE float_vector floats(sum s) noexcept { return s; }
    /// Numbers of n floats into `to`; returns what their products must be multiplied by.
    static float narrow(const float* x, std::size_t n, std::size_t, number* to) noexcept {
        std::copy_n(x, n, to);
        return 1;
    }
};

#if MULTISTATE_DOTS_INTEGERS
/// … or in pairs of 16 bits, …
template <class Sum>
struct as_pairs {
    using number = std::int16_t;
    using sum = Sum;
    static constexpr std::size_t rows = 2;
    static constexpr std::size_t columns = 2 * lanes;

    static HWY_INLINE short_vector load(const number* q) noexcept { return hn::LoadU(short_tag{}, q); }
    static HWY_INLINE short_vector same(const number* weights, std::size_t j) noexcept {
        return same_pair<sum>(weights + j);
    }
    static HWY_INLINE void side_by_side(short_vector (&x)[2]) noexcept { make_pairs<sum>(x); }
    static HWY_INLINE sum add(sum s, short_vector x, short_vector y) noexcept { return add_pairs(s, x, y); }
};

/// … as integers where the codec stores integers (`largest` is the greatest), …
template <class Element, int largest>
struct as_integers : as_pairs<integer_vector> {
    using as_pairs::load;
    static HWY_INLINE integer_vector zero() noexcept { return hn::Zero(integer_tag{}); }
    static HWY_INLINE short_vector load(const Element* row, std::size_t c) noexcept { return load_shorts(row, c); }
    static HWY_INLINE short_vector load(const Element* row, std::size_t c, std::size_t) noexcept {
        return load_shorts(row, c);
    }
    static HWY_INLINE float_vector floats(integer_vector s) noexcept { return hn::ConvertTo(float_tag{}, s); }
    /// 16 bits, or as many as keep the sum of `terms` products below 2^31.
    static float narrow(const float* x, std::size_t n, std::size_t terms, number* to, float limit = 32767) noexcept {
        const float most = std::floor(2147483000.0f / static_cast<float>(largest) / static_cast<float>(terms));
        return to_shorts(x, n, (std::min)(limit, most), to);
    }
};
#endif

#if MULTISTATE_DOTS_BYTES
/// … or as bytes, of which a number of 16 bits has two, …
struct as_bytes {
    using number = std::int16_t;
    using sum = in_two<integer_vector>;
    static constexpr std::size_t rows = 4;
    static constexpr std::size_t columns = 4 * lanes;

    static HWY_INLINE sum zero() noexcept { return {hn::Zero(integer_tag{}), hn::Zero(integer_tag{})}; }
    static HWY_INLINE byte_vector load(const std::int8_t* row, std::size_t c, std::size_t = 0) noexcept {
        return hn::LoadU(byte_tag{}, row + c);
    }
    static HWY_INLINE in_two<byte_vector> load(const number* q) noexcept {
        const short_tag d;
        return {hn::BitCast(byte_tag{}, hn::LoadU(d, q)), hn::BitCast(byte_tag{}, hn::LoadU(d, q + 8))};
    }
    static HWY_INLINE in_two<byte_vector> same(const number* weights, std::size_t j) noexcept {
        const number* const four = weights + j / 16 * 16 + j % 16 / 2;  // two bytes of each 16 in one number
        return {hn::BitCast(byte_tag{}, same_bits(four)), hn::BitCast(byte_tag{}, same_bits(four + 8))};
    }
    static HWY_INLINE void side_by_side(byte_vector (&x)[4]) noexcept { make_fours(x); }
    static HWY_INLINE sum add(sum s, byte_vector x, in_two<byte_vector> y) noexcept { return add_fours(s, x, y); }
    static HWY_INLINE float_vector floats(sum s) noexcept { return hn::ConvertTo(float_tag{}, in_one(s)); }
    static float narrow(const float* x, std::size_t n, std::size_t terms, number* to) noexcept {
        const float unit = as_integers<std::int8_t, 127>::narrow(x, n, terms, to, most_in_two);
        cut_in_two(to, n);
        return unit;
    }
};
#endif

#if MULTISTATE_DOTS_BRAINS
/// … or as bf16.
struct as_brains : as_pairs<float_vector> {
    using as_pairs::load;
    static HWY_INLINE float_vector zero() noexcept { return hn::Zero(float_tag{}); }
    static HWY_INLINE short_vector load(const brain* row, std::size_t c) noexcept { return load_shorts(row, c); }
    static HWY_INLINE short_vector load(const brain* row, std::size_t c, std::size_t end) noexcept {
        return load_shorts(row, c, end);
    }
    static HWY_INLINE float_vector floats(float_vector s) noexcept { return s; }
    static float narrow(const float* x, std::size_t n, std::size_t, number* to) noexcept {
        to_brains(x, n, to);
        return 1;
    }
};
#endif

template <class Element>
struct meeting : as_floats<Element> {};
#if MULTISTATE_DOTS_BYTES
template <>
struct meeting<std::int8_t> : as_bytes {};
#elif MULTISTATE_DOTS_INTEGERS
template <>
struct meeting<std::int8_t> : as_integers<std::int8_t, 127> {};
#endif
#if MULTISTATE_DOTS_INTEGERS
template <>
struct meeting<nibbles> : as_integers<nibbles, 7 * 127> {};
#endif
#if MULTISTATE_DOTS_BRAINS
template <>
struct meeting<brain> : as_brains {};
#endif

}}}}  // namespace multistate::MULTISTATE_TARGET::simd::detail
