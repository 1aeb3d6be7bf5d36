// The sequences that are measured: a text cut into pieces of one length, or token ids from a file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <iosfwd>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer.hpp"

namespace demo {

using sequence = std::vector<token>;

/// BOS, if the model wants one, and as many tokens as make `context` in all, in order; a last piece shorter than half
/// of `context` is dropped.
[[nodiscard]] std::vector<sequence> cut(std::span<const token> tokens, std::optional<token> bos, std::size_t context);

/// One sequence per line, ids separated by spaces; empty lines are passed over. Throws std::runtime_error that names
/// file, line and value for what is not an id of the vocabulary.
[[nodiscard]] std::vector<sequence> read_tokens(const std::filesystem::path& path, std::size_t vocabulary);

/// The form that read_tokens reads.
void print_tokens(std::ostream& out, std::span<const sequence> sequences);

/// Keeps the first sequences so that `limit` tokens are predicted: all of a sequence but its first.
void limit_predictions(std::vector<sequence>& sequences, std::size_t limit);

/// The most bytes that read_file reads.
constexpr std::size_t longest_text = std::size_t{256} << 20;

/// The whole file; all of standard input for "-". Throws std::runtime_error that names the file and the reason: it
/// cannot be read, or it is longer than `most` bytes.
[[nodiscard]] std::string read_file(const std::filesystem::path& path, std::size_t most = longest_text);

/// The name of an input file in messages: "standard input" for "-".
[[nodiscard]] std::string name_of(const std::filesystem::path& path);

/// A sentence on bytes that are not UTF-8 and bytes that are 0, with the place of the first; empty if there are none.
[[nodiscard]] std::string odd_bytes(std::string_view text);

}  // namespace demo
