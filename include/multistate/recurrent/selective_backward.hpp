#pragma once

// The backward pass of `selective`, through the parts of a scan in reverse order. Only selective.hpp includes this
// header.
#include <algorithm>
#include <cstddef>
#include <span>

#include "multistate/core/types.hpp"
#include "multistate/execution/executor.hpp"
#include "multistate/recurrent/cell.hpp"
#include "multistate/recurrent/linear.hpp"
#include "multistate/recurrent/selective_gradients.hpp"
#include "multistate/recurrent/selective_layout.hpp"
#include "multistate/recurrent/sequences.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

/// A task takes some channels of all sequences, so no two tasks add to the same parameter.
template <class E>
struct selective_backward {
    const selective_layout& at;
    const float* p;
    const channel_parameters& channels;
    const cell_backward& in;
    const selective_arrays<const float>& a;
    const selective_back_scratch& w;
    const sequence_layout& all;
    std::span<const std::size_t> firsts;  ///< the first token of each sequence
    E& by;

    void compute() const noexcept {
        recurrence();
        projections();
        convolution();
        inputs();
    }

  private:
    std::size_t tokens() const noexcept { return all.tokens(); }
    rows rows_of(const float* x, std::size_t width) const noexcept { return {x, tokens(), width, width}; }
    float* gradient(std::size_t offset) const noexcept { return in.parameter_gradient.data() + offset; }
    token_range sequence(std::size_t i) const noexcept { return {firsts[i], 0, all.length(i)}; }

    void recurrence() const noexcept {
        const selective_sizes s = at.sizes();
        const std::size_t each = s.window() + s.memory();
        const rows out_gradient = rows_of(in.out_gradient.data(), at.shape.outputs);
        linear_input_gradient(at.outputs(p), out_gradient, w.gated_gradient, s.units, by);
        run_tasks(by, channel_tasks(s), [&](std::size_t task) {
            const channel_range range = channels_of(s, task);
            for_channels(range, [&](const auto& c) { gate_again(s, c, a, tokens(), w.gated); });
            for (std::size_t i = 0; i < all.sequences(); ++i) {
                const std::size_t h = i * each + s.window();
                const recurrence_gradients g{.gated = w.gated_gradient,
                                             .z = w.xz,
                                             .u = w.u,
                                             .step = w.step,
                                             .projected = w.partial + task * tokens() * 2 * s.states,
                                             .h = in.state_gradient.data() + h,
                                             .decay_log = gradient(at.decay_log),
                                             .skip = gradient(at.skip)};
                recur_back_all(s, channels, range, a, g, sequence(i), in.initial_state.data() + h,
                               w.scratch_of(s, task));
            }
        });
        add_linear_gradient(out_gradient, rows_of(w.gated, s.units), gradient(at.output), by);
    }
    /// The steps, B and C.
    void projections() const noexcept {
        const selective_sizes s = at.sizes();
        const std::size_t width = s.projected(), two = 2 * s.states;
        std::fill_n(w.projected, tokens() * width, 0.0f);
        for (std::size_t t = 0; t < tokens(); ++t) {  // B and C belong to all channels
            simd::add_rows(w.partial + t * two, channel_tasks(s), tokens() * two,
                           {w.projected + t * width + s.rank, two});
        }
        const rows step_gradient = rows_of(w.step, s.units), projected_gradient = rows_of(w.projected, width);
        add_linear_input_gradient(at.steps(p), step_gradient, w.projected, width, by);
        add_linear_gradient(step_gradient, {a.projected, tokens(), s.rank, width}, gradient(at.step), by);
        add_bias_gradient(step_gradient, gradient(at.step_bias), by);
        add_linear_input_gradient(at.projections(p), projected_gradient, w.u, s.units, by);
        add_linear_gradient(projected_gradient, rows_of(a.u, s.units), gradient(at.projection), by);
    }
    void convolution() const noexcept {
        const selective_sizes s = at.sizes();
        const std::size_t each = s.window() + s.memory();
        run_tasks(by, channel_tasks(s), [&](std::size_t task) {
            for (std::size_t i = 0; i < all.sequences(); ++i) {
                const convolution_gradients g{.u = w.u,
                                              .x = w.xz,
                                              .window = in.state_gradient.data() + i * each,
                                              .weight = gradient(at.convolution),
                                              .bias = gradient(at.convolution_bias)};
                for_channels(channels_of(s, task), [&](const auto& c) {
                    convolve_back(s, channels, c, a, g, sequence(i), in.initial_state.data() + i * each);
                });
            }
        });
    }
    void inputs() const noexcept {
        const rows xz_gradient = rows_of(w.xz, 2 * at.shape.units);
        add_linear_gradient(xz_gradient, rows_of(in.x.data(), at.shape.inputs), gradient(0), by);
        if (in.x_gradient.empty()) return;
        linear_input_gradient(at.inputs(p), xz_gradient, in.x_gradient.data(), at.shape.inputs, by);
    }
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
