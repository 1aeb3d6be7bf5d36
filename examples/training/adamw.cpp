#include "adamw.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>
#include <string>

#include <Eigen/Core>

namespace training {

namespace {

constexpr std::size_t piece = 16384;  // parameters of one task; independent of threads, so sums are too

template <class F>
void in_pieces(std::size_t count, multistate::thread_pool& pool, F f) {
    pool.run((count + piece - 1) / piece, [&](std::size_t i) { f(i, i * piece, std::min(piece, count - i * piece)); });
}

auto array(std::span<float> x) { return Eigen::Map<Eigen::ArrayXf>(x.data(), static_cast<Eigen::Index>(x.size())); }
auto array(std::span<const float> x) {
    return Eigen::Map<const Eigen::ArrayXf>(x.data(), static_cast<Eigen::Index>(x.size()));
}

void require(bool holds, const char* argument, const char* bound, float value) {
    if (holds) return;
    throw std::invalid_argument(std::string("adamw: ") + argument + " must be " + bound + ", is " +
                                std::to_string(value));
}

float norm(std::span<const float> gradient, multistate::thread_pool& pool) {
    std::vector<double> sums((gradient.size() + piece - 1) / piece);
    in_pieces(gradient.size(), pool, [&](std::size_t i, std::size_t first, std::size_t count) {
        sums[i] = array(gradient.subspan(first, count)).cast<double>().square().sum();
    });
    double sum = 0;
    for (const double s : sums) sum += s;
    return static_cast<float>(std::sqrt(sum));
}

}  // namespace

adamw::adamw(const adamw_options& options, std::size_t parameter_count)
    : options_(options), mean_(parameter_count), square_(parameter_count) {
    require(options.learning_rate > 0 && std::isfinite(options.learning_rate), "learning_rate", "positive and finite",
            options.learning_rate);
    require(options.beta1 >= 0 && options.beta1 < 1, "beta1", "from 0 to below 1", options.beta1);
    require(options.beta2 >= 0 && options.beta2 < 1, "beta2", "from 0 to below 1", options.beta2);
    require(options.weight_decay >= 0, "weight_decay", "at least 0", options.weight_decay);
    require(options.clip > 0, "clip", "positive", options.clip);
}

float adamw::learning_rate() const {
    const auto at = static_cast<float>(taken_), warm_up = static_cast<float>(options_.warm_up);
    if (taken_ < options_.warm_up) return options_.learning_rate * (at + 1) / warm_up;
    const float rest = std::max(1.0f, static_cast<float>(options_.steps) - warm_up);
    const float done = std::min(1.0f, (at - warm_up) / rest);
    const float cosine = 0.5f * (1 + std::cos(std::numbers::pi_v<float> * done));
    return options_.learning_rate * (options_.least + (1 - options_.least) * cosine);
}

float adamw::step(std::span<float> parameters, std::span<const float> gradient, std::span<const float> decay_marks,
                  multistate::thread_pool& pool) {
    const float length = norm(gradient, pool);
    if (!std::isfinite(length)) throw std::runtime_error("the gradient is not finite; a lower learning rate may help");
    const float scale = length > options_.clip ? options_.clip / length : 1;
    const float rate = learning_rate();
    const auto t = static_cast<float>(++taken_);
    const float mean_correction = 1 / (1 - std::pow(options_.beta1, t));
    const float square_correction = 1 / (1 - std::pow(options_.beta2, t));
    in_pieces(parameters.size(), pool, [&](std::size_t /*i*/, std::size_t first, std::size_t count) {
        auto w = array(parameters.subspan(first, count));
        const auto g = array(gradient.subspan(first, count)) * scale;
        auto m = array(std::span(mean_).subspan(first, count)), s = array(std::span(square_).subspan(first, count));
        m = options_.beta1 * m + (1 - options_.beta1) * g;
        s = options_.beta2 * s + (1 - options_.beta2) * g.square();
        w -= rate * (options_.weight_decay * array(decay_marks.subspan(first, count)) * w +
                     m * mean_correction / ((s * square_correction).sqrt() + options_.epsilon));
    });
    return length;
}

}  // namespace training
