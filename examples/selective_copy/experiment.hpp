// One training run of selective copying.
//
//     const run_result r = selective_copy::train(o, {.cell = "min_gru", .layers = 2, .seed = 1}, pool, progress);
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

#include <multistate/execution/thread_pool.hpp>

#include "model.hpp"
#include "options.hpp"

namespace selective_copy {

struct setting {
    std::string cell;
    std::size_t layers = 1;
    std::uint64_t seed = 1;
};

/// The mean over the steps since the point before, and validation on sequences that come in no step.
struct curve_point {
    std::size_t step = 0;
    double loss = 0;
    double accuracy = 0;  ///< validation
};

struct run_result {
    setting what;
    std::size_t parameters = 0;
    double accuracy = 0;  ///< on 1,024 new sequences, after the last step
    double seconds = 0;   ///< processor time of training, all threads, without validation
    std::vector<curve_point> curve = {};
};

/// Embedding; layers of residual(rms_norm, cell, linear); rms_norm and linear to the vocabulary.
[[nodiscard]] training::model make_model(const options& o, const setting& s);

/// Trains for at most o.steps. Stops early when all tokens of a validation are right.
[[nodiscard]] run_result train(const options& o, const setting& s, multistate::thread_pool& pool,
                               const std::function<void(const curve_point&)>& progress);

/// Accuracy by cell and layers: mean and deviation over seeds.
void print_table(std::ostream& out, const options& o, std::span<const run_result> runs);
void write_json(std::ostream& out, const options& o, std::span<const run_result> runs);

}  // namespace selective_copy
