#include "attention.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

namespace training {

namespace {

using index = Eigen::Index;

/// Calls f(first row, first column, number) for each sequence and head.
template <class F>
void for_each_head(const pass& p, const attention::shape& s, F f) {
    const auto length = static_cast<index>(p.shape.length), head_dim = static_cast<index>(s.width / s.heads);
    std::size_t number = 0;
    for (index first = 0; first < p.shape.rows(); first += length) {
        for (std::size_t h = 0; h < s.heads; ++h) f(first, static_cast<index>(h) * head_dim, number++);
    }
}

/// Rows of logits become probabilities; no token sees a later one.
void causal_softmax(matrix& logits) {
    for (index t = 0; t < logits.rows(); ++t) {
        auto seen = logits.row(t).head(t + 1).array();
        seen = (seen - seen.maxCoeff()).exp();
        seen /= seen.sum();
        logits.row(t).tail(logits.cols() - t - 1).setZero();
    }
}

}  // namespace

positions::positions(shape s) : shape_(s) {
    if (s.length > 0 && s.width > 0) return;
    throw std::invalid_argument("positions: length and width must be at least 1, are " + std::to_string(s.length) +
                                " and " + std::to_string(s.width));
}

void positions::initialize(std::span<float> parameters, random_source& random) const {
    for (float& w : parameters) w = random.normal();  // as large as embeddings, or nobody would see them
}

const matrix& positions::forward(const matrix& in, const pass& p) const {
    if (p.shape.length > shape_.length) {
        throw std::invalid_argument("positions: a sequence must have at most " + std::to_string(shape_.length) +
                                    " tokens, has " + std::to_string(p.shape.length));
    }
    record& r = p.tape.push(in);
    const auto length = static_cast<index>(p.shape.length);
    const Eigen::Map<const matrix> table(p.parameters.data(), length, in.cols());
    r.out = in;
    for (index first = 0; first < in.rows(); first += length) r.out.middleRows(first, length) += table;
    return r.out;
}

const matrix& positions::backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const {
    p.tape.pop();
    const auto length = static_cast<index>(p.shape.length);
    Eigen::Map<matrix> table(gradient.data(), length, out_gradient.cols());
    for (index first = 0; first < out_gradient.rows(); first += length) table += out_gradient.middleRows(first, length);
    return out_gradient;
}

attention::attention(shape s) : shape_(s) {
    if (s.heads > 0 && s.width > 0 && s.width % s.heads == 0) return;
    throw std::invalid_argument("attention: width must be a positive multiple of " + std::to_string(s.heads) +
                                " heads, is " + std::to_string(s.width));
}

const matrix& attention::forward(const matrix& in, const pass& p) const {
    record& r = p.tape.push(in);
    const auto width = static_cast<index>(shape_.width), head_dim = static_cast<index>(shape_.width / shape_.heads);
    const auto length = static_cast<index>(p.shape.length);
    const float scale = 1 / std::sqrt(static_cast<float>(head_dim));
    r.out.resize(in.rows(), width);
    r.kept.resize(p.shape.sequences * shape_.heads);
    for_each_head(p, shape_, [&](index first, index column, std::size_t number) {
        const auto q = in.block(first, column, length, head_dim);
        const auto k = in.block(first, width + column, length, head_dim);
        const auto v = in.block(first, 2 * width + column, length, head_dim);
        matrix& probabilities = r.kept[number];
        probabilities.noalias() = scale * q * k.transpose();
        causal_softmax(probabilities);
        r.out.block(first, column, length, head_dim).noalias() = probabilities * v;
    });
    return r.out;
}

const matrix& attention::backward(const matrix& out_gradient, const pass& p, std::span<float> /*gradient*/) const {
    record& r = p.tape.pop();
    const matrix& in = *r.in;
    const auto width = static_cast<index>(shape_.width), head_dim = static_cast<index>(shape_.width / shape_.heads);
    const auto length = static_cast<index>(p.shape.length);
    const float scale = 1 / std::sqrt(static_cast<float>(head_dim));
    r.in_gradient.resize(in.rows(), in.cols());
    matrix logits_gradient;
    for_each_head(p, shape_, [&](index first, index column, std::size_t number) {
        const auto block = [&](auto& m, index part) -> decltype(auto) {
            return m.block(first, part * width + column, length, head_dim);
        };
        const matrix& probabilities = r.kept[number];
        const auto g = block(out_gradient, 0);
        block(r.in_gradient, 2).noalias() = probabilities.transpose() * g;
        // Of the softmax: dL = P * (dP - sum over the row of P * dP), where dP = g V^T.
        logits_gradient.noalias() = g * block(in, 2).transpose();
        const Eigen::VectorXf means = probabilities.cwiseProduct(logits_gradient).rowwise().sum();
        logits_gradient = probabilities.array() * (logits_gradient.colwise() - means).array() * scale;
        block(r.in_gradient, 0).noalias() = logits_gradient * block(in, 1);
        block(r.in_gradient, 1).noalias() = logits_gradient.transpose() * block(in, 0);
    });
    return r.in_gradient;
}

}  // namespace training
