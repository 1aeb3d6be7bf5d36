// Repeated passages: which are found, and whether the model predicts them better the second time.
#include "repeats.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "bundled.hpp"
#include "made_results.hpp"
#include "read_vocabulary.hpp"

namespace repeats_test {

namespace ms = multistate;
using demo::repeat;
using demo::repeat_score;
using demo::token_range;
using words = std::vector<std::string>;

/// A token for each word, with the spaces, punctuation and line breaks around it.
words tokens_of(const std::string& text) {
    words tokens;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t word = text.find_first_not_of(" \n", begin);
        const std::size_t end = std::min(text.find_first_of(" \n", word), text.size());
        tokens.push_back(text.substr(begin, end - begin));
        begin = end;
    }
    return tokens;
}

TEST(Repeats, CasePunctuationAndLineBreaksDoNotCount) {
    const words tokens = tokens_of(
        "Trust no tide you have not counted, nor any ferry. Here it\nis: “trust no tide you have\nnot counted; nor "
        "Any” "
        "bell.");
    const auto found = demo::repeats_in(tokens);
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].words, 9U);
    EXPECT_EQ(found[0].text, "trust no tide you have\nnot counted; nor Any");
    EXPECT_EQ(found[0].first, (token_range{4, 9})) << "after four words";
    EXPECT_EQ(found[0].again, (token_range{17, 22}));
    EXPECT_EQ(found[0].distance(), 13U);
}

TEST(Repeats, AnApostropheJoinsAWord) {
    const auto count = [](const std::string& passage) {
        return demo::repeats_in(tokens_of(passage + " and " + passage)).size();
    };
    EXPECT_EQ(count("one two three four five six o’clock"), 0U) << "seven words";
    EXPECT_EQ(count("one two three four five six seven o’clock"), 1U);
    EXPECT_EQ(count("one two three four five six ’tis ‘so"), 1U);
}

TEST(Repeats, TheLongestOfTheEarlierRunsElseTheFirst) {
    const std::string eight = "a b c d e f g h";
    const auto found = demo::repeats_in(tokens_of(eight + " x " + eight + " i j " + eight + " i y " + eight + " z"));
    ASSERT_EQ(found.size(), 3U);
    EXPECT_EQ(found[0].first.begin, 4U);
    EXPECT_EQ(found[1].first.begin, 13U) << "nine words are the same there";
    EXPECT_EQ(found[1].words, 9U);
    EXPECT_EQ(found[2].first.begin, 4U);
    EXPECT_EQ(found[2].words, 8U);
}

TEST(Repeats, NoneOverlapsItsFirstOccurrence) {
    std::string text;
    for (int i = 0; i < 40; ++i) text += "no ";
    const auto found = demo::repeats_in(tokens_of(text));
    ASSERT_FALSE(found.empty());
    for (const repeat& r : found) EXPECT_LE(r.first.end + demo::cue_words, r.again.begin);
    EXPECT_TRUE(demo::repeats_in({}).empty());
    EXPECT_TRUE(demo::repeats_in(tokens_of("a b c")).empty());
}

/// Tokens may hold parts of words, or several.
TEST(Repeats, TokensThatAPassageTouches) {
    const words tokens{"<",      "one two", " three four fi", "ve six seven eig", "ht. On", "e two three four five six",
                       " seven", " eight",  " nine"};
    const auto found = demo::repeats_in(tokens);
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].first, (token_range{2, 5}));
    EXPECT_EQ(found[0].again, (token_range{5, 8}));
}

TEST(Repeats, LikelihoodsAreMeansOverTheTokens) {
    const std::vector<double> nll{1, 2, 3, 4, 5, 6, 7};  // of tokens 1 to 7
    const std::vector<repeat> found{{{0, 2}, {4, 6}, 8, ""}, {{1, 4}, {5, 8}, 8, ""}};
    const auto scores = demo::scores_of(found, nll);
    EXPECT_EQ(scores[0].first, 1) << "token 0 is not predicted";
    EXPECT_EQ(scores[0].again, 4.5);
    EXPECT_EQ(scores[1].first, 2);
    EXPECT_EQ(scores[1].again, 6);
}

TEST(Repeats, GainsArePaired) {
    const std::vector<repeat_score> full{{4, 1}, {5, 1}, {6, 1}}, other{{4, 2}, {5, 3}, {6, 4}};
    const ms::estimate gain = demo::gain_of(full);
    EXPECT_EQ(gain.value, 4);
    EXPECT_DOUBLE_EQ(gain.error.value(), 1 / std::sqrt(3.0));
    EXPECT_EQ(demo::gain_of(other).value, 2);
    EXPECT_EQ(demo::gain_of(other).error.value(), 0);
    EXPECT_EQ(demo::again_above(other, full).value, 2);
    EXPECT_DOUBLE_EQ(demo::again_above(other, full).error.value(), 1 / std::sqrt(3.0));
    EXPECT_TRUE(demo::measurable(full));
    EXPECT_FALSE(demo::measurable(std::vector<repeat_score>{{4, 1}})) << "one has no error";
    EXPECT_FALSE(demo::measurable(std::vector<repeat_score>{{4, 1}, {4, 3}, {4, 5}})) << "1 ± 1.2";
}

demo::repeat_results made_repeats() {
    const auto setting = [](const std::string& policy, std::size_t states) {
        return made::made_run(policy, states, {{1, 2}}).what;
    };
    const auto at = [](std::size_t distance) { return repeat{{1, 3}, {1 + distance, 3 + distance}, 8, "text"}; };
    return {.tokens = 5000,
            .trained_context = 2048,
            .found = {at(100), at(2046), at(2045)},
            .runs = {{setting("full", 1), {{4, 1}, {4, 4.5}, {4, 1.5}}},
                     {setting("tova", 64), {{4, 2}, {4, 4.25}, {4, 3}}}}};
}

TEST(Repeats, TheTableSaysWhatCannotBeMeasured) {
    std::ostringstream out;
    demo::print_repeats(out, made_repeats(), demo::table_format::text, 400);
    const std::string text = out.str();
    EXPECT_EQ(text.find("Repeats: the text, as one sequence of 5,000 tokens, has 3 passages of 8 or more words"), 0U);
    EXPECT_NE(text.find("trained on sequences of 2,048."), std::string::npos);
    EXPECT_NE(
        text.find("\nRead within the trained length: 2 passages, 100 to 2,045 tokens after the first occurrence.\n\n"
                  "policy      k   first   again            gain  again above full\n"
                  "full      all   4.000   1.250   2.750 ± 0.250                 -\n"
                  "tova       64   4.000   2.500   1.500 ± 0.500     1.250 ± 0.250\n"),
        std::string::npos)
        << text;
    EXPECT_NE(text.find("\nRead beyond the trained length: 1 passage, 2,046 tokens after the first occurrence. Not "
                        "measurable with this model: a standard error takes two passages.\n\n"
                        "policy      k   first   again            gain  again above full\n"
                        "full      all   4.000   4.500          -0.500                 -\n"),
              std::string::npos)
        << text;
}

TEST(Repeats, OneSentenceWhereThereAreNone) {
    std::ostringstream out;
    demo::print_repeats(out, {.tokens = 70, .trained_context = 64, .found = {}, .runs = {}}, demo::table_format::text,
                        200);
    EXPECT_EQ(
        out.str(),
        "Repeats: the text, as one sequence of 70 tokens, has 0 passages of 8 or more words that stand earlier in "
        "the text (case, punctuation and line breaks do not count).\n");
}

/// Six passages, each twice, some 130 tokens apart: a window that holds them predicts them better, a smaller one does
/// not.
TEST(Repeats, AWindowGainsByWhatItStillHolds) {
    const demo::gguf file{demo::bundled_model(), "bundled"};
    const demo::tokenizer tokenizer = demo::read_tokenizer(file);
    std::string text;
    for (std::size_t i = 0; i < 6; ++i) {
        const std::string passage(demo::bundled_text().substr(100 + 700 * i, 400));
        text += passage + ".\n\n" + passage + ".\n\n";
    }
    demo::sequence tokens{tokenizer.bos().value()};
    const auto all = tokenizer.encode(text);
    tokens.insert(tokens.end(), all.begin(), all.end());
    words texts;
    for (const demo::token id : tokens) texts.push_back(texts.empty() ? "" : tokenizer.decode(id));
    const auto found = demo::repeats_in(texts);
    ASSERT_EQ(found.size(), 6U);
    ms::thread_pool pool(1);
    const demo::llama model(file, pool);
    const auto gain = [&](const std::string& policy, std::size_t states) {
        const demo::setting s{.policy = demo::parse_policies(policy).front(), .states = states};
        return demo::gain_of(demo::scores_of(found, demo::measure(model, {&tokens, 1}, s, {}).nll.front()));
    };
    const ms::estimate full = gain("full", 1), held = gain("window", 256), forgotten = gain("window", 16);
    EXPECT_GT(full.value, 3 * full.error.value());
    EXPECT_GT(held.value, 3 * held.error.value());
    EXPECT_LT(forgotten.value, full.value / 4);
}

}  // namespace repeats_test
