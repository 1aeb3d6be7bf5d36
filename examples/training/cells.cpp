#include "cells.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include <multistate/recurrent/gru.hpp>
#include <multistate/recurrent/lstm.hpp>
#include <multistate/recurrent/min_gru.hpp>
#include <multistate/recurrent/min_lstm.hpp>
#include <multistate/recurrent/selective.hpp>

#include "recurrent.hpp"

namespace training {

namespace {

namespace ms = multistate;

float root(std::size_t n) { return std::sqrt(static_cast<float>(n)); }

/// Weights, then biases; all start within +-bound, as PyTorch's do.
template <class Cell>
std::unique_ptr<layer> make(const cell_size& size, std::size_t biases, float bound) {
    typename Cell::shape_type shape{};
    shape.inputs = size.inputs;
    shape.units = size.units;
    const std::size_t count = Cell::parameter_count(shape);
    return std::make_unique<recurrent<Cell>>(
        shape, std::vector<parameter_block>{{.count = count - biases, .start = evenly(bound)},
                                            {.count = biases, .start = evenly(bound), .decays = false}});
}

/// As Mamba's code starts: time steps delta from 0.001 to 0.1, evenly by logarithm, and A = -1, -2, …
std::unique_ptr<layer> make_selective(const cell_size& size) {
    const std::size_t units = size.units, states = 16, taps = 4, rank = (size.inputs + 15) / 16;
    const ms::selective_shape shape{.inputs = size.inputs,
                                    .units = units,
                                    .outputs = size.inputs,
                                    .unit_states = states,
                                    .convolution = taps,
                                    .delta_rank = rank};
    const auto delta_bias = [](std::span<float> bias, random_source& random) {
        for (float& b : bias) b = std::log(std::expm1(0.001f * std::pow(100.0f, random.uniform())));
    };
    const auto decay_log = [units](std::span<float> logs, random_source& /*random*/) {
        for (std::size_t i = 0; i < logs.size(); ++i) {
            const std::size_t state = i / units;
            logs[i] = std::log(static_cast<float>(state + 1));
        }
    };
    const auto ones = [](std::span<float> skip, random_source& /*random*/) { std::ranges::fill(skip, 1.0f); };
    std::vector<parameter_block> blocks{
        {.count = 2 * units * size.inputs, .start = evenly(1 / root(size.inputs))},
        {.count = taps * units, .start = evenly(1 / root(taps))},
        {.count = units, .start = evenly(1 / root(taps)), .decays = false},
        {.count = (rank + 2 * states) * units, .start = evenly(1 / root(units))},
        {.count = units * rank, .start = evenly(1 / root(rank))},
        {.count = units, .start = delta_bias, .decays = false},
        {.count = states * units, .start = decay_log, .decays = false},
        {.count = units, .start = ones, .decays = false},
        {.count = size.inputs * units, .start = evenly(1 / root(units))},
    };
    return std::make_unique<recurrent<ms::selective>>(shape, std::move(blocks));
}

}  // namespace

std::unique_ptr<layer> make_cell(std::string_view name, const cell_size& size) {
    const float by_inputs = 1 / root(size.inputs), by_units = 1 / root(size.units);
    if (name == ms::gru::name) return make<ms::gru>(size, 6 * size.units, by_units);
    if (name == ms::lstm::name) return make<ms::lstm>(size, 8 * size.units, by_units);
    if (name == ms::min_gru::name) return make<ms::min_gru>(size, 2 * size.units, by_inputs);
    if (name == ms::min_lstm::name) return make<ms::min_lstm>(size, 3 * size.units, by_inputs);
    if (name == ms::selective::name) return make_selective(size);
    throw std::invalid_argument("there is no cell '" + std::string(name) + "'");
}

}  // namespace training
