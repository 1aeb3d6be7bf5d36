// perplexity --paper: what of "Transformers are Multi-State RNNs" holds for this model and text.
#pragma once

#include "options.hpp"

namespace demo {

/// Measures the paper's tables in its shape and prints them beside the published numbers, with a verdict for each claim
/// (paper.hpp). A signal ends this with what is done. Returns the exit code; throws what ends the program with 1.
[[nodiscard]] int measure_paper(const options& o);

}  // namespace demo
