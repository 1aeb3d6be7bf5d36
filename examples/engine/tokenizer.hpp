// Text to token ids, by either of the two tokenizers that Llama models in GGUF files carry.
//
//     demo::vocabulary words;            // plain data, as the file's tokenizer.ggml.* fields give it
//     words.model = "llama";
//     words.tokens = {"<unk>", "<s>", "</s>", ...};
//     const demo::tokenizer tokenizer(std::move(words));
//     std::vector<demo::token> ids = tokenizer.encode("Once upon a time");
//     if (tokenizer.bos()) ids.insert(ids.begin(), *tokenizer.bos());
//     for (const std::string& note : tokenizer.notes()) std::cerr << note << '\n';  // what had to be assumed
//
// `llama` is SentencePiece's byte-pair encoding: of all neighbours whose union is a token, the pair with the highest
// score is joined first. `gpt2` is byte-level: a pre-tokenizer cuts the text into words, and inside each the pairs of
// a merge list are joined, earliest entry first. Both do what llama.cpp does with text in which special tokens are not
// parsed: control tokens such as `<s>` are ordinary text, user-defined tokens are cut out whole before all else.
//
// Text may hold any bytes. A vocabulary comes from a file that nobody vouches for: the constructor checks what it
// relies on and throws std::invalid_argument, naming the field, its value and what is supported.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

namespace demo {

using token = std::int32_t;

/// The fields tokenizer.ggml.* of a GGUF file. Empty or absent is what a file may leave out; the defaults are
/// llama.cpp's. `model` and `tokens` are needed always, `merges` by gpt2; score 0 and type normal stand in for absent.
/// An id that is out of range is refused where the token is needed and nowhere else.
struct vocabulary {
    std::string model;  ///< "llama" or "gpt2"
    std::string pre;    ///< gpt2 only: the pre-tokenizer's name; absent: as the tokens tell, else "default"
    std::vector<std::string> tokens;  ///< gpt2: spelled in GPT-2's printable stand-ins for the 256 bytes
    std::vector<float> scores;
    std::vector<std::int32_t> types;
    std::vector<std::string> merges;       ///< gpt2 only: "left right", best first
    std::optional<std::int64_t> bos;       ///< llama: 1
    std::optional<std::int64_t> unknown;   ///< llama only: 0
    std::optional<bool> add_bos;           ///< llama and the llama-bpe family: true; other gpt2: false
    std::optional<bool> add_space_prefix;  ///< llama only: true
    std::vector<std::string> notes;        ///< what was seen and ignored when the fields were read
};

/// How gpt2 vocabularies cut a text into words before any merging; a file names its rule in `pre`.
enum class split_rule {
    gpt2,         ///< words, numbers, punctuation, each with one space before it
    llama3,       ///< as gpt2, but numbers in groups of three, and newlines end a word
    qwen2,        ///< as llama3, each digit alone
    smollm,       ///< each digit alone, what is between by gpt2
    last_resort,  ///< llama.cpp's for files that name none: punctuation apart, then gpt2, digits apart and in threes
};

/// The words of a text: consecutive views that together are the whole text.
[[nodiscard]] std::vector<std::string_view> split(split_rule rule, std::string_view text);

/// Lets a map of strings be asked with a view.
struct text_hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>()(text); }
};
using text_index = std::unordered_map<std::string, token, text_hash, std::equal_to<>>;

/// The model "llama". Use `tokenizer`, which checks the vocabulary first.
class sentence_piece {
  public:
    explicit sentence_piece(const vocabulary& words);
    void encode(std::string_view text, std::vector<token>& ids) const;
    /// The bytes of a token that the file spells so.
    [[nodiscard]] std::string decode(token id, std::string_view spelling) const;

  private:
    void spell(std::string_view text, std::vector<token>& ids) const;

    text_index index_;
    std::vector<float> scores_;
    std::array<token, 256> bytes_{};
    token unknown_ = 0;
    bool add_space_prefix_ = true;
};

/// The model "gpt2". Use `tokenizer`, which checks the vocabulary first.
class byte_pairs {
  public:
    explicit byte_pairs(const vocabulary& words);
    void encode(std::string_view text, std::vector<token>& ids) const;
    /// The bytes of a token that the file spells so.
    [[nodiscard]] static std::string decode(token id, std::string_view spelling);

  private:
    struct merge {
        std::uint64_t pair;  // left id in the upper half, right id in the lower
        std::size_t rank;
        token result;
    };
    void read_merges(const vocabulary& words);
    const merge* find_merge(token left, token right) const noexcept;

    text_index index_;           // by the bytes that a token stands for, not by its spelling
    std::vector<merge> merges_;  // sorted by pair, then rank: no crafted file can make a look-up slow
    std::array<token, 256> bytes_{};
    split_rule rule_ = split_rule::gpt2;
    bool whole_words_ = false;
};

/// Cuts user-defined tokens out of a text: the longest first wherever they stand, of one length the leftmost.
class user_defined {
  public:
    struct fragment {
        std::string_view text;
        token id = -1;  ///< negative: ordinary text
    };
    explicit user_defined(const vocabulary& words);
    [[nodiscard]] std::vector<fragment> cut(std::string_view text) const;

  private:
    void cut_length(std::size_t length, std::string_view text, std::vector<fragment>& fragments) const;

    text_index index_;
    std::vector<std::size_t> lengths_;
    std::bitset<256> first_bytes_;
};

/// A vocabulary ready to encode. Takes time n log n for n bytes of text.
class tokenizer {
  public:
    explicit tokenizer(vocabulary words);

    /// The ids of a text and of nothing else: no BOS, no EOS.
    [[nodiscard]] std::vector<token> encode(std::string_view text) const;

    /// The token to put before a sequence, if the model wants one.
    [[nodiscard]] std::optional<token> bos() const noexcept { return bos_; }

    /// How many tokens there are: valid ids are [0, size).
    [[nodiscard]] std::size_t size() const noexcept { return tokens_.size(); }

    /// A token as the file spells it; empty for an id out of range.
    [[nodiscard]] std::string_view text(token id) const noexcept;
    /// The bytes of text that a token stands for, which may be a part of a character; empty for an id out of range.
    [[nodiscard]] std::string decode(token id) const;

    /// What the reader of results should know: what was missing and is assumed, what was ignored.
    [[nodiscard]] const std::vector<std::string>& notes() const noexcept { return notes_; }

  private:
    std::vector<std::string> notes_;
    std::optional<token> bos_;
    user_defined user_defined_;
    std::variant<sentence_piece, byte_pairs> model_;
    std::vector<std::string> tokens_;
};

}  // namespace demo
