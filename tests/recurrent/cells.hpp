#pragma once

// The list of cells that typed tests run over, and an example of each.
#include <cstddef>
#include <span>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/recurrent/recurrent.hpp>

#include "support/random.hpp"

namespace recurrent {

namespace ms = multistate;
using floats = std::vector<float>;

/// THE list: a new cell is one name here.
using cells = testing::Types<ms::gru, ms::lstm, ms::min_gru, ms::min_lstm>;

/// A cell with its parameters. Neither size is a multiple of a vector.
template <class Cell>
struct example {
    using shape_type = typename Cell::shape_type;
    static shape_type usual_shape() { return {.inputs = 7, .units = 21}; }

    explicit example(std::uint64_t seed, const shape_type& s = usual_shape(), float scale = 0.4f)
        : random(seed), parameters(random.floats(Cell::parameter_count(s), scale)), cell(s, parameters) {}
    example(const example&) = delete;

    floats inputs(std::size_t tokens) { return random.floats(tokens * cell.input_size(), 1.5f); }
    /// Not negative, as some forms require.
    floats states(std::size_t sequences) {
        floats result = random.floats(sequences * cell.state_size(), 0.5f);
        for (float& x : result) x += 0.5f;
        return result;
    }

    support::random_numbers random;
    floats parameters;
    Cell cell;
};

/// Tokens and sequences of one call.
struct text {
    floats x;
    floats state;
    std::vector<std::size_t> lengths = {};
};

/// What a scan leaves.
struct outcome {
    floats out, state, saved;
};

template <class Cell, class Executor = const ms::serial>
outcome scan(const Cell& cell, const text& given, Executor&& by = {}, bool log_space = false) {
    const std::size_t tokens = given.x.size() / cell.input_size(), sequences = given.state.size() / cell.state_size();
    outcome result{floats(tokens * cell.output_size()), given.state, floats(cell.saved_size(tokens))};
    ms::cell_workspace scratch(cell, {.sequences = sequences, .tokens = tokens});
    cell.scan({.x = given.x,
               .state = result.state,
               .out = result.out,
               .lengths = given.lengths,
               .saved = result.saved,
               .log_space = log_space},
              scratch, by);
    return result;
}

/// Gradients of the loss: the sum of out * out_weights and final state * state_weights.
struct gradients {
    floats x, state, parameters;
};

template <class Cell, class Executor = const ms::serial>
gradients backward(const Cell& cell, const text& given, const outcome& forward, const floats& out_weights,
                   const floats& state_weights, Executor&& by = {}) {
    const std::size_t tokens = given.x.size() / cell.input_size(), sequences = given.state.size() / cell.state_size();
    gradients result{floats(given.x.size(), 99.0f), state_weights, floats(Cell::parameter_count(cell.shape()))};
    ms::cell_workspace scratch(cell, {.sequences = sequences, .tokens = tokens});
    cell.backward({.x = given.x,
                   .initial_state = given.state,
                   .out = forward.out,
                   .saved = forward.saved,
                   .lengths = given.lengths,
                   .out_gradient = out_weights,
                   .state_gradient = result.state,
                   .x_gradient = result.x,
                   .parameter_gradient = result.parameters},
                  scratch, by);
    return result;
}

inline floats part_of(const floats& x, std::size_t first, std::size_t count) {
    return {x.data() + first, x.data() + first + count};
}

inline void expect_near(const floats& a, std::span<const float> b, double tolerance, const char* what) {
    ASSERT_EQ(a.size(), b.size()) << what;
    for (std::size_t i = 0; i < a.size(); ++i) {
        ASSERT_NEAR(a[i], b[i], tolerance * (1 + std::abs(static_cast<double>(b[i])))) << what << " " << i;
    }
}

}  // namespace recurrent
