#pragma once

// The contract of recurrent cells: layers whose memory is one state of fixed size, whatever the length of a sequence.
//
//     using cell_type = ms::min_gru;                                      // or gru, lstm, min_lstm, selective
//     std::vector<float> parameters(cell_type::parameter_count({.inputs = 256, .units = 512}));  // trained elsewhere
//     const cell_type cell({.inputs = 256, .units = 512}, parameters);    // does not own its parameters
//     ms::cell_workspace scratch(cell, {.sequences = 1, .tokens = 4096}); // one per worker
//
//     std::vector<float> state(cell.state_size());                        // zeros: the start of a sequence
//     cell.scan({.x = prompt, .state = state, .out = outputs}, scratch);  // all tokens of a prompt at once
//     cell.step({.x = x, .state = state, .out = out}, scratch);           // then one token at a time
//
// Parameters can also be bits of bf16 (std::uint16_t): half the bytes, the same layout, for step and scan only.
// `backward` needs float32.
//
// A state is plain floats of the caller: copy it, save it, and continue from it later, by step or by scan. A cell is
// constant and holds no scratch, so any number of sequences and workers share it. All cells have the same members
// (concept recurrent_cell), so one can replace another.
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "multistate/core/aligned_array.hpp"
#include "multistate/core/errors.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/execution/executor.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// One token of each of several sequences. The size of `state` says how many sequences. Arrays are row-major without
/// gaps and must not overlap.
struct cell_step {
    std::span<const float> x;  ///< [sequences, input_size]
    std::span<float> state;    ///< [sequences, state_size]; zeros before the first token of a sequence
    std::span<float> out;      ///< [sequences, output_size]
};

/// Whole sequences. The tokens of sequence 0 come first, then those of sequence 1, and so on, without padding.
struct cell_scan {
    std::span<const float> x;  ///< [tokens, input_size]
    std::span<float> state;    ///< [sequences, state_size]; in: before the first token; out: after the last
    std::span<float> out;      ///< [tokens, output_size]
    std::span<const std::size_t> lengths = {};  ///< tokens of each sequence, at least 1; empty: all the same
    std::span<float> saved = {};  ///< saved_size(tokens) floats, written for `backward`; empty: nothing is saved
    /// Compute in log space, as the appendix of arXiv 2410.01201 does. Only for min_gru and min_lstm with
    /// candidate::positive and states of at least 0; any other use is an error.
    bool log_space = false;
};

/// The gradients of a loss after a scan that saved. `x` and `lengths` are those of the scan.
struct cell_backward {
    std::span<const float> x;                   ///< [tokens, input_size]
    std::span<const float> initial_state;       ///< [sequences, state_size]; the states before the scan
    std::span<const float> out;                 ///< [tokens, output_size], as the scan wrote it
    std::span<const float> saved;               ///< saved_size(tokens) floats, as the scan wrote them
    std::span<const std::size_t> lengths = {};  ///< tokens of each sequence; empty: all the same
    std::span<const float> out_gradient;        ///< [tokens, output_size]; with respect to `out`
    /// [sequences, state_size]; in: with respect to the final states (zeros, or what the backward pass over the tokens
    /// that follow left here); out: with respect to the initial states.
    std::span<float> state_gradient;
    std::span<float> x_gradient = {};     ///< [tokens, input_size], overwritten; empty: not computed
    std::span<float> parameter_gradient;  ///< [parameter_count]; gradients are added to it
};

/// The largest call that a workspace must serve. `tokens` counts those of all sequences of a call together.
struct cell_limits {
    std::size_t sequences = 1;
    std::size_t tokens = 1;
};

/// Scratch that a cell needs for step, scan and backward up to certain limits.
struct cell_scratch {
    std::size_t floats = 0;   ///< number of float
    std::size_t indices = 0;  ///< number of std::size_t
};

/// The scratch memory of one worker. Cells of any kind and size use it in turn. Concurrent calls need one each. A call
/// that needs more scratch than was reserved is reported as core/errors.hpp says.
class cell_workspace {
  public:
    cell_workspace() = default;
    /// Throws std::invalid_argument if a limit is 0 or if the scratch exceeds the machine's memory.
    template <class Cell>
    cell_workspace(const Cell& cell, const cell_limits& most) {
        reserve(cell, most);
    }

    /// Grows so that this cell, too, can be called up to these limits. Throws as the constructor; then nothing changes.
    template <class Cell>
    void reserve(const Cell& cell, const cell_limits& most) {
        detail::require_size(who, "sequences", most.sequences);
        detail::require_size(who, "tokens", most.tokens);
        const cell_scratch wanted = cell.scratch_for(most);
        detail::require_memory(who, detail::sum(who, detail::bytes<float>(who, wanted.floats),
                                                detail::bytes<std::size_t>(who, wanted.indices)));
        aligned_array<float> more_floats(wanted.floats > floats().size() ? wanted.floats : 0);
        aligned_array<std::size_t> more_indices(wanted.indices > indices().size() ? wanted.indices : 0);
        if (more_floats.bytes() > 0) floats_ = std::move(more_floats);
        if (more_indices.bytes() > 0) indices_ = std::move(more_indices);
    }

    /// For cells: the scratch as it is now.
    std::span<float> floats() noexcept { return {floats_.data(), floats_.bytes() / sizeof(float)}; }
    std::span<std::size_t> indices() noexcept { return {indices_.data(), indices_.bytes() / sizeof(std::size_t)}; }
    std::size_t memory_bytes() const noexcept { return floats_.bytes() + indices_.bytes(); }

  private:
    static constexpr const char* who = "cell_workspace";

    aligned_array<float> floats_;
    aligned_array<std::size_t> indices_;
};

namespace detail {

/// Cuts n floats off a scratch.
inline std::span<float> take_floats(const char* who, std::span<float>& rest, std::size_t n) noexcept {
    check(rest.size() >= n, who, "scratch", bound{"reserved for this cell and so many tokens, floats: at least ", n},
          rest.size());
    const std::span<float> first = rest.first(n);
    rest = rest.subspan(n);
    return first;
}
inline std::span<std::size_t> take_indices(const char* who, std::span<std::size_t>& rest, std::size_t n) noexcept {
    check(rest.size() >= n, who, "scratch", bound{"reserved for this cell and so many tokens, indices: at least ", n},
          rest.size());
    const std::span<std::size_t> first = rest.first(n);
    rest = rest.subspan(n);
    return first;
}

}  // namespace detail

/// What every cell has. `step`, `scan` and `backward` allocate nothing and throw nothing; wrong sizes are reported as
/// core/errors.hpp says. Results do not depend on the executor.
template <class C>
concept recurrent_cell = requires(const C& cell, const typename C::shape_type& shape, std::span<const float> floats,
                                  std::span<const std::uint16_t> bf16, cell_workspace& scratch, const serial& by) {
    { C::name } -> std::convertible_to<std::string_view>;
    // parameter_count and the constructors throw std::invalid_argument: for a shape that is not valid, a wrong number
    // of parameters, or a parameter that is not finite.
    { C::parameter_count(shape) } -> std::same_as<std::size_t>;
    C(shape, floats);
    C(shape, bf16);  // the same parameters as bits of bf16, for step and scan
    { cell.shape() } -> std::convertible_to<const typename C::shape_type&>;
    { cell.input_size() } -> std::same_as<std::size_t>;               // floats per token
    { cell.output_size() } -> std::same_as<std::size_t>;              // floats per token
    { cell.state_size() } -> std::same_as<std::size_t>;               // floats per sequence
    { cell.saved_size(std::size_t{}) } -> std::same_as<std::size_t>;  // floats for so many tokens
    { cell.scratch_for(cell_limits{}) } -> std::same_as<cell_scratch>;
    { cell.step(cell_step{}, scratch) }
    noexcept;
    { cell.scan(cell_scan{}, scratch) }
    noexcept;
    { cell.scan(cell_scan{}, scratch, by) }
    noexcept;
    { cell.backward(cell_backward{}, scratch) }
    noexcept;
    { cell.backward(cell_backward{}, scratch, by) }
    noexcept;
};

}}  // namespace multistate::MULTISTATE_TARGET
