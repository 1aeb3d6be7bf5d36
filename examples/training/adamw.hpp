// AdamW (arXiv 1711.05101) on one vector of parameters, with gradients clipped to a norm, a warm-up and a cosine.
//
//     training::adamw optimizer({.learning_rate = 3e-3f, .steps = 1000}, parameters.size());
//     optimizer.step(parameters, gradient, decay_marks, pool);
#pragma once

#include <cstddef>
#include <span>

#include <multistate/execution/thread_pool.hpp>

#include "layer.hpp"

namespace training {

struct adamw_options {
    float learning_rate = 3e-3f;  ///< the highest
    float beta1 = 0.9f, beta2 = 0.95f;
    float epsilon = 1e-8f;
    float weight_decay = 0.1f;  ///< times the learning rate
    float clip = 1;             ///< the greatest norm of a gradient
    std::size_t warm_up = 50;   ///< steps
    std::size_t steps = 1000;   ///< the learning rate falls along half a cosine to `least` at this step
    float least = 0.1f;         ///< share of learning_rate
};

class adamw {
  public:
    /// Throws std::invalid_argument for numbers that make no sense.
    adamw(const adamw_options& options, std::size_t parameter_count);

    /// What the next step multiplies with.
    [[nodiscard]] float learning_rate() const;
    /// One step. `decay_marks` has 1 where weight decay applies, 0 elsewhere. Returns the norm of the gradient.
    float step(std::span<float> parameters, std::span<const float> gradient, std::span<const float> decay_marks,
               multistate::thread_pool& pool);

  private:
    adamw_options options_;
    std::size_t taken_ = 0;
    float_vector mean_, square_;
};

}  // namespace training
