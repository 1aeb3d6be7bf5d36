// The tokenizer.ggml.* fields of a GGUF file, as the tokenizer takes them.
#pragma once

#include "gguf.hpp"
#include "tokenizer.hpp"

namespace demo {

/// Throws gguf_error for fields of the wrong type, and for a vocabulary that the tokenizer cannot use.
[[nodiscard]] tokenizer read_tokenizer(const gguf& file);

}  // namespace demo
