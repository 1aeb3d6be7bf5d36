#pragma once

// The parts of `selective` that work on each channel alone: the causal convolution and the recurrence over time. Their
// gradients are in selective_gradients.hpp. Only selective.hpp includes this header. Arrays are [tokens, columns];
// vectors run over channels.
//
// A block of time ends with
//
//     h = exp(A * S) * h0 + e      S: the sum of the block's steps (delta);  e: what the block computes from zeros
//
// so blocks are computed side by side, then joined in order, then computed again from their true start. The product of
// all decays of a block is the exponential of one sum and needs no logarithm.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "multistate/recurrent/activations.hpp"
#include "multistate/recurrent/minimal_gates.hpp"
#include "multistate/simd/elementwise.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

/// The sizes of a selective cell.
struct selective_sizes {
    std::size_t units, states, taps, rank;

    std::size_t projected() const noexcept { return rank + 2 * states; }
    std::size_t window() const noexcept { return (taps - 1) * units; }  // floats of the state before h
    std::size_t memory() const noexcept { return states * units; }      // floats of h
};

/// The maximum width of the convolution; its taps stay in the first-level cache.
inline constexpr std::size_t most_taps = 16;
inline constexpr std::size_t most_unit_states = 256;
/// Tokens between two saved h; a backward pass computes the h between them again.
inline constexpr std::size_t tokens_between_saves = 16;

MULTISTATE_INLINE simd::floats silu(simd::floats x) noexcept { return x * sigmoid(x); }

/// One vector of channels of an array: `Some` is whole_vector or part_of_vector.
template <class Some>
struct vector_of_channels {
    Some some;
    std::size_t first;

    MULTISTATE_INLINE simd::floats load(const float* row) const noexcept { return some.load(row + first); }
    MULTISTATE_INLINE void store(simd::floats x, float* row) const noexcept { some.store(x, row + first); }
    MULTISTATE_INLINE void add(simd::floats x, float* row) const noexcept { store(load(row) + x, row); }
};

/// Channels [begin, end).
struct channel_range {
    std::size_t begin, end;
};
/// Calls f(vector_of_channels) for all channels of a range.
template <class F>
MULTISTATE_INLINE void for_channels(channel_range r, F f) noexcept {
    for_channels(r.end - r.begin, [&](std::size_t c, auto some) {
        f(vector_of_channels<decltype(some)>{some, r.begin + c});
    });
}

/// Tokens of one sequence: `first` is its first token in the arrays, [begin, end) count from there.
struct token_range {
    std::size_t first, begin, end;
};

/// The arrays of a scan; a backward pass reads the first six.
template <class Float>
struct selective_arrays {
    Float* xz;         ///< [tokens, 2 * units]: input of the convolution, gate
    Float* u;          ///< [tokens, units]: output of the convolution after SiLU
    Float* projected;  ///< [tokens, rank + 2 * states]: low-rank step, B, C
    Float* delta;      ///< [tokens, units]: the step
    Float* y;          ///< [tokens, units]: output of the recurrence; null: not kept
    Float* saves;      ///< [tokens / 16, states, units]: h before every 16th token; null: not kept
    Float* gated;      ///< [tokens, units]: y * SiLU(z)
};

/// Parameters that act on single channels, as floats.
struct channel_parameters {
    const float* convolution;       ///< [taps, units]
    const float* convolution_bias;  ///< [units]
    const float* decay;             ///< A = -exp(A_log), [states, units]
    const float* skip;              ///< D, [units]
};

/// n parameters as floats: where they lie, or decoded into `to`.
inline const float* decode_floats(const float* p, std::size_t, float*) noexcept { return p; }
inline const float* decode_floats(const std::uint16_t* p, std::size_t n, float* to) noexcept {
    using halves = std::uint16_t __attribute__((vector_size(2 * simd::vector_width)));
    std::size_t i = 0;
    for (; i + simd::vector_width <= n; i += simd::vector_width) {
        halves bits;
        __builtin_memcpy(&bits, p + i, sizeof bits);
        simd::store(reinterpret_cast<simd::floats>(__builtin_convertvector(bits, simd::naturals) << 16), to + i);
    }
    for (; i < n; ++i) to[i] = std::bit_cast<float>(static_cast<std::uint32_t>(p[i]) << 16);
    return to;
}

/// Row of the input of the convolution at token `t` of a sequence that begins at `first`; negative tokens are in the
/// window.
template <class Float>
MULTISTATE_INLINE Float* convolution_row(const selective_sizes& s, Float* xz, std::size_t first, Float* window,
                                         std::ptrdiff_t t) noexcept {
    if (t >= 0) return xz + (first + static_cast<std::size_t>(t)) * 2 * s.units;
    return window + static_cast<std::size_t>(t + static_cast<std::ptrdiff_t>(s.taps - 1)) * s.units;
}

/// The convolution before its activation, at token t.
template <class Some>
MULTISTATE_INLINE simd::floats convolve(const selective_sizes& s, const channel_parameters& p,
                                        vector_of_channels<Some> c, const float* xz, std::size_t first,
                                        const float* window, std::size_t t) noexcept {
    simd::floats sum = c.load(p.convolution_bias);
    for (std::size_t j = 0; j < s.taps; ++j) {
        const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(t + j) - static_cast<std::ptrdiff_t>(s.taps - 1);
        sum = simd::multiply_add(c.load(p.convolution + j * s.units), c.load(convolution_row(s, xz, first, window, at)),
                                 sum);
    }
    return sum;
}

/// u = SiLU(convolution) for a whole sequence, then the window after it.
template <class Some>
void convolve_all(const selective_sizes& s, const channel_parameters& p, vector_of_channels<Some> c,
                  const selective_arrays<float>& a, token_range r, float* window) noexcept {
    for (std::size_t t = 0; t < r.end; ++t) {
        c.store(silu(convolve(s, p, c, a.xz, r.first, window, t)), a.u + (r.first + t) * s.units);
    }
    for (std::size_t j = 0; j + 1 < s.taps; ++j) {
        const std::ptrdiff_t t = static_cast<std::ptrdiff_t>(r.end + j) - static_cast<std::ptrdiff_t>(s.taps - 1);
        c.store(c.load(convolution_row(s, a.xz, r.first, window, t)), window + j * s.units);
    }
}

/// The effect of a block of time on a state.
struct block_effect {
    float* h;      ///< [states, units]: the state that it makes of zeros
    float* steps;  ///< [units]: the sum of its steps
};

/// Advances effect.h over the tokens of r without output, and adds up their steps.
template <class Some>
void summarize(const selective_sizes& s, const channel_parameters& p, vector_of_channels<Some> c,
               const selective_arrays<float>& a, token_range r, block_effect effect) noexcept {
    simd::floats sum = {};
    for (std::size_t t = r.first + r.begin; t < r.first + r.end; ++t) {
        const simd::floats step = c.load(a.delta + t * s.units), input = step * c.load(a.u + t * s.units);
        const float* const b = a.projected + t * s.projected() + s.rank;
        sum += step;
        for (std::size_t n = 0; n < s.states; ++n) {
            float* const row = effect.h + n * s.units;
            const simd::floats decay = simd::exp(step * c.load(p.decay + n * s.units));
            c.store(simd::multiply_add(decay, c.load(row), input * b[n]), row);
        }
    }
    c.store(sum, effect.steps);
}

/// effect.h = the state after the block if the state before it is h0: exp(A * steps) * h0 + h.
template <class Some>
void join(const selective_sizes& s, const channel_parameters& p, vector_of_channels<Some> c, const float* h0,
          block_effect effect) noexcept {
    const simd::floats sum = c.load(effect.steps);
    for (std::size_t n = 0; n < s.states; ++n) {
        const simd::floats decay = simd::exp(sum * c.load(p.decay + n * s.units));
        float* const row = effect.h + n * s.units;
        c.store(simd::multiply_add(decay, c.load(h0 + n * s.units), c.load(row)), row);
    }
}

/// The recurrence with its outputs: y = C h + D u, gated = y SiLU(z). h [states, units] is the state before r.begin,
/// then that after r.end.
template <class Some>
void recur(const selective_sizes& s, const channel_parameters& p, vector_of_channels<Some> c,
           const selective_arrays<float>& a, token_range r, float* h) noexcept {
    for (std::size_t i = r.begin; i < r.end; ++i) {
        const std::size_t t = r.first + i;
        if (a.saves != nullptr && i > 0 && i % tokens_between_saves == 0) {
            // tokens of different sequences never get the same place
            const std::size_t place = r.first / tokens_between_saves + i / tokens_between_saves - 1;
            for (std::size_t n = 0; n < s.states; ++n) {
                c.store(c.load(h + n * s.units), a.saves + (place * s.states + n) * s.units);
            }
        }
        const simd::floats step = c.load(a.delta + t * s.units), u = c.load(a.u + t * s.units), input = step * u;
        const float* const b = a.projected + t * s.projected() + s.rank;
        simd::floats y = c.load(p.skip) * u;
        for (std::size_t n = 0; n < s.states; ++n) {
            float* const row = h + n * s.units;
            const simd::floats decay = simd::exp(step * c.load(p.decay + n * s.units));
            const simd::floats next = simd::multiply_add(decay, c.load(row), input * b[n]);
            c.store(next, row);
            y = simd::multiply_add(next, simd::fill(b[s.states + n]), y);
        }
        if (a.y != nullptr) c.store(y, a.y + t * s.units);
        c.store(y * silu(c.load(a.xz + t * 2 * s.units + s.units)), a.gated + t * s.units);
    }
}

}}}  // namespace multistate::MULTISTATE_TARGET::detail
