// Layers without a memory of earlier tokens, and the causal convolution.
#pragma once

#include "layer.hpp"

namespace training {

/// out = W in + b. Parameters: W [outputs, inputs], b [outputs].
class linear final : public layer {
  public:
    struct shape {
        std::size_t inputs = 0, outputs = 0;
        float gain = 1;  ///< W starts normal with deviation gain / sqrt(inputs), b with zeros
    };
    explicit linear(shape s);

    std::size_t inputs() const override { return shape_.inputs; }
    std::size_t outputs() const override { return shape_.outputs; }
    std::size_t parameter_count() const override { return (shape_.inputs + 1) * shape_.outputs; }
    void initialize(std::span<float> parameters, random_source& random) const override;
    void mark_decay(std::span<float> marks) const override;
    const matrix& forward(const matrix& in, const pass& p) const override;
    const matrix& backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const override;

  private:
    shape shape_;
};

/// out = in / rms(in) * w (arXiv 1910.07467), with 1e-5 added to the mean of the squares. Parameters: w [width], from 1.
class rms_norm final : public layer {
  public:
    explicit rms_norm(std::size_t width);

    std::size_t inputs() const override { return width_; }
    std::size_t outputs() const override { return width_; }
    std::size_t parameter_count() const override { return width_; }
    void initialize(std::span<float> parameters, random_source& random) const override;
    void mark_decay(std::span<float> marks) const override;
    const matrix& forward(const matrix& in, const pass& p) const override;
    const matrix& backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const override;

  private:
    std::size_t width_;
};

/// out = in * sigmoid(in).
class silu final : public layer {
  public:
    explicit silu(std::size_t width) : width_(width) {}

    std::size_t inputs() const override { return width_; }
    std::size_t outputs() const override { return width_; }
    std::size_t parameter_count() const override { return 0; }
    void initialize(std::span<float> /*parameters*/, random_source& /*random*/) const override {}
    const matrix& forward(const matrix& in, const pass& p) const override;
    const matrix& backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const override;

  private:
    std::size_t width_;
};

/// A causal convolution of each channel with its own weights: out[t] = b + sum over k of w[k] * in[t - k].
/// Parameters: w [taps, width], b [width].
class convolution final : public layer {
  public:
    struct shape {
        std::size_t width = 0, taps = 4;
    };
    explicit convolution(shape s);

    std::size_t inputs() const override { return shape_.width; }
    std::size_t outputs() const override { return shape_.width; }
    std::size_t parameter_count() const override { return (shape_.taps + 1) * shape_.width; }
    void initialize(std::span<float> parameters, random_source& random) const override;
    void mark_decay(std::span<float> marks) const override;
    const matrix& forward(const matrix& in, const pass& p) const override;
    const matrix& backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const override;

  private:
    shape shape_;
};

/// residual(rms_norm, linear to 4 * width, silu, linear back): what the blocks of language models end with.
[[nodiscard]] std::unique_ptr<layer> mlp(std::size_t width, float gain);

}  // namespace training
