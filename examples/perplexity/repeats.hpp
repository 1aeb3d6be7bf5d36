// Passages that a text repeats, and whether the first occurrence helps a model to predict the second.
//
//     const auto found = demo::repeats_in(texts_of_tokens);                   // of one sequence
//     const auto m = demo::measure(model, {&sequence, 1}, setting, {});
//     const auto gain = demo::gain_of(demo::scores_of(found, m.nll.front())); // .value, .error: nats per token
//
// A passage is a run of words that stood before in the same order. Case (of ASCII letters), punctuation, quotes and line
// breaks do not count. Of several earlier runs the longest is taken, of equally long ones the first.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

#include <multistate/evaluation/perplexity.hpp>

#include "measurement.hpp"
#include "options.hpp"

namespace demo {

/// Shorter runs of words are idioms more often than quotations.
inline constexpr std::size_t least_repeated_words = 8;
/// By its first words a passage is recognized. They are not predicted from memory, so they do not count.
inline constexpr std::size_t cue_words = 4;

/// Tokens [begin, end) of a sequence.
struct token_range {
    std::size_t begin = 0;
    std::size_t end = 0;

    bool operator==(const token_range&) const = default;
    [[nodiscard]] std::size_t size() const noexcept { return end - begin; }
};

struct repeat {
    token_range first, again;  ///< after the cue
    std::size_t words = 0;
    std::string text;  ///< as it stands the second time

    /// In tokens, from the beginning of one occurrence to that of the other.
    [[nodiscard]] std::size_t distance() const noexcept { return again.begin - first.begin; }
};

/// `tokens`: the text of each token. Runs of at least `words` words, more than cue_words, in the order of the text; none
/// overlaps its first occurrence.
[[nodiscard]] std::vector<repeat> repeats_in(std::span<const std::string> tokens,
                                             std::size_t words = least_repeated_words);

/// The negative log likelihood of each occurrence under one cache, in nats per token.
struct repeat_score {
    double first = 0;
    double again = 0;
};

/// nll: one for each token of the sequence but the first.
[[nodiscard]] std::vector<repeat_score> scores_of(std::span<const repeat> repeats, std::span<const double> nll);

/// The mean of first minus again, with its standard error over the repeats.
[[nodiscard]] ms::estimate gain_of(std::span<const repeat_score> scores);
/// The mean of again, above again under the full cache; the error is paired by repeat.
[[nodiscard]] ms::estimate again_above(std::span<const repeat_score> scores, std::span<const repeat_score> full);

/// Whether the full cache gains more than two standard errors: else forgetting cannot be judged.
[[nodiscard]] bool measurable(std::span<const repeat_score> full);

/// What one policy at one k predicted; one score per repeat.
struct repeat_run {
    setting what;
    std::vector<repeat_score> scores;
};

/// The repeats of a text that was read as one sequence.
struct repeat_results {
    std::size_t tokens = 0;           ///< of the sequence
    std::size_t trained_context = 0;  ///< of the model; 0: not known
    std::vector<repeat> found;
    std::vector<repeat_run> runs;  ///< the full cache first: the control
};

/// Repeats whose second occurrence ends within the model's trained length, or those beyond.
struct repeat_group {
    bool within = true;
    std::vector<std::size_t> members;  ///< indices of repeat_results::found

    [[nodiscard]] std::vector<repeat_score> of(const repeat_run& r) const;
};
/// Those that have members. One group, within, if the trained length is not known.
[[nodiscard]] std::vector<repeat_group> groups_of(const repeat_results& all);

/// One table per group: a row for each run; for the full cache alone where it gains too little.
void print_repeats(std::ostream& out, const repeat_results& all, table_format format, std::size_t columns);

}  // namespace demo
