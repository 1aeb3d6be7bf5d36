// Every layer's gradients against central differences in the parameters and in the input.
#include "layers.hpp"

#include <cmath>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "attention.hpp"
#include "cells.hpp"

namespace layers_test {

using training::matrix;

constexpr training::batch_shape shape{.sequences = 2, .length = 6};

struct named_layer {
    std::string name;
    std::shared_ptr<training::layer> layer;
};

void PrintTo(const named_layer& l, std::ostream* out) { *out << l.name; }

matrix random_matrix(Eigen::Index columns, training::random_source& random) {
    matrix m(shape.rows(), columns);
    for (float& x : m.reshaped()) x = random.normal();
    return m;
}

/// A layer with parameters, an input, and a loss: the sum of the outputs, each times a fixed number.
class fixture {
  public:
    explicit fixture(const training::layer& layer) : layer_(layer) {
        training::random_source random(7);
        parameters.resize(layer.parameter_count());
        layer.initialize(parameters, random);
        for (float& w : parameters) w += 0.1f * random.normal();  // biases and norms, too
        in = random_matrix(static_cast<Eigen::Index>(layer.inputs()), random);
        weights_ = random_matrix(static_cast<Eigen::Index>(layer.outputs()), random);
    }

    double loss() {
        tape_.clear();
        return layer_.forward(in, pass()).cast<double>().cwiseProduct(weights_.cast<double>()).sum();
    }
    /// Of the loss, by the input; adds to that by the parameters.
    matrix backward(std::vector<float>& gradient) { return layer_.backward(weights_, pass(), gradient); }

    std::vector<float> parameters;
    matrix in;

  private:
    training::pass pass() { return {parameters, shape, tape_}; }

    const training::layer& layer_;
    matrix weights_;
    training::tape tape_;
};

/// The derivative of the loss by x, whose rounding errors and third derivative stay below 2e-3 of these layers' sizes.
double difference(fixture& f, float& x) {
    constexpr float step = 1e-2f;
    const float old = x;
    x = old + step;
    const double above = f.loss();
    const double up = x;
    x = old - step;
    const double below = f.loss(), width = up - static_cast<double>(x);
    x = old;
    return (above - below) / width;
}

class Layers : public testing::TestWithParam<named_layer> {};

TEST_P(Layers, GradientsAreDifferencesOfTheLoss) {
    fixture f(*GetParam().layer);
    std::vector<float> gradient(f.parameters.size());
    f.loss();
    const matrix in_gradient = f.backward(gradient);
    for (std::size_t i = 0; i < gradient.size(); ++i) {
        const double expected = difference(f, f.parameters[i]);
        EXPECT_NEAR(gradient[i], expected, 3e-3 * (1 + std::abs(expected))) << "parameter " << i;
    }
    ASSERT_EQ(in_gradient.rows(), f.in.rows());
    ASSERT_EQ(in_gradient.cols(), f.in.cols());
    for (Eigen::Index i = 0; i < f.in.size(); ++i) {
        const double expected = difference(f, f.in.data()[i]);
        EXPECT_NEAR(in_gradient.data()[i], expected, 3e-3 * (1 + std::abs(expected))) << "input " << i;
    }
}

TEST_P(Layers, AddToTheGradient) {
    fixture f(*GetParam().layer);
    std::vector<float> once(f.parameters.size()), twice(f.parameters.size());
    f.loss();
    f.backward(once);
    for (int i = 0; i < 2; ++i) {
        f.loss();
        f.backward(twice);
    }
    for (std::size_t i = 0; i < once.size(); ++i) {
        EXPECT_NEAR(twice[i], 2 * once[i], 1e-5f * (1 + std::abs(once[i]))) << "parameter " << i;
    }
}

/// No output depends on later tokens or on other sequences.
TEST_P(Layers, AreCausal) {
    fixture f(*GetParam().layer);
    training::tape tape;
    const training::pass pass{f.parameters, shape, tape};
    const matrix before = GetParam().layer->forward(f.in, pass);
    constexpr Eigen::Index changed = 3;  // token 3 of sequence 0
    f.in.row(changed).array() += 1;
    tape.clear();
    const matrix after = GetParam().layer->forward(f.in, pass);
    for (Eigen::Index t = 0; t < before.rows(); ++t) {
        const bool same = before.row(t) == after.row(t);
        if (t == changed) {
            EXPECT_FALSE(same);
        } else if (t < changed || t >= static_cast<Eigen::Index>(shape.length)) {
            EXPECT_TRUE(same) << "token " << t;
        }
    }
}

std::shared_ptr<training::layer> residual_of(std::unique_ptr<training::layer> part) {
    training::stack inner;
    inner.add<training::rms_norm>(part->inputs());
    inner.add(std::move(part));
    return std::make_shared<training::residual>(std::move(inner));
}

std::vector<named_layer> all_layers() {
    using namespace training;
    std::vector<named_layer> all{
        {"linear", std::make_shared<linear>(linear::shape{.inputs = 3, .outputs = 5})},
        {"rms_norm", std::make_shared<rms_norm>(5)},
        {"silu", std::make_shared<silu>(5)},
        {"convolution", std::make_shared<convolution>(convolution::shape{.width = 3, .taps = 4})},
        {"wide_convolution", std::make_shared<convolution>(convolution::shape{.width = 2, .taps = 9})},
        {"positions", std::make_shared<positions>(positions::shape{.length = 7, .width = 3})},
        {"attention", std::make_shared<attention>(attention::shape{.width = 4, .heads = 2})},
        {"mlp", mlp(3, 1)},
        {"residual", residual_of(std::make_unique<linear>(linear::shape{.inputs = 4, .outputs = 4}))},
    };
    for (const std::string_view name : cell_names) {
        all.push_back({std::string(name), make_cell(name, {.inputs = 3, .units = 4})});
    }
    return all;
}

INSTANTIATE_TEST_SUITE_P(All, Layers, testing::ValuesIn(all_layers()),
                         [](const auto& instance) { return instance.param.name; });

TEST(Stack, RefusesWidthsThatDoNotFit) {
    training::stack s;
    s.add<training::linear>(training::linear::shape{.inputs = 3, .outputs = 5});
    EXPECT_THROW(s.add<training::rms_norm>(4), std::invalid_argument);
    EXPECT_THROW(training::residual(std::move(s)), std::invalid_argument);
}

TEST(Attention, RefusesHeadsThatDoNotDivideTheWidth) {
    EXPECT_THROW(training::attention({.width = 6, .heads = 4}), std::invalid_argument);
    EXPECT_THROW((void)training::make_cell("minigru", {.inputs = 3, .units = 4}), std::invalid_argument);
}

TEST(Linear, MultipliesByHand) {
    const training::linear layer({.inputs = 2, .outputs = 2});
    const std::vector<float> parameters{1, 2, 3, 4, 10, 20};  // W = (1 2; 3 4), b = (10 20)
    training::tape tape;
    matrix in(1, 2);
    in << 1, -1;
    const matrix out = layer.forward(in, {parameters, {.sequences = 1, .length = 1}, tape});
    EXPECT_EQ(out(0, 0), 9);
    EXPECT_EQ(out(0, 1), 19);
}

}  // namespace layers_test
