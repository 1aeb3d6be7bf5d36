// Decoding with a fixed memory: the fewer states a sequence keeps, the more sequences are decoded together.
//
//     const auto rows = demo::measure_batches(model, text, {.states = {64, 128}}, {});   // full first, then 64, 128
//     rows[1].batch                                            // as many caches as fit where 8 of full do
//     demo::relative_throughput(rows[1], rows[0])              // tokens per second of the whole model, full is 1
//
// A sequence decodes as many tokens as the text has. Its cache grows meanwhile, so that a step is timed at the middle of
// each quarter of the text, and the mean of the four counts. All rows take turns, so that what disturbs the machine
// disturbs all of them alike.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <multistate/evaluation/perplexity.hpp>

#include "llama.hpp"
#include "sequences.hpp"

namespace demo {

struct batch_plan {
    std::vector<std::size_t> states;  ///< under TOVA; full is measured anyway
    std::size_t full_batch = 8;       ///< as in the paper
    std::size_t turns = 15;
    double seconds = 60;  ///< after so many, five turns are enough
};

/// What one size of the cache came to. Seconds are by turn, of one step of the whole batch.
struct batch_row {
    std::size_t states;       ///< the length of the text for full
    std::size_t batch;        ///< sequences that are decoded together
    std::size_t cache_bytes;  ///< of one sequence, measured
    std::vector<double> seconds;
    std::vector<double> empty_seconds;  ///< with caches that hold next to nothing: what is not attention

    [[nodiscard]] double step_seconds() const;  ///< median
    [[nodiscard]] double tokens_per_second() const;
    /// The share (0 to 1) of a step that depends on how much the caches hold.
    [[nodiscard]] ms::estimate attention_share() const;
};

/// Median over turns of a ratio of two rows, with an error that outliers do not move.
[[nodiscard]] ms::estimate relative_throughput(const batch_row& row, const batch_row& other);
[[nodiscard]] ms::estimate relative_latency(const batch_row& row, const batch_row& other);
/// The throughput of `full` if only its batch were that of `row`, and if only its caches were those of `row`. Each
/// sequence adds its attention to the seconds of a step with empty caches.
[[nodiscard]] ms::estimate throughput_by_batch(const batch_row& row, const batch_row& full);
[[nodiscard]] ms::estimate throughput_by_states(const batch_row& row, const batch_row& full);
[[nodiscard]] ms::estimate median_of(std::vector<double> values);

struct batch_watch {
    std::function<void(std::size_t steps)> progress{};
    std::function<bool()> stop{};  ///< asked between batches: whether to end early
};

/// Steps that progress counts.
[[nodiscard]] std::size_t steps_of(const batch_plan& plan);

/// Full, then each of plan.states. After a stop, rows without a complete turn have no seconds; no rows if the caches were
/// not filled yet. Throws std::runtime_error that says why it cannot be measured: cells serve some heads, the text has
/// fewer than 64 tokens, or the caches exceed half of the machine's memory.
[[nodiscard]] std::vector<batch_row> measure_batches(llama& model, const sequence& text, const batch_plan& plan,
                                                     const batch_watch& w);

}  // namespace demo
