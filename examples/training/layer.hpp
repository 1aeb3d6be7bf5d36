// What a model is made of: layers, each with a forward and a backward pass.
//
//     training::stack body;
//     body.add<training::rms_norm>(64);
//     body.add<training::linear>(training::linear::shape{.inputs = 64, .outputs = 256});
//     training::float_vector parameters(body.parameter_count()), gradient(parameters.size());
//     body.initialize(parameters, random);
//
//     training::tape tape;                                                      // one per thread
//     const training::pass pass{parameters, {.sequences = 8, .length = 128}, tape};
//     const training::matrix& out = body.forward(in, pass);                     // in [8 * 128, 64], out [8 * 128, 256]
//     const auto& in_gradient = body.backward(out_gradient, pass, gradient);    // adds to gradient
//     tape.clear();                                                             // before a forward without backward
//
// A layer holds its shape only. All parameters of a model lie in one vector. Outputs lie on a tape: forward pushes one
// record per layer, backward pops them in the reverse order. A second step of the same shape allocates next to nothing.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <multistate/recurrent/cell.hpp>

#include "random.hpp"

namespace training {

/// [rows, width]. Row s * length + t is token t of sequence s.
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Aligned, because vector code rounds the unaligned ends of an array differently: results would depend on addresses.
using float_vector = std::vector<float, Eigen::aligned_allocator<float>>;

/// Sequences of equal length, one after the other.
struct batch_shape {
    std::size_t sequences = 0;
    std::size_t length = 0;
    [[nodiscard]] Eigen::Index rows() const noexcept { return static_cast<Eigen::Index>(sequences * length); }
};

/// What one layer leaves behind in forward and needs in backward.
struct record {
    const matrix* in = nullptr;  ///< owned by the layer before, or by the caller
    matrix out;
    matrix in_gradient;
    std::vector<matrix> kept;  ///< whatever else the layer needs
};

/// The records of one forward pass. They keep their memory from step to step.
class tape {
  public:
    record& push(const matrix& in) {
        if (used_ == records_.size()) records_.emplace_back();
        record& r = records_[used_++];
        r.in = &in;
        return r;
    }
    record& pop() noexcept { return records_[--used_]; }
    void clear() noexcept { used_ = 0; }

    multistate::cell_workspace cells;  ///< scratch of all recurrent cells

  private:
    std::deque<record> records_;  // references to records stay valid
    std::size_t used_ = 0;
};

/// What a pass through a layer needs besides its input.
struct pass {
    std::span<const float> parameters;  ///< of this layer
    batch_shape shape;
    training::tape& tape;
    /// The same pass for a part of a layer.
    [[nodiscard]] pass part(std::size_t first, std::size_t count) const {
        return {parameters.subspan(first, count), shape, tape};
    }
};

class layer {
  public:
    virtual ~layer() = default;
    [[nodiscard]] virtual std::size_t inputs() const = 0;
    [[nodiscard]] virtual std::size_t outputs() const = 0;
    [[nodiscard]] virtual std::size_t parameter_count() const = 0;
    virtual void initialize(std::span<float> parameters, random_source& random) const = 0;
    /// Sets the entries of parameters that AdamW's weight decay spares to 0; all are 1 before.
    virtual void mark_decay(std::span<float> /*marks*/) const {}
    /// The output lives on the tape.
    virtual const matrix& forward(const matrix& in, const pass& p) const = 0;
    /// Adds to the gradient of the parameters, and returns the gradient of the input, which lives on the tape.
    virtual const matrix& backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const = 0;
};

/// Layers in a row.
class stack final : public layer {
  public:
    /// Throws std::invalid_argument if the widths do not fit.
    void add(std::unique_ptr<layer> part);
    template <class Layer, class... Arguments>
    void add(Arguments&&... arguments) {
        add(std::make_unique<Layer>(std::forward<Arguments>(arguments)...));
    }

    std::size_t inputs() const override;
    std::size_t outputs() const override;
    std::size_t parameter_count() const override;
    void initialize(std::span<float> parameters, random_source& random) const override;
    void mark_decay(std::span<float> marks) const override;
    const matrix& forward(const matrix& in, const pass& p) const override;
    const matrix& backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const override;

  private:
    std::vector<std::unique_ptr<layer>> parts_;
};

/// in + inner(in).
class residual final : public layer {
  public:
    /// Throws std::invalid_argument if the inner layers change the width.
    explicit residual(stack inner);

    std::size_t inputs() const override { return inner_.inputs(); }
    std::size_t outputs() const override { return inner_.outputs(); }
    std::size_t parameter_count() const override { return inner_.parameter_count(); }
    void initialize(std::span<float> parameters, random_source& random) const override {
        inner_.initialize(parameters, random);
    }
    void mark_decay(std::span<float> marks) const override { inner_.mark_decay(marks); }
    const matrix& forward(const matrix& in, const pass& p) const override;
    const matrix& backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const override;

  private:
    stack inner_;
};

}  // namespace training
