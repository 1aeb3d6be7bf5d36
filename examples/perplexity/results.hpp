// Everything that one call of the program measured, as a file that another call can continue or compare.
//
//     demo::write_json(out, results);
//     const demo::results before = demo::read_json(text, "result.json");   // throws std::runtime_error: one sentence
//     demo::refuse_other(before.about, now, "result.json");                // another model, text or setting
#pragma once

#include <cstddef>
#include <iosfwd>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "measurement.hpp"
#include "options.hpp"
#include "recall.hpp"

namespace demo {

/// One policy at one k in one codec.
struct run {
    setting what;
    outcome result;
};

/// Whether two results come from the same measurement, and what a reader must know to repeat it.
struct provenance {
    std::string model;  ///< the file's name, without its folder
    std::size_t model_bytes = 0;
    std::string model_fingerprint;
    std::size_t layers = 0, heads = 0, kv_heads = 0, key_dim = 0, value_dim = 0, width = 0, vocabulary = 0;
    std::size_t trained_context = 0;  ///< 0: the file does not say
    std::string text;
    std::string text_fingerprint;  ///< of the tokens of all sequences
    std::size_t context = 0;
    std::optional<std::size_t> limit;
    std::string prefill;
    std::size_t block = 0;
    std::size_t threads = 0;
    std::string cpu, target, version, date;
};

/// The share of states that both of two policies keep, of those that either keeps. NaN if they were measured by
/// different calls.
struct shared_share {
    std::string a, b;
    std::size_t states;
    std::string codec;
    double share;
};

struct results {
    provenance about;
    std::optional<outcome> full;  ///< the baseline, in f32
    std::vector<run> runs;
    std::vector<shared_share> shared;
    std::optional<recall_results> recall;  ///< with --recall
    bool complete = false;                 ///< nothing that was asked for is missing
};

/// Of the model, the text and the machine. `now` is seconds since 1970.
[[nodiscard]] provenance provenance_of(const options& o, const gguf& file, const llama& model,
                                       std::span<const sequence> sequences, std::size_t context, std::time_t now);

/// 16 hexadecimal digits. Of a large file, evenly spaced samples of 16 MiB in all, and its size.
[[nodiscard]] std::string fingerprint(std::span<const std::byte> bytes);
[[nodiscard]] std::string fingerprint(std::span<const sequence> sequences);

void write_json(std::ostream& out, const results& all);

/// Throws std::runtime_error that begins with `name` and says what is wrong, in one sentence.
[[nodiscard]] results read_json(const std::string& text, const std::string& name);

/// Throws std::runtime_error, one sentence that begins with `name`, unless `before` has the model, the tokens, the
/// prefill and the block of `now`.
void refuse_other(const provenance& before, const provenance& now, const std::string& name);

/// The run of this policy, k and codec; null if there is none.
[[nodiscard]] const run* find_run(std::span<const run> runs, const setting& what);

void write_nll(std::ostream& out, const measurement& m);
void write_trace(std::ostream& out, const measurement& m);

/// What the processor calls itself; "unknown" where the system does not say.
[[nodiscard]] std::string processor_name();

}  // namespace demo
