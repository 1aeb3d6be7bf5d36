// A transformer's layers, the baseline of the recurrent cells. Written to be read; memory is quadratic in the length.
//
//     training::stack inner;
//     inner.add<training::rms_norm>(width);
//     inner.add<training::linear>(training::linear::shape{.inputs = width, .outputs = 3 * width});
//     inner.add<training::attention>(training::attention::shape{.width = width, .heads = 4});
//     inner.add<training::linear>(training::linear::shape{.inputs = width, .outputs = width});
#pragma once

#include "layer.hpp"

namespace training {

/// out[t] = in[t] + p[t]: learned positions, as in GPT-2. Parameters: p [length, width].
class positions final : public layer {
  public:
    struct shape {
        std::size_t length = 0;  ///< of the longest sequence
        std::size_t width = 0;
    };
    explicit positions(shape s);

    std::size_t inputs() const override { return shape_.width; }
    std::size_t outputs() const override { return shape_.width; }
    std::size_t parameter_count() const override { return shape_.length * shape_.width; }
    void initialize(std::span<float> parameters, random_source& random) const override;
    const matrix& forward(const matrix& in, const pass& p) const override;
    const matrix& backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const override;

  private:
    shape shape_;
};

/// Causal attention within each sequence. in [rows, 3 * width]: query, key and value of all heads; out [rows, width].
/// No parameters.
class attention final : public layer {
  public:
    struct shape {
        std::size_t width = 0, heads = 1;
    };
    /// Throws std::invalid_argument unless the heads divide the width.
    explicit attention(shape s);

    std::size_t inputs() const override { return 3 * shape_.width; }
    std::size_t outputs() const override { return shape_.width; }
    std::size_t parameter_count() const override { return 0; }
    void initialize(std::span<float> /*parameters*/, random_source& /*random*/) const override {}
    const matrix& forward(const matrix& in, const pass& p) const override;
    const matrix& backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const override;

  private:
    shape shape_;
};

}  // namespace training
