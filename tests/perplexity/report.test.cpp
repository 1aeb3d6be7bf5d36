// The results as people and programs read them.
#include "report.hpp"

#include <cmath>
#include <sstream>
#include <stdexcept>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace report_test {

using demo::measurement;
using demo::run;

run made_run(const std::string& policy, std::size_t states, std::vector<std::vector<double>> nll) {
    measurement m;
    m.nll = std::move(nll);
    m.cache_bytes = 1234567;
    m.scratch_bytes = 7654;
    m.seconds = 0.5;
    return {{.policy = demo::parse_policies(policy).front(), .states = states}, std::move(m)};
}

demo::options some_options() {
    demo::options o;
    o.model = "folder/model.gguf";
    o.codec = "f32";
    o.prefill = "once";
    o.threads = 3;
    return o;
}

std::vector<std::string> keys_of(const nlohmann::ordered_json& object) {
    std::vector<std::string> keys;
    for (const auto& item : object.items()) keys.push_back(item.key());
    return keys;
}

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t found = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
    return found;
}

TEST(Json, HasTheFieldsThatWereAskedForAndNoOthers) {
    std::vector<run> runs{made_run("tova", 64, {{1, 2}, {2, 3.5}}), made_run("h2o(recent=0.25,sinks=2)", 8, {{1, 2}})};
    runs[1].what.codec = "int8";
    std::ostringstream out;
    demo::write_json(out, runs, some_options(), 1024);
    const auto json = nlohmann::ordered_json::parse(out.str());
    EXPECT_EQ(keys_of(json),
              (std::vector<std::string>{"model", "context", "threads", "cpu", "target", "version", "runs"}));
    EXPECT_EQ(json["model"], "folder/model.gguf");
    EXPECT_EQ(json["context"], 1024);
    EXPECT_EQ(json["threads"], 3);
    EXPECT_EQ(json["cpu"], demo::processor_name());
    EXPECT_EQ(json["target"], std::string(multistate::target_name()));
    EXPECT_EQ(json["version"], MULTISTATE_VERSION);

    ASSERT_EQ(json["runs"].size(), 2U);
    const auto& first = json["runs"][0];
    EXPECT_EQ(keys_of(first),
              (std::vector<std::string>{"policy", "states", "codec", "prefill", "ppl", "ppl_error", "nll_sum", "tokens",
                                        "cache_bytes", "scratch_bytes", "seconds", "tokens_per_second"}));
    EXPECT_EQ(first["policy"], "tova");
    EXPECT_EQ(first["states"], 64);
    EXPECT_EQ(first["codec"], "f32");
    EXPECT_EQ(first["prefill"], "once");
    EXPECT_EQ(first["nll_sum"].get<double>(), 8.5);
    EXPECT_EQ(first["tokens"], 4);
    EXPECT_DOUBLE_EQ(first["ppl"].get<double>(), std::exp(8.5 / 4));
    EXPECT_DOUBLE_EQ(first["ppl_error"].get<double>(), *runs[0].result.standard_error());
    EXPECT_EQ(first["cache_bytes"], 1234567);
    EXPECT_EQ(first["scratch_bytes"], 7654);
    EXPECT_EQ(first["seconds"], 0.5);
    EXPECT_EQ(first["tokens_per_second"], 8.0);

    const auto& second = json["runs"][1];
    EXPECT_EQ(second["policy"], "h2o(recent=0.25,sinks=2)");
    EXPECT_EQ(second["codec"], "int8");
    EXPECT_TRUE(second["ppl_error"].is_null());  // of a single sequence
}

TEST(Json, SlackIsNamedWhereItIsGiven) {
    const std::vector<run> runs{made_run("tova", 64, {{1, 2}}), made_run("tova(slack=16)", 64, {{1, 2}}),
                                made_run("h2o(slack=0.25)", 64, {{1, 2}}), made_run("h2o(slack=0.25)", 8, {{1, 2}}),
                                made_run("tova(slack=0)", 64, {{1, 2}})};
    std::ostringstream out;
    demo::write_json(out, runs, some_options(), 1024);
    const auto json = nlohmann::json::parse(out.str())["runs"];
    EXPECT_FALSE(json[0].contains("slack"));
    EXPECT_EQ(json[1]["slack"], 16);
    EXPECT_EQ(json[1]["policy"], "tova(slack=16)");
    EXPECT_EQ(json[1]["states"], 64);  // slack is beside k
    EXPECT_EQ(json[2]["slack"], 16);   // a share of k in states
    EXPECT_EQ(json[3]["slack"], 2);
    EXPECT_EQ(json[4]["slack"], 0);
}

TEST(Json, NothingMeasuredIsAnEmptyList) {
    std::ostringstream out;
    demo::write_json(out, {}, some_options(), 2);
    EXPECT_TRUE(nlohmann::json::parse(out.str())["runs"].is_array());
    EXPECT_TRUE(nlohmann::json::parse(out.str())["runs"].empty());
}

TEST(Json, AModelOfAnyNameGivesValidJson) {
    demo::options o = some_options();
    o.model = std::string("a\"b\\c\n\xff.gguf");
    std::ostringstream out;
    demo::write_json(out, {}, o, 2);
    EXPECT_TRUE(nlohmann::json::accept(out.str())) << out.str();
}

TEST(Nll, OnePerLineAllSequencesInOrder) {
    std::ostringstream out;
    demo::write_nll(out, made_run("tova", 64, {{1.5, 12.3456789012}, {}, {0.000123456789}}).result);
    EXPECT_EQ(out.str(), "1.5\n12.3456789\n0.000123456789\n");
}

TEST(Trace, OneLinePerStateForgotten) {
    measurement m;
    m.forgotten = {{0, 16, 1, 2, 3}, {4, 5, 6, 7, 8}};
    std::ostringstream out;
    demo::write_trace(out, m);
    EXPECT_EQ(out.str(), "sequence,step,layer,kv_head,position\n0,16,1,2,3\n4,5,6,7,8\n");
}

TEST(Table, PoliciesByKAndTheSmallestWithinOnePercent) {
    const run full = made_run("full", 1, {{2, 2}, {2, 2}});
    const std::vector<run> runs{
        made_run("tova", 64, {{2.1, 2.1}, {2.1, 2.1}}), made_run("tova", 256, {{2.005, 2}, {2.005, 2}}),
        made_run("window", 64, {{3, 3}, {3, 3}}), made_run("window", 256, {{2.5, 2.5}, {2.5, 2.6}})};
    std::ostringstream out;
    demo::print_table(out, runs, full.result);
    const std::string text = out.str();
    EXPECT_NE(text.find("full: perplexity 7.389"), std::string::npos) << text;
    EXPECT_NE(text.find("8.166"), std::string::npos) << text;          // exp(2.1)
    EXPECT_NE(text.find("10.52 ± 0.00"), std::string::npos) << text;   // 100 (exp(0.1) - 1)
    EXPECT_NE(text.find("171.83 ± 0.00"), std::string::npos) << text;  // 100 (e - 1)
    EXPECT_NE(text.find("1.23"), std::string::npos) << text;           // MB
    EXPECT_NE(text.find("8\n"), std::string::npos) << text;            // tokens per second
    EXPECT_NE(text.find("tova: k = 256 is the smallest k measured within 1 % of full."), std::string::npos) << text;
    EXPECT_NE(text.find("window: no k measured is within 1 % of full."), std::string::npos) << text;
    EXPECT_EQ(count(text, "k = 64"), 4U) << text;  // the heads of four grids
}

TEST(Table, SmallestWhateverTheOrder) {
    const run full = made_run("full", 1, {{2, 2}});
    const std::vector<run> runs{made_run("tova", 256, {{2, 2}}), made_run("tova", 16, {{2, 3}}),
                                made_run("tova", 64, {{2, 2}})};
    std::ostringstream out;
    demo::print_table(out, runs, full.result);
    EXPECT_NE(out.str().find("tova: k = 64 is the smallest"), std::string::npos) << out.str();
}

/// A k beyond the sequences is within 1 % of full because nothing was put to the test.
TEST(Table, WhatForgotNothingDoesNotCount) {
    const run full = made_run("full", 1, {{2, 2}});
    std::vector<run> runs{made_run("tova", 16, {{2, 3}}),  made_run("tova", 64, {{2, 2}}),
                          made_run("tova", 256, {{2, 2}}), made_run("h2o", 16, {{2, 2}}),
                          made_run("h2o", 64, {{2, 2}}),   made_run("full", 64, {{2, 2}})};
    for (const std::size_t i : {1U, 2U, 4U, 5U}) runs[i].result.forgot_nothing = true;
    std::ostringstream out;
    demo::print_table(out, runs, full.result);
    for (const char* line :
         {"\ntova: no k measured is within 1 % of full; k = 64, 256 forgot nothing and does not count.\n",
          "\nh2o: k = 16 is the smallest k measured within 1 % of full.\n",
          "\nfull: forgot nothing at any k measured.\n"}) {
        EXPECT_NE(out.str().find(line), std::string::npos) << out.str();
    }
    std::ostringstream json;
    demo::write_json(json, runs, some_options(), 64);
    const auto list = nlohmann::json::parse(json.str())["runs"];
    EXPECT_FALSE(list[0].contains("forgot_nothing"));
    EXPECT_EQ(list[1]["forgot_nothing"], true);
}

TEST(Table, ColumnsAreAlignedWhateverTheNames) {
    const std::vector<run> runs{made_run("tova", 64, {{2, 2}}),
                                made_run("h2o(recent=0.25,sinks=2,slack=16)", 64, {{2, 2}})};
    std::ostringstream out;
    demo::print_table(out, runs, made_run("full", 1, {{2, 2}}).result);
    std::istringstream lines(out.str());
    std::size_t grids = 0;
    std::string head, first, second;
    while (std::getline(lines, head)) {
        if (head.find("k = 64") == std::string::npos || head.front() != ' ') continue;
        ASSERT_TRUE(std::getline(lines, first) && std::getline(lines, second));
        EXPECT_EQ(head.size(), first.size()) << out.str();
        EXPECT_EQ(head.size(), second.size()) << out.str();
        ++grids;
    }
    EXPECT_EQ(grids, 4U) << out.str();
}

TEST(Table, WhatWasNotMeasuredIsADash) {
    const run full = made_run("full", 1, {{2, 2}});
    const std::vector<run> runs{made_run("tova", 4, {{2, 2}}), made_run("tova", 8, {{2, 2}}),
                                made_run("window+4", 8, {{2, 2}})};
    std::ostringstream out;
    demo::print_table(out, runs, full.result);
    EXPECT_EQ(count(out.str(), " -"), 4U) << out.str();  // one in each grid
}

TEST(Table, NothingButFull) {
    std::ostringstream out;
    demo::print_table(out, {}, made_run("full", 1, {{2, 2}}).result);
    EXPECT_EQ(count(out.str(), "\n"), 1U) << out.str();
}

TEST(Grouped, Thousands) {
    EXPECT_EQ(demo::grouped(0), "0");
    EXPECT_EQ(demo::grouped(999), "999");
    EXPECT_EQ(demo::grouped(1000), "1,000");
    EXPECT_EQ(demo::grouped(23529), "23,529");
    EXPECT_EQ(demo::grouped(1234567890), "1,234,567,890");
}

TEST(ProcessorName, IsOneLine) {
    EXPECT_FALSE(demo::processor_name().empty());
    EXPECT_EQ(demo::processor_name().find('\n'), std::string::npos);
}

}  // namespace report_test
