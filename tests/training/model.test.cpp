// The loss, the optimizer, and training as a whole.
#include "model.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "cells.hpp"
#include "layers.hpp"

namespace model_test {

constexpr std::size_t vocabulary = 5, width = 8;

training::model small_model(std::uint64_t seed) {
    training::stack inner;
    inner.add<training::rms_norm>(width);
    inner.add(training::make_cell("min_gru", {.inputs = width, .units = width}));
    training::stack body;
    body.add<training::residual>(std::move(inner));
    body.add<training::linear>(training::linear::shape{.inputs = width, .outputs = vocabulary});
    return {{.vocabulary = vocabulary, .width = width}, std::move(body), seed};
}

/// The target of a token is the token before it: one state remembers that.
training::batch previous_tokens(std::size_t sequences, training::random_source& random) {
    training::batch b;
    b.shape = {.sequences = sequences, .length = 10};
    for (std::size_t i = 0; i < sequences * b.shape.length; ++i) {
        b.tokens.push_back(static_cast<int>(random.below(vocabulary)));
        b.targets.push_back(i % b.shape.length == 0 ? training::batch::no_target : b.tokens[i - 1]);
    }
    return b;
}

TEST(CrossEntropy, ByHand) {
    training::matrix logits(3, 2);
    logits << 0, std::log(3.0f), 5, 5, 7, 9;
    const std::vector<int> targets{1, 0, training::batch::no_target};
    const training::score s = training::cross_entropy(logits, targets, 2);
    EXPECT_NEAR(s.loss, std::log(4.0 / 3.0) + std::log(2.0), 1e-6);
    EXPECT_EQ(s.predictions, 2u);
    EXPECT_EQ(s.correct, 2u);                                     // the first of equal logits counts as the likeliest
    const std::vector<float> expected{0.5f, -0.5f, -1, 1, 0, 0};  // 2 (p - target)
    for (Eigen::Index i = 0; i < 6; ++i) EXPECT_NEAR(logits.data()[i], expected[static_cast<std::size_t>(i)], 1e-6f);
}

TEST(Model, GradientsAreDifferencesOfTheLoss) {
    training::model model = small_model(3);
    multistate::thread_pool pool(1);
    training::trainer trainer(model, {}, pool);
    training::random_source random(3);
    const training::batch b = previous_tokens(3, random);
    training::score s;
    const auto g = trainer.gradient(b, s);
    const std::vector<float> gradient(g.begin(), g.end());
    constexpr float step = 1e-3f;  // short, because the candidate of min_gru has a kink at 0
    for (std::size_t i = 0; i < gradient.size(); i += 3) {
        float& w = model.parameters()[i];
        const float old = w;
        w = old + step;
        const double above = trainer.evaluate(b).mean_loss();
        w = old - step;
        const double below = trainer.evaluate(b).mean_loss();
        w = old;
        EXPECT_NEAR(gradient[i], (above - below) / (2 * static_cast<double>(step)), 5e-4) << "parameter " << i;
    }
}

TEST(Trainer, ResultsDoNotDependOnThreads) {
    std::vector<std::vector<float>> results;
    for (const std::size_t threads : {1u, 2u, 3u}) {
        training::model model = small_model(1);
        multistate::thread_pool pool(threads);
        training::trainer trainer(model, {.steps = 5}, pool);
        training::random_source random(2);
        for (int i = 0; i < 5; ++i) trainer.step(previous_tokens(11, random));
        results.emplace_back(model.parameters().begin(), model.parameters().end());
    }
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
}

TEST(Trainer, LearnsToRememberOneToken) {
    training::model model = small_model(1);
    multistate::thread_pool pool(1);
    training::trainer trainer(model, {.learning_rate = 0.02f, .weight_decay = 0, .warm_up = 20, .steps = 300}, pool);
    training::random_source random(2);
    for (int i = 0; i < 300; ++i) trainer.step(previous_tokens(16, random));
    EXPECT_GT(trainer.evaluate(previous_tokens(64, random)).accuracy(), 0.9);  // guessing: 0.2
}

TEST(Trainer, RefusesBatchesThatMakeNoSense) {
    training::model model = small_model(1);
    multistate::thread_pool pool(1);
    training::trainer trainer(model, {}, pool);
    training::random_source random(2);
    training::batch b = previous_tokens(2, random);
    b.tokens[3] = vocabulary;
    EXPECT_THROW(trainer.step(b), std::invalid_argument);
    b.tokens[3] = -1;
    EXPECT_THROW(trainer.step(b), std::invalid_argument);
    b.tokens.pop_back();
    EXPECT_THROW(trainer.evaluate(b), std::invalid_argument);
    b = previous_tokens(2, random);
    b.targets.assign(b.targets.size(), training::batch::no_target);
    EXPECT_THROW(trainer.step(b), std::invalid_argument);
}

TEST(Trainer, StopsWhenTheGradientIsNotFinite) {
    training::model model = small_model(1);
    multistate::thread_pool pool(1);
    training::trainer trainer(model, {}, pool);
    training::random_source random(2);
    model.parameters().back() = std::numeric_limits<float>::infinity();
    EXPECT_THROW(trainer.step(previous_tokens(2, random)), std::runtime_error);
}

TEST(AdamW, ByHand) {
    multistate::thread_pool pool(1);
    training::adamw optimizer({.learning_rate = 0.1f,
                               .beta1 = 0.5f,
                               .beta2 = 0.5f,
                               .weight_decay = 0.5f,
                               .clip = 10,
                               .warm_up = 0,
                               .steps = 1000000},
                              2);
    std::vector<float> w{1, 1};
    const std::vector<float> g{3, -4}, marks{1, 0};
    EXPECT_NEAR(optimizer.step(w, g, marks, pool), 5, 1e-6f);
    // The first step of Adam is the sign of the gradient, whatever its size.
    EXPECT_NEAR(w[0], 1 - 0.1f * (0.5f + 1), 1e-6f);
    EXPECT_NEAR(w[1], 1 + 0.1f, 1e-6f);
    const std::vector<float> zero{0, 0};
    optimizer.step(w, zero, marks, pool);
    // The mean is -1 and the mean square 4; both are corrected by 1 / (1 - 1/4).
    EXPECT_NEAR(w[1], 1.1f + 0.1f * (4.0f / 3.0f) / std::sqrt(16.0f / 3.0f), 1e-6f);
}

TEST(AdamW, ClipsLongGradients) {
    multistate::thread_pool pool(1);
    const training::adamw_options options{.learning_rate = 0.1f, .clip = 1, .warm_up = 0};
    training::adamw one(options, 1), other(options, 1);
    std::vector<float> a{0}, b{0};
    const std::vector<float> marks{0};
    for (const float g : {1.0f, 100.0f}) one.step(a, std::vector<float>{g}, marks, pool);
    for (const float g : {1.0f, 1.0f}) other.step(b, std::vector<float>{g}, marks, pool);
    EXPECT_EQ(a, b);
}

TEST(AdamW, WarmsUpThenFallsToTheLeast) {
    multistate::thread_pool pool(1);
    training::adamw optimizer({.learning_rate = 1, .warm_up = 4, .steps = 12, .least = 0.1f}, 1);
    std::vector<float> rates, w{0};
    for (int i = 0; i < 13; ++i) {
        rates.push_back(optimizer.learning_rate());
        optimizer.step(w, std::vector<float>{1}, std::vector<float>{0}, pool);
    }
    EXPECT_FLOAT_EQ(rates[0], 0.25f);
    EXPECT_FLOAT_EQ(rates[3], 1);
    EXPECT_FLOAT_EQ(rates[4], 1);
    EXPECT_FLOAT_EQ(rates[8], 0.55f);
    EXPECT_FLOAT_EQ(rates[12], 0.1f);
}

TEST(AdamW, RefusesNumbersThatMakeNoSense) {
    EXPECT_THROW(training::adamw({.learning_rate = 0}, 1), std::invalid_argument);
    EXPECT_THROW(training::adamw({.beta1 = 1}, 1), std::invalid_argument);
    EXPECT_THROW(training::adamw({.clip = 0}, 1), std::invalid_argument);
}

}  // namespace model_test
