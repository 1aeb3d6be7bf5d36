#pragma once

// minLSTM: an LSTM whose gates and candidate depend on the input alone, so that training is parallel over time.
//
//     const ms::min_lstm cell({.inputs = 256, .units = 512}, parameters);
//
//     paper    Were RNNs All We Needed? (arXiv 2410.01201)
//     rule     f = sigmoid(W_f x + b_f), i = sigmoid(W_i x + b_i), c = g(W_h x + b_h),
//              h = (f h + i c) / (f + i); without normalization h = f h + i c
//     layout   W_f [units, inputs], W_i [units, inputs], W_h [units, inputs], b_f [units], b_i [units], b_h [units]
//     cost     3 units (inputs + 1) parameters: 38, 25, 19, 15 % of an LSTM's for units = 1, 2, 3, 4 inputs
//     differs  a state is h itself, 0 at the start; the appendix passes g(h_0) to its log-space scan (min_gru.hpp)
//
// The paper publishes the gates with normalization (the default here), so that the scale of h does not depend on the
// length, and without it. It publishes two candidates (g: min_gru.hpp). Neither form has an output gate or a second
// state. A state is h [units]; `out` is h, too. cell.hpp says how a cell is called.
#include <cstddef>

#include "multistate/recurrent/minimal_cell.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct min_lstm_shape {
    std::size_t inputs;                                                 ///< floats per token of x
    std::size_t units;                                                  ///< floats per token of out, and of a state
    multistate::candidate candidate = multistate::candidate::positive;  ///< with or without g
    bool normalized = true;                                             ///< gates are divided by f + i
};

namespace detail {

class min_lstm_gates {
  public:
    static constexpr const char* name = "min_lstm";
    static constexpr std::size_t count = 3;  ///< linear maps of x: two gates, and the candidate
    using shape_type = min_lstm_shape;
    using maps = simd::floats[2];

    explicit min_lstm_gates(const shape_type& s) noexcept : normalized_(s.normalized) {}

    /// e [2] = e^-x. Sigmoid is 1 / (1 + e), so f / (f + i) is (1 + e_i) / (1 + e_f + 1 + e_i): never 0 / 0.
    MULTISTATE_INLINE gate_values values(const maps& e) const noexcept {
        const simd::floats forget = 1.0f + e[0], input = 1.0f + e[1];
        if (!normalized_) return {1.0f / forget, 1.0f / input};
        const simd::floats total = 1.0f / (forget + input);
        return {input * total, forget * total};
    }
    MULTISTATE_INLINE gate_values logarithms(const maps& x) const noexcept {
        const simd::floats forget = softplus(-x[0]), input = softplus(-x[1]);
        if (!normalized_) return {-forget, -input};
        return {-softplus(forget - input), -softplus(input - forget)};
    }
    /// dx = the gradient with respect to x, from the gradient with respect to the values.
    MULTISTATE_INLINE void gradient(const maps& e, gate_values at, gate_values by, maps& dx) const noexcept {
        const simd::floats forget = e[0] / (1.0f + e[0]), input = e[1] / (1.0f + e[1]);  // 1 - f and 1 - i
        if (!normalized_) {
            dx[0] = by.keep * at.keep * forget;
            dx[1] = by.take * at.take * input;
            return;
        }
        const simd::floats difference = (by.take - by.keep) * at.keep * at.take;
        dx[0] = -difference * forget;
        dx[1] = difference * input;
    }

  private:
    bool normalized_;
};

}  // namespace detail

using min_lstm = detail::minimal_cell<detail::min_lstm_gates>;
static_assert(recurrent_cell<min_lstm>);

}}  // namespace multistate::MULTISTATE_TARGET
