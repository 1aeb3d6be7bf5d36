// perplexity --recall: what each policy still finds.
#pragma once

#include "options.hpp"

namespace demo {

/// Hides pass keys and passages in the text, asks for them, and prints one grid per policy and k (recall.hpp). The full
/// cache is the control. A signal ends this with what is done. Returns the exit code; throws what ends the program with
/// 1.
[[nodiscard]] int measure_recall(const options& o);

}  // namespace demo
