#include "layers.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace training {

namespace {

using index = Eigen::Index;
using row_vector = Eigen::RowVectorXf;

/// Consecutive parameters as a matrix or a row.
Eigen::Map<const matrix> view(std::span<const float> parameters, std::size_t rows, std::size_t columns) {
    return {parameters.data(), static_cast<index>(rows), static_cast<index>(columns)};
}
Eigen::Map<matrix> view(std::span<float> parameters, std::size_t rows, std::size_t columns) {
    return {parameters.data(), static_cast<index>(rows), static_cast<index>(columns)};
}
Eigen::Map<const row_vector> row(std::span<const float> parameters) {
    return {parameters.data(), static_cast<index>(parameters.size())};
}
Eigen::Map<row_vector> row(std::span<float> parameters) {
    return {parameters.data(), static_cast<index>(parameters.size())};
}

void require_positive(const char* who, const char* argument, std::size_t value) {
    if (value > 0) return;
    throw std::invalid_argument(std::string(who) + ": " + argument + " must be at least 1, is 0");
}

void fill_normal(std::span<float> parameters, float deviation, random_source& random) {
    for (float& w : parameters) w = deviation * random.normal();
}

}  // namespace

linear::linear(shape s) : shape_(s) {
    require_positive("linear", "inputs", s.inputs);
    require_positive("linear", "outputs", s.outputs);
}

void linear::initialize(std::span<float> parameters, random_source& random) const {
    std::ranges::fill(parameters, 0.0f);
    fill_normal(parameters.first(shape_.inputs * shape_.outputs),
                shape_.gain / std::sqrt(static_cast<float>(shape_.inputs)), random);
}

void linear::mark_decay(std::span<float> marks) const { std::ranges::fill(marks.last(shape_.outputs), 0.0f); }

const matrix& linear::forward(const matrix& in, const pass& p) const {
    record& r = p.tape.push(in);
    r.out.noalias() = in * view(p.parameters, shape_.outputs, shape_.inputs).transpose();
    r.out.rowwise() += row(p.parameters.last(shape_.outputs));
    return r.out;
}

const matrix& linear::backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const {
    record& r = p.tape.pop();
    view(gradient, shape_.outputs, shape_.inputs).noalias() += out_gradient.transpose() * *r.in;
    row(gradient.last(shape_.outputs)) += out_gradient.colwise().sum();
    r.in_gradient.noalias() = out_gradient * view(p.parameters, shape_.outputs, shape_.inputs);
    return r.in_gradient;
}

rms_norm::rms_norm(std::size_t width) : width_(width) { require_positive("rms_norm", "width", width); }

void rms_norm::initialize(std::span<float> parameters, random_source& /*random*/) const {
    std::ranges::fill(parameters, 1.0f);
}

void rms_norm::mark_decay(std::span<float> marks) const { std::ranges::fill(marks, 0.0f); }

const matrix& rms_norm::forward(const matrix& in, const pass& p) const {
    record& r = p.tape.push(in);
    r.kept.resize(1);
    matrix& scale = r.kept[0];  // [rows, 1], 1 / rms
    scale = (in.rowwise().squaredNorm().array() / static_cast<float>(width_) + 1e-5f).rsqrt();
    r.out = (in.array().colwise() * scale.col(0).array()).rowwise() * row(p.parameters).array();
    return r.out;
}

const matrix& rms_norm::backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const {
    record& r = p.tape.pop();
    const matrix& in = *r.in;
    r.in_gradient.resize(in.rows(), in.cols());
    const auto w = row(p.parameters);
    auto w_gradient = row(gradient);
    for (index t = 0; t < in.rows(); ++t) {
        const float scale = r.kept[0](t, 0);
        const row_vector g = out_gradient.row(t).cwiseProduct(w);
        const float along = g.dot(in.row(t)) * scale * scale * scale / static_cast<float>(width_);
        r.in_gradient.row(t) = scale * g - along * in.row(t);
        w_gradient += scale * out_gradient.row(t).cwiseProduct(in.row(t));
    }
    return r.in_gradient;
}

const matrix& silu::forward(const matrix& in, const pass& p) const {
    record& r = p.tape.push(in);
    r.out = in.array() * in.array().logistic();
    return r.out;
}

const matrix& silu::backward(const matrix& out_gradient, const pass& p, std::span<float> /*gradient*/) const {
    record& r = p.tape.pop();
    r.in_gradient = r.in->array().logistic();
    r.in_gradient.array() *= out_gradient.array() * (1.0f + r.in->array() * (1.0f - r.in_gradient.array()));
    return r.in_gradient;
}

convolution::convolution(shape s) : shape_(s) {
    require_positive("convolution", "width", s.width);
    require_positive("convolution", "taps", s.taps);
}

void convolution::initialize(std::span<float> parameters, random_source& random) const {
    std::ranges::fill(parameters, 0.0f);
    fill_normal(parameters.first(shape_.taps * shape_.width), 1 / std::sqrt(static_cast<float>(shape_.taps)), random);
}

void convolution::mark_decay(std::span<float> marks) const { std::ranges::fill(marks.last(shape_.width), 0.0f); }

const matrix& convolution::forward(const matrix& in, const pass& p) const {
    record& r = p.tape.push(in);
    const auto w = view(p.parameters, shape_.taps, shape_.width);
    const auto length = static_cast<index>(p.shape.length);
    r.out = row(p.parameters.last(shape_.width)).replicate(in.rows(), 1);
    for (index first = 0; first < in.rows(); first += length) {
        for (index k = 0; k < std::min(w.rows(), length); ++k) {
            r.out.middleRows(first + k, length - k).array() +=
                in.middleRows(first, length - k).array().rowwise() * w.row(k).array();
        }
    }
    return r.out;
}

const matrix& convolution::backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const {
    record& r = p.tape.pop();
    const auto w = view(p.parameters, shape_.taps, shape_.width);
    auto w_gradient = view(gradient, shape_.taps, shape_.width);
    const auto length = static_cast<index>(p.shape.length);
    r.in_gradient.setZero(out_gradient.rows(), out_gradient.cols());
    for (index first = 0; first < out_gradient.rows(); first += length) {
        for (index k = 0; k < std::min(w.rows(), length); ++k) {
            const auto later = out_gradient.middleRows(first + k, length - k);
            r.in_gradient.middleRows(first, length - k).array() += later.array().rowwise() * w.row(k).array();
            w_gradient.row(k) += later.cwiseProduct(r.in->middleRows(first, length - k)).colwise().sum();
        }
    }
    row(gradient.last(shape_.width)) += out_gradient.colwise().sum();
    return r.in_gradient;
}

std::unique_ptr<layer> mlp(std::size_t width, float gain) {
    stack inner;
    inner.add<rms_norm>(width);
    inner.add<linear>(linear::shape{.inputs = width, .outputs = 4 * width});
    inner.add<silu>(4 * width);
    inner.add<linear>(linear::shape{.inputs = 4 * width, .outputs = width, .gain = gain});
    return std::make_unique<residual>(std::move(inner));
}

}  // namespace training
