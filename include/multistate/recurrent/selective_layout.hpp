#pragma once

// The shape of a selective cell, and where its parameters, its saved numbers and its scratch lie. Only selective.hpp
// includes this header.
#include <algorithm>
#include <cstddef>
#include <limits>

#include "multistate/core/errors.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/execution/executor.hpp"
#include "multistate/recurrent/linear.hpp"
#include "multistate/recurrent/selective_channels.hpp"
#include "multistate/recurrent/selective_gradients.hpp"
#include "multistate/recurrent/sequences.hpp"
#include "multistate/simd/linear.hpp"
#include "multistate/simd/vector.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The size of a selective cell; the names of mamba_ssm in brackets.
struct selective_shape {
    std::size_t inputs;            ///< floats per token of x (d_model)
    std::size_t units;             ///< channels of the recurrence (d_inner)
    std::size_t outputs = 0;       ///< floats per token of out; 0 means inputs
    std::size_t unit_states = 16;  ///< floats of h in each unit, at most 256 (d_state)
    std::size_t convolution = 4;   ///< width of the convolution in tokens, at most 16 (d_conv)
    std::size_t delta_rank = 0;    ///< rank of the projection to delta (dt_rank); 0 means inputs / 16, rounded up
};

namespace detail {

inline selective_shape checked(selective_shape s) {
    constexpr const char* who = "selective";
    require_size(who, "inputs", s.inputs);
    require_size(who, "units", s.units);
    if (s.outputs == 0) s.outputs = s.inputs;
    require_size(who, "outputs", s.outputs);
    require(s.unit_states >= 1 && s.unit_states <= most_unit_states, who, "unit_states",
            bound{"from 1 to ", most_unit_states}, s.unit_states);
    require(s.convolution >= 1 && s.convolution <= most_taps, who, "convolution", bound{"from 1 to ", most_taps},
            s.convolution);
    if (s.delta_rank == 0) s.delta_rank = (s.inputs + 15) / 16;
    require_size(who, "delta_rank", s.delta_rank);
    return s;
}

/// Where the parameters lie, in the order of selective.hpp.
struct selective_layout {
    /// Throws std::invalid_argument for a wrong shape.
    explicit selective_layout(const selective_shape& given) : shape(checked(given)) {
        const selective_shape& s = shape;
        const auto after = [](std::size_t begin, std::size_t rows, std::size_t columns) {
            return sum(who, begin, product(who, rows, columns));
        };
        convolution = after(0, 2 * s.units, s.inputs);
        convolution_bias = after(convolution, s.convolution, s.units);
        projection = after(convolution_bias, 1, s.units);
        step = after(projection, s.delta_rank + 2 * s.unit_states, s.units);
        step_bias = after(step, s.units, s.delta_rank);
        decay_log = after(step_bias, 1, s.units);
        skip = after(decay_log, s.unit_states, s.units);
        output = after(skip, 1, s.units);
        end = after(output, s.outputs, s.units);
    }

    selective_sizes sizes() const noexcept {
        return {shape.units, shape.unit_states, shape.convolution, shape.delta_rank};
    }
    template <class Element>
    simd::weights<Element> inputs(const Element* p) const noexcept {
        return {p, 2 * shape.units, shape.inputs};
    }
    template <class Element>
    simd::weights<Element> projections(const Element* p) const noexcept {
        return {p + projection, sizes().projected(), shape.units};
    }
    template <class Element>
    simd::weights<Element> steps(const Element* p) const noexcept {
        return {p + step, shape.units, shape.delta_rank};
    }
    template <class Element>
    simd::weights<Element> outputs(const Element* p) const noexcept {
        return {p + output, shape.outputs, shape.units};
    }

    static constexpr const char* who = "selective";
    selective_shape shape;  ///< with its defaults filled in
    std::size_t convolution, convolution_bias, projection, step, step_bias, decay_log, skip, output, end;
};

/// Hands out parts of a scratch, or counts them if the scratch is null.
template <class Float>
class scratch_parts {
  public:
    explicit scratch_parts(Float* all) noexcept : all_(all) {}

    /// The count saturates at `too_many`, more than any machine's memory.
    Float* take(std::size_t count, std::size_t width) noexcept {
        Float* const part = all_ == nullptr ? nullptr : all_ + used_;
        const bool fits = width == 0 || count < (too_many - used_) / width;
        used_ = fits ? (std::min)(too_many, used_ + simd::padded(count * width)) : too_many;
        return part;
    }
    std::size_t used() const noexcept { return used_; }

  private:
    static constexpr std::size_t too_many = (std::numeric_limits<std::ptrdiff_t>::max)() / sizeof(float);

    Float* all_;
    std::size_t used_ = 0;
};

/// Channels in a task: whole cache lines on every target.
inline constexpr std::size_t task_channels = 32;
inline std::size_t channel_tasks(const selective_sizes& s) noexcept { return parts(s.units, task_channels); }
inline channel_range channels_of(const selective_sizes& s, std::size_t task) noexcept {
    return {task * task_channels, (std::min)(s.units, (task + 1) * task_channels)};
}

/// Blocks of time are computed twice. So time is divided only if there are fewer tasks than this without it.
inline constexpr std::size_t enough_tasks = 8;
inline bool divides_time(const selective_sizes& s, std::size_t sequences) noexcept {
    return channel_tasks(s) * sequences < enough_tasks;
}

/// The intermediate results that a backward pass needs, in `saved` or, without it, in the scratch.
template <class Float>
selective_arrays<Float> arrays_of(scratch_parts<Float>& from, const selective_sizes& s, std::size_t tokens,
                                  bool kept) noexcept {
    selective_arrays<Float> a{};
    a.xz = from.take(tokens, 2 * s.units);
    a.u = from.take(tokens, s.units);
    a.projected = from.take(tokens, s.projected());
    a.delta = from.take(tokens, s.units);
    if (!kept) return a;
    a.y = from.take(tokens, s.units);
    a.saves = from.take(tokens / tokens_between_saves, s.memory());
    return a;
}

/// The scratch of step and scan.
struct selective_scratch {
    selective_scratch(scratch_parts<float>& from, const selective_sizes& s, std::size_t tokens) noexcept {
        channel = from.take(s.taps + s.states + 2, s.units);
        gated = from.take(tokens, s.units);
        const std::size_t blocks = divides_time(s, 1) ? parts(tokens, time_block) : 0;  // of one sequence
        ends = from.take(blocks, s.memory());
        steps = from.take(blocks, s.units);
    }

    float* channel;  ///< the parameters of channels, decoded
    float* gated;
    float* ends;   ///< h after each block of time from zeros, then before it
    float* steps;  ///< the sum of the steps of each block
};

/// The scratch of backward.
struct selective_back_scratch {
    selective_back_scratch(scratch_parts<float>& from, const selective_sizes& s, std::size_t tokens) noexcept {
        channel = from.take(s.taps + s.states + 2, s.units);
        gated = from.take(tokens, s.units);
        gated_gradient = from.take(tokens, s.units);
        xz = from.take(tokens, 2 * s.units);
        u = from.take(tokens, s.units);
        projected = from.take(tokens, s.projected());
        step = from.take(tokens, s.units);
        partial = from.take(tokens, channel_tasks(s) * 2 * s.states);
        task = from.take(channel_tasks(s), recurrence_scratch::floats(s.states));
    }

    recurrence_scratch scratch_of(const selective_sizes& s, std::size_t i) const noexcept {
        return {task + i * recurrence_scratch::floats(s.states)};
    }

    float *channel, *gated, *gated_gradient, *xz, *u, *projected, *step;
    float* partial;  ///< gradients of B and C, [tasks, tokens, 2 * states]
    float* task;     ///< recurrence_scratch of each task
};

/// The recurrence of one sequence in blocks of time: each block from a state of zeros; then the states between blocks,
/// in order; then each block with its outputs. h [states, units].
template <class E>
void recur_in_blocks(const selective_sizes& s, const channel_parameters& p, const selective_arrays<float>& a,
                     token_range sequence, float* h, const selective_scratch& w, E& by) noexcept {
    const std::size_t tasks = channel_tasks(s), blocks = parts(sequence.end, time_block), last = blocks - 1;
    const auto effect = [&](std::size_t block) {
        return block_effect{w.ends + block * s.memory(), w.steps + block * s.units};
    };
    const auto range = [&](std::size_t block) {
        return token_range{sequence.first, block * time_block, (std::min)(sequence.end, (block + 1) * time_block)};
    };
    const auto run = [&](std::size_t count, auto f) {
        run_tasks(by, count * tasks, [&](std::size_t i) {
            for_channels(channels_of(s, i % tasks), [&](const auto& c) { f(i / tasks, c); });
        });
    };
    run(last, [&](std::size_t block, const auto& c) {
        for (std::size_t n = 0; n < s.states; ++n) c.store(simd::floats{}, effect(block).h + n * s.units);
        summarize(s, p, c, a, range(block), effect(block));
    });
    run(1, [&](std::size_t, const auto& c) {
        for (std::size_t i = 0; i < last; ++i) {
            join(s, p, c, i == 0 ? h : effect(i - 1).h, effect(i));
        }
    });
    run(blocks, [&](std::size_t block, const auto& c) {
        recur(s, p, c, a, range(block), block == 0 ? h : effect(block - 1).h);
    });
    if (last > 0) std::copy_n(effect(last - 1).h, s.memory(), h);
}

}  // namespace detail
}}  // namespace multistate::MULTISTATE_TARGET
