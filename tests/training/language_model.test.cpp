// Texts, the command line, sizes of models, and a run that learns.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>

#include "language_model/experiment.hpp"
#include "language_model/text.hpp"

namespace language_model_test {

using language_model::options;

std::optional<options> parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "language_model");
    return language_model::parse_options(static_cast<int>(arguments.size()), arguments.data());
}

template <class F>
std::string error_of(F f) {
    try {
        f();
    } catch (const std::exception& error) {
        return error.what();
    }
    return "no error";
}

TEST(LanguageModelText, UnknownBytesAreTokenZero) {
    const language_model::alphabet known("abba\xff");
    EXPECT_EQ(known.size(), 4u);
    EXPECT_EQ(known.encode("aZ\xff"
                           "b"),
              (std::vector<int>{1, 0, 3, 2}));
}

TEST(LanguageModelText, TargetsAreTheNextTokens) {
    std::vector<int> text(40);
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<int>(i);
    training::random_source random(1);
    for (const training::batch& b : {language_model::sample(text, {.sequences = 200, .length = 8}, random),
                                     language_model::evenly(text, {.sequences = 4, .length = 8})}) {
        ASSERT_EQ(b.tokens.size(), b.shape.sequences * 8);
        for (std::size_t i = 0; i < b.tokens.size(); ++i) {
            EXPECT_EQ(b.targets[i], b.tokens[i] + 1);
            if (i % 8 > 0) {
                EXPECT_EQ(b.tokens[i], b.tokens[i - 1] + 1);
            }
        }
    }
    const training::batch all = language_model::sample(text, {.sequences = 1000, .length = 8}, random);
    EXPECT_EQ(std::ranges::min(all.tokens), 0);
    EXPECT_EQ(std::ranges::max(all.targets), 39);
}

TEST(LanguageModelText, ShortAndMissingFilesAreNamed) {
    options o = *parse({"--quick"});
    const auto path = std::filesystem::path(testing::TempDir()) / "short.txt";
    std::ofstream(path) << "too short";
    o.text = {path};
    EXPECT_EQ(error_of([&] { (void)language_model::read(o); }),
              "the training text must be longer than a sequence of --length 32 characters, has 9");
    o.text = {"/nowhere/a.txt"};
    EXPECT_EQ(error_of([&] { (void)language_model::read(o); }), "/nowhere/a.txt: cannot be read");
    o.text = {testing::TempDir()};
    EXPECT_NE(error_of([&] { (void)language_model::read(o); }).find("is a folder"), std::string::npos);
}

TEST(LanguageModelOptions, ErrorsNameOptionBoundAndValue) {
    const auto error = [](std::vector<const char*> arguments) {
        return error_of([&] { (void)parse(std::move(arguments)); });
    };
    EXPECT_EQ(error({"--width", "100", "--heads", "3"}), "--heads must divide --width, 100, is 3");
    EXPECT_EQ(error({"--model", "rnn"}),
              "--model must be of min_gru, min_lstm, selective, gru, lstm, transformer, is 'rnn'");
    EXPECT_EQ(error({"--threads", "many"}), "--threads: must be a whole number from 1 to 1024, is 'many'");
}

/// Nothing to compare unless all are of a size.
TEST(LanguageModel, ModelsHaveEquallyManyParameters) {
    const options o = *parse({});
    std::size_t least = std::numeric_limits<std::size_t>::max(), most = 0;
    for (const std::string& name : o.models) {
        const std::size_t count = language_model::make_model(o, name, 80).parameter_count();
        least = std::min(least, count);
        most = std::max(most, count);
    }
    EXPECT_LT(static_cast<double>(most), 1.06 * static_cast<double>(least));
}

TEST(LanguageModel, AllModelsLearnFromTheNovella) {
    options o = *parse({"--quick"});
    const language_model::corpus texts = language_model::read(o);
    multistate::thread_pool pool(2);
    std::vector<language_model::run_result> runs;
    for (const std::string& name : o.models) {
        runs.push_back(language_model::train(o, name, texts, pool, [](const language_model::curve_point&) {}));
        EXPECT_LT(runs.back().curve.back().validation_loss, 3.2) << name;  // all equally likely: 4.1
        EXPECT_LT(runs.back().curve.back().validation_loss, runs.back().curve.front().validation_loss) << name;
    }
    std::ostringstream table, json;
    language_model::print_tables(table, runs);
    EXPECT_NE(table.str().find("| model | units | parameters | processor ms per step | 20 | 40 |"), std::string::npos);
    language_model::write_json(json, o, texts, runs);
    EXPECT_NE(json.str().find("\"model\": \"transformer\""), std::string::npos);
}

}  // namespace language_model_test
