#include "experiment.hpp"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <memory>
#include <stdexcept>
#include <utility>

#include "attention.hpp"
#include "cells.hpp"
#include "layers.hpp"
#include "text.hpp"

namespace language_model {

namespace {

// Independent random numbers of one seed: the same sequences for all models.
constexpr std::uint64_t training_data = 1;

constexpr std::string_view selective = "selective", transformer = "transformer";
constexpr std::size_t units_step = 8;

std::vector<int> long_enough(std::vector<int> tokens, const char* what, const options& o) {
    if (tokens.size() > o.length) return tokens;
    throw std::runtime_error(std::string(what) + " must be longer than a sequence of --length " +
                             std::to_string(o.length) + " characters, has " + std::to_string(tokens.size()));
}

training::stack attention_layers(const options& o, float gain) {
    training::stack inner;
    inner.add<training::linear>(training::linear::shape{.inputs = o.width, .outputs = 3 * o.width});
    inner.add<training::attention>(training::attention::shape{.width = o.width, .heads = o.heads});
    inner.add<training::linear>(training::linear::shape{.inputs = o.width, .outputs = o.width, .gain = gain});
    return inner;
}

/// selective has a convolution and the linear map of its own.
training::stack cell_layers(std::string_view cell, const training::cell_size& size, float gain) {
    training::stack inner;
    if (cell == selective) {
        inner.add(training::make_cell(cell, size));
        return inner;
    }
    inner.add<training::convolution>(training::convolution::shape{.width = size.inputs, .taps = 4});
    inner.add(training::make_cell(cell, size));
    inner.add<training::linear>(training::linear::shape{.inputs = size.units, .outputs = size.inputs, .gain = gain});
    return inner;
}

}  // namespace

corpus read(const options& o) {
    std::string text = read_texts(o.text);
    std::string other = read_texts(o.validation);
    if (o.validation.empty()) {
        const std::size_t cut = text.size() - text.size() / 10;
        other = text.substr(cut);
        text.resize(cut);
    }
    const alphabet known(text);
    return {.vocabulary = known.size(),
            .training = long_enough(known.encode(text), "the training text", o),
            .validation = long_enough(known.encode(other), "the validation text", o)};
}

std::size_t units_of(std::string_view cell, const options& o) {
    const std::size_t width = o.width;
    // Query, key, value and output, and this block's share of the positions.
    const std::size_t most = 4 * (width + 1) * width + o.length * width / o.blocks;
    std::size_t units = units_step;
    while (cell_layers(cell, {.inputs = width, .units = units + units_step}, 1).parameter_count() <= most) {
        units += units_step;
    }
    return units;
}

training::model make_model(const options& o, std::string_view name, std::size_t vocabulary) {
    training::stack body;
    // The sum of all layers starts as large as one.
    const float gain = 1 / std::sqrt(2 * static_cast<float>(o.blocks));
    if (name == transformer) body.add<training::positions>(training::positions::shape{o.length, o.width});
    for (std::size_t i = 0; i < o.blocks; ++i) {
        training::stack inner;
        inner.add<training::rms_norm>(o.width);
        inner.add(std::make_unique<training::stack>(
            name == transformer ? attention_layers(o, gain)
                                : cell_layers(name, {.inputs = o.width, .units = units_of(name, o)}, gain)));
        body.add<training::residual>(std::move(inner));
        body.add(training::mlp(o.width, gain));
    }
    body.add<training::rms_norm>(o.width);
    body.add<training::linear>(training::linear::shape{.inputs = o.width, .outputs = vocabulary});
    return {{.vocabulary = vocabulary, .width = o.width}, std::move(body), o.seed};
}

run_result train(const options& o, std::string_view name, const corpus& texts, multistate::thread_pool& pool,
                 const std::function<void(const curve_point&)>& progress) {
    training::model model = make_model(o, name, texts.vocabulary);
    training::trainer trainer(model,
                              {.learning_rate = static_cast<float>(o.learning_rate),
                               .warm_up = std::min<std::size_t>(50, o.steps / 4),
                               .steps = o.steps},
                              pool);
    training::random_source data(o.seed, training_data);
    const training::batch validation =
        evenly(texts.validation, {.sequences = o.validation_sequences, .length = o.length});
    run_result result{.model = std::string(name), .parameters = model.parameter_count()};
    if (name != transformer) result.units = units_of(name, o);
    training::score since;
    double seconds = 0;
    for (std::size_t step = 1; step <= o.steps; ++step) {
        const std::clock_t begin = std::clock();
        since += trainer.step(sample(texts.training, {.sequences = o.batch, .length = o.length}, data));
        seconds += static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
        if (step % o.every != 0 && step != o.steps) continue;
        result.curve.push_back({.step = step,
                                .seconds = seconds,
                                .training_loss = since.mean_loss(),
                                .validation_loss = trainer.evaluate(validation).mean_loss()});
        progress(result.curve.back());
        since = {};
    }
    return result;
}

}  // namespace language_model
