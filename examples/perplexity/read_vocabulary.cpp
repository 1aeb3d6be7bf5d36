#include "read_vocabulary.hpp"

#include <limits>
#include <stdexcept>

namespace demo {

namespace {

std::optional<token> optional_token(const gguf& file, std::string_view key) {
    if (!file.has(key)) return std::nullopt;
    const std::uint64_t id = file.integer(key);
    if (id > static_cast<std::uint64_t>(std::numeric_limits<token>::max())) {
        throw file.wrong_value(key, "it must be a token id");
    }
    return static_cast<token>(id);
}

std::optional<bool> optional_flag(const gguf& file, std::string_view key) {
    if (!file.has(key)) return std::nullopt;
    return file.boolean(key);
}

std::vector<std::string> copies(const gguf& file, std::string_view key) {
    const auto views = file.strings(key);
    return {views.begin(), views.end()};
}

vocabulary read_fields(const gguf& file) {
    vocabulary words;
    words.model = file.string("tokenizer.ggml.model");
    words.pre = file.string("tokenizer.ggml.pre", "");
    words.tokens = copies(file, "tokenizer.ggml.tokens");
    if (file.has("tokenizer.ggml.scores")) words.scores = file.reals("tokenizer.ggml.scores");
    if (file.has("tokenizer.ggml.token_type")) {
        for (const std::int64_t type : file.integers("tokenizer.ggml.token_type")) {
            words.types.push_back(static_cast<std::int32_t>(type));
        }
    }
    if (file.has("tokenizer.ggml.merges")) words.merges = copies(file, "tokenizer.ggml.merges");
    words.bos = optional_token(file, "tokenizer.ggml.bos_token_id");
    words.eos = optional_token(file, "tokenizer.ggml.eos_token_id");
    words.unknown = optional_token(file, "tokenizer.ggml.unknown_token_id");
    words.add_bos = optional_flag(file, "tokenizer.ggml.add_bos_token");
    words.add_space_prefix = optional_flag(file, "tokenizer.ggml.add_space_prefix");
    return words;
}

}  // namespace

tokenizer read_tokenizer(const gguf& file) {
    try {
        return tokenizer(read_fields(file));
    } catch (const std::invalid_argument& problem) {
        throw file.error(problem.what());
    }
}

}  // namespace demo
