// What the options name to be read: the model, and the text in sequences.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "gguf.hpp"
#include "llama.hpp"
#include "options.hpp"
#include "sequences.hpp"

namespace demo {

/// What the reader of the results should know, on standard error, quiet or not.
void note(const std::string& sentence);

/// "1 token", "1,234 tokens"
[[nodiscard]] std::string tokens_of(std::size_t n);

[[nodiscard]] std::size_t count_tokens(std::span<const sequence> sequences);
/// All tokens of a sequence but the first are predicted.
[[nodiscard]] std::size_t count_predictions(std::span<const sequence> sequences);

/// The text or the file of ids as messages name it.
[[nodiscard]] std::string source_name(const options& o);

[[nodiscard]] gguf open_model(const options& o);

/// How long a sequence may be: --context, or its default for this model.
[[nodiscard]] std::size_t context_for(const options& o, const gguf& file);

/// All of a text or of the ids in a file, to the limit; in `context` how long a sequence may be. Says how much of the
/// text is in none; in `all`, unless it is null, the tokens of the whole text without BOS. Throws std::runtime_error.
[[nodiscard]] std::vector<sequence> read_sequences(const options& o, const gguf& file, std::size_t& context,
                                                   std::size_t vocabulary, std::vector<token>* all = nullptr);

/// What is ignored in the model, and sequences beyond its trained length.
void print_notes(const gguf& file, const llama& model, const std::vector<sequence>& sequences);

/// Throws std::invalid_argument where two of the files that the options name are one.
void check_files(const options& o);

}  // namespace demo
