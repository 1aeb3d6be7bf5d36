#pragma once

// A selective state space, the recurrence of Mamba. Its step size delta, input matrix B and output matrix C depend on
// the token: h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t, y_t = C_t h_t + D u_t.
//
//     const ms::selective_shape shape{.inputs = 256, .units = 512};       // Mamba's block with expansion 2
//     const ms::selective cell(shape, parameters);                        // parameter_count(shape) floats, not owned
//     ms::cell_workspace scratch(cell, {.sequences = 1, .tokens = 4096});
//     cell.scan({.x = prompt, .state = state, .out = outputs}, scratch);  // then step by step: cell.hpp
//
// paper    Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv 2312.00752
// rule     (x', z) = W_in x; u = SiLU(convolution(x')), causal, for each unit; (d, B, C) = W_x u;
//          delta = softplus(W_dt d + b); h = exp(delta A) h + delta B u with A = -exp(A_log); y = C h + D u;
//          out = W_out (y SiLU(z))
// cost     2 inputs units + units (rank + 2 unit_states) + rank units + outputs units multiplications, and
//          units * unit_states exponentials, for each token
// differs  outputs need not be as many as inputs. Two parameters lie transposed, see below. B is discretized as
//          delta B, as in the authors' code (mamba_ssm); the paper's equation 4 names the zero-order hold.
//
// Parameters, one after the other, with the names of mamba_ssm. Matrices are [rows = outputs, columns = inputs]:
//
//     in_proj.weight   [2 * units, inputs]                    rows of x', then rows of z
//     conv1d.weight    [convolution, units]                   transposed: mamba_ssm has [units, 1, convolution]
//     conv1d.bias      [units]
//     x_proj.weight    [delta_rank + 2 * unit_states, units]  rows of d, then B, then C
//     dt_proj.weight   [units, delta_rank]
//     dt_proj.bias     [units]
//     A_log            [unit_states, units]                   transposed: mamba_ssm has [units, unit_states]
//     D                [units]
//     out_proj.weight  [outputs, units]
//
// The state of a sequence: the last convolution - 1 inputs of the convolution [convolution - 1, units], oldest first;
// then h [unit_states, units].
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "multistate/recurrent/cell.hpp"
#include "multistate/recurrent/cell_checks.hpp"
#include "multistate/recurrent/cell_parameters.hpp"
#include "multistate/recurrent/linear.hpp"
#include "multistate/recurrent/selective_backward.hpp"
#include "multistate/recurrent/selective_channels.hpp"
#include "multistate/recurrent/selective_layout.hpp"
#include "multistate/recurrent/sequences.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// A cell as cell.hpp describes it. The scratch takes about 7 * units floats for each token (backward needs them all),
/// `saved` about 6 * units. A scan is parallel over units, and over blocks of time if there are few units and
/// sequences. There is no log-space form: the decays of a block are one exponential anyway, and the terms have both
/// signs.
class selective {
  public:
    using shape_type = selective_shape;
    static constexpr std::string_view name = "selective";

    /// The number of parameters in the order above. Throws std::invalid_argument for a size that is 0 or too large.
    static std::size_t parameter_count(const selective_shape& given) { return detail::selective_layout(given).end; }

    /// Throws std::invalid_argument for a wrong shape, a wrong number of parameters, or one that is not finite.
    selective(const selective_shape& given, std::span<const float> parameters)
        : at_(given), numbers_(who, at_.end, parameters) {}
    /// The same with parameters as bits of bf16, for step and scan.
    selective(const selective_shape& given, std::span<const std::uint16_t> parameters)
        : at_(given), numbers_(who, at_.end, parameters) {}

    /// The shape with its defaults filled in.
    const selective_shape& shape() const noexcept { return at_.shape; }
    std::size_t input_size() const noexcept { return at_.shape.inputs; }
    std::size_t output_size() const noexcept { return at_.shape.outputs; }
    /// (convolution - 1 + unit_states) * units.
    std::size_t state_size() const noexcept { return sizes().window() + sizes().memory(); }
    /// Floats; each array is padded to a multiple of 16.
    std::size_t saved_size(std::size_t tokens) const noexcept {
        detail::scratch_parts<const float> counter(nullptr);
        detail::arrays_of(counter, sizes(), tokens, true);
        return counter.used();
    }
    cell_scratch scratch_for(const cell_limits& most) const noexcept {
        const std::size_t tokens = (std::max)(most.tokens, most.sequences);  // a step has one of each sequence
        detail::scratch_parts<float> forward(nullptr), back(nullptr);
        static_cast<void>(detail::selective_scratch(forward, sizes(), tokens));
        static_cast<void>(detail::arrays_of(forward, sizes(), tokens, false));
        static_cast<void>(detail::selective_back_scratch(back, sizes(), tokens));
        return {.floats = (std::max)(forward.used(), back.used()), .indices = most.sequences};
    }

    /// One token of each sequence. Reads the parameters once for all of them.
    void step(const cell_step& in, cell_workspace& scratch) const noexcept {
        const std::size_t sequences = detail::checked(*this, in);
        serial by;
        advance({.x = in.x, .state = in.state, .out = in.out}, {who, sequences, sequences, {}}, scratch, by);
    }
    /// Whole sequences. `log_space` is an error.
    template <executor E = serial>
    void scan(const cell_scan& in, cell_workspace& scratch, E&& by = E{}) const noexcept {
        detail::check(!in.log_space, who, "log_space", "false", "true");
        advance(in, detail::checked(*this, in), scratch, by);
    }
    /// From the last token to the first. Computes h again from the states saved every 16 tokens.
    template <executor E = serial>
    void backward(const cell_backward& in, cell_workspace& scratch, E&& by = E{}) const noexcept {
        const float* const p = numbers_.floats(who);
        const detail::sequence_layout all = detail::checked(*this, in);
        const auto firsts = expect_scratch(all, scratch);
        detail::scratch_parts<float> parts(scratch.floats().data());
        const detail::selective_back_scratch w(parts, sizes(), all.tokens());
        detail::scratch_parts<const float> saved(in.saved.data());
        const auto a = detail::arrays_of(saved, sizes(), all.tokens(), true);
        const detail::channel_parameters channels = decode_channels(p, w.channel);
        detail::selective_backward<E>{at_, p, channels, in, a, w, all, firsts, by}.compute();
    }

  private:
    static constexpr const char* who = "selective";

    detail::selective_sizes sizes() const noexcept { return at_.sizes(); }

    /// The first token of each sequence.
    std::span<const std::size_t> expect_scratch(const detail::sequence_layout& all,
                                                cell_workspace& scratch) const noexcept {
        const cell_scratch needed = scratch_for({.sequences = all.sequences(), .tokens = all.tokens()});
        std::span<float> floats = scratch.floats();
        std::span<std::size_t> indices = scratch.indices();
        static_cast<void>(detail::take_floats(who, floats, needed.floats));
        const auto firsts = detail::take_indices(who, indices, needed.indices);
        for (std::size_t s = 0, first = 0; s < all.sequences(); first += all.length(s++)) firsts[s] = first;
        return firsts;
    }

    /// These parameters are few, and every token uses them as floats: bf16 is decoded once per call.
    template <class Element>
    detail::channel_parameters decode_channels(const Element* p, float* to) const noexcept {
        const std::size_t units = at_.shape.units, decays = at_.shape.unit_states * units;
        const auto decoded = [&](std::size_t offset, std::size_t count) {
            const float* const floats = detail::decode_floats(p + offset, count, to);
            to += count;
            return floats;
        };
        const float* const logs = decoded(at_.decay_log, decays);
        float* const decay = to - decays;
        detail::for_channels(decays, [=](std::size_t c, auto some) {
            some.store(-simd::exp(detail::clamped(some.load(logs + c), -87.0f, 87.0f)), decay + c);
        });
        return {.convolution = decoded(at_.convolution, at_.shape.convolution * units),
                .convolution_bias = decoded(at_.convolution_bias, units),
                .decay = decay,
                .skip = decoded(at_.skip, units)};
    }

    rows units_of(const float* x, std::size_t tokens) const noexcept {
        return {x, tokens, at_.shape.units, at_.shape.units};
    }

    /// step and scan.
    template <class E>
    void advance(const cell_scan& in, const detail::sequence_layout& all, cell_workspace& scratch,
                 E& by) const noexcept {
        const std::size_t tokens = all.tokens();
        const auto firsts = expect_scratch(all, scratch);
        detail::scratch_parts<float> parts(scratch.floats().data()), saved(in.saved.data());
        const detail::selective_scratch w(parts, sizes(), tokens);
        auto a = detail::arrays_of(in.saved.empty() ? parts : saved, sizes(), tokens, !in.saved.empty());
        a.gated = w.gated;
        numbers_.visit([&](const auto* p) {
            const detail::channel_parameters channels = decode_channels(p, w.channel);
            multiply(at_.inputs(p), {in.x.data(), tokens, at_.shape.inputs, at_.shape.inputs}, a.xz, by);
            for_tasks(all, firsts, by, [&](std::size_t s, detail::token_range r, const auto& c) {
                detail::convolve_all(sizes(), channels, c, a, r, in.state.data() + s * state_size());
            });
            multiply(at_.projections(p), units_of(a.u, tokens), a.projected, by);
            find_steps(p, a, tokens, by);
            recur(channels, in.state, a, w, all, firsts, by);
            multiply(at_.outputs(p), units_of(a.gated, tokens), in.out.data(), by);
        });
    }
    /// out = x W^T
    template <class Element, class E>
    static void multiply(simd::weights<Element> w, rows x, float* out, E& by) noexcept {
        const auto clear = [=](const detail::linear_tile& t) {
            for (std::size_t i = 0; i < t.rows; ++i) {
                std::fill_n(out + (t.row + i) * w.outputs + t.column, t.columns, 0.0f);
            }
        };
        detail::linear_by_tiles(w, x, out, w.outputs, clear, by);
    }
    /// Calls f(sequence, its tokens, channels), one task for each sequence and task_channels channels.
    template <class E, class F>
    void for_tasks(const detail::sequence_layout& all, std::span<const std::size_t> firsts, E& by,
                   const F& f) const noexcept {
        const std::size_t tasks = detail::channel_tasks(sizes());
        detail::run_tasks(by, all.sequences() * tasks, [&](std::size_t i) {
            const std::size_t s = i / tasks;
            detail::for_channels(detail::channels_of(sizes(), i % tasks), [&](const auto& c) {
                f(s, {firsts[s], 0, all.length(s)}, c);
            });
        });
    }
    template <class Element, class E>
    void find_steps(const Element* p, const detail::selective_arrays<float>& a, std::size_t tokens,
                    E& by) const noexcept {
        const std::size_t units = at_.shape.units;
        linear(at_.steps(p), p + at_.step_bias, {a.projected, tokens, at_.shape.delta_rank, sizes().projected()},
               a.delta, units, by);
        const std::size_t at_once = 64;
        detail::run_tasks(by, detail::parts(tokens, at_once), [&](std::size_t i) {
            const std::size_t count = (std::min)(at_once, tokens - i * at_once);
            simd::transform({a.delta + i * at_once * units, count * units}, 0.0f,
                            [](simd::floats x) { return detail::softplus(x); });
        });
    }
    template <class E>
    void recur(const detail::channel_parameters& p, std::span<float> state, const detail::selective_arrays<float>& a,
               const detail::selective_scratch& w, const detail::sequence_layout& all,
               std::span<const std::size_t> firsts, E& by) const noexcept {
        const auto h = [&](std::size_t s) { return state.data() + s * state_size() + sizes().window(); };
        if (!detail::divides_time(sizes(), all.sequences())) {
            for_tasks(all, firsts, by, [&](std::size_t s, detail::token_range r, const auto& c) {
                detail::recur(sizes(), p, c, a, r, h(s));
            });
            return;
        }
        for (std::size_t s = 0; s < all.sequences(); ++s) {
            detail::recur_in_blocks(sizes(), p, a, {firsts[s], 0, all.length(s)}, h(s), w, by);
        }
    }

    detail::selective_layout at_;
    detail::cell_parameters numbers_;
};
static_assert(recurrent_cell<selective>);

}}  // namespace multistate::MULTISTATE_TARGET
