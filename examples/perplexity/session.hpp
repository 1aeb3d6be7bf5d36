// What the program does when it measures, and when it compares what was measured.
#pragma once

#include "options.hpp"

namespace demo {

/// Measures what the options name; each result is printed and written as soon as it is there. A signal ends this with
/// what is done: ask postponed_signal(). Returns the exit code; throws what ends the program with 1.
[[nodiscard]] int measure(options o);

/// Prints two result files beside each other.
[[nodiscard]] int compare(const options& o);

}  // namespace demo
