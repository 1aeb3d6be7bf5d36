#pragma once

// LSTM, a classic cell: its gates depend on the previous state, so a sequence is computed one token after another.
//
//     const ms::lstm cell({.inputs = 256, .units = 512}, parameters);
//
//     paper    Long Short-Term Memory (Neural Computation 9(8), 1997), with the forget gate of Gers et al. (2000)
//     rule     i, f, o = sigmoid(W x + b + U h + d), g = tanh(W_g x + b_g + U_g h + d_g),
//              c = f c + i g, h = o tanh(c)
//     layout   W [4 units, inputs] with the rows of i, f, g, o; U [4 units, units]; b [4 units]; d [4 units]
//     cost     4 units (inputs + units + 2) parameters
//     differs  no peephole connections, as in PyTorch and cuDNN
//
// A state is h [units], then c [units]; `out` is h. cell.hpp says how a cell is called. The layout is that of
// torch.nn.LSTM with one layer: its weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0 one after another. Each gate has
// two biases, b and d; b + d could be one.
#include <cstddef>

#include "multistate/recurrent/classic_cell.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {
namespace detail {

struct lstm_rule {
    static constexpr const char* name = "lstm";
    static constexpr std::size_t gates = 4;
    static constexpr std::size_t states = 2;
    static constexpr std::size_t saved = 5;  ///< i, f, g, o, c
    static constexpr std::size_t gradients = 4;

    static constexpr std::size_t recurrent_gradient(std::size_t gate) noexcept { return gate; }

    static void advance(const classic_token& at, std::size_t channels) noexcept {
        const std::size_t u = at.units;
        for_channels(channels, [=](std::size_t k, auto some) {
            float* const x = at.saved + k;
            const float* const h = at.recurrent + k;
            const auto map = [=](std::size_t gate) { return some.load(x + gate * u) + some.load(h + gate * u); };
            const simd::floats i = sigmoid(map(0)), f = sigmoid(map(1)), g = tanh(map(2)), o = sigmoid(map(3));
            const simd::floats c = f * some.load(at.before + u + k) + i * g;
            some.store(o * tanh(c), at.after + k);
            some.store(c, at.after + u + k);
            some.store(i, x);
            some.store(f, x + u);
            some.store(g, x + 2 * u);
            some.store(o, x + 3 * u);
            some.store(c, x + 4 * u);
        });
    }

    /// The state that `differentiate` needs: c before the token.
    static const float* before(const classic_past& past, std::size_t units) noexcept {
        return past.saved != nullptr ? past.saved + 4 * units : past.initial_state + units;
    }

    static void differentiate(const classic_gradient& at, std::size_t channels) noexcept {
        const std::size_t u = at.units;
        for_channels(channels, [=](std::size_t k, auto some) {
            const float* const x = at.saved + k;
            const simd::floats i = some.load(x), f = some.load(x + u), g = some.load(x + 2 * u);
            const simd::floats o = some.load(x + 3 * u), t = tanh(some.load(x + 4 * u));
            const simd::floats dh = some.load(at.later + k);
            const simd::floats dc = some.load(at.later + u + k) + dh * o * (1.0f - t * t);
            float* const d = at.gradient + k;
            some.store(dc * g * i * (1.0f - i), d);
            some.store(dc * some.load(at.before + k) * f * (1.0f - f), d + u);
            some.store(dc * i * (1.0f - g * g), d + 2 * u);
            some.store(dh * t * o * (1.0f - o), d + 3 * u);
            some.store(simd::floats{}, at.later + k);
            some.store(dc * f, at.later + u + k);
        });
    }
};

}  // namespace detail

using lstm = detail::classic_cell<detail::lstm_rule>;
static_assert(recurrent_cell<lstm>);

}}  // namespace multistate::MULTISTATE_TARGET
