#include "read_vocabulary.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>

namespace demo {

namespace {

constexpr std::string_view prefix = "tokenizer.ggml.";

// What a file may say that does not concern the ids of plain text: names of tokens (…_token_id), what would follow a
// text, and the fields of the other model.
constexpr std::array<std::string_view, 7> harmless{"add_eos_token", "add_sep_token",   "merges",          "pre",
                                                   "scores",        "suppress_tokens", "token_type_count"};
constexpr std::array<std::string_view, 5> used{"model", "tokens", "token_type", "add_bos_token", "add_space_prefix"};

bool is_understood(const gguf& file, std::string_view key) {
    const std::string_view name = key.substr(prefix.size());
    if (std::ranges::find(used, name) != used.end() || std::ranges::find(harmless, name) != harmless.end()) return true;
    if (name == "remove_extra_whitespaces") return !file.boolean(key);
    return name.ends_with("_token_id") || name.ends_with("_token_ids");
}

std::vector<std::string> read_notes(const gguf& file) {
    std::vector<std::string> notes;
    for (const std::string_view key : file.keys(prefix)) {
        if (!is_understood(file, key)) notes.push_back("key " + quoted(key) + " is not supported and ignored");
    }
    return notes;
}

std::optional<std::int64_t> optional_token(const gguf& file, std::string_view key) {
    if (!file.has(key)) return std::nullopt;
    return file.signed_integer(key);
}

std::optional<bool> optional_flag(const gguf& file, std::string_view key) {
    if (!file.has(key)) return std::nullopt;
    return file.boolean(key);
}

std::vector<std::string> copies(const gguf& file, std::string_view key) {
    const auto views = file.strings(key);
    return {views.begin(), views.end()};
}

/// Only what the model uses: nothing else is a reason to refuse a file.
vocabulary read_fields(const gguf& file) {
    vocabulary words;
    words.model = file.string("tokenizer.ggml.model");
    words.tokens = copies(file, "tokenizer.ggml.tokens");
    if (file.has("tokenizer.ggml.token_type")) {
        for (const std::int64_t type : file.integers("tokenizer.ggml.token_type")) {
            words.types.push_back(static_cast<std::int32_t>(type));
        }
    }
    if (words.model == "llama") {
        if (file.has("tokenizer.ggml.scores")) words.scores = file.reals("tokenizer.ggml.scores");
        words.unknown = optional_token(file, "tokenizer.ggml.unknown_token_id");
        words.add_space_prefix = optional_flag(file, "tokenizer.ggml.add_space_prefix");
    } else {
        words.pre = file.string("tokenizer.ggml.pre", "");
        if (file.has("tokenizer.ggml.merges")) words.merges = copies(file, "tokenizer.ggml.merges");
    }
    words.add_bos = optional_flag(file, "tokenizer.ggml.add_bos_token");
    if (words.add_bos.value_or(true)) words.bos = optional_token(file, "tokenizer.ggml.bos_token_id");
    words.notes = read_notes(file);
    return words;
}

}  // namespace

tokenizer read_tokenizer(const gguf& file) {
    refuse_parts(file, 1);  // the first has all metadata
    try {
        return tokenizer(read_fields(file));
    } catch (const std::invalid_argument& problem) {
        throw file.error(problem.what());
    }
}

}  // namespace demo
