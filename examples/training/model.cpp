#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace training {

namespace {

using index = Eigen::Index;

constexpr std::size_t most_parts = 8;

void check(const batch& b, std::size_t vocabulary) {
    const auto rows = static_cast<std::size_t>(b.shape.rows());
    if (rows == 0 || b.tokens.size() != rows || b.targets.size() != rows) {
        throw std::invalid_argument("batch: tokens and targets must be " + std::to_string(b.shape.sequences) +
                                    " sequences of " + std::to_string(b.shape.length) + ", at least one token, are " +
                                    std::to_string(b.tokens.size()) + " and " + std::to_string(b.targets.size()));
    }
    const auto largest = static_cast<int>(vocabulary) - 1;
    const auto [least, greatest] = std::ranges::minmax(b.tokens);
    if (least < 0 || greatest > largest || std::ranges::max(b.targets) > largest) {
        throw std::invalid_argument("batch: tokens must be from 0 to " + std::to_string(largest) + ", are from " +
                                    std::to_string(least) + " to " + std::to_string(greatest));
    }
}

}  // namespace

score& score::operator+=(const score& other) noexcept {
    loss += other.loss;
    predictions += other.predictions;
    correct += other.correct;
    return *this;
}

score cross_entropy(matrix& logits, std::span<const int> targets, float weight) {
    score s;
    for (index t = 0; t < logits.rows(); ++t) {
        const int target = targets[static_cast<std::size_t>(t)];
        auto row = logits.row(t).array();
        if (target == batch::no_target) {
            row.setZero();
            continue;
        }
        index likeliest = 0;
        const float most = row.maxCoeff(&likeliest);
        row -= most;
        const float own = row(target);
        row = row.exp();
        const float sum = row.sum();
        s.loss += std::log(static_cast<double>(sum)) - static_cast<double>(own);
        s.correct += likeliest == target ? 1 : 0;
        ++s.predictions;
        row *= weight / sum;
        row(target) -= weight;
    }
    return s;
}

model::model(shape s, stack body, std::uint64_t seed) : shape_(s), body_(std::move(body)) {
    if (s.vocabulary == 0 || s.width == 0 || body_.inputs() != s.width || body_.outputs() != s.vocabulary) {
        throw std::invalid_argument("model: the body must lead from width " + std::to_string(s.width) +
                                    " to vocabulary " + std::to_string(s.vocabulary) + ", leads from " +
                                    std::to_string(body_.inputs()) + " to " + std::to_string(body_.outputs()));
    }
    const std::size_t embedding = s.vocabulary * s.width;
    parameters_.resize(embedding + body_.parameter_count());
    random_source random(seed);
    for (float& w : std::span(parameters_).first(embedding)) w = random.normal();
    body_.initialize(std::span(parameters_).subspan(embedding), random);
}

float_vector model::decay_marks() const {
    const std::size_t embedding = shape_.vocabulary * shape_.width;
    float_vector marks(parameters_.size(), 1.0f);
    std::fill_n(marks.begin(), embedding, 0.0f);
    body_.mark_decay(std::span(marks).subspan(embedding));
    return marks;
}

score model::run(const batch& b, range sequences, float weight, part& memory) const {
    const batch_shape part_shape{.sequences = sequences.count, .length = b.shape.length};
    const std::size_t first = sequences.first * b.shape.length, count = sequences.count * b.shape.length;
    const auto tokens = std::span(b.tokens).subspan(first, count);
    const auto width = static_cast<index>(shape_.width);
    const std::size_t embedding = shape_.vocabulary * shape_.width;
    const Eigen::Map<const matrix> table(parameters_.data(), static_cast<index>(shape_.vocabulary), width);

    memory.embedded.resize(part_shape.rows(), width);
    for (index t = 0; t < part_shape.rows(); ++t)
        memory.embedded.row(t) = table.row(tokens[static_cast<std::size_t>(t)]);
    memory.tape.clear();
    const pass p{std::span(parameters_).subspan(embedding), part_shape, memory.tape};
    memory.logits = body_.forward(memory.embedded, p);
    const score s = cross_entropy(memory.logits, std::span(b.targets).subspan(first, count), weight);
    if (weight == 0) return s;

    memory.gradient.assign(parameters_.size(), 0.0f);
    const matrix& g = body_.backward(memory.logits, p, std::span(memory.gradient).subspan(embedding));
    Eigen::Map<matrix> table_gradient(memory.gradient.data(), table.rows(), width);
    for (index t = 0; t < part_shape.rows(); ++t) table_gradient.row(tokens[static_cast<std::size_t>(t)]) += g.row(t);
    return s;
}

trainer::trainer(model& trained, const adamw_options& options, multistate::thread_pool& pool)
    : model_(trained),
      optimizer_(options, trained.parameter_count()),
      pool_(pool),
      decay_marks_(trained.decay_marks()) {}

score trainer::run(const batch& b, float weight) {
    const std::size_t parts = std::min(most_parts, b.shape.sequences);
    if (parts_.size() < parts) parts_.resize(parts);
    std::vector<score> scores(parts);
    pool_.run(parts, [&](std::size_t i) {
        const std::size_t first = b.shape.sequences * i / parts, end = b.shape.sequences * (i + 1) / parts;
        scores[i] = model_.run(b, {.first = first, .count = end - first}, weight, parts_[i]);
    });
    score sum;
    for (const score& s : scores) sum += s;
    return sum;
}

std::span<const float> trainer::gradient(const batch& b, score& s) {
    check(b, model_.vocabulary());
    const auto predictions = std::ranges::count_if(b.targets, [](int t) { return t != batch::no_target; });
    if (predictions == 0) throw std::invalid_argument("batch: targets must be at least 1, are 0");
    s = run(b, 1 / static_cast<float>(predictions));
    const std::size_t parts = std::min(most_parts, b.shape.sequences);
    constexpr std::size_t piece = 16384;
    float_vector& sum = parts_[0].gradient;
    pool_.run((sum.size() + piece - 1) / piece, [&](std::size_t i) {
        const auto first = static_cast<index>(i * piece);
        const index count = std::min<index>(piece, static_cast<index>(sum.size()) - first);
        for (std::size_t k = 1; k < parts; ++k) {
            Eigen::Map<Eigen::ArrayXf>(sum.data() + first, count) +=
                Eigen::Map<const Eigen::ArrayXf>(parts_[k].gradient.data() + first, count);
        }
    });
    return sum;
}

score trainer::step(const batch& b) {
    score s;
    const auto g = gradient(b, s);
    optimizer_.step(model_.parameters(), g, decay_marks_, pool_);
    return s;
}

score trainer::evaluate(const batch& b) {
    check(b, model_.vocabulary());
    return run(b, 0);
}

}  // namespace training
