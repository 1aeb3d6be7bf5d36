// Which policies are measured at which k and in which codec.
#pragma once

#include <cstddef>
#include <vector>

#include "llama.hpp"
#include "measurement.hpp"
#include "options.hpp"

namespace demo {

/// What the options name and can be had, in order. Says on standard error which cannot (and sets `skipped`), and which
/// policies are there already.
[[nodiscard]] std::vector<setting> plan(const options& o, const llama& model, std::size_t context, bool& skipped);

}  // namespace demo
