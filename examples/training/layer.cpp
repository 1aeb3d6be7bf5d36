#include "layer.hpp"

#include <stdexcept>
#include <string>

namespace training {

void stack::add(std::unique_ptr<layer> part) {
    if (!parts_.empty() && part->inputs() != outputs()) {
        throw std::invalid_argument("stack: the inputs of a layer must be the outputs of the layer before, " +
                                    std::to_string(outputs()) + ", are " + std::to_string(part->inputs()));
    }
    parts_.push_back(std::move(part));
}

std::size_t stack::inputs() const { return parts_.empty() ? 0 : parts_.front()->inputs(); }
std::size_t stack::outputs() const { return parts_.empty() ? 0 : parts_.back()->outputs(); }

std::size_t stack::parameter_count() const {
    std::size_t sum = 0;
    for (const auto& part : parts_) sum += part->parameter_count();
    return sum;
}

void stack::initialize(std::span<float> parameters, random_source& random) const {
    for (const auto& part : parts_) {
        part->initialize(parameters.first(part->parameter_count()), random);
        parameters = parameters.subspan(part->parameter_count());
    }
}

void stack::mark_decay(std::span<float> marks) const {
    for (const auto& part : parts_) {
        part->mark_decay(marks.first(part->parameter_count()));
        marks = marks.subspan(part->parameter_count());
    }
}

const matrix& stack::forward(const matrix& in, const pass& p) const {
    const matrix* x = &in;
    std::size_t first = 0;
    for (const auto& part : parts_) {
        x = &part->forward(*x, p.part(first, part->parameter_count()));
        first += part->parameter_count();
    }
    return *x;
}

const matrix& stack::backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const {
    const matrix* g = &out_gradient;
    std::size_t end = parameter_count();
    for (auto part = parts_.rbegin(); part != parts_.rend(); ++part) {
        const std::size_t count = (*part)->parameter_count();
        end -= count;
        g = &(*part)->backward(*g, p.part(end, count), gradient.subspan(end, count));
    }
    return *g;
}

residual::residual(stack inner) : inner_(std::move(inner)) {
    if (inner_.inputs() != inner_.outputs()) {
        throw std::invalid_argument("residual: the outputs must be as many as the inputs, " +
                                    std::to_string(inner_.inputs()) + ", are " + std::to_string(inner_.outputs()));
    }
}

const matrix& residual::forward(const matrix& in, const pass& p) const {
    const matrix& inner = inner_.forward(in, p);
    record& r = p.tape.push(in);
    r.out = in + inner;
    return r.out;
}

const matrix& residual::backward(const matrix& out_gradient, const pass& p, std::span<float> gradient) const {
    record& r = p.tape.pop();
    r.in_gradient = out_gradient + inner_.backward(out_gradient, p, gradient);
    return r.in_gradient;
}

}  // namespace training
