#pragma once

// minGRU: a GRU whose gate and candidate depend on the input alone, so that training is parallel over time.
//
//     const ms::min_gru cell({.inputs = 256, .units = 512}, parameters);
//
//     paper    Were RNNs All We Needed? (arXiv 2410.01201)
//     rule     z = sigmoid(W_z x + b_z), c = g(W_h x + b_h), h = (1 - z) h + z c
//     layout   W_z [units, inputs], W_h [units, inputs], b_z [units], b_h [units]
//     cost     2 units (inputs + 1) parameters: 33, 22, 17, 13 % of a GRU's for units = 1, 2, 3, 4 inputs
//     differs  a state is h itself, 0 at the start. The appendix passes g(h_0) to its log-space scan, so its h_0 = 0 is
//              a state of 1/2 here
//
// g(v) is v + 1/2 for v >= 0, else sigmoid(v). The log-space form of the appendix, which the authors train, has g
// (candidate::positive, the default). The main text has c = W_h x + b_h (candidate::linear). Log space needs positive
// candidates. A state is h [units]; `out` is h, too. cell.hpp says how a cell is called.
#include <cstddef>

#include "multistate/recurrent/minimal_cell.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct min_gru_shape {
    std::size_t inputs;                                                 ///< floats per token of x
    std::size_t units;                                                  ///< floats per token of out, and of a state
    multistate::candidate candidate = multistate::candidate::positive;  ///< with or without g
};

namespace detail {

struct min_gru_gates {
    static constexpr const char* name = "min_gru";
    static constexpr std::size_t count = 2;  ///< linear maps of x: one gate, and the candidate
    using shape_type = min_gru_shape;
    using maps = simd::floats[1];

    explicit min_gru_gates(const shape_type&) noexcept {}

    /// e [1] = e^-x
    MULTISTATE_INLINE gate_values values(const maps& e) const noexcept {
        const simd::floats take = 1.0f / (1.0f + e[0]);
        return {e[0] * take, take};
    }
    MULTISTATE_INLINE gate_values logarithms(const maps& x) const noexcept {
        return {-softplus(x[0]), -softplus(-x[0])};
    }
    /// dx = the gradient with respect to x, from the gradient with respect to the values.
    MULTISTATE_INLINE void gradient(const maps&, gate_values at, gate_values by, maps& dx) const noexcept {
        dx[0] = (by.take - by.keep) * at.keep * at.take;
    }
};

}  // namespace detail

using min_gru = detail::minimal_cell<detail::min_gru_gates>;
static_assert(recurrent_cell<min_gru>);

}}  // namespace multistate::MULTISTATE_TARGET
