#pragma once

// GRU, a classic cell: its gates depend on the previous state, so a sequence is computed one token after another.
//
//     const ms::gru cell({.inputs = 256, .units = 512}, parameters);
//
//     paper    Learning Phrase Representations using RNN Encoder-Decoder (arXiv 1406.1078)
//     rule     r = sigmoid(W_r x + b_r + U_r h + d_r), z = sigmoid(W_z x + b_z + U_z h + d_z),
//              n = tanh(W_n x + b_n + r (U_n h + d_n)), h = (1 - z) n + z h
//     layout   W [3 units, inputs] with the rows of r, z, n; U [3 units, units]; b [3 units]; d [3 units]
//     cost     3 units (inputs + units + 2) parameters
//     differs  r multiplies the product U_n h and its bias, as in PyTorch and cuDNN; the paper multiplies h before
//
// A state is h [units]; `out` is h, too. cell.hpp says how a cell is called. The layout is that of torch.nn.GRU with
// one layer: its weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0 one after another. Each gate has two biases, b and
// d. For r and z, b + d could be one bias; for n it could not, because r multiplies d_n.
#include <cstddef>

#include "multistate/recurrent/classic_cell.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {
namespace detail {

struct gru_rule {
    static constexpr const char* name = "gru";
    static constexpr std::size_t gates = 3;
    static constexpr std::size_t states = 1;
    static constexpr std::size_t saved = 4;      ///< r, z, n, U_n h + d_n
    static constexpr std::size_t gradients = 4;  ///< of the maps of r and z, and of n from x and from h

    /// The index of the gradient with respect to the map of h that enters this gate.
    static constexpr std::size_t recurrent_gradient(std::size_t gate) noexcept { return gate == 2 ? 3 : gate; }

    static void advance(const classic_token& at, std::size_t channels) noexcept {
        const std::size_t u = at.units;
        for_channels(channels, [=](std::size_t c, auto some) {
            float* const x = at.saved + c;
            const float* const h = at.recurrent + c;
            const simd::floats r = sigmoid(some.load(x) + some.load(h));
            const simd::floats z = sigmoid(some.load(x + u) + some.load(h + u)), m = some.load(h + 2 * u);
            const simd::floats n = tanh(some.load(x + 2 * u) + r * m);
            some.store(n + z * (some.load(at.before + c) - n), at.after + c);
            some.store(r, x);
            some.store(z, x + u);
            some.store(n, x + 2 * u);
            some.store(m, x + 3 * u);
        });
    }

    /// The state that `differentiate` needs: h before the token.
    static const float* before(const classic_past& past, std::size_t) noexcept { return past.h; }

    static void differentiate(const classic_gradient& at, std::size_t channels) noexcept {
        const std::size_t u = at.units;
        for_channels(channels, [=](std::size_t c, auto some) {
            const float* const x = at.saved + c;
            const simd::floats r = some.load(x), z = some.load(x + u), n = some.load(x + 2 * u);
            const simd::floats dh = some.load(at.later + c);
            const simd::floats dn = dh * (1.0f - z) * (1.0f - n * n);
            float* const d = at.gradient + c;
            some.store(dn * some.load(x + 3 * u) * r * (1.0f - r), d);
            some.store(dh * (some.load(at.before + c) - n) * z * (1.0f - z), d + u);
            some.store(dn, d + 2 * u);
            some.store(dn * r, d + 3 * u);
            some.store(dh * z, at.later + c);
        });
    }
};

}  // namespace detail

using gru = detail::classic_cell<detail::gru_rule>;
static_assert(recurrent_cell<gru>);

}}  // namespace multistate::MULTISTATE_TARGET
