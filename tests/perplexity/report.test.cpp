// The results as people read them: the table in its forms, what stands below it, two results beside each other.
#include "report.hpp"

#include <cmath>
#include <sstream>
#include <stdexcept>

#include <gtest/gtest.h>

#include "made_results.hpp"
#include "text_table.hpp"

namespace report_test {

using demo::outcome;
using demo::run;
using demo::table_format;
using made::made_run;

using words = std::vector<std::string>;

words lines_of(const std::string& text) {
    words lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
}

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t found = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
    return found;
}

std::string table_of(const std::vector<run>& runs, const outcome& full, demo::result_table::layout how) {
    std::ostringstream out;
    how.policy_width = 8;
    demo::result_table table(out, how, full);
    for (const run& r : runs) table.add(r);
    table.finish();
    return out.str();
}

std::string text_of(const std::vector<run>& runs, const outcome& full, const words& groups = {"summary"},
                    const std::string& sort = "") {
    return table_of(runs, full,
                    {.format = table_format::text, .columns = demo::columns_of(groups, false), .sort = sort});
}

std::string conclusions_of(const std::vector<run>& runs, const outcome& full) {
    std::ostringstream out;
    demo::print_conclusions(out, runs, full, 200);
    return out.str();
}

TEST(Table, ARowForEachPolicyAndK) {
    const outcome full = made_run("full", 1, {{4, 2}, {4, 2}}).result;
    std::vector<run> runs{made_run("tova", 64, {{4.2, 2}, {4.2, 2}}), made_run("window", 64, {{6, 2}, {6, 2}})};
    runs[0].result.fidelity = {.kl = {0.12345, 0.05, 1.5}, .same_top = 0.875, .probability_change = -0.01};
    EXPECT_EQ(text_of(runs, full),
              "policy        k  perplexity    % above full      KL  same top     MB  tokens/s\n"
              "full        all       7.389               -       -         -   1.23         8\n"
              "tova         64       8.166    10.52 ± 0.00  0.1235    87.5 %   1.23         8\n"
              "window       64      20.086   171.83 ± 0.00       -         -   1.23         8\n");
}

TEST(Table, CellsWiderThanTheirColumnsStayApart) {
    std::ostringstream out;
    demo::text_table table(out, demo::table_format::text, {{"policy", 6}, {"k", 3}, {"change", 6}});
    table.row({"window", "1234567", demo::with_error({8020.487, 1679.16}, 2)});
    EXPECT_EQ(out.str(),
              "policy    k  change\n"
              "window 1234567 8020 ± 1679\n");
}

/// The default table fits a terminal of 80 columns.
TEST(Table, FitsEightyColumns) {
    std::vector<run> runs{made_run("window+4", 1024, {{12, 2}, {16, 2}})};
    runs[0].result.fidelity = {.kl = {1.2345, 0.05, 1.5}, .same_top = 1, .probability_change = -0.01};
    for (const std::string& line : lines_of(text_of(runs, made_run("full", 1, {{4, 2}, {5, 2}}).result))) {
        EXPECT_LE(demo::shown_width(line), 80U) << line;
    }
}

TEST(Table, RowsComeAtOnceUnlessTheyAreSorted) {
    const outcome full = made_run("full", 1, {{4, 2}}).result;
    const run b = made_run("window", 8, {{6, 2}}), a = made_run("tova", 64, {{5, 2}});
    for (const std::string sort : {"", "perplexity"}) {
        std::ostringstream out;
        demo::result_table table(
            out, {.format = table_format::text, .columns = demo::columns_of(words{"speed"}, false), .sort = sort},
            full);
        table.add(b);
        EXPECT_EQ(lines_of(out.str()).size(), sort.empty() ? 3U : 2U);
        table.add(a);
        table.finish();
        const words lines = lines_of(out.str());
        ASSERT_EQ(lines.size(), 4U);
        EXPECT_EQ(lines[1].find("full"), 0U);
        EXPECT_EQ(lines[2].find(sort.empty() ? "window" : "tova"), 0U);
    }
}

TEST(Table, SortsByEveryKey) {
    const outcome full = made_run("full", 1, {{4, 2}}).result;
    std::vector<run> runs{made_run("tova", 8, {{6, 2}}), made_run("h2o", 4, {{5, 2}}), made_run("window", 2, {{7, 2}})};
    runs[0].result.fidelity = {.kl = {.mean = 3}};
    runs[1].result.fidelity = {.kl = {.mean = 2}};
    runs[2].result.fidelity = {.kl = {.mean = 1}};
    runs[0].result.bytes.cache = 1;
    runs[1].result.bytes.cache = 3;
    runs[2].result.bytes.cache = 2;
    for (std::size_t i = 0; i < 3; ++i) runs[i].result.seconds = static_cast<double>(i + 1);
    const auto order = [&](const std::string& key) {
        std::string names;
        for (const std::string& line : lines_of(text_of(runs, full, {"summary"}, key))) names += line[0];
        return names.substr(2);  // head and full
    };
    EXPECT_EQ(order("policy"), "htw");
    EXPECT_EQ(order("states"), "wht");
    EXPECT_EQ(order("perplexity"), "htw");
    EXPECT_EQ(order("kl"), "wht");
    EXPECT_EQ(order("memory"), "twh");
    EXPECT_EQ(order("speed"), "thw");
}

TEST(Table, Markdown) {
    const outcome full = made_run("full", 1, {{4, 2}}).result;
    EXPECT_EQ(table_of({made_run("h2o|pool", 64, {{4.2, 2}})}, full,
                       {.format = table_format::markdown, .columns = demo::columns_of(words{"quality"}, false)}),
              "| policy | k | perplexity | % above full |\n"
              "| --- | ---: | ---: | ---: |\n"
              "| full | all | 7.389 | - |\n"
              "| h2o\\|pool | 64 | 8.166 | 10.52 |\n");
}

TEST(Table, CsvHasAllNumbersInFull) {
    const outcome full = made_run("full", 1, {{4, 2}, {5, 2}}).result;
    std::vector<run> runs{made_run("h2o(recent=0.25,sinks=2)", 64, {{4.2, 2}, {5.1, 2}})};
    runs[0].result.fidelity = {.kl = {0.1, 0.05, 1.5}, .same_top = 0.875, .probability_change = -0.01};
    const words lines = lines_of(table_of(runs, full, {.format = table_format::csv, .columns = demo::csv_columns()}));
    ASSERT_EQ(lines.size(), 3U);
    EXPECT_EQ(lines[0].find("policy,k,codec,perplexity,perplexity_error,percent_above_full,"), 0U);
    EXPECT_EQ(lines[1].find("full,,f32,"), 0U) << lines[1];
    EXPECT_EQ(lines[2].find("\"h2o(recent=0.25,sinks=2)\",64,f32,"), 0U) << lines[2];
    const std::string ppl = lines[2].substr(std::string("\"h2o(recent=0.25,sinks=2)\",64,f32,").size());
    EXPECT_EQ(std::stod(ppl), std::exp(9.3 / 4));
    const auto commas = [](const std::string& line) { return count(line, ","); };
    EXPECT_EQ(commas(lines[1]), commas(lines[0]));
    EXPECT_EQ(commas(lines[2]), commas(lines[0]) + 1);  // that in the quotes
}

TEST(Table, EveryGroupOfColumns) {
    outcome full = made_run("full", 1, {{4, 2}}).result;
    full.nll_by_position.assign(demo::position_parts, 2.0);
    std::vector<run> runs{made_run("tova", 64, {{4.2, 2}})};
    runs[0].result.nll_by_position.assign(demo::position_parts, 2.0);
    for (std::size_t i = 12; i < 16; ++i) runs[0].result.nll_by_position[i] = 2.1;
    runs[0].result.fidelity = {.kl = {0.1, 0.05, 1.5}, .same_top = 0.875, .probability_change = -0.01};
    const words all{"summary", "quality", "fidelity", "position", "memory", "speed"};
    const words lines = lines_of(text_of(runs, full, all));
    ASSERT_EQ(lines.size(), 3U);
    for (const char* head : {"KL median", "KL 99 %", "change of p", "% in quarter 4", "rows MB", "bookkeeping MB",
                             "scratch MB", "bytes/state", "seconds"}) {
        EXPECT_EQ(count(lines[0], head), 1U) << head;
    }
    for (const char* cell : {" 0.0500 ", " 1.500 ", " -0.01000 ", " 10.52 ", " 1.00 ", " 0.23 ", " 0.01 ", " 256 "}) {
        EXPECT_GE(count(lines[2], cell), 1U) << cell << lines[2];
    }
    EXPECT_EQ(demo::shown_width(lines[0]), demo::shown_width(lines[2]));
    EXPECT_EQ(demo::columns_of(words{"summary"}, true).front().head, "codec");
}

/// Whatever the reader asks for, a row that is no test of the policy is marked.
TEST(Table, WhatForgotNothingIsMarked) {
    const outcome full = made_run("full", 1, {{4, 2}}).result;
    std::vector<run> runs{made_run("tova", 64, {{4, 2}})};
    runs[0].result.forgot_nothing = true;
    EXPECT_NE(text_of(runs, full).find(" 64* "), std::string::npos);
    EXPECT_NE(conclusions_of(runs, full).find("* forgot nothing: k is not below the length of a sequence"),
              std::string::npos);
}

TEST(Conclusions, TheSmallestKWithinOnePercent) {
    const outcome full = made_run("full", 1, {{4, 2}, {4, 2}}).result;
    const std::vector<run> runs{made_run("tova", 256, {{4, 2}, {4, 2}}), made_run("tova", 16, {{5, 2}, {5, 2}}),
                                made_run("tova", 64, {{4.01, 2}, {4, 2}}), made_run("window", 64, {{6, 2}, {6, 2}})};
    const std::string text = conclusions_of(runs, full);
    EXPECT_NE(text.find("full: perplexity 7.389 ± 0.000."), std::string::npos) << text;
    EXPECT_NE(text.find("\ntova: k = 64 is the smallest k measured within 1 % of full.\n"), std::string::npos) << text;
    EXPECT_NE(text.find("\nwindow: no k measured is within 1 % of full.\n"), std::string::npos) << text;
    for (const std::string& line : lines_of(text)) EXPECT_LE(demo::shown_width(line), 200U);
}

/// A k beyond the sequences is within 1 % of full because nothing was put to the test.
TEST(Conclusions, WhatForgotNothingDoesNotCount) {
    const outcome full = made_run("full", 1, {{4, 2}}).result;
    std::vector<run> runs{made_run("tova", 16, {{5, 2}}),  made_run("tova", 64, {{4, 2}}),
                          made_run("tova", 256, {{4, 2}}), made_run("h2o", 16, {{4, 2}}),
                          made_run("h2o", 64, {{4, 2}}),   made_run("window", 64, {{4, 2}})};
    for (const std::size_t i : {1U, 2U, 4U, 5U}) runs[i].result.forgot_nothing = true;
    const std::string text = conclusions_of(runs, full);
    for (const char* line :
         {"\ntova: no k measured is within 1 % of full; k = 64, 256 forgot nothing and does not count.\n",
          "\nh2o: k = 16 is the smallest k measured within 1 % of full.\n",
          "\nwindow: forgot nothing at any k measured: k = 64.\n"}) {
        EXPECT_NE(text.find(line), std::string::npos) << text;
    }
}

TEST(Conclusions, SayWhereForgettingHelped) {
    const outcome full = made_run("full", 1, {{4, 2}, {4.4, 2}, {4.2, 2}}).result;
    std::vector<run> runs{made_run("tova", 64, {{4.01, 2}, {4.3, 2}, {4.2, 2}}),    // below full, but not by much
                          made_run("window", 64, {{3.6, 2}, {4.01, 2}, {3.8, 2}}),  // clearly below
                          made_run("h2o", 64, {{5, 2}, {5, 2}, {5, 2}})};
    const std::string text = conclusions_of(runs, full);
    EXPECT_NE(text.find("Forgetting helped"), std::string::npos) << text;
    EXPECT_NE(text.find("shows where: window, k = 64, f32:\n-17.99"), std::string::npos) << text;  // wrapped
    EXPECT_EQ(conclusions_of({runs[0], runs[2]}, full).find("Forgetting helped"), std::string::npos);
}

TEST(Conclusions, CodecsAreToldApart) {
    outcome full = made_run("full", 1, {{4, 2}}).result;
    full.bytes.cache_at_32k = 4'300'000'000;
    std::vector<run> runs{made_run("tova", 64, {{4, 2}}), made_run("h2o", 64, {{4, 2}}),
                          made_run("tova", 64, {{6, 2}})};
    runs[0].result.bytes.cache_at_32k = 67'400'000;
    runs[1].result.bytes.cache_at_32k = 70'000'000;
    runs[2].result.bytes.cache_at_32k = 9'400'000;
    runs[2].what.codec = "int8";
    const std::string text = conclusions_of(runs, full);
    EXPECT_NE(text.find("4.3 GB becomes 67 MB to 70 MB at k = 64 in f32, 9.4 MB at k = 64 in int8."), std::string::npos)
        << text;
    EXPECT_NE(text.find("\ntova in f32: k = 64 is the smallest"), std::string::npos) << text;
    EXPECT_NE(text.find("\ntova in int8: no k measured"), std::string::npos) << text;
}

TEST(Shared, IsAMatrix) {
    std::ostringstream out;
    demo::print_shared(out, std::vector<demo::shared_share>{{"window", "tova", 64, "f32", 0.5},
                                                            {"window", "h2o", 64, "f32", 0.25},
                                                            {"window", "tova", 8, "f32", 1}});
    EXPECT_EQ(
        out.str(),
        "\nStates kept at the end of a sequence by both policies, in percent of those kept by either, k = 64, f32\n"
        "        window    tova     h2o\n"
        "window   100.0    50.0    25.0\n"
        "tova      50.0   100.0       -\n"
        "h2o       25.0       -   100.0\n"
        "\nStates kept at the end of a sequence by both policies, in percent of those kept by either, k = 8, f32\n"
        "        window    tova\n"
        "window   100.0   100.0\n"
        "tova     100.0   100.0\n");
}

TEST(Comparison, PairsRunsBySequence) {
    const demo::results a =
        made::made_results({made_run("tova", 64, {{4, 2}, {6, 2}}), made_run("h2o", 8, {{4, 2}, {4, 2}})});
    const demo::results b =
        made::made_results({made_run("window", 64, {{4, 2}, {6, 2}}), made_run("tova", 64, {{4.2, 2}, {6.2, 2}})});
    std::ostringstream out;
    demo::print_comparison(out, {}, a, b);
    const std::string text = out.str();
    EXPECT_NE(text.find("tova       64    f32     12.182     13.464    10.52 ± 0.00"), std::string::npos) << text;
    EXPECT_NE(text.find("full      all    f32"), std::string::npos) << text;
    EXPECT_EQ(count(text, "h2o"), 0U);
    EXPECT_NE(text.find("Only in a: 1. Only in b: 1."), std::string::npos) << text;
    demo::results other = b;
    other.about.text_fingerprint = "another";
    EXPECT_THROW(demo::print_comparison(out, {}, a, other), std::runtime_error);
}

TEST(Grouped, Thousands) {
    EXPECT_EQ(demo::grouped(0), "0");
    EXPECT_EQ(demo::grouped(999), "999");
    EXPECT_EQ(demo::grouped(1000), "1,000");
    EXPECT_EQ(demo::grouped(23529), "23,529");
    EXPECT_EQ(demo::grouped(1234567890), "1,234,567,890");
}

TEST(HumanBytes, TwoDigitsOrMore) {
    EXPECT_EQ(demo::human_bytes(0), "0 B");
    EXPECT_EQ(demo::human_bytes(999), "999 B");
    EXPECT_EQ(demo::human_bytes(1000), "1.0 kB");
    EXPECT_EQ(demo::human_bytes(67'400'000), "67 MB");
    EXPECT_EQ(demo::human_bytes(9'960'000), "10 MB");
    EXPECT_EQ(demo::human_bytes(999'600), "1.0 MB");
    EXPECT_EQ(demo::human_bytes(4'300'000'000), "4.3 GB");
    EXPECT_EQ(demo::human_bytes(5'000'000'000'000'000), "5000 TB");
}

}  // namespace report_test
