#pragma once

// The checks of a cell's arguments that all cells share.
//
//     const detail::sequence_layout layout = detail::checked(cell, text);    // of step, scan or backward
#include <cstddef>
#include <span>
#include <string_view>

#include "multistate/recurrent/cell.hpp"
#include "multistate/recurrent/sequences.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

/// The rows of a span of `given` floats, checked to be whole.
inline std::size_t rows_in(const char* who, const char* argument, std::size_t given, std::size_t width) noexcept {
    check(given % width == 0, who, argument, bound{"a multiple of floats per row, ", width}, given);
    return given / width;
}

/// Returns the number of sequences.
template <class Cell>
std::size_t checked(const Cell& cell, const cell_step& token) noexcept {
    const char* const who = std::string_view(Cell::name).data();
    const std::size_t sequences = rows_in(who, "state", token.state.size(), cell.state_size());
    check(sequences >= 1, who, "state", "the states of at least 1 sequence", token.state.size());
    expect_floats(who, "x", "[sequences, input_size], floats: ", token.x.size(), sequences * cell.input_size());
    expect_floats(who, "out", "[sequences, output_size], floats: ", token.out.size(), sequences * cell.output_size());
    return sequences;
}

template <class Cell>
sequence_layout checked(const Cell& cell, const cell_scan& text) noexcept {
    const char* const who = std::string_view(Cell::name).data();
    const std::size_t tokens = rows_in(who, "x", text.x.size(), cell.input_size());
    const std::size_t sequences = rows_in(who, "state", text.state.size(), cell.state_size());
    expect_floats(who, "out", "[tokens, output_size], floats: ", text.out.size(), tokens * cell.output_size());
    if (!text.saved.empty()) {
        expect_floats(who, "saved", "saved_size(tokens), floats: ", text.saved.size(), cell.saved_size(tokens));
    }
    return {who, tokens, sequences, text.lengths};
}

template <class Cell>
sequence_layout checked(const Cell& cell, const cell_backward& text) noexcept {
    const char* const who = std::string_view(Cell::name).data();
    const std::size_t tokens = rows_in(who, "x", text.x.size(), cell.input_size());
    const std::size_t sequences = rows_in(who, "initial_state", text.initial_state.size(), cell.state_size());
    const auto expect_tokens = [=](const char* argument, std::size_t given, std::size_t width) {
        expect_floats(who, argument, "a row for each token of x, floats: ", given, tokens * width);
    };
    expect_tokens("out", text.out.size(), cell.output_size());
    expect_tokens("out_gradient", text.out_gradient.size(), cell.output_size());
    if (!text.x_gradient.empty()) expect_tokens("x_gradient", text.x_gradient.size(), cell.input_size());
    expect_floats(who, "saved", "saved_size(tokens), floats: ", text.saved.size(), cell.saved_size(tokens));
    expect_floats(who, "state_gradient", "as large as initial_state, floats: ", text.state_gradient.size(),
                  text.initial_state.size());
    expect_floats(who, "parameter_gradient", "parameter_count(shape), floats: ", text.parameter_gradient.size(),
                  Cell::parameter_count(cell.shape()));
    return {who, tokens, sequences, text.lengths};
}

}}}  // namespace multistate::MULTISTATE_TARGET::detail
