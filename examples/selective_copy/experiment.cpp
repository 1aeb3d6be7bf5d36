#include "experiment.hpp"

#include <cmath>
#include <ctime>
#include <utility>

#include "cells.hpp"
#include "layers.hpp"

namespace selective_copy {

namespace {

// Independent random numbers of one seed.
enum stream : std::uint64_t { training_data = 1, validation_data = 2, test_data = 3 };

constexpr std::size_t validation_every = 50;
constexpr std::size_t test_sequences = 1024;

training::score evaluate(training::trainer& trainer, const options& o, std::size_t sequences,
                         training::random_source& random) {
    training::score sum;
    for (std::size_t done = 0; done < sequences; done += o.batch) {
        sum += trainer.evaluate(make_batch(o.task, o.batch, random));
    }
    return sum;
}

}  // namespace

training::model make_model(const options& o, const setting& s) {
    training::stack body;
    const float gain = 1 / std::sqrt(static_cast<float>(s.layers));  // the sum of all layers starts as large as one
    const std::size_t units = o.expansion * o.width;
    for (std::size_t i = 0; i < s.layers; ++i) {
        training::stack inner;
        inner.add<training::rms_norm>(o.width);
        inner.add(training::make_cell(s.cell, {.inputs = o.width, .units = units}));
        inner.add<training::linear>(
            training::linear::shape{.inputs = inner.outputs(), .outputs = o.width, .gain = gain});
        body.add<training::residual>(std::move(inner));
    }
    body.add<training::rms_norm>(o.width);
    body.add<training::linear>(training::linear::shape{.inputs = o.width, .outputs = o.task.vocabulary});
    return {{.vocabulary = o.task.vocabulary, .width = o.width}, std::move(body), s.seed};
}

run_result train(const options& o, const setting& s, multistate::thread_pool& pool,
                 const std::function<void(const curve_point&)>& progress) {
    training::model model = make_model(o, s);
    training::trainer trainer(
        model,
        {.learning_rate = static_cast<float>(o.learning_rate), .weight_decay = 0, .warm_up = 50, .steps = o.steps},
        pool);
    training::random_source data(s.seed, training_data), validation(s.seed, validation_data), test(s.seed, test_data);
    run_result result{.what = s, .parameters = model.parameter_count()};
    training::score since;
    for (std::size_t step = 1; step <= o.steps; ++step) {
        const std::clock_t begin = std::clock();
        since += trainer.step(make_batch(o.task, o.batch, data));
        result.seconds += static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
        if (step % validation_every != 0 && step != o.steps) continue;
        const training::score v = evaluate(trainer, o, test_sequences / 4, validation);
        result.curve.push_back({.step = step, .loss = since.mean_loss(), .accuracy = v.accuracy()});
        progress(result.curve.back());
        since = {};
        if (v.correct == v.predictions) break;
    }
    result.accuracy = evaluate(trainer, o, test_sequences, test).accuracy();
    return result;
}

}  // namespace selective_copy
