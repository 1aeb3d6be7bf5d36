#pragma once

// Perplexity over sequences, and the difference of two caches on the same sequences, each with its standard error.
//
//     std::vector<ms::likelihood> tova, full;                 // one entry per sequence: sum of -log p, tokens
//     ms::perplexity(tova).value                              // exp(mean)
//     ms::percent_above({.measured = tova, .baseline = full}) // .value 8.5, .error 0.6: percent
//
// Sequences differ much more from each other than two caches do on one sequence. The difference is therefore paired by
// sequence: its error is several times smaller than the errors of the two perplexities.
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "multistate/core/errors.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// One sequence: the sum of -log p over its predicted tokens, in nats, and the number of these tokens.
struct likelihood {
    double nll = 0;
    std::size_t tokens = 0;

    bool operator==(const likelihood&) const = default;
};

/// A number and its standard error over sequences. With fewer than two sequences there is no error.
struct estimate {
    double value = 0;
    std::optional<double> error = {};
};

/// The same sequences under two caches.
struct paired_likelihoods {
    std::span<const likelihood> measured;
    std::span<const likelihood> baseline;
};

namespace detail {

/// The mean per token, and its standard error as a ratio estimate: both the sum and the number of tokens vary by
/// sequence.
struct mean_of_sequences {
    double mean = 0;
    std::optional<double> error = {};
};

inline mean_of_sequences mean_per_token(std::span<const likelihood> sequences) {
    double sum = 0, tokens = 0;
    for (const likelihood& s : sequences) {
        sum += s.nll;
        tokens += static_cast<double>(s.tokens);
    }
    mean_of_sequences result{.mean = sum / tokens};
    const auto n = static_cast<double>(sequences.size());
    if (sequences.size() < 2) return result;
    double squares = 0;
    for (const likelihood& s : sequences) {
        const double residual = s.nll - result.mean * static_cast<double>(s.tokens);
        squares += residual * residual;
    }
    result.error = std::sqrt(squares * n / (n - 1)) / tokens;
    return result;
}

}  // namespace detail

/// exp(mean negative log likelihood per token), with its standard error. NaN if no token was predicted.
inline estimate perplexity(std::span<const likelihood> sequences) {
    const auto [mean, error] = detail::mean_per_token(sequences);
    const double value = std::exp(mean);
    if (!error) return {value};
    return {value, value * *error};  // the derivative of exp at the mean
}

/// By how many percent the measured perplexity is above the baseline's, paired by sequence; below 0 if it is lower.
/// Throws std::invalid_argument unless both have the same number of sequences, each with the same number of tokens.
inline estimate percent_above(paired_likelihoods both) {
    constexpr const char* who = "percent_above";
    detail::require(both.measured.size() == both.baseline.size(), who, "measured",
                    detail::bound{"as many sequences as the baseline = ", both.baseline.size()}, both.measured.size());
    std::vector<likelihood> differences;
    for (std::size_t i = 0; i < both.measured.size(); ++i) {
        const auto [measured, baseline] = std::pair(both.measured[i], both.baseline[i]);
        detail::require(measured.tokens == baseline.tokens, who, "tokens of a sequence",
                        detail::bound{"those of the baseline = ", baseline.tokens}, measured.tokens);
        differences.push_back({measured.nll - baseline.nll, measured.tokens});
    }
    const auto [mean, error] = detail::mean_per_token(differences);
    const double ratio = std::exp(mean);
    if (!error) return {100 * (ratio - 1)};
    return {100 * (ratio - 1), 100 * ratio * *error};
}

}}  // namespace multistate::MULTISTATE_TARGET
