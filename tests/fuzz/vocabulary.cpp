// A vocabulary of any tokens, scores, types and merges, and a text: the ids are those of tokens, or
// std::invalid_argument says what is wrong with the vocabulary. One thing a line, the text at the end:
//
//     model gpt2
//     pre llama-bpe
//     token 1 -0.5 Ġthe                  type, score, spelling
//     merge Ġ t
//     bos 1                              and unknown; add_bos and add_space_prefix are 0 or 1
//     bytes                              the 256 tokens of single bytes, as the model spells them
//     text what is to be encoded, which may have more lines
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#include "engine/synthetic_gguf.hpp"
#include "fuzz/bytes.hpp"
#include "tokenizer.hpp"

namespace {

/// Takes the words before the first `separator` off a text.
std::string_view take(std::string_view& text, char separator) {
    const std::size_t end = std::min(text.find(separator), text.size());
    const std::string_view taken = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return taken;
}

template <class Number>
Number number_of(std::string_view text) {
    Number result{};
    std::from_chars(text.data(), text.data() + text.size(), result);
    return result;
}

void add_bytes(demo::vocabulary& words) {
    if (words.model == "gpt2") {
        for (const std::string& one : demo::synthetic::byte_characters()) words.tokens.push_back(one);
        return;
    }
    constexpr std::string_view digits = "0123456789ABCDEF";
    for (std::size_t i = 0; i < 256; ++i) {
        words.types.resize(words.tokens.size(), 1);
        words.tokens.push_back(std::string("<0x") + digits[i / 16] + digits[i % 16] + ">");
        words.types.push_back(6);
    }
}

demo::vocabulary read(std::string_view& input) {
    demo::vocabulary words;
    while (!input.empty() && !input.starts_with("text ")) {
        std::string_view line = take(input, '\n');
        const std::string_view what = take(line, ' ');
        if (what == "model") words.model = line;
        if (what == "pre") words.pre = line;
        if (what == "token") {
            words.types.push_back(number_of<std::int32_t>(take(line, ' ')));
            words.scores.push_back(number_of<float>(take(line, ' ')));
            words.tokens.emplace_back(line);
        }
        if (what == "merge") words.merges.emplace_back(line);
        if (what == "bytes" && words.tokens.size() < 1000) add_bytes(words);
        if (what == "bos") words.bos = number_of<std::int64_t>(line);
        if (what == "unknown") words.unknown = number_of<std::int64_t>(line);
        if (what == "add_bos") words.add_bos = line == "1";
        if (what == "add_space_prefix") words.add_space_prefix = line == "1";
    }
    return words;
}

void require(bool holds) {
    if (!holds) std::abort();
}

/// The words of a text are consecutive, none is empty, and together they are the text.
void check_split(demo::split_rule rule, std::string_view text) {
    const char* next = text.data();
    for (const std::string_view word : demo::split(rule, text)) {
        require(word.data() == next && !word.empty());
        next += word.size();
    }
    require(next == text.data() + text.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view input = fuzz::text_of(data, size);
    const demo::vocabulary words = read(input);
    const std::string_view text = input.substr(std::min<std::size_t>(input.size(), 5));
    using enum demo::split_rule;
    for (const demo::split_rule rule : {gpt2, llama3, qwen2, smollm, last_resort}) check_split(rule, text);
    try {
        const demo::tokenizer tokens(words);
        require(!tokens.bos() || (*tokens.bos() >= 0 && static_cast<std::size_t>(*tokens.bos()) < tokens.size()));
        for (const demo::token id : tokens.encode(text)) {
            require(id >= 0 && static_cast<std::size_t>(id) < tokens.size());
        }
    } catch (const std::invalid_argument&) {
    }
    return 0;
}
