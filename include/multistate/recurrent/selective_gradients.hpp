#pragma once

// The gradients of the parts of `selective` that work on each channel alone (selective_channels.hpp). Only
// selective.hpp includes this header.
#include <algorithm>
#include <cstddef>

#include "multistate/recurrent/selective_channels.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

/// 1 - e^-x for x >= 0, relative error below 1e-6.
MULTISTATE_INLINE simd::floats one_minus_exp(simd::floats x) noexcept {
    const simd::floats series = x * (1.0f - x * (0.5f - x * (1.0f / 6 - x * (1.0f / 24 - x * (1.0f / 120)))));
    return x < 0.125f ? series : 1.0f - simd::exp(-x);
}

/// What the backward pass of the recurrence reads and writes: gradients of the loss with respect to
struct recurrence_gradients {
    const float* gated;  ///< y * SiLU(z), [tokens, units]
    float* z;            ///< the gate, [tokens, 2 * units], second half of each row
    float* u;            ///< u, through the recurrence and the skip, [tokens, units]
    float* step;         ///< the step before softplus, [tokens, units]
    float* projected;    ///< B and C, the part of one task's channels, [tokens, 2 * states]; overwritten
    float* h;            ///< in: h after the tokens; out: h before them, [states, units]
    float* decay_log;    ///< A_log, [states, units]; added to
    float* skip;         ///< D, [units]; added to
};

/// Scratch of one task: h and decays of the tokens between two saves, and vectors of the gradients of B and C.
struct recurrence_scratch {
    float* data;

    static constexpr std::size_t floats(std::size_t states) noexcept {
        return (4 * tokens_between_saves + 2) * states * simd::vector_width;
    }
    float* h(const selective_sizes& s, std::size_t i, std::size_t n) const noexcept {
        return data + (i * s.states + n) * simd::vector_width;
    }
    float* decay(const selective_sizes& s, std::size_t i, std::size_t n) const noexcept {
        return h(s, tokens_between_saves + 1 + i, n);
    }
    /// Gradients of A, summed over tokens.
    float* decay_gradient(const selective_sizes& s, std::size_t n) const noexcept {
        return h(s, 4 * tokens_between_saves + 1, n);
    }
    /// 2 * states of them for each token.
    float* projected(const selective_sizes& s, std::size_t i, std::size_t n) const noexcept {
        return h(s, 2 * tokens_between_saves + 1 + 2 * i, n);
    }
};

/// gated = y SiLU(z) for all tokens.
template <class Some>
void gate_again(const selective_sizes& s, vector_of_channels<Some> c, const selective_arrays<const float>& a,
                std::size_t tokens, float* gated) noexcept {
    for (std::size_t t = 0; t < tokens; ++t) {
        c.store(c.load(a.y + t * s.units) * silu(c.load(a.xz + t * 2 * s.units + s.units)), gated + t * s.units);
    }
}

/// Computes h and the decays of tokens [r.begin, r.end) again, from h0 [states, units] before them.
template <class Some>
void recur_again(const selective_sizes& s, const channel_parameters& p, vector_of_channels<Some> c,
                 const selective_arrays<const float>& a, token_range r, const float* h0,
                 recurrence_scratch w) noexcept {
    for (std::size_t n = 0; n < s.states; ++n) simd::store(c.load(h0 + n * s.units), w.h(s, 0, n));
    for (std::size_t i = 0; i < r.end - r.begin; ++i) {
        const std::size_t t = r.first + r.begin + i;
        const simd::floats step = c.load(a.delta + t * s.units), input = step * c.load(a.u + t * s.units);
        const float* const b = a.projected + t * s.projected() + s.rank;
        for (std::size_t n = 0; n < s.states; ++n) {
            const simd::floats decay = simd::exp(step * c.load(p.decay + n * s.units));
            simd::store(decay, w.decay(s, i, n));
            simd::store(simd::multiply_add(decay, simd::load(w.h(s, i, n)), input * b[n]), w.h(s, i + 1, n));
        }
    }
}

/// The gradients at token r.begin + i.
template <class Some>
void recur_back(const selective_sizes& s, const channel_parameters& p, vector_of_channels<Some> c,
                const selective_arrays<const float>& a, const recurrence_gradients& g, token_range r, std::size_t i,
                recurrence_scratch w) noexcept {
    const std::size_t t = r.first + r.begin + i;
    const simd::floats step = c.load(a.delta + t * s.units), u = c.load(a.u + t * s.units), input = step * u;
    const simd::floats z = c.load(a.xz + t * 2 * s.units + s.units), open = sigmoid(z);
    const simd::floats gated = c.load(g.gated + t * s.units), y_gradient = gated * z * open;
    c.store(gated * c.load(a.y + t * s.units) * open * (1.0f + z * (1.0f - open)), g.z + t * 2 * s.units + s.units);
    c.add(y_gradient * u, g.skip);

    const float* const b = a.projected + t * s.projected() + s.rank;
    simd::floats by_input = {}, by_step = {};
    for (std::size_t n = 0; n < s.states; ++n) {
        float* const carried = g.h + n * s.units;
        const simd::floats h_gradient = simd::multiply_add(y_gradient, simd::fill(b[s.states + n]), c.load(carried));
        const auto add = [](float* at, simd::floats x) { simd::store(simd::load(at) + x, at); };
        add(w.projected(s, i, n), h_gradient * input);
        add(w.projected(s, i, s.states + n), y_gradient * simd::load(w.h(s, i + 1, n)));
        by_input = simd::multiply_add(h_gradient, simd::fill(b[n]), by_input);
        const simd::floats through = h_gradient * simd::load(w.decay(s, i, n));
        const simd::floats by_exponent = through * simd::load(w.h(s, i, n));
        by_step = simd::multiply_add(by_exponent, c.load(p.decay + n * s.units), by_step);
        add(w.decay_gradient(s, n), by_exponent * step);
        c.store(through, carried);
    }
    by_step += by_input * u;
    c.store(by_step * one_minus_exp(step), g.step + t * s.units);  // the derivative of softplus, from its value
    c.store(by_input * step + y_gradient * c.load(p.skip), g.u + t * s.units);
}

/// The backward pass of the recurrence over one sequence, for a range of channels. h0 [states, units] is the state
/// before the sequence.
inline void recur_back_all(const selective_sizes& s, const channel_parameters& p, channel_range channels,
                           const selective_arrays<const float>& a, const recurrence_gradients& g, token_range sequence,
                           const float* h0, recurrence_scratch w) noexcept {
    const std::size_t first = sequence.first, two = 2 * s.states;
    for (std::size_t last = sequence.end; last > 0;) {
        const std::size_t start = (last - 1) / tokens_between_saves * tokens_between_saves;
        const std::size_t place = first / tokens_between_saves + start / tokens_between_saves - 1;
        const float* const from = start == 0 ? h0 : a.saves + place * s.states * s.units;
        const token_range r{first, start, last};
        std::fill_n(w.projected(s, 0, 0), (last - start) * two * simd::vector_width, 0.0f);
        for_channels(channels, [&](const auto& c) {
            recur_again(s, p, c, a, r, from, w);
            std::fill_n(w.decay_gradient(s, 0), s.states * simd::vector_width, 0.0f);
            for (std::size_t i = last - start; i-- > 0;) recur_back(s, p, c, a, g, r, i, w);
            for (std::size_t n = 0; n < s.states; ++n) {  // A is its own derivative by A_log
                c.add(simd::load(w.decay_gradient(s, n)) * c.load(p.decay + n * s.units), g.decay_log + n * s.units);
            }
        });
        for (std::size_t i = 0; i < last - start; ++i) {
            for (std::size_t n = 0; n < two; ++n) {
                g.projected[(first + start + i) * two + n] = simd::sum(simd::load(w.projected(s, i, n)));
            }
        }
        last = start;
    }
}

/// What the backward pass of the convolution reads and writes for one sequence: gradients of the loss with respect to
struct convolution_gradients {
    float* u;       ///< in: u; out: the convolution before SiLU, [tokens, units]
    float* x;       ///< the input of the convolution, [tokens, 2 * units], first half of each row
    float* window;  ///< in: the window after the sequence; out: the window before it, [taps - 1, units]
    float* weight;  ///< the taps, [taps, units]; added to
    float* bias;    ///< the bias, [units]; added to
};

template <class Some>
void convolve_back(const selective_sizes& s, const channel_parameters& p, vector_of_channels<Some> c,
                   const selective_arrays<const float>& a, const convolution_gradients& g, token_range sequence,
                   const float* window) noexcept {
    const std::size_t first = sequence.first, length = sequence.end;
    const auto u_gradient = [&](std::size_t t) { return g.u + (first + t) * s.units; };
    for (std::size_t t = 0; t < length; ++t) {
        const simd::floats x = convolve(s, p, c, a.xz, first, window, t), open = sigmoid(x);
        const simd::floats gradient = c.load(u_gradient(t)) * open * (1.0f + x * (1.0f - open));
        c.store(gradient, u_gradient(t));
        c.add(gradient, g.bias);
        for (std::size_t j = 0; j < s.taps; ++j) {
            const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(t + j) - static_cast<std::ptrdiff_t>(s.taps - 1);
            c.add(gradient * c.load(convolution_row(s, a.xz, first, window, at)), g.weight + j * s.units);
        }
    }
    // Token t, or row taps - 1 + t of the window, takes part in the outputs t, t + 1, … t + taps - 1. The window after
    // the sequence is a copy of the last inputs. Rows are written in an order that reads each before it is overwritten.
    const std::ptrdiff_t before = static_cast<std::ptrdiff_t>(s.taps) - 1, end = static_cast<std::ptrdiff_t>(length);
    const auto input_gradient = [&](std::ptrdiff_t t) {
        simd::floats sum = t >= end - before ? c.load(g.window + static_cast<std::size_t>(t - end + before) * s.units)
                                             : simd::floats{};
        for (std::size_t j = 0; j < s.taps; ++j) {
            const std::ptrdiff_t output = t + before - static_cast<std::ptrdiff_t>(j);
            if (output < 0 || output >= end) continue;
            sum = simd::multiply_add(c.load(p.convolution + j * s.units),
                                     c.load(u_gradient(static_cast<std::size_t>(output))), sum);
        }
        return sum;
    };
    for (std::ptrdiff_t t = end - 1; t >= 0; --t) {
        c.store(input_gradient(t), g.x + (first + static_cast<std::size_t>(t)) * 2 * s.units);
    }
    for (std::ptrdiff_t t = -1; t >= -before; --t) {
        c.store(input_gradient(t), g.window + static_cast<std::size_t>(t + before) * s.units);
    }
}

}}}  // namespace multistate::MULTISTATE_TARGET::detail
