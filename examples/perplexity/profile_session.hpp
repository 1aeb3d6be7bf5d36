// perplexity --profile: where the query heads look.
#pragma once

#include "options.hpp"

namespace demo {

/// Runs the text with a full cache and prints how near each query head looks (profile.hpp). Returns the exit code;
/// throws what ends the program with 1.
[[nodiscard]] int print_profile(const options& o);

}  // namespace demo
