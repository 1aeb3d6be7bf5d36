#pragma once

// The arithmetic that min_gru and min_lstm share: candidates, and loops over channels.
//
//     detail::for_channels(units, [&](std::size_t c, auto some) { some.store(some.load(x + c) * 2.0f, y + c); });
#include <cstddef>

#include "multistate/recurrent/activations.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The function between the linear map v of x and the state. The paper (arXiv 2410.01201) publishes both; neither has
/// the tanh of a GRU or LSTM.
enum class candidate {
    positive,  ///< g(v) = v + 1/2 for v >= 0, else sigmoid(v): the appendix; the authors train this form
    linear     ///< v: the main text ("vanilla" in the appendix); can be negative, so it has no log-space form
};

namespace detail {

/// A whole vector of channels.
struct whole_vector {
    MULTISTATE_INLINE simd::floats load(const float* p) const noexcept { return simd::load(p); }
    MULTISTATE_INLINE void store(simd::floats v, float* p) const noexcept { simd::store(v, p); }
};
/// The last channels.
struct part_of_vector {
    std::size_t n;
    MULTISTATE_INLINE simd::floats load(const float* p) const noexcept { return simd::load_first(p, n, 0.0f); }
    MULTISTATE_INLINE void store(simd::floats v, float* p) const noexcept { simd::store_first(v, p, n); }
};

/// Calls f(c, whole_vector or part_of_vector) for channels c, c + 1, … of each vector.
template <class F>
MULTISTATE_INLINE void for_channels(std::size_t channels, F f) noexcept {
    std::size_t c = 0;
    for (; c + simd::vector_width <= channels; c += simd::vector_width) f(c, whole_vector{});
    if (c < channels) f(c, part_of_vector{channels - c});
}

/// The weights of the old state and of the candidate; in log space their logarithms.
struct gate_values {
    simd::floats keep;
    simd::floats take;
};

MULTISTATE_INLINE simd::floats value_of(candidate form, simd::floats v) noexcept {
    if (form == candidate::linear) return v;
    return v >= simd::floats{} ? v + 0.5f : sigmoid(v);
}
MULTISTATE_INLINE simd::floats log_of_positive(simd::floats v) noexcept {
    const simd::floats above = v >= simd::floats{} ? v : simd::floats{};
    return v >= simd::floats{} ? simd::log(above + 0.5f) : -softplus(-v);
}
/// The derivative of value_of by v, at this value: sigmoid(v) is below 1/2 where v is negative.
MULTISTATE_INLINE simd::floats slope_of(candidate form, simd::floats value) noexcept {
    const simd::floats one = simd::fill(1.0f);
    if (form == candidate::linear) return one;
    return value >= 0.5f ? one : value * (1.0f - value);
}

/// e^-x, for x limited to [-87, 87] so that the result is finite.
MULTISTATE_INLINE simd::floats inverse_exp(simd::floats x) noexcept { return simd::exp(clamped(-x, -87.0f, 87.0f)); }

}  // namespace detail
}}  // namespace multistate::MULTISTATE_TARGET
