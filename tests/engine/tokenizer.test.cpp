#include "tokenizer.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "gguf.hpp"

namespace tokenizer_test {

using demo::split;
using demo::split_rule;
using demo::token;
using demo::tokenizer;
using demo::vocabulary;
using ids = std::vector<token>;

constexpr std::int32_t normal = 1;
constexpr std::int32_t unknown = 2;
constexpr std::int32_t control = 3;
constexpr std::int32_t user_defined = 4;
constexpr std::int32_t byte = 6;

void add(vocabulary& words, const std::string& text, float score = 0, std::int32_t type = normal) {
    words.tokens.push_back(text);
    words.scores.push_back(score);
    words.types.push_back(type);
}

/// <unk> 0, <s> 1, </s> 2, and the byte tokens 3 to 258 where asked; what a test adds begins at 259 or at 3.
vocabulary llama(bool with_bytes = true) {
    vocabulary words;
    words.model = "llama";
    add(words, "<unk>", 0, unknown);
    add(words, "<s>", 0, control);
    add(words, "</s>", 0, control);
    constexpr std::string_view digits = "0123456789ABCDEF";
    for (std::size_t i = 0; with_bytes && i < 256; ++i) {
        add(words, std::string("<0x") + digits[i / 16] + digits[i % 16] + ">", 0, byte);
    }
    return words;
}

std::string utf8(std::size_t code_point) {
    if (code_point < 0x80) return {static_cast<char>(code_point)};
    return {static_cast<char>(0xC0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 0x3F))};
}

/// GPT-2's alphabet, written out independently of the code under test: byte b is token b.
std::string stand_in(std::size_t value) {
    if (value <= 0x20) return utf8(0x100 + value);
    if (value >= 0x7F && value <= 0xA0) return utf8(0x121 + value - 0x7F);
    return value == 0xAD ? utf8(0x143) : utf8(value);
}

/// All bytes as tokens 0 to 255, and one merge, so that the list is not empty: "q" and "q" to 256.
vocabulary gpt2(const std::string& pre = "gpt-2") {
    vocabulary words;
    words.model = "gpt2";
    words.pre = pre;
    for (std::size_t i = 0; i < 256; ++i) add(words, stand_in(i));
    add(words, "qq");
    words.merges = {"q q"};
    words.bos = 0;
    return words;
}

token add_merge(vocabulary& words, const std::string& left, const std::string& right) {
    add(words, left + right);
    words.merges.push_back(left + " " + right);
    return static_cast<token>(words.tokens.size() - 1);
}

ids bytes_as_ids(std::string_view text, token first) {
    ids result;
    for (const char value : text) result.push_back(first + static_cast<std::uint8_t>(value));
    return result;
}

ids encode(const vocabulary& words, std::string_view text) { return tokenizer(words).encode(text); }

// ---- Pre-tokenizers -------------------------------------------------------------------------------------------------

using strings = std::vector<std::string>;

strings words_of(split_rule rule, std::string_view text) {
    const auto views = split(rule, text);
    return {views.begin(), views.end()};
}

// Expected words are those of the rules' regular expressions in a JavaScript engine, with \s as \p{White_Space}.
struct split_case {
    split_rule rule;
    std::string text;
    strings words;
};

const std::vector<split_case> split_cases = {
    {split_rule::gpt2,
     "I'll say it's the DOG'S, we'REady",
     {"I", "'ll", " say", " it", "'s", " the", " DOG", "'", "S", ",", " we", "'", "REady"}},
    {split_rule::gpt2,
     "  two  blanks\n\n  then a line \n",
     {" ", " two", " ", " blanks", "\n\n ", " then", " a", " line", " \n"}},
    {split_rule::gpt2, "in 1865, 12345 or x2y", {"in", " 1865", ",", " 12345", " or", " x", "2", "y"}},
    {split_rule::gpt2,
     "na\u00efve \u65e5\u672c\u8a9e \u0663\u0664 \u00bd",
     {"na\u00efve", " \u65e5\u672c\u8a9e", " \u0663\u0664", " \u00bd"}},
    {split_rule::gpt2, "(what?!)\r\n\r\n -- _under_", {"(", "what", "?!)", "\r\n\r\n", " --", " _", "under", "_"}},
    {split_rule::gpt2, "$5.00\n\t\n 7  8", {"$", "5", ".", "00", "\n\t\n", " 7", " ", " 8"}},
    {split_rule::gpt2, "tab\there\u00a0nbsp\u3000wide", {"tab", "\t", "here", "\u00a0", "nbsp", "\u3000", "wide"}},
    {split_rule::gpt2, "end  ", {"end", "  "}},
    {split_rule::gpt2, "e\u0301 \U0001f600\U0001f600 ok", {"e", "\u0301", " \U0001f600\U0001f600", " ok"}},
    {split_rule::gpt2, "'tis '\u017f", {"'t", "is", " '", "\u017f"}},
    {split_rule::llama3,
     "I'll say it's the DOG'S, we'REady",
     {"I", "'ll", " say", " it", "'s", " the", " DOG", "'S", ",", " we", "'RE", "ady"}},
    {split_rule::llama3,
     "  two  blanks\n\n  then a line \n",
     {" ", " two", " ", " blanks", "\n\n", " ", " then", " a", " line", " \n"}},
    {split_rule::llama3,
     "in 1865, 12345 or x2y",
     {"in", " ", "186", "5", ",", " ", "123", "45", " or", " x", "2", "y"}},
    {split_rule::llama3,
     "na\u00efve \u65e5\u672c\u8a9e \u0663\u0664 \u00bd",
     {"na\u00efve", " \u65e5\u672c\u8a9e", " ", "\u0663\u0664", " ", "\u00bd"}},
    {split_rule::llama3, "(what?!)\r\n\r\n -- _under_", {"(what", "?!)\r\n\r\n", " --", " _", "under", "_"}},
    {split_rule::llama3, "$5.00\n\t\n 7  8", {"$", "5", ".", "00", "\n\t\n", " ", "7", " ", " ", "8"}},
    {split_rule::llama3, "tab\there\u00a0nbsp\u3000wide", {"tab", "\there", "\u00a0nbsp", "\u3000wide"}},
    {split_rule::llama3, "end  ", {"end", "  "}},
    {split_rule::llama3, "e\u0301 \U0001f600\U0001f600 ok", {"e", "\u0301", " \U0001f600\U0001f600", " ok"}},
    {split_rule::llama3, "'tis '\u017f", {"'t", "is", " '", "\u017f"}},
    {split_rule::qwen2,
     "I'll say it's the DOG'S, we'REady",
     {"I", "'ll", " say", " it", "'s", " the", " DOG", "'S", ",", " we", "'RE", "ady"}},
    {split_rule::qwen2,
     "  two  blanks\n\n  then a line \n",
     {" ", " two", " ", " blanks", "\n\n", " ", " then", " a", " line", " \n"}},
    {split_rule::qwen2,
     "in 1865, 12345 or x2y",
     {"in", " ", "1", "8", "6", "5", ",", " ", "1", "2", "3", "4", "5", " or", " x", "2", "y"}},
    {split_rule::qwen2,
     "na\u00efve \u65e5\u672c\u8a9e \u0663\u0664 \u00bd",
     {"na\u00efve", " \u65e5\u672c\u8a9e", " ", "\u0663", "\u0664", " ", "\u00bd"}},
    {split_rule::qwen2, "(what?!)\r\n\r\n -- _under_", {"(what", "?!)\r\n\r\n", " --", " _", "under", "_"}},
    {split_rule::qwen2, "$5.00\n\t\n 7  8", {"$", "5", ".", "0", "0", "\n\t\n", " ", "7", " ", " ", "8"}},
    {split_rule::smollm,
     "I'll say it's the DOG'S, we'REady",
     {"I", "'ll", " say", " it", "'s", " the", " DOG", "'", "S", ",", " we", "'", "REady"}},
    {split_rule::smollm,
     "  two  blanks\n\n  then a line \n",
     {" ", " two", " ", " blanks", "\n\n ", " then", " a", " line", " \n"}},
    {split_rule::smollm,
     "in 1865, 12345 or x2y",
     {"in", " ", "1", "8", "6", "5", ",", " ", "1", "2", "3", "4", "5", " or", " x", "2", "y"}},
    {split_rule::smollm,
     "na\u00efve \u65e5\u672c\u8a9e \u0663\u0664 \u00bd",
     {"na\u00efve", " \u65e5\u672c\u8a9e", " ", "\u0663", "\u0664", " ", "\u00bd"}},
    {split_rule::smollm, "(what?!)\r\n\r\n -- _under_", {"(", "what", "?!)", "\r\n\r\n", " --", " _", "under", "_"}},
    {split_rule::smollm, "$5.00\n\t\n 7  8", {"$", "5", ".", "0", "0", "\n\t\n ", "7", "  ", "8"}},
    // The four expressions one after the other, each in the pieces that the one before leaves, in Python's `regex`.
    {split_rule::last_resort,
     "I'll say it's the DOG'S, we'REady",
     {"I", "'", "ll", " say", " it", "'", "s", " the", " DOG", "'", "S", ",", " we", "'", "REady"}},
    {split_rule::last_resort,
     "  two  blanks\n\n  then a line \n",
     {" ", " two", " ", " blanks", "\n\n ", " then", " a", " line", " \n"}},
    {split_rule::last_resort,
     "in 1865, 12345 or x2y",
     {"in", " ", "186", "5", ",", " ", "123", "45", " or", " x", "2", "y"}},
    {split_rule::last_resort,
     "na\u00efve \u65e5\u672c\u8a9e \u0663\u0664 \u00bd",
     {"na\u00efve", " \u65e5\u672c\u8a9e", " ", "\u0663\u0664", " ", "\u00bd"}},
    {split_rule::last_resort,
     "(what?!)\r\n\r\n -- _under_",
     {"(", "what", "?!)", "\r\n\r\n ", "--", " ", "_", "under", "_"}},
    {split_rule::last_resort, "$5.00\n\t\n 7  8", {"$", "5", ".", "00", "\n\t\n", " ", "7", " ", " ", "8"}},
    {split_rule::last_resort,
     "1\u00bd2345 \u06631234 12\u00bd",
     {"1\u00bd", "234", "5", " ", "\u0663", "123", "4", " ", "12\u00bd"}},
    {split_rule::last_resort,
     "a+b <= c^2 | `x` ~ \u00a9 \u20ac9",
     {"a", "+", "b", " ", "<=", " c", "^", "2", " ", "|", " `", "x", "`", " ", "~", " \u00a9", " \u20ac", "9"}},
    {split_rule::last_resort,
     "e\u0301 \U0001f600\U0001f600 ok \u00abhm\u00bb",
     {"e", "\u0301", " \U0001f600\U0001f600", " ok", " ", "\u00ab", "hm", "\u00bb"}},
};

TEST(split, agrees_with_the_regular_expressions) {
    for (const split_case& each : split_cases) {
        EXPECT_EQ(words_of(each.rule, each.text), each.words) << "rule " << static_cast<int>(each.rule);
    }
}

constexpr split_rule all_rules[] = {split_rule::gpt2, split_rule::llama3, split_rule::qwen2, split_rule::smollm,
                                    split_rule::last_resort};

TEST(split, loses_no_byte_of_any_text) {
    const strings pieces = {" ", "\n", "\r", "a", "'", "s", "7", ".", "\xC3", "\xA9", "\xE2\x96\x81", "\xFF", "\u3000"};
    std::mt19937 random(2);
    for (int round = 0; round < 2000; ++round) {
        std::string text;
        for (auto count = random() % 20; count > 0; --count) text += pieces[random() % pieces.size()];
        for (const split_rule rule : all_rules) {
            std::string joined;
            for (const std::string_view word : split(rule, text)) {
                ASSERT_FALSE(word.empty());
                joined += word;
            }
            ASSERT_EQ(joined, text);
        }
    }
}

TEST(split, ill_formed_bytes_are_neither_letter_nor_number_nor_space) {
    EXPECT_EQ(words_of(split_rule::gpt2, "ab\xFF\xC3 \x80x"), (strings{"ab", "\xFF\xC3", " \x80", "x"}));
    EXPECT_EQ(words_of(split_rule::llama3, "ab\xFFzz"), (strings{"ab", "\xFFzz"}));
}

// ---- llama ----------------------------------------------------------------------------------------------------------

TEST(sentence_piece, joins_the_pair_with_the_highest_score_first) {
    vocabulary words = llama();
    words.add_space_prefix = false;
    for (const char* letter : {"a", "b", "c"}) add(words, letter);  // 259, 260, 261
    add(words, "ab", -2);                                           // 262
    add(words, "bc", -1);                                           // 263
    add(words, "abc", -9);                                          // 264
    EXPECT_EQ(encode(words, "ab"), (ids{262}));
    EXPECT_EQ(encode(words, "abc"), (ids{264}));
    EXPECT_EQ(encode(words, "abca"), (ids{264, 259}));
    words.tokens[264] = "another";
    EXPECT_EQ(encode(words, "abc"), (ids{259, 263}));
}

TEST(sentence_piece, joins_the_leftmost_of_equals) {
    vocabulary words = llama();
    words.add_space_prefix = false;
    add(words, "a");
    add(words, "aa", -1);
    EXPECT_EQ(encode(words, "aaaaa"), (ids{260, 260, 259}));
    add(words, "b");
    add(words, "ab", -1);
    add(words, "ba", -1);
    EXPECT_EQ(encode(words, "aba"), (ids{262, 259}));
    EXPECT_EQ(encode(words, "bab"), (ids{263, 261}));
}

TEST(sentence_piece, marks_spaces_and_puts_one_before_the_text) {
    vocabulary words = llama();
    add(words, "\u2581");
    add(words, "a");
    add(words, "\u2581a", -1);
    EXPECT_EQ(encode(words, "a a"), (ids{261, 261}));
    EXPECT_EQ(encode(words, " a"), (ids{259, 261}));
    EXPECT_EQ(encode(words, ""), ids{});
    words.add_space_prefix = false;
    EXPECT_EQ(encode(words, "a a"), (ids{260, 261}));
    EXPECT_EQ(encode(words, ""), ids{});
}

TEST(sentence_piece, spells_what_it_does_not_know_in_bytes) {
    vocabulary words = llama();
    words.add_space_prefix = false;
    add(words, "a");
    for (const std::string text : {"\u65E5", "\U0001F600", "\xFF", "\xC3", "\xE2\x96", "\x80\x80", "\n\t"}) {
        ids expected = bytes_as_ids(text, 3);
        expected.insert(expected.begin(), 259);
        EXPECT_EQ(encode(words, "a" + text), expected) << testing::PrintToString(text);
    }
    // As in llama.cpp, a lead byte takes the bytes that it announces, whatever they are.
    EXPECT_EQ(encode(words,
                     "\xC3"
                     "a"
                     "a"),
              (ids{3 + 0xC3, 3 + 'a', 259}));
}

TEST(sentence_piece, gives_a_run_of_unknown_characters_one_unknown_token) {
    vocabulary words = llama(false);
    add(words, "\u2581");
    add(words, "a");
    EXPECT_EQ(encode(words, "a\u65E5\u672Ca\n"), (ids{3, 4, 0, 4, 0}));
    words.unknown = 2;
    EXPECT_EQ(encode(words, "\u65E5"), (ids{3, 2}));
}

TEST(sentence_piece, special_tokens_never_come_from_plain_text) {
    vocabulary words = llama();
    words.add_space_prefix = false;
    // Every step towards "<s>" and "<0x0A>" is a token, so that only their types keep the whole from being one.
    for (const char* part : {"<", "s", ">", "s>", "0", "x", "A", "<0", "0A", "<0x", "<0x0", "A>", "0A>"})
        add(words, part);
    EXPECT_EQ(encode(words, "<s>"), (ids{259, 262}));
    for (const token id : encode(words, "<0x0A> <unk> </s>"))
        EXPECT_TRUE(id >= 259 || id == 3 + ' ' || id >= 3 + 'a' || id == 3 + '/');
    words.types[1] = normal;
    EXPECT_EQ(encode(words, "<s>"), (ids{1}));
}

TEST(sentence_piece, user_defined_tokens_are_cut_out_whole) {
    vocabulary words = llama();
    add(words, "\u2581");                 // 259
    add(words, "a");                      // 260
    add(words, "\u2581a", 5);             // 261
    add(words, "<b>", 0, user_defined);   // 262
    add(words, "aa<", 0, user_defined);   // 263
    add(words, "a<b>", 0, user_defined);  // 264
    // Text that follows one begins anew, with a space before it.
    EXPECT_EQ(encode(words, "a<b>a"), (ids{264, 261}));
    EXPECT_EQ(encode(words, "<b><b>"), (ids{262, 262}));
    EXPECT_EQ(encode(words, "a <b>a"), (ids{261, 259, 262, 261}));
    // The longest goes first wherever it stands, although "aa<" begins before it.
    EXPECT_EQ(encode(words, "aa<b>"), (ids{261, 264}));
}

// ---- gpt2 -----------------------------------------------------------------------------------------------------------

TEST(byte_pairs, every_byte_has_its_own_token) {
    std::string text;
    for (int value = 0; value < 256; ++value) text += static_cast<char>(static_cast<unsigned char>(value));
    for (const char* pre : {"", "default", "gpt-2", "llama-bpe", "qwen2", "smollm"}) {
        EXPECT_EQ(encode(gpt2(pre), text), bytes_as_ids(text, 0)) << pre;
    }
}

TEST(byte_pairs, joins_by_the_order_of_the_list) {
    vocabulary words = gpt2();
    const token bc = add_merge(words, "b", "c");
    const token ab = add_merge(words, "a", "b");
    const token abc = add_merge(words, "a", "bc");
    EXPECT_EQ(encode(words, "ab"), (ids{ab}));
    EXPECT_EQ(encode(words, "abc"), (ids{abc}));
    EXPECT_EQ(encode(words, "abab"), (ids{ab, ab}));
    std::swap(words.merges[1], words.merges[2]);
    EXPECT_EQ(encode(words, "abc"), (ids{ab, 'c'}));
    EXPECT_EQ(encode(words, "bc"), (ids{bc}));
    EXPECT_EQ(encode(words, "qqqqq"), (ids{256, 256, 'q'}));
}

TEST(byte_pairs, does_not_join_across_words) {
    vocabulary words = gpt2();
    const token blank_a = add_merge(words, stand_in(' '), "a");
    const token digits = add_merge(words, "1", "2");
    EXPECT_EQ(encode(words, "a a  a"), (ids{'a', blank_a, ' ', blank_a}));
    EXPECT_EQ(encode(words, "12"), (ids{digits}));
    words.pre = "smollm";
    EXPECT_EQ(encode(words, "12"), (ids{'1', '2'}));
    words.pre = "qwen2";
    EXPECT_EQ(encode(words, "12"), (ids{'1', '2'}));
    words.pre = "llama-bpe";
    EXPECT_EQ(encode(words, "12"), (ids{digits}));
}

TEST(byte_pairs, llama_bpe_takes_a_word_that_is_a_token_as_it_is) {
    vocabulary words = gpt2("llama-bpe");
    add(words, stand_in(' ') + "caf" + stand_in(0xC3) + stand_in(0xA9));
    EXPECT_EQ(encode(words, " caf\u00E9"), (ids{257}));
    EXPECT_EQ(encode(words, "caf\u00E9"), bytes_as_ids("caf\u00E9", 0));
    words.pre = "smaug-bpe";
    EXPECT_EQ(encode(words, " caf\u00E9"), bytes_as_ids(" caf\u00E9", 0));
}

TEST(byte_pairs, special_tokens_never_come_from_plain_text) {
    vocabulary words = gpt2("llama-bpe");
    add(words, "stop", 0, control);
    EXPECT_EQ(encode(words, "stop"), bytes_as_ids("stop", 0));
    words.types.back() = normal;
    EXPECT_EQ(encode(words, "stop"), (ids{257}));
    words = gpt2();
    const token ab = add_merge(words, "a", "b");
    EXPECT_EQ(encode(words, "ab"), (ids{ab}));
    words.types.back() = control;
    EXPECT_EQ(encode(words, "ab"), (ids{'a', 'b'}));
}

TEST(byte_pairs, user_defined_tokens_are_cut_out_whole) {
    vocabulary words = gpt2();
    add(words, "  ", 0, user_defined);    // 257, spelled as it is, not in stand-ins
    add(words, "    ", 0, user_defined);  // 258
    EXPECT_EQ(encode(words, "a       b"), (ids{'a', 258, 257, ' ', 'b'}));
}

TEST(byte_pairs, leaves_out_a_byte_that_has_no_token) {
    vocabulary words = gpt2();
    words.tokens[0xFF] = "";  // as files pad
    EXPECT_EQ(encode(words, "a\xFFz"), (ids{'a', 'z'}));
}

// ---- Both -----------------------------------------------------------------------------------------------------------

/// The definition of both models, as slow as it is plain: join the best neighbours until none can be joined.
/// Of equal ranks the leftmost goes first.
strings merge_naively(strings parts, const std::map<std::pair<std::string, std::string>, double>& ranks) {
    while (true) {
        std::size_t best = parts.size();
        double least = std::numeric_limits<double>::infinity();
        for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
            const auto found = ranks.find({parts[i], parts[i + 1]});
            if (found == ranks.end() || found->second >= least) continue;
            least = found->second;
            best = i;
        }
        if (best == parts.size()) return parts;
        parts[best] += parts[best + 1];
        parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
}

strings letters_of(std::string_view text) {
    strings letters;
    for (const char value : text) letters.emplace_back(1, value);
    return letters;
}

std::string random_text(std::mt19937& random, std::size_t length) {
    std::string text(length, ' ');
    for (char& value : text) value = "abc"[random() % 3];
    return text;
}

strings encode_to_texts(const vocabulary& words, std::string_view text) {
    const tokenizer under_test(words);
    strings texts;
    for (const token id : under_test.encode(text)) texts.emplace_back(under_test.text(id));
    return texts;
}

TEST(tokenizer, llama_agrees_with_the_definition_on_random_vocabularies) {
    std::mt19937 random(3);
    for (int round = 0; round < 60; ++round) {
        vocabulary words = llama();
        words.add_space_prefix = false;
        std::map<std::pair<std::string, std::string>, double> ranks;
        for (const char* letter : {"a", "b", "c"}) add(words, letter);
        for (int i = 0; i < 25; ++i) {
            const std::string text = random_text(random, 2 + random() % 4);
            if (std::find(words.tokens.begin(), words.tokens.end(), text) != words.tokens.end()) continue;
            // Few different scores, so that ties are common.
            add(words, text, -static_cast<float>(random() % 8));
            for (std::size_t at = 1; at < text.size(); ++at) {
                ranks[{text.substr(0, at), text.substr(at)}] = -static_cast<double>(words.scores.back());
            }
        }
        const std::string text = random_text(random, 200);
        ASSERT_EQ(encode_to_texts(words, text), merge_naively(letters_of(text), ranks)) << "round " << round;
    }
}

TEST(tokenizer, gpt2_agrees_with_the_definition_on_random_merges) {
    std::mt19937 random(4);
    for (int round = 0; round < 60; ++round) {
        vocabulary words = gpt2();
        std::map<std::pair<std::string, std::string>, double> ranks;
        strings parts = {"a", "b", "c"};
        for (int i = 0; i < 25; ++i) {
            const std::string left = parts[random() % parts.size()];
            const std::string right = parts[random() % parts.size()];
            const bool fresh = std::find(parts.begin(), parts.end(), left + right) == parts.end();
            if (fresh) {
                add(words, left + right);
                parts.push_back(left + right);
            }
            ranks.emplace(std::pair(left, right), static_cast<double>(words.merges.size()));
            words.merges.push_back(left + " " + right);
        }
        const std::string text = random_text(random, 200);
        ASSERT_EQ(encode_to_texts(words, text), merge_naively(letters_of(text), ranks)) << "round " << round;
    }
}

TEST(tokenizer, long_texts_take_no_quadratic_time) {
    vocabulary pieces = llama();
    vocabulary pairs = gpt2();
    std::string run = "q";
    for (int i = 0; i < 8; ++i) {
        add(pieces, run, -static_cast<float>(i));
        if (i > 0) add_merge(pairs, run, run);
        run += run;
    }
    // Quadratic time would be minutes here. Length 2^18: every merge happens, and in one word.
    const std::string text(std::size_t{1} << 18, 'q');
    pieces.add_space_prefix = false;
    EXPECT_EQ(encode(pieces, text).size(), text.size() / 128);
    EXPECT_EQ(encode(pairs, text).size(), text.size() / 256);
    EXPECT_EQ(encode(gpt2(), std::string(text.size(), ' ')).size(), text.size());
}

TEST(tokenizer, knows_when_a_model_wants_bos) {
    EXPECT_EQ(tokenizer(llama()).bos(), 1);
    vocabulary words = llama();
    words.bos = 2;
    EXPECT_EQ(tokenizer(words).bos(), 2);
    words.add_bos = false;
    EXPECT_EQ(tokenizer(words).bos(), std::nullopt);

    EXPECT_EQ(tokenizer(gpt2("gpt-2")).bos(), std::nullopt);
    EXPECT_EQ(tokenizer(gpt2("smollm")).bos(), std::nullopt);
    EXPECT_EQ(tokenizer(gpt2("qwen2")).bos(), std::nullopt);
    EXPECT_EQ(tokenizer(gpt2("llama-bpe")).bos(), 0);
    words = gpt2("llama-bpe");
    words.add_bos = false;
    EXPECT_EQ(tokenizer(words).bos(), std::nullopt);
    words = gpt2("qwen2");
    words.add_bos = true;
    EXPECT_EQ(tokenizer(words).bos(), 0);
}

/// A gpt2 vocabulary without a named pre-tokenizer, with this token at this place.
vocabulary unnamed(std::size_t id, const std::string& text) {
    vocabulary words = gpt2("");
    while (words.tokens.size() < id) add(words, "filling " + std::to_string(words.tokens.size()), 0, control);
    if (id < words.tokens.size()) {
        add(words, words.tokens[id]);
        words.tokens[id] = text;
    } else {
        add(words, text, 0, control);
    }
    return words;
}

TEST(tokenizer, a_missing_pre_tokenizer_is_recognized_by_the_tokens) {
    // Whether 1234 falls into threes, ones or not at all, and whether BOS comes first, tells the rules apart.
    struct known {
        std::size_t id;
        const char* text;
        const char* pre;
        std::optional<token> bos;
    };
    for (const auto& [id, text, pre, bos] : {known{128000, "<|begin_of_text|>", "llama-bpe", 7},
                                             {151643, "<|endoftext|>", "qwen2", std::nullopt},
                                             {50256, "<|endoftext|>", "gpt-2", std::nullopt},
                                             {1, "<|padding|>", "gpt-2", std::nullopt},
                                             {1, "<fim_prefix>", "starcoder", std::nullopt},
                                             {1, "<|im_start|>", "smollm", std::nullopt}}) {
        SCOPED_TRACE(text);
        vocabulary words = unnamed(id, text);
        words.bos = 7;
        for (const char* merged : {"12", "34", "1234", "123"}) {
            const std::string whole = merged;
            add_merge(words, whole.substr(0, whole.size() / 2 + whole.size() % 2),
                      whole.substr(whole.size() / 2 + whole.size() % 2));
        }
        vocabulary named = words;
        named.pre = pre;
        const tokenizer assumed(words);
        const tokenizer said(named);
        EXPECT_EQ(assumed.encode(" 1234 don't DON'T, 12"), said.encode(" 1234 don't DON'T, 12"));
        EXPECT_EQ(assumed.bos(), bos);
        EXPECT_EQ(said.bos(), bos);
        EXPECT_TRUE(said.notes().empty());
        ASSERT_EQ(assumed.notes().size(), 1U);
        const std::string& note = assumed.notes().front();
        for (const std::string& part : {std::string("tokenizer.ggml.pre"), std::string(pre), std::string(text)}) {
            EXPECT_NE(note.find(part), std::string::npos) << note;
        }
        EXPECT_EQ(note.find("BOS") != std::string::npos, bos.has_value()) << note;
        words.add_bos = false;  // what the file says wins
        EXPECT_EQ(tokenizer(words).bos(), std::nullopt);
    }
}

TEST(tokenizer, an_unknown_vocabulary_without_a_pre_tokenizer_gets_the_last_resort_and_a_note) {
    vocabulary words = gpt2("");
    const token digits = add_merge(words, "1", "2");
    const tokenizer unnamed_one(words);
    EXPECT_EQ(unnamed_one.encode("1212"), (ids{digits, '1', '2'}));  // gpt-2 would make 12 12 of it
    EXPECT_EQ(unnamed_one.bos(), std::nullopt);
    ASSERT_EQ(unnamed_one.notes().size(), 1U);
    EXPECT_NE(unnamed_one.notes().front().find("'tokenizer.ggml.pre' is missing; 'default'"), std::string::npos);
    words.pre = "default";
    EXPECT_EQ(tokenizer(words).encode("1212"), (ids{digits, '1', '2'}));
    EXPECT_TRUE(tokenizer(words).notes().empty());
    words = unnamed(128000, "<|begin_of_text|>");
    words.pre = "default";
    EXPECT_EQ(tokenizer(words).bos(), std::nullopt);
    ASSERT_EQ(tokenizer(words).notes().size(), 1U);
    EXPECT_NE(tokenizer(words).notes().front().find("'llama-bpe'"), std::string::npos);
    EXPECT_TRUE(tokenizer(llama()).notes().empty());
}

TEST(tokenizer, gives_the_spelling_of_its_tokens) {
    const tokenizer under_test(llama());
    EXPECT_EQ(under_test.size(), 259u);
    EXPECT_EQ(under_test.text(1), "<s>");
    EXPECT_EQ(under_test.text(258), "<0xFF>");
    EXPECT_EQ(under_test.text(259), "");
    EXPECT_EQ(under_test.text(-1), "");
}

TEST(tokenizer, decodes_to_the_bytes_that_it_encoded) {
    std::string every_byte;
    for (int value = 1; value < 256; ++value) every_byte += static_cast<char>(value);
    vocabulary pieces = llama();
    add(pieces, "\u2581");  // a space, as every real vocabulary has it
    add(pieces, "\u2581the", 1);
    for (const vocabulary& words : {pieces, gpt2()}) {
        const tokenizer under_test(words);
        for (const std::string& text : {std::string("see the sea"), every_byte}) {
            std::string decoded;
            for (const token id : under_test.encode(text)) decoded += under_test.decode(id);
            EXPECT_EQ(decoded, (words.model == "llama" ? " " : "") + text) << words.model;
        }
        EXPECT_EQ(under_test.decode(-1), "");
        EXPECT_EQ(under_test.decode(static_cast<token>(words.tokens.size())), "");
    }
    EXPECT_EQ(tokenizer(llama()).decode(1), "<s>") << "control tokens decode to their names";
}

TEST(tokenizer, scores_and_types_may_be_absent) {
    vocabulary words = llama();
    add(words, "a");
    add(words, "aa");
    words.scores.clear();
    words.types.clear();
    words.add_space_prefix = false;
    EXPECT_EQ(encode(words, "aaa"), (ids{260, 259}));
}

TEST(tokenizer, copies_and_moves_are_independent) {
    vocabulary words = llama();
    add(words, "<b>", 0, user_defined);
    auto original = std::make_unique<tokenizer>(words);
    const ids expected = original->encode("ab<b>");
    const tokenizer copy = *original;
    const tokenizer moved = std::move(*original);
    original.reset();
    EXPECT_EQ(copy.encode("ab<b>"), expected);
    EXPECT_EQ(moved.encode("ab<b>"), expected);
}

// ---- Refusals -------------------------------------------------------------------------------------------------------

void expect_refusal(const vocabulary& words, const std::string& sentence) {
    try {
        const tokenizer accepted(words);
        ADD_FAILURE() << "accepted, expected: " << sentence;
    } catch (const std::invalid_argument& refusal) {
        EXPECT_EQ(std::string(refusal.what()).substr(0, sentence.size()), sentence);
    }
}

TEST(tokenizer, refuses_other_models_and_pre_tokenizers) {
    for (const std::string model : {"bert", "t5", "rwkv", "", "LLAMA"}) {
        vocabulary words = llama();
        words.model = model;
        expect_refusal(words, "tokenizer.ggml.model is '" + model + "'; supported are llama and gpt2");
    }
    expect_refusal(unnamed(100000, "<\uFF5Cbegin\u2581of\u2581sentence\uFF5C>"),
                   "tokenizer.ggml.pre is missing, and the tokens are those of 'deepseek-llm'; supported are gpt-2, ");
    expect_refusal(gpt2("tekken"), "tokenizer.ggml.pre is 'tekken'; supported are gpt-2, default, ");
    // What a file says is made fit to print.
    expect_refusal(gpt2("\x1B[2J" + std::string(1000, 'x')),
                   "tokenizer.ggml.pre is '?[2J" + std::string(36, 'x') + "...';");
}

TEST(tokenizer, refuses_arrays_that_do_not_fit) {
    vocabulary words = llama();
    words.scores.pop_back();
    expect_refusal(words, "tokenizer.ggml.scores has 258 entries; tokens has 259, and they must be as many");
    words = llama();
    words.types.push_back(1);
    expect_refusal(words, "tokenizer.ggml.token_type has 260 entries; tokens has 259");
    words = llama();
    words.scores[7] = std::nanf("");
    expect_refusal(words, "tokenizer.ggml.scores[7] is NaN");
    words = llama();
    words.tokens.clear();
    expect_refusal(words, "tokenizer.ggml.tokens is empty");
    words = llama();
    words.tokens[200] = "<s>";
    expect_refusal(words, "tokenizer.ggml.tokens[200] is '<s>', as is tokens[1]");
    words = llama();
    add(words, std::string(257, 'x'), 0, user_defined);
    expect_refusal(words, "tokenizer.ggml.tokens[259] is user-defined and 257 bytes long; supported are at most 256");
}

TEST(tokenizer, refuses_ids_out_of_range_that_are_needed) {
    vocabulary words = llama();
    words.bos = 259;
    expect_refusal(words, "tokenizer.ggml.bos_token_id is 259; valid ids are 0 to 258");
    words.bos = -1;
    expect_refusal(words, "tokenizer.ggml.bos_token_id is -1; valid ids are 0 to 258");
    words.bos = 4294967295;
    expect_refusal(words, "tokenizer.ggml.bos_token_id is 4294967295; valid ids are 0 to 258");
    words.add_bos = false;
    EXPECT_EQ(tokenizer(words).bos(), std::nullopt);
    words = llama();
    words.unknown = 1 << 30;  // with all bytes there is nothing unknown
    EXPECT_EQ(tokenizer(words).encode("\xFF").back(), 3 + 0xFF);
    words = llama(false);
    words.unknown = 1 << 30;
    expect_refusal(words, "tokenizer.ggml.unknown_token_id is 1073741824; valid ids are 0 to 2");
    words = gpt2();
    words.unknown = 1 << 30;
    words.scores.assign(3, std::nanf(""));
    EXPECT_EQ(tokenizer(words).encode("a"), (ids{'a'}));
    words = gpt2("llama-bpe");
    words.bos = std::nullopt;
    expect_refusal(words, "tokenizer.ggml.bos_token_id is absent");
}

TEST(tokenizer, refuses_malformed_merges) {
    for (const std::string line : {"", " ", "ab", "a ", " b", "a b c", "a  b"}) {
        vocabulary words = gpt2();
        words.merges.push_back(line);
        expect_refusal(words, "tokenizer.ggml.merges[1] is '" + line + "'; it must be two parts");
    }
    vocabulary words = gpt2();
    words.merges.push_back("a b");
    expect_refusal(words, "tokenizer.ggml.merges[1] is 'a b'; its part or result 'ab' is not in tokens");
    words.merges.clear();
    expect_refusal(words, "tokenizer.ggml.merges is empty");
    words = llama();
    words.model = "gpt2";
    words.merges = {"a b"};
    expect_refusal(words, "tokenizer.ggml.tokens has none of the 256 single bytes");
}

// ---- The bundled model ----------------------------------------------------------------------------------------------

vocabulary bundled_vocabulary() {
    const demo::gguf file(std::string(MULTISTATE_DEMO_MODEL_DIR) + "/books-5m-f16.gguf");
    vocabulary words;
    words.model = file.string("tokenizer.ggml.model");
    for (const std::string_view text : file.strings("tokenizer.ggml.tokens")) words.tokens.emplace_back(text);
    words.scores = file.reals("tokenizer.ggml.scores");
    for (const std::int64_t type : file.integers("tokenizer.ggml.token_type")) {
        words.types.push_back(static_cast<std::int32_t>(type));
    }
    return words;
}

// What SentencePiece 0.1.97 itself makes of these texts, with the model file from which the GGUF was exported.
TEST(bundled_model, encodes_as_sentencepiece_does) {
    const tokenizer under_test(bundled_vocabulary());
    EXPECT_EQ(under_test.size(), 2048u);
    EXPECT_EQ(under_test.bos(), 1);
    const std::vector<std::pair<std::string, ids>> cases = {
        {"", {}},
        {" ", {1971, 1971}},
        {"Hello, world!", {463, 289, 1975, 1990, 1028, 2008}},
        {"  two  blanks", {1971, 1971, 709, 1971, 708, 1010, 1979}},
        {"In 1865\n\tat noon", {865, 1971, 2034, 2037, 2041, 2039, 13, 12, 300, 446, 283}},
        {"na\u00EFve \u65E5 \U0001F600", {298, 1974, 198, 178, 313, 1971, 233, 154, 168, 1971, 243, 162, 155, 131}},
        {"<s>x</s> <0x0A>", {1971, 63, 1979, 65, 2006, 63, 2047, 1979, 65, 1971, 63, 2035, 2006, 2035, 2003, 65}},
        {"The bell at Sallow Ferry", {397, 303, 289, 355, 372, 414, 308, 501, 271, 502}},
    };
    for (const auto& [text, expected] : cases) EXPECT_EQ(under_test.encode(text), expected) << text;
}

TEST(bundled_model, encodes_the_novella_as_sentencepiece_does) {
    std::ifstream file(MULTISTATE_DEMO_MODEL_DIR "/bell-at-sallow-ferry.txt", std::ios::binary);
    const std::string novella((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const ids found = tokenizer(bundled_vocabulary()).encode(novella);
    EXPECT_EQ(found.size(), 23629u);
    // FNV-1a over the ids as 32-bit little-endian numbers.
    std::uint64_t hash = 0xCBF29CE484222325u;
    for (const token id : found) {
        for (unsigned shift = 0; shift < 32; shift += 8) {
            hash = (hash ^ ((static_cast<std::uint32_t>(id) >> shift) & 0xFFu)) * 0x100000001B3u;
        }
    }
    EXPECT_EQ(hash, 0x085CE3E764BA86D9u);
}

}  // namespace tokenizer_test
