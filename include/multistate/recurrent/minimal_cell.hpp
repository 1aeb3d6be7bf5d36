#pragma once

// The cells of "Were RNNs All We Needed?" (arXiv 2410.01201): h_t = keep_t h_{t-1} + take_t c_t, where the gates keep
// and take and the candidate c depend on x_t alone. So all tokens' gates are one matrix product, and the recurrence is
// a prefix scan. min_gru.hpp and min_lstm.hpp say what the gates are.
//
//     using min_gru = detail::minimal_cell<detail::min_gru_gates>;
//
// A scan has three phases: the effect of each block of 64 tokens on a state, in parallel; the state before each block,
// one block after another; all outputs, in parallel. There are two scans: the direct one (default) and the paper's in
// log space. Both are stable: gates lie in [0, 1], and a log-space sum restarts in each block.
//
// The two scans differ by rounding only. With positive candidates and states all terms of a state are positive, so a
// bound on the relative errors of the terms also bounds that of their sum. To first order in u = 2^-24, where `age` is
// the mean number of tokens since the terms of a state entered it:
//
//     direct       (25 + 14 age) u           a token rounds take * c by 25 u at most, each later one keep * h by 14 u
//     log space    (55 + 32 age) (1 + L) u   errors of logarithms are relative errors of the state. softplus is off by
//                                            10 u, a gate is up to three of them, and sums are off by u; L is the
//                                            greatest magnitude of a map of x, or of a logarithm summed over a block
//
// The age is keep / (1 - keep) for gates that stay the same, so neither bound grows with the length of a text. A gate
// that never forgets makes the age the length. tests/recurrent/oracle.test.cpp computes both bounds for every state.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "multistate/recurrent/cell.hpp"
#include "multistate/recurrent/cell_checks.hpp"
#include "multistate/recurrent/cell_parameters.hpp"
#include "multistate/recurrent/linear.hpp"
#include "multistate/recurrent/minimal_scan.hpp"
#include "multistate/recurrent/sequences.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

/// Parameters: one layer, weights [gates * units, inputs] and bias [gates * units]; the candidate's rows come last.
template <class Gates>
class minimal_cell {
  public:
    static constexpr std::string_view name = Gates::name;
    using shape_type = typename Gates::shape_type;

    static std::size_t parameter_count(const shape_type& s) {
        require_size(who, "inputs", s.inputs);
        require_size(who, "units", s.units);
        return product(who, product(who, Gates::count, s.units), sum(who, s.inputs, 1));
    }

    minimal_cell(const shape_type& s, std::span<const float> parameters)
        : shape_(s), parameters_(who, parameter_count(s), parameters) {}
    minimal_cell(const shape_type& s, std::span<const std::uint16_t> bf16)
        : shape_(s), parameters_(who, parameter_count(s), bf16) {}

    const shape_type& shape() const noexcept { return shape_; }
    std::size_t input_size() const noexcept { return shape_.inputs; }
    std::size_t output_size() const noexcept { return shape_.units; }
    /// The state is the last output.
    std::size_t state_size() const noexcept { return shape_.units; }
    /// [tokens, width]: e^-v for the linear map v of each gate, and the candidates. Width: 2 units for min_gru, 3 units
    /// for min_lstm.
    std::size_t saved_size(std::size_t tokens) const { return product(who, tokens, width()); }

    cell_scratch scratch_for(const cell_limits& most) const {
        const std::size_t rows = (std::max)(most.tokens, most.sequences);
        const std::size_t ends = product(who, time_blocks::most(rows, most.sequences), rows_per_block * shape_.units);
        return {sum(who, product(who, rows, width()), ends), time_blocks::indices(rows, most.sequences)};
    }

    /// One token of each sequence. Reads the parameters once for all of them.
    void step(const cell_step& token, cell_workspace& scratch) const noexcept {
        const std::size_t units = shape_.units, count = checked(*this, token);
        std::span<float> rest = scratch.floats();
        const std::span<float> maps = take_floats(who, rest, count * width());
        const serial by;
        map_inputs(token.x, count, maps.data(), by);
        for (std::size_t s = 0; s < count; ++s) {
            float* const state = token.state.data() + s * units;
            recurrence().step(maps.data() + s * width(), state);
            std::copy_n(state, units, token.out.data() + s * units);
        }
    }

    /// Whole sequences: 2 * width * inputs floating-point operations per token, parallel over time.
    template <executor E = const serial>
    void scan(const cell_scan& text, cell_workspace& scratch, E&& by = {}) const noexcept {
        const sequence_layout layout = checked(*this, text);
        check_log_space(text);
        const std::size_t tokens = layout.tokens();
        std::span<float> rest = scratch.floats();
        std::span<float> maps = text.saved;
        if (maps.empty()) maps = take_floats(who, rest, tokens * width());
        map_inputs(text.x, tokens, maps.data(), by);
        recurrence().scan(layout, {maps.data(), text.state, text.out, text.log_space},
                          block_scratch(layout, rest, scratch.indices()), by);
    }

    /// Costs twice a scan; parallel over time.
    template <executor E = const serial>
    void backward(const cell_backward& text, cell_workspace& scratch, E&& by = {}) const noexcept {
        const sequence_layout layout = checked(*this, text);
        const simd::weights<float> weights{parameters_.floats(who), width(), shape_.inputs};
        const std::size_t tokens = layout.tokens();
        std::span<float> rest = scratch.floats();
        const std::span<float> maps = take_floats(who, rest, tokens * width());
        recurrence().backward(layout, text, maps.data(), block_scratch(layout, rest, scratch.indices()), by);

        const rows dy{maps.data(), tokens, width(), width()}, x{text.x.data(), tokens, shape_.inputs, shape_.inputs};
        float* const dw = text.parameter_gradient.data();
        add_linear_gradient(dy, x, dw, by);
        add_bias_gradient(dy, dw + width() * shape_.inputs, by);
        if (text.x_gradient.empty()) return;
        linear_input_gradient(weights, dy, text.x_gradient.data(), shape_.inputs, by);
    }

  private:
    static constexpr const char* who = Gates::name;

    std::size_t width() const noexcept { return Gates::count * shape_.units; }
    minimal_recurrence<Gates> recurrence() const noexcept { return {Gates(shape_), shape_.candidate, shape_.units}; }

    minimal_scratch block_scratch(const sequence_layout& layout, std::span<float> floats,
                                  std::span<std::size_t> indices) const noexcept {
        const std::size_t tokens = layout.tokens(), sequences = layout.sequences();
        return {take_floats(who, floats, time_blocks::most(tokens, sequences) * rows_per_block * shape_.units),
                take_indices(who, indices, time_blocks::indices(tokens, sequences))};
    }

    template <class E>
    void map_inputs(std::span<const float> x, std::size_t count, float* maps, E& by) const noexcept {
        parameters_.visit([&](const auto* numbers) {
            const auto layer = layer_at(numbers, width(), shape_.inputs);
            linear(layer.weights, layer.bias, {x.data(), count, shape_.inputs, shape_.inputs}, maps, width(), by);
        });
    }

    void check_log_space(const cell_scan& text) const noexcept {
        if (!text.log_space) return;
        check(shape_.candidate == candidate::positive, who, "candidate in log space", "positive", "linear");
        check(std::ranges::none_of(text.state, [](float h) { return h < 0; }), who, "state in log space", "at least 0",
              "negative");
    }

    shape_type shape_;
    cell_parameters parameters_;
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
