// The report as a page: what its data say. That a browser draws them is tested by page_test.py.
#include "page.hpp"

#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "made_results.hpp"
#include "token_class.hpp"

namespace page_test {

using made::made_run;

demo::results made_results() {
    demo::results all;
    all.about.model = "m.gguf";
    all.about.layers = 2;
    all.about.kv_heads = 2;
    all.about.context = 8;
    all.full = made_run("full", 1, {{4, 2}, {4, 2}}).result;
    all.full->nll_by_position = {2, 2};
    all.runs = {made_run("tova", 4, {{4.2, 2}, {4.2, 2}}), made_run("window", 4, {{6, 2}, {6, 2}})};
    for (demo::run& r : all.runs) r.result.nll_by_position = {2.5, std::nan("")};
    return all;
}

/// Layer 0 forgets position 1 in both KV heads, layer 1 position 2 in one of them.
demo::retained made_lives() {
    demo::measurement m;
    m.forgotten = {{.sequence = 0, .step = 4, .layer = 0, .kv_head = 0, .position = 1},
                   {.sequence = 0, .step = 4, .layer = 0, .kv_head = 1, .position = 1},
                   {.sequence = 1, .step = 2, .layer = 0, .kv_head = 1, .position = 0},
                   {.sequence = 0, .step = 5, .layer = 1, .kv_head = 1, .position = 2}};
    return demo::retained_of(made_run("tova", 4, {{4.2, 2}}).what, m, {.layers = 2, .kv_heads = 2, .tokens = 8});
}

std::string page_of(const std::vector<std::string>& tokens) {
    std::ostringstream out;
    demo::write_page(out, made_results(),
                     {.tokens = tokens,
                      .lives = {made_lives()},
                      .heads = demo::head_shares{32, {0.25F, 0.5F, 0.75F, 1.0F}},
                      .command = "perplexity --report out.html"});
    return out.str();
}

nlohmann::json data_of(const std::string& page) {
    const std::string open = R"(<script id="data" type="application/json">)";
    const std::size_t begin = page.find(open) + open.size();
    return nlohmann::json::parse(page.substr(begin, page.find("</script>", begin) - begin));
}

const std::vector<std::string> tokens{"<s>", "The", " bell", ",", "\n", " 8", " “", "rope"};

TEST(Page, CarriesItsPartsAndItsData) {
    const std::string page = page_of(tokens);
    EXPECT_EQ(page.find("@PAGE_"), std::string::npos);
    EXPECT_TRUE(page.starts_with("<!doctype html>"));
    const auto data = data_of(page);
    ASSERT_EQ(data["runs"].size(), 2U);
    EXPECT_EQ(data["runs"][0]["policy"], "tova");
    EXPECT_TRUE(data["recall"].is_null());
    EXPECT_EQ(data["runs"][0]["nll_above_full"], nlohmann::json({0.5, nullptr}));  // JSON has no NaN
    EXPECT_EQ(data["position_bins"], nlohmann::json({2, 6}));
    EXPECT_EQ(data["map"]["tokens"], tokens);
    EXPECT_EQ(data["heads"]["near"], nlohmann::json::parse("[[0.25, 0.5], [0.75, 1.0]]"));
    EXPECT_EQ(data["command"], "perplexity --report out.html");
}

TEST(Page, TheLastStepsOfTheFirstSequence) {
    const auto map = data_of(page_of(tokens))["map"]["runs"][0];
    const nlohmann::json whole{7, 7, 7, 7, 7, 7, 7, 7};
    EXPECT_EQ(map["last_step"][0], nlohmann::json::array({nlohmann::json({7, 4, 7, 7, 7, 7, 7, 7})}));  // heads agree
    EXPECT_EQ(map["last_step"][1], nlohmann::json::array({whole, nlohmann::json({7, 7, 5, 7, 7, 7, 7, 7})}));
    // "The": 4 of 7 steps in layer 0, all in layer 1. It is the only capital.
    const auto capital = std::ranges::find(demo::token_classes, "capital") - demo::token_classes.begin();
    EXPECT_DOUBLE_EQ(map["class_share"][static_cast<std::size_t>(capital)].get<double>(), (4.0 / 7 + 1) / 2);
}

TEST(Page, RecallBesideTheMeasurement) {
    demo::results all = made_results();
    const auto cells = [](double first, double second) {
        return std::vector<demo::recall_cell>{{demo::recall_kind::pass_key, 256, 0, 4, first},
                                              {demo::recall_kind::pass_key, 256, 1, 4, second}};
    };
    const demo::setting full{.policy = demo::parse_policies("full").front(), .states = 1};
    const demo::setting tova{.policy = demo::parse_policies("tova").front(), .states = 64};
    all.recall = {.tries = 4, .tasks = "0", .runs = {{full, cells(0.25, 1)}, {tova, cells(0.5, 0.75)}}, .repeats = {}};
    std::ostringstream out;
    demo::write_page(out, all, {.tokens = tokens, .lives = {}, .command = "perplexity --recall"});
    const auto data = data_of(out.str());
    EXPECT_EQ(data["runs"].size(), 2U);
    EXPECT_EQ(data["recall"]["depths"], nlohmann::json({0.0, 1.0}));
    EXPECT_EQ(data["recall"]["runs"][1]["scores"], nlohmann::json::parse("[[[null, 0.75]]]"))
        << "full finds too little";
}

TEST(Page, TextCannotCloseTheScriptElement) {
    std::vector<std::string> evil = tokens;
    evil[2] = "</script><!--";
    evil[3] = "\xff";  // no UTF-8
    const auto data = data_of(page_of(evil));
    EXPECT_EQ(data["map"]["tokens"][2], "</script><!--");
    EXPECT_EQ(data["map"]["tokens"][3], "\xef\xbf\xbd");
}

TEST(TokenClass, GoesByTheFirstCharacterThatIsNoSpace) {
    const auto name = [](const std::string& text, std::size_t position = 5) {
        return std::string(demo::token_classes[demo::token_class(text, position)]);
    };
    EXPECT_EQ(name("The", 0), "first token");
    EXPECT_EQ(name("\n"), "newline");
    EXPECT_EQ(name(" \n"), "newline");
    EXPECT_EQ(name(" “I"), "quote");
    EXPECT_EQ(name("'"), "quote");
    EXPECT_EQ(name(" 17"), "digit");
    EXPECT_EQ(name("."), "punctuation");
    EXPECT_EQ(name("—"), "punctuation");
    EXPECT_EQ(name(" The"), "capital");
    EXPECT_EQ(name(" bell"), "other words");
    EXPECT_EQ(name(" "), "other words");
    EXPECT_EQ(name(""), "other words");
}

}  // namespace page_test
