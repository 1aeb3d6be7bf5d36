#pragma once

// The classic cells, GRU and LSTM: their gates depend on the previous state. The maps of all x are one matrix product;
// the rest is computed one token after another. gru.hpp and lstm.hpp say what the gates are.
//
//     using gru = detail::classic_cell<detail::gru_rule>;
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "multistate/recurrent/cell.hpp"
#include "multistate/recurrent/cell_checks.hpp"
#include "multistate/recurrent/cell_parameters.hpp"
#include "multistate/recurrent/classic_scan.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The size of a gru or lstm.
struct classic_shape {
    std::size_t inputs;  ///< floats per token of x
    std::size_t units;   ///< floats per token of out
};

namespace detail {

/// Parameters: weights of x [gates * units, inputs], weights of h [gates * units, units], two biases [gates * units].
template <class Rule>
class classic_cell {
  public:
    static constexpr std::string_view name = Rule::name;
    using shape_type = classic_shape;

    static std::size_t parameter_count(const shape_type& s) {
        require_size(who, "inputs", s.inputs);
        require_size(who, "units", s.units);
        return product(who, product(who, Rule::gates, s.units), sum(who, sum(who, s.inputs, s.units), 2));
    }

    classic_cell(const shape_type& s, std::span<const float> parameters)
        : shape_(s), parameters_(who, parameter_count(s), parameters) {}
    classic_cell(const shape_type& s, std::span<const std::uint16_t> bf16)
        : shape_(s), parameters_(who, parameter_count(s), bf16) {}

    const shape_type& shape() const noexcept { return shape_; }
    std::size_t input_size() const noexcept { return shape_.inputs; }
    std::size_t output_size() const noexcept { return shape_.units; }
    std::size_t state_size() const noexcept { return Rule::states * shape_.units; }
    /// 4 units floats per token for gru, 5 units for lstm: gates after their activations, and what else the rule needs.
    std::size_t saved_size(std::size_t tokens) const { return product(who, tokens, Rule::saved * shape_.units); }

    cell_scratch scratch_for(const cell_limits& most) const {
        const std::size_t rows = (std::max)(most.tokens, most.sequences), u = shape_.units;
        const std::size_t per_token = (std::max)(Rule::saved, Rule::gradients + 1) * u;
        return {sum(who, product(who, rows, per_token), classic_recurrence<Rule>::floats(who, u, most.sequences)),
                classic_recurrence<Rule>::indices(most.sequences)};
    }

    /// One token of each sequence. Reads the parameters once for all of them.
    void step(const cell_step& token, cell_workspace& scratch) const noexcept {
        const std::size_t units = shape_.units, count = checked(*this, token);
        std::span<float> rest = scratch.floats();
        float* const maps = take_floats(who, rest, count * Rule::saved * units).data();
        float* const recurrent = take_floats(who, rest, count * Rule::gates * units).data();
        const serial by;
        parameters_.visit([&](const auto* numbers) {
            map_inputs(numbers, token.x, count, maps, by);
            const auto layer = recurrent_layer(numbers);
            linear(layer.weights, layer.bias, {token.state.data(), count, units, state_size()}, recurrent, width(), by);
        });
        for (std::size_t s = 0; s < count; ++s) {
            float* const state = token.state.data() + s * state_size();
            Rule::advance({maps + s * Rule::saved * units, recurrent + s * width(), state, state, units}, units);
            std::copy_n(state, units, token.out.data() + s * units);
        }
    }

    /// Whole sequences, one token after another: 2 gates * units * (inputs + units) floating-point operations per token
    /// (gates: 3 for gru, 4 for lstm). There is no log-space form; `log_space` is an error.
    template <executor E = const serial>
    void scan(const cell_scan& text, cell_workspace& scratch, E&& by = {}) const noexcept {
        const sequence_layout layout = checked(*this, text);
        check(!text.log_space, who, "log_space", "false: this cell has no such form", "true");
        std::span<float> rest = scratch.floats();
        std::span<float> saved = text.saved;
        if (saved.empty()) saved = take_floats(who, rest, layout.tokens() * Rule::saved * shape_.units);
        classic_recurrence<Rule> recurrence(who, layout, shape_.units, rest, scratch.indices());
        parameters_.visit([&](const auto* numbers) {
            map_inputs(numbers, text.x, layout.tokens(), saved.data(), by);
            recurrence.scan(recurrent_layer(numbers), {saved.data(), text.state, text.out}, by);
        });
    }

    /// Costs twice a scan. One token after another, except for the products that cover all tokens at once.
    template <executor E = const serial>
    void backward(const cell_backward& text, cell_workspace& scratch, E&& by = {}) const noexcept {
        const sequence_layout layout = checked(*this, text);
        const float* const numbers = parameters_.floats(who);
        const std::size_t tokens = layout.tokens(), units = shape_.units;
        std::span<float> rest = scratch.floats();
        float* const gradients = take_floats(who, rest, tokens * Rule::gradients * units).data();
        float* const before = take_floats(who, rest, tokens * units).data();
        classic_recurrence<Rule> recurrence(who, layout, units, rest, scratch.indices());
        recurrence.backward(recurrent_layer(numbers).weights, text, gradients, by);

        copy_past(layout, text, before);
        const std::size_t stride = Rule::gradients * units;
        const rows dy{gradients, tokens, width(), stride}, x{text.x.data(), tokens, shape_.inputs, shape_.inputs};
        float* const dw = text.parameter_gradient.data();
        float* const du = dw + width() * shape_.inputs;
        float* const db = du + width() * units;
        add_linear_gradient(dy, x, dw, by);
        add_bias_gradient(dy, db, by);
        for (std::size_t gate = 0; gate < Rule::gates; ++gate) {
            const rows dh{gradients + Rule::recurrent_gradient(gate) * units, tokens, units, stride};
            add_linear_gradient(dh, {before, tokens, units, units}, du + gate * units * units, by);
            add_bias_gradient(dh, db + width() + gate * units, by);
        }
        if (text.x_gradient.empty()) return;
        linear_input_gradient(simd::weights<float>{numbers, width(), shape_.inputs}, dy, text.x_gradient.data(),
                              shape_.inputs, by);
    }

  private:
    static constexpr const char* who = Rule::name;

    std::size_t width() const noexcept { return Rule::gates * shape_.units; }

    template <class Element>
    cell_layer<Element> recurrent_layer(const Element* numbers) const noexcept {
        const Element* const u = numbers + width() * shape_.inputs;
        return {{u, width(), shape_.units}, u + width() * (shape_.units + 1)};
    }
    template <class Element, class E>
    void map_inputs(const Element* numbers, std::span<const float> x, std::size_t count, float* maps,
                    E& by) const noexcept {
        const Element* const bias = numbers + width() * (shape_.inputs + shape_.units);
        const std::size_t stride = Rule::saved * shape_.units;
        linear(simd::weights<Element>{numbers, width(), shape_.inputs}, bias,
               {x.data(), count, shape_.inputs, shape_.inputs}, maps, stride, by);
    }
    /// h before each token.
    void copy_past(const sequence_layout& layout, const cell_backward& text, float* before) const noexcept {
        const std::size_t units = shape_.units;
        for (std::size_t s = 0, first = 0; s < layout.sequences(); first += layout.length(s++)) {
            std::copy_n(text.initial_state.data() + s * state_size(), units, before + first * units);
            std::copy_n(text.out.data() + first * units, (layout.length(s) - 1) * units, before + (first + 1) * units);
        }
    }

    shape_type shape_;
    cell_parameters parameters_;
};

}  // namespace detail
}}  // namespace multistate::MULTISTATE_TARGET
