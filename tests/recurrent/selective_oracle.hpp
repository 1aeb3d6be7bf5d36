#pragma once

// The rule of `selective` in double precision, each number on its own, as its header states it.
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <multistate/recurrent/selective.hpp>

namespace recurrent {

/// One token: updates the state, returns the outputs. Parameters lie as selective.hpp says.
inline std::vector<double> advance_selective(const multistate::selective_shape& given, std::span<const double> p,
                                             std::span<const double> x, std::vector<double>& state) {
    const multistate::selective_shape s = multistate::detail::checked(given);
    const std::size_t units = s.units, window = (s.convolution - 1) * units;
    const auto next = [&](std::size_t rows, std::size_t columns) {
        const auto part = p.first(rows * columns);
        p = p.subspan(rows * columns);
        return [part, columns](std::size_t r, std::size_t c) { return part[r * columns + c]; };
    };
    const auto in = next(2 * units, s.inputs), taps = next(s.convolution, units), bias = next(1, units);
    const auto selection = next(s.delta_rank + 2 * s.unit_states, units), low = next(units, s.delta_rank);
    const auto low_bias = next(1, units), a_log = next(s.unit_states, units), skip = next(1, units);
    const auto out = next(s.outputs, units);
    const auto silu = [](double v) { return v / (1 + std::exp(-v)); };

    std::vector<double> now(units), u(units), y(units), selected(s.delta_rank + 2 * s.unit_states), result(s.outputs);
    for (std::size_t i = 0; i < units; ++i) {
        for (std::size_t c = 0; c < s.inputs; ++c) now[i] += in(i, c) * x[c];
        double sum = bias(0, i) + taps(s.convolution - 1, i) * now[i];
        for (std::size_t j = 0; j + 1 < s.convolution; ++j) sum += taps(j, i) * state[j * units + i];
        u[i] = silu(sum);
    }
    for (std::size_t r = 0; r < selected.size(); ++r) {
        for (std::size_t i = 0; i < units; ++i) selected[r] += selection(r, i) * u[i];
    }
    for (std::size_t i = 0; i < units; ++i) {
        double delta = low_bias(0, i), z = 0;
        for (std::size_t r = 0; r < s.delta_rank; ++r) delta += low(i, r) * selected[r];
        delta = std::log1p(std::exp(delta));
        for (std::size_t c = 0; c < s.inputs; ++c) z += in(units + i, c) * x[c];
        y[i] = skip(0, i) * u[i];
        for (std::size_t n = 0; n < s.unit_states; ++n) {
            double& h = state[window + n * units + i];
            h = std::exp(-delta * std::exp(a_log(n, i))) * h + delta * selected[s.delta_rank + n] * u[i];
            y[i] += selected[s.delta_rank + s.unit_states + n] * h;
        }
        y[i] *= silu(z);
    }
    for (std::size_t r = 0; r < s.outputs; ++r) {
        for (std::size_t i = 0; i < units; ++i) result[r] += out(r, i) * y[i];
    }
    for (std::size_t j = 0; j < window; ++j) state[j] = j + units < window ? state[j + units] : now[j % units];
    return result;
}

}  // namespace recurrent
