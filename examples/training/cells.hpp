// The library's recurrent cells by name, as layers.
//
//     std::unique_ptr<training::layer> cell = training::make_cell("min_gru", {.inputs = 64, .units = 256});
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "layer.hpp"

namespace training {

inline constexpr std::array<std::string_view, 5> cell_names{"gru", "lstm", "min_gru", "min_lstm", "selective"};

struct cell_size {
    std::size_t inputs = 0, units = 0;
};

/// The outputs are the units; those of selective, whose block ends with a linear map, are as many as the inputs.
/// Throws std::invalid_argument for a name that is none.
[[nodiscard]] std::unique_ptr<layer> make_cell(std::string_view name, const cell_size& size);

}  // namespace training
