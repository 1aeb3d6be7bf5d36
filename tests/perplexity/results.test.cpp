// The file of results: what it holds, that it comes back as it was, and what is refused.
#include "results.hpp"

#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "made_results.hpp"

namespace results_test {

using demo::results;
using demo::run;
using made::made_results;
using made::made_run;
using words = std::vector<std::string>;

std::string written(const results& all) {
    std::ostringstream out;
    demo::write_json(out, all);
    return out.str();
}

words keys_of(const nlohmann::ordered_json& object) {
    words keys;
    for (const auto& item : object.items()) keys.push_back(item.key());
    return keys;
}

results some_results() {
    std::vector<run> runs{made_run("tova", 64, {{3, 2}, {5.5, 2}}),
                          made_run("h2o(recent=0.25,sinks=2,slack=0.25)", 8, {{3.1, 2}, {5.7, 2}}),
                          made_run("snapkv|pyramid(beta=20)", 8, {{3, 2}, {1.0 / 3, 2}})};
    runs[0].result.fidelity = {.kl = {0.1, 0.05, 1.5}, .same_top = 0.875, .probability_change = -0.01};
    runs[0].result.forgot_nothing = true;
    runs[1].what.codec = "int8";
    runs[1].result.nll_by_position = {1, std::numeric_limits<double>::quiet_NaN(), 2};
    runs[2].result.budget = {{3, 4}, {5, 6}};
    runs[2].result.mean_budget = 4.5;
    results all = made_results(std::move(runs));
    all.shared = {{"tova", "h2o", 64, "f32", 1.0 / 7}};
    return all;
}

results results_with_recall() {
    using demo::recall_kind;
    results all = some_results();
    const auto cells = [](double first, double second) {
        return std::vector<demo::recall_cell>{{recall_kind::pass_key, 256, 0.5, 4, first},
                                              {recall_kind::passage, 256, 0.5, 4, second}};
    };
    const run full = made_run("full", 1, {{1, 2}});
    all.recall = {.tries = 4,
                  .tasks = "0123456789abcdef",
                  .runs = {{full.what, cells(0.25, 1)}, {all.runs[1].what, cells(0.5, 1.0 / 3)}},
                  .repeats = {.tokens = 5000,
                              .trained_context = 2048,
                              .found = {{{5, 9}, {105, 110}, 9, "a \"text\""}, {{7, 9}, {3007, 3009}, 8, "b"}},
                              .runs = {{full.what, {{4, 1}, {5, 6}}}, {all.runs[1].what, {{4, 2}, {5, 1.0 / 3}}}}}};
    return all;
}

TEST(Json, HasTheFieldsThatWereAskedForAndNoOthers) {
    const auto json = nlohmann::ordered_json::parse(written(some_results()));
    EXPECT_EQ(keys_of(json), (words{"model", "model_bytes", "model_fingerprint", "model_shape", "text",
                                    "text_fingerprint", "context", "limit", "prefill", "block", "threads", "cpu",
                                    "target", "version", "date", "complete", "full", "runs", "shared_states"}));
    EXPECT_EQ(keys_of(json["model_shape"]),
              (words{"layers", "heads", "kv_heads", "key_dim", "value_dim", "width", "vocabulary", "trained_context"}));
    EXPECT_EQ(json["limit"], 77);
    EXPECT_EQ(json["date"], "2026-11-28T12:00:00Z");
    const words outcome{"nll_sum",          "tokens",      "nll_by_sequence",    "tokens_by_sequence",
                        "nll_by_position",  "cache_bytes", "row_bytes",          "bookkeeping_bytes",
                        "scratch_bytes",    "state_bytes", "cache_bytes_at_32k", "seconds",
                        "tokens_per_second"};
    ASSERT_EQ(json["runs"].size(), 3U);
    for (const std::string& key : outcome) {
        EXPECT_TRUE(json["full"].contains(key)) << key;
        for (const auto& r : json["runs"]) EXPECT_TRUE(r.contains(key)) << key;
    }
    const auto& first = json["runs"][0];
    EXPECT_EQ(keys_of(first), (words{"policy",
                                     "states",
                                     "codec",
                                     "ppl",
                                     "ppl_error",
                                     "percent_above_full",
                                     "percent_above_full_error",
                                     "nll_sum",
                                     "tokens",
                                     "nll_by_sequence",
                                     "tokens_by_sequence",
                                     "nll_by_position",
                                     "kl_mean",
                                     "kl_median",
                                     "kl_99",
                                     "same_top",
                                     "probability_change",
                                     "cache_bytes",
                                     "row_bytes",
                                     "bookkeeping_bytes",
                                     "scratch_bytes",
                                     "state_bytes",
                                     "cache_bytes_at_32k",
                                     "seconds",
                                     "tokens_per_second",
                                     "forgot_nothing"}));
    EXPECT_EQ(first["nll_sum"], 8.5);
    EXPECT_EQ(first["tokens"], 4);
    EXPECT_DOUBLE_EQ(first["ppl"].get<double>(), std::exp(8.5 / 4));
    EXPECT_EQ(first["nll_by_sequence"], (nlohmann::ordered_json{3, 5.5}));
    EXPECT_EQ(first["bookkeeping_bytes"], 234567);
    EXPECT_EQ(first["percent_above_full"], 0.0);
    const auto& second = json["runs"][1];
    EXPECT_EQ(second["slack"], 2);  // a share of k in states
    EXPECT_TRUE(second["nll_by_position"][1].is_null());
    EXPECT_FALSE(second.contains("kl_mean"));
    const auto above = demo::compare(some_results().runs[1].result, some_results().runs[0].result);
    EXPECT_DOUBLE_EQ(second["percent_above_full"].get<double>(), above.value);
    EXPECT_DOUBLE_EQ(second["percent_above_full_error"].get<double>(), *above.error);
    EXPECT_EQ(json["runs"][2]["budget"][1][0], 5);
}

TEST(Json, ComesBackAsItWas) {
    for (results all : {some_results(), made_results({}), results_with_recall()}) {
        const std::string text = written(all);
        EXPECT_EQ(written(demo::read_json(text, "r")), text);
        all.complete = false;
        all.full.reset();
        all.about.limit.reset();
        EXPECT_EQ(written(demo::read_json(written(all), "r")), written(all));
    }
}

TEST(Json, RecallSaysWhereTheModelItselfFails) {
    const auto recall = nlohmann::ordered_json::parse(written(results_with_recall()))["recall"];
    ASSERT_EQ(recall["cells"].size(), 4U);
    const auto& key = recall["cells"][2];
    EXPECT_EQ(key["policy"], "h2o(recent=0.25,sinks=2,slack=0.25)");
    EXPECT_EQ(key["kind"], "pass key");
    EXPECT_EQ(key["score"], 0.5);
    EXPECT_EQ(key["measurable"], false) << "full finds a quarter";
    EXPECT_EQ(recall["cells"][3]["measurable"], true);
    const auto& repeats = recall["repeats"];
    EXPECT_EQ(repeats["passages"][0]["distance"], 100);
    ASSERT_EQ(repeats["runs"].size(), 2U);
    EXPECT_EQ(repeats["runs"][1]["nll_again"], (nlohmann::ordered_json{2, 1.0 / 3}));
    const auto& control = repeats["runs"][0]["groups"][0];
    EXPECT_EQ(control["gain"], 3.0);
    EXPECT_EQ(control["measurable"], false) << "one passage has no standard error";
    EXPECT_TRUE(repeats["runs"][1]["groups"][0]["gain"].is_null());
}

TEST(Json, AModelOfAnyNameGivesValidJson) {
    results all = made_results({});
    all.about.model = std::string("a\"b\\c\n\xff.gguf");
    EXPECT_TRUE(nlohmann::json::accept(written(all)));
}

TEST(Json, WhatIsNoResultIsRefusedInOneSentence) {
    const std::string whole = written(some_results());
    std::string negative = whole, unknown = whole;
    negative.replace(negative.find("\"states\": 64"), 12, "\"states\": \"x\"");
    unknown.replace(unknown.find("\"tova\""), 6, "\"tovs\"");
    for (const std::string& text : {std::string(), std::string("{}"), std::string("[1]"), std::string("text"), negative,
                                    unknown, whole.substr(0, whole.size() / 2)}) {
        try {
            static_cast<void>(demo::read_json(text, "r.json"));
            ADD_FAILURE() << text;
        } catch (const std::runtime_error& problem) {
            const std::string message = problem.what();
            EXPECT_EQ(message.find("r.json: is no result of perplexity --json: "), 0U) << message;
            EXPECT_EQ(message.find('\n'), std::string::npos) << message;
        }
    }
}

TEST(Provenance, AnotherModelTextOrSettingIsRefused) {
    const demo::provenance now = made_results({}).about;
    const auto refused = [&](auto change) {
        demo::provenance before = now;
        change(before);
        try {
            demo::refuse_other(before, now, "r.json");
            return std::string();
        } catch (const std::runtime_error& problem) {
            return std::string(problem.what());
        }
    };
    EXPECT_EQ(refused([](auto& p) {
                  p.date = "x";
                  p.threads = 7;
                  p.cpu = "other";
                  p.model = "renamed.gguf";
              }),
              "");
    const auto expect = [&](const std::string& message, const std::string& part) {
        EXPECT_EQ(message.find("r.json: was measured with "), 0U) << message;
        EXPECT_NE(message.find(part), std::string::npos) << message;
    };
    expect(refused([](auto& p) { p.model_bytes = 7; }), "model model.gguf of 7 bytes");
    expect(refused([](auto& p) { p.model_fingerprint = "ffff"; }), "(ffff)");
    expect(refused([](auto& p) {
               p.text_fingerprint = "ffff";
               p.limit = 5;
           }),
           "text text.txt (--context 1024, --limit 5, tokens ffff)");
    expect(refused([](auto& p) { p.prefill = "once"; }), "--prefill once, not with --prefill exact");
    expect(refused([](auto& p) { p.block = 32; }), "--block 32, not with --block 64");
}

TEST(Fingerprint, ChangesWithEveryByteItSees) {
    std::vector<std::byte> bytes(100000);
    const std::string before = demo::fingerprint(bytes);
    EXPECT_EQ(before.size(), 16U);
    for (const std::size_t at : {0U, 4095U, 4096U, 99999U}) {
        bytes[at] = std::byte{1};
        EXPECT_NE(demo::fingerprint(bytes), before) << at;
        bytes[at] = std::byte{0};
    }
    EXPECT_NE(demo::fingerprint(std::span(bytes).first(99999)), before);
    using demo::sequence;
    EXPECT_NE(demo::fingerprint(std::vector<sequence>{{1, 2}, {3}}),
              demo::fingerprint(std::vector<sequence>{{1}, {2, 3}}));
}

TEST(Nll, OnePerLineAllSequencesInOrder) {
    demo::measurement m;
    m.nll = {{1.5, 12.3456789012}, {}, {0.000123456789}};
    std::ostringstream out;
    demo::write_nll(out, m);
    EXPECT_EQ(out.str(), "1.5\n12.3456789\n0.000123456789\n");
}

TEST(Trace, OneLinePerStateForgotten) {
    demo::measurement m;
    m.forgotten = {{0, 16, 1, 2, 3}, {4, 5, 6, 7, 8}};
    std::ostringstream out;
    demo::write_trace(out, m);
    EXPECT_EQ(out.str(), "sequence,step,layer,kv_head,position\n0,16,1,2,3\n4,5,6,7,8\n");
}

TEST(ProcessorName, IsOneLine) {
    EXPECT_FALSE(demo::processor_name().empty());
    EXPECT_EQ(demo::processor_name().find('\n'), std::string::npos);
}

}  // namespace results_test
