#include "tokenizer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "unicode.hpp"

namespace demo {

namespace {

constexpr token absent = -1;

// The values of tokenizer.ggml.token_type that matter here; every other value is treated as normal text.
constexpr std::int32_t type_unknown = 2;
constexpr std::int32_t type_control = 3;
constexpr std::int32_t type_user_defined = 4;
constexpr std::int32_t type_byte = 6;

// Real ones are runs of blanks or short tags. Longer ones would only serve to make the search for them slow.
constexpr std::size_t longest_user_defined = 256;

// Whether char has a sign is up to the machine; array indices must not depend on it.
std::uint8_t byte_of(char value) noexcept { return static_cast<std::uint8_t>(value); }

// ---- Checking a vocabulary ----------------------------------------------------------------------------------------

// Whoever opened the file puts its name before the sentence.
[[noreturn]] void refuse(const std::string& sentence) { throw std::invalid_argument("tokenizer.ggml." + sentence); }

/// What a file says, short and printable: error messages go to terminals.
std::string shown(std::string_view text) {
    constexpr std::size_t longest = 40;
    std::string result = "'";
    for (const char value : text.substr(0, longest)) result += value >= ' ' && value <= '~' ? value : '?';
    return result + (text.size() > longest ? "...'" : "'");
}

struct pre_tokenizer {
    std::string_view name;
    split_rule rule;
    bool whole_words = false;  // a word that is a token is taken as it is, whatever the merges say
    bool add_bos = false;
};

// The names that llama.cpp gives to these five rules. No model was trained with the last resort.
constexpr std::string_view last_resort = "default";
constexpr pre_tokenizer pre_tokenizers[] = {
    {"gpt-2", split_rule::gpt2},
    {last_resort, split_rule::last_resort},
    {"gigachat", split_rule::gpt2},
    {"jais", split_rule::gpt2},
    {"mellum", split_rule::gpt2},
    {"mpt", split_rule::gpt2},
    {"olmo", split_rule::gpt2},
    {"phi-2", split_rule::gpt2},
    {"trillion", split_rule::gpt2},
    {"llama-bpe", split_rule::llama3, true, true},
    {"llama3", split_rule::llama3, true, true},
    {"llama-v3", split_rule::llama3, true, true},
    {"falcon3", split_rule::llama3, true, true},
    {"falcon-h1", split_rule::llama3, true, true},
    {"lfm2", split_rule::llama3, true, true},
    {"midm-2.0", split_rule::llama3, true, true},
    {"pixtral", split_rule::llama3, true, true},
    {"dbrx", split_rule::llama3},
    {"smaug-bpe", split_rule::llama3},
    {"qwen2", split_rule::qwen2},
    {"deepseek-r1-qwen", split_rule::qwen2},
    {"hunyuan", split_rule::qwen2},
    {"kormo", split_rule::qwen2},
    {"megrez", split_rule::qwen2},
    {"stablelm2", split_rule::qwen2},
    {"smollm", split_rule::smollm},
    {"codeshell", split_rule::smollm},
    {"command-r", split_rule::smollm},
    {"exaone", split_rule::smollm},
    {"minerva-7b", split_rule::smollm},
    {"refact", split_rule::smollm},
    {"starcoder", split_rule::smollm},
};

/// `given` is what an error says of the name: where it comes from.
const pre_tokenizer& find_pre_tokenizer(std::string_view name, const std::string& given) {
    std::string supported;
    for (const pre_tokenizer& known : pre_tokenizers) {
        if (known.name == name) return known;
        supported += (supported.empty() ? "" : ", ") + std::string(known.name);
    }
    refuse("pre " + given + shown(name) + "; supported are " + supported);
}
const pre_tokenizer& find_pre_tokenizer(std::string_view name) { return find_pre_tokenizer(name, "is "); }

/// A token by which a vocabulary is known: files of before May 2024 do not name their pre-tokenizer.
struct sign {
    std::size_t id;
    std::string_view text;
    std::string_view pre;
};

constexpr sign signs[] = {
    {128000, "<|begin_of_text|>", "llama-bpe"},  // Llama 3
    {151643, "<|endoftext|>", "qwen2"},
    {50256, "<|endoftext|>", "gpt-2"},  // and what extends its vocabulary: Phi 2
    {1, "<|padding|>", "gpt-2"},        // GPT-NeoX
    {1, "<fim_prefix>", "starcoder"},
    {1, "<|im_start|>", "smollm"},
    {100000, "<\uFF5Cbegin\u2581of\u2581sentence\uFF5C>", "deepseek-llm"},   // recognized in order to be
    {32013, "<\uFF5Cbegin\u2581of\u2581sentence\uFF5C>", "deepseek-coder"},  // refused by name
};

const sign* find_sign(const std::vector<std::string>& tokens) noexcept {
    for (const sign& each : signs) {
        if (each.id < tokens.size() && tokens[each.id] == each.text) return &each;
    }
    return nullptr;
}

/// Names the pre-tokenizer where the file does not. Returns the notes of the vocabulary and what was assumed.
std::vector<std::string> settle_pre_tokenizer(vocabulary& words) {
    std::vector<std::string> notes = std::move(words.notes);
    if (words.model != "gpt2") return notes;
    const std::string key = "key 'tokenizer.ggml.pre' is ";
    const sign* const seen = find_sign(words.tokens);
    if (words.pre.empty() && seen != nullptr) {
        const pre_tokenizer& assumed = find_pre_tokenizer(seen->pre, "is missing, and the tokens are those of ");
        words.pre = seen->pre;
        notes.push_back(key + "missing; '" + words.pre + "' is assumed, because token " + std::to_string(seen->id) +
                        " is " + shown(seen->text) +
                        (assumed.add_bos && !words.add_bos ? "; sequences therefore begin with BOS" : ""));
    } else if (words.pre.empty()) {
        words.pre = last_resort;
        notes.push_back(key + "missing; 'default', a rule of last resort, is assumed: the model may have been " +
                        "trained with other tokens");
    } else if (words.pre == last_resort && seen != nullptr) {
        notes.push_back(key + "'default', a rule of last resort, and is obeyed, although the tokens are those of '" +
                        std::string(seen->pre) + "'");
    }
    return notes;
}

/// Absent arrays are empty here; an array that is there must fit.
void check_size(const char* field, std::size_t size, std::size_t tokens) {
    if (size == 0 || size == tokens) return;
    refuse(std::string(field) + " has " + std::to_string(size) + " entries; tokens has " + std::to_string(tokens) +
           ", and they must be as many");
}

token checked_id(const char* field, std::int64_t id, std::size_t tokens) {
    if (id >= 0 && static_cast<std::size_t>(id) < tokens) return static_cast<token>(id);
    refuse(std::string(field) + " is " + std::to_string(id) + "; valid ids are 0 to " + std::to_string(tokens - 1));
}

/// Everything that holds for both models; returns the token to prepend, if any.
std::optional<token> check(const vocabulary& words) {
    const bool llama = words.model == "llama";
    if (!llama && words.model != "gpt2") refuse("model is " + shown(words.model) + "; supported are llama and gpt2");
    const std::size_t size = words.tokens.size();
    if (size == 0) refuse("tokens is empty; a tokenizer needs at least one token");
    if (size > static_cast<std::size_t>(std::numeric_limits<token>::max())) {
        refuse("tokens has " + std::to_string(size) + " entries; supported are at most 2147483647");
    }
    check_size("token_type", words.types.size(), size);
    if (llama) check_size("scores", words.scores.size(), size);
    for (std::size_t i = 0; llama && i < words.scores.size(); ++i) {
        // The order of merges is an order of scores, and there is none with a NaN in it.
        if (std::isnan(words.scores[i]))
            refuse("scores[" + std::to_string(i) + "] is NaN; every score must be a number");
    }

    // What the file says wins; the pre-tokenizer's name decides only when it says nothing.
    const bool wanted = words.add_bos.value_or(llama || find_pre_tokenizer(words.pre).add_bos);
    if (!wanted) return std::nullopt;
    if (words.bos) return checked_id("bos_token_id", *words.bos, size);
    // SentencePiece numbers its special tokens 0, 1, 2 unless told otherwise. gpt2 vocabularies have no such habit.
    if (llama && size > 1) return token{1};
    refuse("bos_token_id is absent; it is needed because add_bos_token is true, in the file or by default");
}

std::int32_t type_of(const vocabulary& words, std::size_t id) noexcept {
    return words.types.empty() ? 1 : words.types[id];
}

/// Whether plain text may become this token.
bool is_text(const vocabulary& words, std::size_t id) noexcept {
    const std::int32_t type = type_of(words, id);
    return type != type_unknown && type != type_control && !words.tokens[id].empty();
}

/// Token ids by spelling, of every type. Files pad with empty tokens; those have no spelling.
std::unordered_map<std::string_view, token> by_spelling(const vocabulary& words) {
    std::unordered_map<std::string_view, token> ids;
    ids.reserve(words.tokens.size());
    for (std::size_t i = 0; i < words.tokens.size(); ++i) {
        const std::string& text = words.tokens[i];
        if (text.empty()) continue;
        const auto [found, fresh] = ids.emplace(text, static_cast<token>(i));
        if (!fresh) {
            refuse("tokens[" + std::to_string(i) + "] is " + shown(text) + ", as is tokens[" +
                   std::to_string(found->second) + "]; every token must be different");
        }
    }
    return ids;
}

token find(const text_index& index, std::string_view text) {
    const auto found = index.find(text);
    return found == index.end() ? absent : found->second;
}

// ---- Merging neighbours, which both models do ---------------------------------------------------------------------

/// A stretch of text, linked to its neighbours. An empty text marks one that was merged into its left neighbour.
struct symbol {
    std::string_view text;
    token id = absent;
    std::size_t previous = 0;
    std::size_t next = 0;
};

constexpr std::size_t nowhere = static_cast<std::size_t>(-1);

/// What two neighbours would become; the highest priority goes first.
struct joint {
    token id = absent;
    double priority = 0;
};

struct candidate {
    double priority;
    std::size_t left;
    std::size_t length;  // of both texts: differs from the present length if either has changed since
    token id;

    // The queue serves the greatest: of equal priority, the leftmost.
    bool operator<(const candidate& other) const noexcept {
        return std::tie(priority, other.left) < std::tie(other.priority, left);
    }
};

void append(std::vector<symbol>& symbols, std::string_view text, token id) {
    const std::size_t place = symbols.size();
    if (place > 0) symbols.back().next = place;
    symbols.push_back({text, id, place > 0 ? place - 1 : nowhere, nowhere});
}

/// Joins neighbours until `join(left, right)` returns an absent id for every pair. The texts lie side by side in
/// memory. Outdated candidates stay in the queue and are recognized when served: that keeps the whole at n log n.
template <typename Join>
void merge_neighbours(std::vector<symbol>& symbols, const Join& join) {
    std::priority_queue<candidate> queue;
    // A pair is looked at when its neighbourhood arises and never again, so there are at most 3 n candidates.
    const auto propose = [&](std::size_t left) {
        if (left == nowhere || symbols[left].next == nowhere) return;
        const symbol& right = symbols[symbols[left].next];
        const joint both = join(symbols[left], right);
        if (both.id == absent) return;
        queue.push({both.priority, left, symbols[left].text.size() + right.text.size(), both.id});
    };
    for (std::size_t i = 0; i < symbols.size(); ++i) propose(i);

    while (!queue.empty()) {
        const candidate best = queue.top();
        queue.pop();
        symbol& left = symbols[best.left];
        // Outdated: the left symbol is gone, or one of the two has grown. Symbols only ever grow, so that the length
        // of both together tells.
        if (left.text.empty() || left.next == nowhere) continue;
        symbol& right = symbols[left.next];
        if (left.text.size() + right.text.size() != best.length) continue;
        left.text = std::string_view(left.text.data(), best.length);
        left.id = best.id;
        left.next = right.next;
        if (right.next != nowhere) symbols[right.next].previous = best.left;
        right.text = {};
        propose(left.previous);
        propose(best.left);
    }
}

// ---- Pre-tokenizers: one function per expression, each gives the length of the next word ----------------------------

enum class kind { end, letter, number, space, newline, other };

struct classified {
    kind is = kind::end;
    std::size_t length = 0;
};

/// The character at `at`, or `end` from the end of the text on: the rules may look ahead without counting.
classified look(std::string_view text, std::size_t at) noexcept {
    const auto [code_point, length] = decode(text.substr(std::min(at, text.size())));
    if (length == 0) return {kind::end, 0};
    if (code_point == '\n' || code_point == '\r') return {kind::newline, length};
    if (is_letter(code_point)) return {kind::letter, length};
    if (is_number(code_point)) return {kind::number, length};
    return {is_space(code_point) ? kind::space : kind::other, length};
}

/// The end of the longest run of one kind that begins at `at`.
std::size_t skip(std::string_view text, std::size_t at, kind wanted) noexcept {
    for (classified next = look(text, at); next.is == wanted; next = look(text, at)) at += next.length;
    return at;
}

/// `'s|'t|'re|'ve|'m|'ll|'d`; 0 if there is none. Either case where asked, of ASCII letters only.
std::size_t contraction(std::string_view text, bool any_case) noexcept {
    if (text.size() < 2 || text[0] != '\'') return 0;
    const auto lower = [&](std::size_t at) {
        const char value = at < text.size() ? text[at] : '\0';
        return any_case && value >= 'A' && value <= 'Z' ? static_cast<char>(value - 'A' + 'a') : value;
    };
    const char first = lower(1);
    const char second = lower(2);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
    return (second == 'e' && (first == 'r' || first == 'v')) || (first == 'l' && second == 'l') ? 3 : 0;
}

/// `\s+(?!\S)|\s+`: white space, less its last character if a word follows and something is left.
/// With `newlines_first`, `\s*[\r\n]+` is tried before: up to the last newline in the run.
std::size_t white_space(std::string_view text, bool newlines_first) noexcept {
    std::size_t end = 0;
    std::size_t last = 0;
    std::size_t after_newline = 0;
    for (classified next = look(text, 0); next.is == kind::space || next.is == kind::newline; next = look(text, end)) {
        last = end;
        end += next.length;
        if (next.is == kind::newline) after_newline = end;
    }
    if (newlines_first && after_newline > 0) return after_newline;
    return end < text.size() && last > 0 ? last : end;
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
std::size_t next_gpt2(std::string_view text) noexcept {
    if (const std::size_t length = contraction(text, false)) return length;
    const std::size_t blank = text.front() == ' ' ? 1 : 0;
    const kind first = look(text, blank).is;
    if (first == kind::letter || first == kind::number || first == kind::other) return skip(text, blank, first);
    return white_space(text, false);
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
/// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+` with 3 or another number of `digits`.
std::size_t next_llama3(std::string_view text, int digits) noexcept {
    if (const std::size_t length = contraction(text, true)) return length;
    const classified first = look(text, 0);
    if (first.is == kind::letter) return skip(text, 0, kind::letter);
    if (first.is == kind::number) {
        std::size_t end = 0;
        for (int i = 0; i < digits && look(text, end).is == kind::number; ++i) end += look(text, end).length;
        return end;
    }
    // Any one character but a newline may lead a word: a blank, an opening quote, also a byte of ill-formed text.
    if (first.is != kind::newline && look(text, first.length).is == kind::letter) {
        return skip(text, first.length, kind::letter);
    }
    const std::size_t blank = text.front() == ' ' ? 1 : 0;
    if (look(text, blank).is == kind::other) return skip(text, skip(text, blank, kind::other), kind::newline);
    return white_space(text, true);
}

/// A digit alone, or the next gpt2 word of the text before the next digit, as if the text ended there: blanks before
/// a digit therefore stay together. `limit` is where the next digit stands, and is found anew when it is passed.
std::size_t next_smollm(std::string_view text, std::size_t& limit) noexcept {
    if (limit == 0) {
        if (const classified first = look(text, 0); first.is == kind::number) return first.length;
        classified next = look(text, limit);
        for (; next.is != kind::number && next.is != kind::end; next = look(text, limit)) limit += next.length;
    }
    const std::size_t length = next_gpt2(text.substr(0, limit));
    limit -= length;
    return length;
}

/// `[\p{P}\$\+<=>\^~\|]`: punctuation, and ASCII's symbols but the backtick.
bool is_sign(char32_t code_point) noexcept {
    constexpr std::u32string_view symbols = U"$+<=>^~|";
    return is_punctuation(code_point) || symbols.find(code_point) != symbols.npos;
}

/// A run of signs, or the next gpt2 word of the text before the next run, as if the text ended there. Numbers stand
/// without the blank before them, and their ASCII digits in threes: `\p{N}+` and `[0-9][0-9][0-9]` of such a word.
std::size_t next_last_resort(std::string_view text, std::size_t& limit) noexcept {
    if (limit == 0) {
        const bool sign = is_sign(decode(text).code_point);
        while (limit < text.size() && is_sign(decode(text.substr(limit)).code_point) == sign) {
            limit += decode(text.substr(limit)).length;
        }
    }
    std::size_t length = next_gpt2(text.substr(0, limit));
    const std::string_view word = text.substr(0, length);
    if (look(word, 0).is == kind::number) {
        const auto digit = [&](std::size_t at) { return at < length && word[at] >= '0' && word[at] <= '9'; };
        std::size_t three = 0;
        while (three < length && !(digit(three) && digit(three + 1) && digit(three + 2))) ++three;
        length = three == 0 ? 3 : three;
    } else if (look(word, 1).is == kind::number) {
        length = 1;
    }
    limit -= length;
    return length;
}

}  // namespace

std::vector<std::string_view> split(split_rule rule, std::string_view text) {
    std::vector<std::string_view> words;
    std::size_t limit = 0;
    while (!text.empty()) {
        std::size_t length = 0;
        switch (rule) {
            case split_rule::gpt2:
                length = next_gpt2(text);
                break;
            case split_rule::llama3:
                length = next_llama3(text, 3);
                break;
            case split_rule::qwen2:
                length = next_llama3(text, 1);
                break;
            case split_rule::smollm:
                length = next_smollm(text, limit);
                break;
            case split_rule::last_resort:
                length = next_last_resort(text, limit);
                break;
        }
        words.push_back(text.substr(0, length));
        text.remove_prefix(length);
    }
    return words;
}

// ---- The model "llama" ----------------------------------------------------------------------------------------------

namespace {

/// How long a lead byte says its character is. llama.cpp believes it, so that ill-formed text comes out the same.
std::size_t claimed_length(char lead) noexcept {
    const std::uint8_t byte = byte_of(lead);
    if (byte < 0xC0) return 1;
    return byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// SentencePiece writes a space as U+2581, "lower one eighth block".
constexpr std::string_view space_mark = "\xE2\x96\x81";

std::string mark_spaces(std::string_view text, bool prefix) {
    std::string marked(prefix ? space_mark : "");
    for (const char value : text) {
        if (value == ' ') {
            marked += space_mark;
        } else {
            marked += value;
        }
    }
    return marked;
}

}  // namespace

sentence_piece::sentence_piece(const vocabulary& words)
    : scores_(words.scores), add_space_prefix_(words.add_space_prefix.value_or(true)) {
    scores_.resize(words.tokens.size());
    const auto ids = by_spelling(words);
    for (const auto& [text, id] : ids) {
        const auto place = static_cast<std::size_t>(id);
        // Text that happens to read <0x0A> is those six characters and no byte token.
        if (is_text(words, place) && type_of(words, place) != type_byte) index_.emplace(text, id);
    }
    constexpr char digits[] = "0123456789ABCDEF";
    for (std::size_t byte = 0; byte < bytes_.size(); ++byte) {
        const char name[] = {'<', '0', 'x', digits[byte / 16], digits[byte % 16], '>'};
        const auto found = ids.find(std::string_view(name, sizeof name));
        bytes_[byte] = found == ids.end() ? absent : found->second;
    }
    // Whoever can spell every byte knows every text.
    const bool spells_all = std::ranges::find(bytes_, absent) == bytes_.end();
    if (!spells_all) unknown_ = checked_id("unknown_token_id", words.unknown.value_or(0), words.tokens.size());
}

void sentence_piece::encode(std::string_view text, std::vector<token>& ids) const {
    const std::string marked = mark_spaces(text, add_space_prefix_);
    std::vector<symbol> symbols;
    // A character may be no token and yet become part of one, so that the unknown ones take part in merging too.
    for (std::string_view rest = marked; !rest.empty();) {
        const std::string_view next = rest.substr(0, claimed_length(rest.front()));
        append(symbols, next, find(index_, next));
        rest.remove_prefix(next.size());
    }
    merge_neighbours(symbols, [this](const symbol& left, const symbol& right) -> joint {
        const token id = find(index_, std::string_view(left.text.data(), left.text.size() + right.text.size()));
        return {id, id == absent ? 0.0 : static_cast<double>(scores_[static_cast<std::size_t>(id)])};
    });
    bool unknown = false;
    for (const symbol& each : symbols) {
        if (each.text.empty()) continue;
        const bool known = each.id != absent;
        const bool spelled = std::all_of(each.text.begin(), each.text.end(),
                                         [this](char value) { return bytes_[byte_of(value)] != absent; });
        if (known) ids.push_back(each.id);
        if (!known && spelled) spell(each.text, ids);
        // Without byte tokens SentencePiece gives one unknown token to a whole run of characters that it cannot write.
        if (!known && !spelled && !unknown) ids.push_back(unknown_);
        unknown = !known && !spelled;
    }
}

void sentence_piece::spell(std::string_view text, std::vector<token>& ids) const {
    for (const char value : text) ids.push_back(bytes_[byte_of(value)]);
}

std::string sentence_piece::decode(token id, std::string_view spelling) const {
    const auto byte = std::ranges::find(bytes_, id);
    if (byte != bytes_.end())
        return std::string(1, static_cast<char>(static_cast<unsigned char>(byte - bytes_.begin())));
    std::string text;
    for (std::size_t begin = 0; begin < spelling.size();) {
        const std::size_t mark = std::min(spelling.find(space_mark, begin), spelling.size());
        text += spelling.substr(begin, mark - begin);
        if (mark < spelling.size()) text += ' ';
        begin = mark + space_mark.size();
    }
    return text;
}

// ---- The model "gpt2" -----------------------------------------------------------------------------------------------

namespace {

/// GPT-2 writes bytes as printable characters: most of Latin-1 as it is, the 68 others as U+0100 and after, in order.
bool stands_for_itself(char32_t byte) noexcept {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

/// The byte that each character below U+0144 stands for, or `absent`.
std::array<int, 0x144> stand_ins() noexcept {
    std::array<int, 0x144> bytes{};
    std::size_t next = 0x100;
    bytes.fill(absent);
    for (int byte = 0; byte < 0x100; ++byte) {
        const auto value = static_cast<std::size_t>(byte);
        bytes[stands_for_itself(static_cast<char32_t>(byte)) ? value : next++] = byte;
    }
    return bytes;
}

/// The bytes that a token stands for; none if it is not spelled in stand-ins.
std::optional<std::string> bytes_of(std::string_view text) {
    // Ill-formed spellings need no care of their own: they decode to U+FFFD, which stands for nothing.
    static const std::array<int, 0x144> stands_for = stand_ins();
    std::string bytes;
    while (!text.empty()) {
        const auto [code_point, length] = decode(text);
        if (code_point >= stands_for.size() || stands_for[code_point] == absent) return std::nullopt;
        bytes += static_cast<char>(static_cast<unsigned char>(stands_for[code_point]));
        text.remove_prefix(length);
    }
    return bytes;
}

std::uint64_t pair_of(token left, token right) noexcept {
    return (static_cast<std::uint64_t>(left) << 32) | static_cast<std::uint64_t>(right);
}

}  // namespace

// Tokens that are not spelled in stand-ins are control tokens, or are defined by the user: text as it is.
std::string byte_pairs::decode(token, std::string_view spelling) {
    return bytes_of(spelling).value_or(std::string(spelling));
}

byte_pairs::byte_pairs(const vocabulary& words) {
    const pre_tokenizer& pre = find_pre_tokenizer(words.pre);
    rule_ = pre.rule;
    whole_words_ = pre.whole_words;
    for (std::size_t i = 0; i < words.tokens.size(); ++i) {
        if (!is_text(words, i)) continue;
        if (auto bytes = bytes_of(words.tokens[i])) index_.emplace(std::move(*bytes), static_cast<token>(i));
    }
    // Trained vocabularies may lack bytes that UTF-8 never uses, but one without a single byte is of another kind.
    bool any = false;
    for (std::size_t byte = 0; byte < bytes_.size(); ++byte) {
        const char value = static_cast<char>(static_cast<unsigned char>(byte));
        bytes_[byte] = find(index_, std::string_view(&value, 1));
        any = any || bytes_[byte] != absent;
    }
    if (!any) refuse("tokens has none of the 256 single bytes; a gpt2 tokenizer is built from them");
    read_merges(words);
}

void byte_pairs::read_merges(const vocabulary& words) {
    if (words.merges.empty()) refuse("merges is empty; a gpt2 tokenizer needs pairs such as 't h'");
    const auto ids = by_spelling(words);
    const auto id_of = [&](std::size_t rank, std::string_view text) {
        if (const auto found = ids.find(text); found != ids.end()) return found->second;
        refuse("merges[" + std::to_string(rank) + "] is " + shown(words.merges[rank]) + "; its part or result " +
               shown(text) + " is not in tokens");
    };
    // Strictness costs nothing: the trainers whose vocabularies these are guarantee that parts and results are tokens.
    merges_.reserve(words.merges.size());
    for (std::size_t rank = 0; rank < words.merges.size(); ++rank) {
        const std::string_view line = words.merges[rank];
        const std::size_t blank = line.find(' ');
        if (blank == 0 || blank >= line.size() - 1 || line.find(' ', blank + 1) != std::string_view::npos) {
            refuse("merges[" + std::to_string(rank) + "] is " + shown(line) +
                   "; it must be two parts with one space between them");
        }
        const std::string_view left = line.substr(0, blank);
        const std::string_view right = line.substr(blank + 1);
        const token result = id_of(rank, std::string(left) + std::string(right));
        const std::uint64_t pair = pair_of(id_of(rank, left), id_of(rank, right));
        if (is_text(words, static_cast<std::size_t>(result))) merges_.push_back({pair, rank, result});
    }
    std::sort(merges_.begin(), merges_.end(), [](const merge& first, const merge& second) {
        return std::tie(first.pair, first.rank) < std::tie(second.pair, second.rank);
    });
}

const byte_pairs::merge* byte_pairs::find_merge(token left, token right) const noexcept {
    if (left == absent || right == absent) return nullptr;
    const std::uint64_t pair = pair_of(left, right);
    const auto found = std::lower_bound(merges_.begin(), merges_.end(), pair,
                                        [](const merge& each, std::uint64_t wanted) { return each.pair < wanted; });
    return found != merges_.end() && found->pair == pair ? &*found : nullptr;
}

void byte_pairs::encode(std::string_view text, std::vector<token>& ids) const {
    std::vector<symbol> symbols;
    for (const std::string_view word : split(rule_, text)) {
        // Some tokens of these vocabularies cannot be reached by the merges: taking whole words first finds them.
        if (const token id = whole_words_ ? find(index_, word) : absent; id != absent) {
            ids.push_back(id);
            continue;
        }
        symbols.clear();
        for (std::size_t i = 0; i < word.size(); ++i) append(symbols, word.substr(i, 1), bytes_[byte_of(word[i])]);
        merge_neighbours(symbols, [this](const symbol& left, const symbol& right) -> joint {
            const merge* found = find_merge(left.id, right.id);
            if (found == nullptr) return {};
            return {found->result, -static_cast<double>(found->rank)};
        });
        for (const symbol& each : symbols) {
            // A byte that the vocabulary lacks is left out, as llama.cpp does: there is no token to say it with.
            if (!each.text.empty() && each.id != absent) ids.push_back(each.id);
        }
    }
}

// ---- User-defined tokens --------------------------------------------------------------------------------------------

user_defined::user_defined(const vocabulary& words) {
    for (std::size_t i = 0; i < words.tokens.size(); ++i) {
        const std::string& text = words.tokens[i];
        if (type_of(words, i) != type_user_defined || text.empty()) continue;
        if (text.size() > longest_user_defined) {
            refuse("tokens[" + std::to_string(i) + "] is user-defined and " + std::to_string(text.size()) +
                   " bytes long; supported are at most " + std::to_string(longest_user_defined));
        }
        index_.emplace(text, static_cast<token>(i));
        first_bytes_.set(byte_of(text.front()));
        lengths_.push_back(text.size());
    }
    std::sort(lengths_.begin(), lengths_.end(), std::greater<>());
    lengths_.erase(std::unique(lengths_.begin(), lengths_.end()), lengths_.end());
}

std::vector<user_defined::fragment> user_defined::cut(std::string_view text) const {
    std::vector<fragment> fragments = {{text, absent}};
    for (const std::size_t length : lengths_) {
        std::vector<fragment> shorter;
        for (const fragment& each : fragments) {
            if (each.id != absent) {
                shorter.push_back(each);
            } else {
                cut_length(length, each.text, shorter);
            }
        }
        fragments = std::move(shorter);
    }
    return fragments;
}

void user_defined::cut_length(std::size_t length, std::string_view text, std::vector<fragment>& fragments) const {
    std::size_t begin = 0;
    // Asking for every place by hash costs the same for one token and for thousands of that length.
    for (std::size_t at = 0; at + length <= text.size();) {
        const token id = first_bytes_.test(byte_of(text[at])) ? find(index_, text.substr(at, length)) : absent;
        if (id == absent) {
            ++at;
            continue;
        }
        if (at > begin) fragments.push_back({text.substr(begin, at - begin), absent});
        fragments.push_back({text.substr(at, length), id});
        at += length;
        begin = at;
    }
    if (begin < text.size()) fragments.push_back({text.substr(begin), absent});
}

// ---- The two behind one front ---------------------------------------------------------------------------------------

namespace {

std::variant<sentence_piece, byte_pairs> make_model(const vocabulary& words) {
    if (words.model == "llama") return sentence_piece(words);
    return byte_pairs(words);
}

}  // namespace

tokenizer::tokenizer(vocabulary words)
    // Members are made in the order of their declaration: first what is missing, then the check, last the texts, which
    // leave `words` empty.
    : notes_(settle_pre_tokenizer(words)),
      bos_(check(words)),
      user_defined_(words),
      model_(make_model(words)),
      tokens_(std::move(words.tokens)) {}

std::vector<token> tokenizer::encode(std::string_view text) const {
    std::vector<token> ids;
    if (text.empty()) return ids;
    for (const user_defined::fragment& each : user_defined_.cut(text)) {
        if (each.id != absent) {
            ids.push_back(each.id);
        } else {
            std::visit([&](const auto& model) { model.encode(each.text, ids); }, model_);
        }
    }
    return ids;
}

std::string tokenizer::decode(token id) const {
    const std::string_view spelling = text(id);
    if (spelling.empty()) return {};
    return std::visit([&](const auto& model) { return model.decode(id, spelling); }, model_);
}

std::string_view tokenizer::text(token id) const noexcept {
    const auto place = static_cast<std::size_t>(id);
    return id >= 0 && place < tokens_.size() ? std::string_view(tokens_[place]) : std::string_view();
}

}  // namespace demo
