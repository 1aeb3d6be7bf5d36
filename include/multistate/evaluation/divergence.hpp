#pragma once

// How far the prediction after forgetting is from the prediction of the full cache, token by token.
//
//     const ms::divergence d = ms::divergence_of({.reference = logits_full, .measured = logits}, next_token);
//     d.kl                                                    // nats; 0 if both predict the same
//     d.same_top                                              // both have the same most likely token
//     d.probability_change()                                  // of the target token
//
// Perplexity reads the probability of the target token alone. It misses a change among the other tokens, and forgetting
// may even raise that probability. The divergence measures every change.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include "multistate/core/errors.hpp"
#include "multistate/simd/elementwise.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The logits of one token, [vocabulary] each: with the full cache, and with the cache that forgets.
struct logits_pair {
    std::span<const float> reference;
    std::span<const float> measured;
};

/// The comparison of two predictions of one token. Logarithms are natural.
struct divergence {
    double kl = 0;             ///< KL(reference || measured), never below 0
    double reference_nll = 0;  ///< -log of the target token's probability in the reference
    double nll = 0;            ///< the same in the measured prediction
    bool same_top = true;      ///< both have the same most likely token; of equal tokens the first counts

    /// The target token's probability in the measured prediction, minus that in the reference.
    double probability_change() const noexcept { return std::exp(-nll) - std::exp(-reference_nll); }
};

namespace detail {

/// Sums of exp(x[i] - greatest) and of exp(x[i] - greatest) * (x[i] - y[i]).
struct exponential_sums {
    double weights = 0;
    double differences = 0;
};

inline exponential_sums exponentials(std::span<const float> x, std::span<const float> y, float greatest) noexcept {
    // Partial sums of 64 vectors in float32, added in double: the error does not grow with the vocabulary.
    constexpr std::size_t piece = 64 * simd::vector_width;
    exponential_sums all;
    for (std::size_t begin = 0; begin < x.size(); begin += piece) {
        const std::size_t end = (std::min)(x.size(), begin + piece);
        simd::floats weights = {}, differences = {};
        const auto add = [&](simd::floats a, simd::floats b, simd::floats weight) {
            weights += weight;
            differences += weight * (a - b);
        };
        std::size_t i = begin;
        for (; i + simd::vector_width <= end; i += simd::vector_width) {
            const simd::floats a = simd::load(x.data() + i);
            add(a, simd::load(y.data() + i), simd::exp(a - greatest));
        }
        if (const std::size_t left = end - i; left > 0) {
            const simd::floats a = simd::load_first(x.data() + i, left, greatest - 200);  // whose weight is exactly 0
            add(a, simd::load_first(y.data() + i, left, greatest - 200), simd::exp(a - greatest));
        }
        all.weights += static_cast<double>(simd::sum(weights));
        all.differences += static_cast<double>(simd::sum(differences));
    }
    return all;
}

inline std::size_t index_of(float value, std::span<const float> x) noexcept {
    return static_cast<std::size_t>(std::find(x.begin(), x.end(), value) - x.begin());
}

}  // namespace detail

/// -log softmax(logits)[target], in nats. NaN if a logit is NaN or all are -inf. `target` must be an index.
inline double negative_log_likelihood(std::span<const float> logits, std::size_t target) noexcept {
    detail::check(target < logits.size(), "negative_log_likelihood", "target",
                  detail::bound{"less than the vocabulary = ", logits.size()}, target);
    const float greatest = simd::maximum(logits);
    const double sum = detail::exponentials(logits, logits, greatest).weights;
    return std::log(sum) + static_cast<double>(greatest) - static_cast<double>(logits[target]);
}

/// Compares two predictions of the token `target`, an index of both. For logits within ±40, kl has an absolute error
/// below 2e-5 (float32 exponentials; sums in double). Three passes over each span; nothing is allocated. NaN in one
/// span makes its numbers NaN.
inline divergence divergence_of(logits_pair logits, std::size_t target) noexcept {
    const auto [reference, measured] = logits;
    constexpr const char* who = "divergence_of";
    detail::check(measured.size() == reference.size(), who, "measured",
                  detail::bound{"as long as the reference = ", reference.size()}, measured.size());
    detail::check(target < reference.size(), who, "target",
                  detail::bound{"less than the vocabulary = ", reference.size()}, target);
    const float top_reference = simd::maximum(reference), top_measured = simd::maximum(measured);
    const detail::exponential_sums r = detail::exponentials(reference, measured, top_reference);
    const detail::exponential_sums m = detail::exponentials(measured, measured, top_measured);
    const double log_reference = std::log(r.weights) + static_cast<double>(top_reference);
    const double log_measured = std::log(m.weights) + static_cast<double>(top_measured);
    const double kl = r.differences / r.weights - (log_reference - log_measured);
    return {.kl = kl < 0 ? 0 : kl,  // rounding; NaN stays
            .reference_nll = log_reference - static_cast<double>(reference[target]),
            .nll = log_measured - static_cast<double>(measured[target]),
            .same_top = detail::index_of(top_reference, reference) == detail::index_of(top_measured, measured)};
}

}}  // namespace multistate::MULTISTATE_TARGET
