// A model of sequences of tokens: an embedding, layers, and the softmax over the vocabulary; and how it is trained.
//
//     training::stack body;                                              // from width to the vocabulary
//     ...
//     training::model model({.vocabulary = 16, .width = 64}, std::move(body), seed);
//     training::trainer trainer(model, {.learning_rate = 3e-3f, .steps = 1000}, pool);
//     const training::score s = trainer.step(batch);                     // forward, backward, AdamW
//     const training::score t = trainer.evaluate(batch);                 // forward only
//
// The sequences of a batch are shared out in at most 8 parts, each a task of the pool. Parts depend on the batch alone,
// so results do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <multistate/execution/thread_pool.hpp>

#include "adamw.hpp"
#include "layer.hpp"

namespace training {

/// Sequences of equal length, tokens of one after those of the other.
struct batch {
    static constexpr int no_target = -1;

    batch_shape shape;
    std::vector<int> tokens = {};   ///< [sequences, length]
    std::vector<int> targets = {};  ///< [sequences, length]; what to predict at each token, or no_target
};

/// Sums over the tokens that have a target.
struct score {
    double loss = 0;  ///< cross entropy in nats
    std::size_t predictions = 0;
    std::size_t correct = 0;  ///< where the target was the likeliest
    [[nodiscard]] double mean_loss() const { return loss / static_cast<double>(predictions); }
    [[nodiscard]] double accuracy() const { return static_cast<double>(correct) / static_cast<double>(predictions); }
    score& operator+=(const score& other) noexcept;
};

/// Replaces logits [rows, vocabulary] by the gradient of `weight` times the sum of cross entropies.
score cross_entropy(matrix& logits, std::span<const int> targets, float weight);

/// Parameters: the embedding [vocabulary, width], then those of the body.
class model {
  public:
    struct shape {
        std::size_t vocabulary = 0, width = 0;
    };
    /// Throws std::invalid_argument unless the body leads from `width` to `vocabulary`.
    model(shape s, stack body, std::uint64_t seed);

    [[nodiscard]] std::size_t vocabulary() const noexcept { return shape_.vocabulary; }
    [[nodiscard]] std::size_t parameter_count() const noexcept { return parameters_.size(); }
    [[nodiscard]] std::span<float> parameters() noexcept { return parameters_; }
    [[nodiscard]] std::span<const float> parameters() const noexcept { return parameters_; }
    /// 1 where weight decay applies: not on the embedding, biases and norms.
    [[nodiscard]] float_vector decay_marks() const;

    /// What one part of a batch needs. Keeps its memory from step to step.
    struct part {
        training::tape tape;
        matrix embedded, logits;
        float_vector gradient;
    };
    /// Scores sequences [first, first + count) of a batch; with `weight` > 0 also sets the gradient of their loss times
    /// the weight.
    struct range {
        std::size_t first = 0, count = 0;
    };
    score run(const batch& b, range sequences, float weight, part& memory) const;

  private:
    shape shape_;
    stack body_;
    float_vector parameters_;
};

class trainer {
  public:
    trainer(model& trained, const adamw_options& options, multistate::thread_pool& pool);

    /// One step on the mean loss of the batch; returns the score before it. Throws std::runtime_error if the gradient
    /// is not finite.
    score step(const batch& b);
    score evaluate(const batch& b);
    /// The gradient of the mean loss; lives until the next call.
    std::span<const float> gradient(const batch& b, score& s);

  private:
    score run(const batch& b, float weight);

    model& model_;
    adamw optimizer_;
    multistate::thread_pool& pool_;
    float_vector decay_marks_;
    std::vector<model::part> parts_;
};

}  // namespace training
