// One training run of one model on a text.
//
//     const corpus texts = language_model::read(o);
//     const run_result r = language_model::train(o, "min_gru", texts, pool, progress);
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/execution/thread_pool.hpp>

#include "model.hpp"
#include "options.hpp"

namespace language_model {

inline constexpr std::array<std::string_view, 6> model_names{"min_gru", "min_lstm", "selective",
                                                             "gru",     "lstm",     "transformer"};

/// Characters as tokens.
struct corpus {
    std::size_t vocabulary = 0;
    std::vector<int> training, validation;
};

/// Throws std::runtime_error if a file cannot be read or a text is not longer than a sequence.
[[nodiscard]] corpus read(const options& o);

struct curve_point {
    std::size_t step = 0;
    double seconds = 0;          ///< processor time of training, all threads, without validation
    double training_loss = 0;    ///< mean over the steps since the point before
    double validation_loss = 0;  ///< nats per character
};

struct run_result {
    std::string model;
    std::size_t parameters = 0;
    std::size_t units = 0;  ///< of a cell; 0 for the transformer
    std::vector<curve_point> curve = {};
};

/// Blocks of residual(rms_norm, layer that looks back) and mlp; rms_norm and linear to the vocabulary. The layer that
/// looks back is convolution(4), cell, linear; or selective; or linear, attention, linear. A cell gets as many units as fit into the
/// parameters of attention and its learned positions.
[[nodiscard]] training::model make_model(const options& o, std::string_view name, std::size_t vocabulary);
[[nodiscard]] std::size_t units_of(std::string_view cell, const options& o);

[[nodiscard]] run_result train(const options& o, std::string_view name, const corpus& texts,
                               multistate::thread_pool& pool, const std::function<void(const curve_point&)>& progress);

/// Validation loss by step, then by second.
void print_tables(std::ostream& out, std::span<const run_result> runs);
void write_json(std::ostream& out, const options& o, const corpus& texts, std::span<const run_result> runs);

}  // namespace language_model
