// A recurrent cell of the library as a layer.
//
//     const ms::min_gru_shape shape{.inputs = 64, .units = 256};
//     std::vector<training::parameter_block> blocks;                           // how parameters start, by the layout
//     blocks.push_back({.count = 2 * 256 * 64, .start = training::evenly(0.125f)});                    // weights
//     blocks.push_back({.count = 2 * 256, .start = training::evenly(0.125f), .decays = false});        // biases
//     body.add<training::recurrent<ms::min_gru>>(shape, blocks);
//
// cells.hpp knows the blocks of every cell.
//
// Every sequence begins with a state of zeros. The layer runs the cell's scan and backward on the calling thread: the
// trainer gives each thread sequences of its own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <multistate/recurrent/cell.hpp>

#include "layer.hpp"

namespace training {

/// Consecutive parameters of a cell.
struct parameter_block {
    std::size_t count = 0;
    std::function<void(std::span<float>, random_source&)> start;
    bool decays = true;  ///< whether AdamW's weight decay applies
};

/// Starts evenly distributed within +-bound.
inline std::function<void(std::span<float>, random_source&)> evenly(float bound) {
    return [bound](std::span<float> parameters, random_source& random) {
        for (float& w : parameters) w = bound * (2 * random.uniform() - 1);
    };
}

template <multistate::recurrent_cell Cell>
class recurrent final : public layer {
  public:
    using shape = typename Cell::shape_type;

    /// Throws std::invalid_argument if the blocks do not have as many parameters as the cell.
    recurrent(const shape& s, std::vector<parameter_block> blocks)
        : shape_(s), blocks_(std::move(blocks)), parameter_count_(Cell::parameter_count(s)) {
        std::size_t sum = 0;
        for (const parameter_block& b : blocks_) sum += b.count;
        if (sum != parameter_count_) {
            throw std::invalid_argument("recurrent: blocks must have " + std::to_string(parameter_count_) +
                                        " parameters, have " + std::to_string(sum));
        }
        const std::vector<float> zeros(parameter_count_);
        const Cell cell(s, zeros);
        inputs_ = cell.input_size();
        outputs_ = cell.output_size();
    }

    std::size_t inputs() const override { return inputs_; }
    std::size_t outputs() const override { return outputs_; }
    std::size_t parameter_count() const override { return parameter_count_; }

    void initialize(std::span<float> parameters, random_source& random) const override {
        for (const parameter_block& b : blocks_) {
            b.start(parameters.first(b.count), random);
            parameters = parameters.subspan(b.count);
        }
    }
    void mark_decay(std::span<float> marks) const override {
        for (const parameter_block& b : blocks_) {
            if (!b.decays) std::ranges::fill(marks.first(b.count), 0.0f);
            marks = marks.subspan(b.count);
        }
    }

    const matrix& forward(const matrix& in, const pass& p) const override {
        record& r = p.tape.push(in);
        const Cell cell(shape_, p.parameters);
        const auto tokens = static_cast<std::size_t>(in.rows());
        r.out.resize(in.rows(), static_cast<Eigen::Index>(outputs_));
        r.kept.resize(2);
        matrix &state = r.kept[0], &saved = r.kept[1];
        state.setZero(static_cast<Eigen::Index>(p.shape.sequences), static_cast<Eigen::Index>(cell.state_size()));
        saved.resize(1, static_cast<Eigen::Index>(cell.saved_size(tokens)));
        p.tape.cells.reserve(cell, {.sequences = p.shape.sequences, .tokens = tokens});
        cell.scan({.x = floats(in), .state = floats(state), .out = floats(r.out), .saved = floats(saved)},
                  p.tape.cells);
        return r.out;
    }

    const matrix& backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const override {
        record& r = p.tape.pop();
        const Cell cell(shape_, p.parameters);
        r.in_gradient.resize(r.in->rows(), r.in->cols());
        matrix& state = r.kept[0];
        state.setZero();
        matrix state_gradient = matrix::Zero(state.rows(), state.cols());
        cell.backward({.x = floats(*r.in),
                       .initial_state = floats(std::as_const(state)),
                       .out = floats(std::as_const(r.out)),
                       .saved = floats(std::as_const(r.kept[1])),
                       .out_gradient = floats(out_gradient),
                       .state_gradient = floats(state_gradient),
                       .x_gradient = floats(r.in_gradient),
                       .parameter_gradient = gradient},
                      p.tape.cells);
        return r.in_gradient;
    }

  private:
    static std::span<float> floats(matrix& m) { return {m.data(), static_cast<std::size_t>(m.size())}; }
    static std::span<const float> floats(const matrix& m) { return {m.data(), static_cast<std::size_t>(m.size())}; }

    shape shape_;
    std::vector<parameter_block> blocks_;
    std::size_t parameter_count_, inputs_ = 0, outputs_ = 0;
};

}  // namespace training
