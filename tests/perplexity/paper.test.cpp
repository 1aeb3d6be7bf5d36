// The paper's claims: each verdict comes out both ways, on numbers that nobody measured; what is measured for them, on
// small models and worked out by hand.
#include "paper.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "batch_throughput.hpp"
#include "engine/synthetic_gguf.hpp"
#include "paper_report.hpp"
#include "support/temporary_folder.hpp"
#include "terminal.hpp"

namespace paper_test {

namespace ms = multistate;
using demo::claim;
using demo::paper_findings;
using demo::paper_parts;
using demo::paper_policies;
using demo::paper_table_1_parts;
using demo::verdict;

/// An outcome of this perplexity in three sequences. They differ by a tenth, which comparisons take out, and by some
/// thousandths that depend on the row, which comparisons do not.
demo::outcome outcome_of(double perplexity, std::size_t row) {
    demo::outcome m;
    for (const double side : {-1.0, 0.0, 1.0}) {
        const double mean = std::log(perplexity) + side * (0.1 + 0.0005 * static_cast<double>(row % 5));
        m.sequences.push_back({1000 * mean, 1000});
    }
    return m;
}

/// What the paper measured.
paper_findings published() {
    paper_findings f;
    f.length = demo::paper_context;
    f.full = outcome_of(demo::paper_full_perplexity, 0);
    for (std::size_t row = 0; row < paper_policies.size(); ++row) {
        for (std::size_t i = 0; i < paper_parts.size(); ++i) {
            f.rows[row][i] = outcome_of(paper_policies[row].perplexity[i], row);
        }
    }
    const auto add = [&](const demo::paper_batch& b, std::size_t states) {
        const double seconds = b.batch / b.throughput;
        f.batches.push_back({.states = states,
                             .batch = static_cast<std::size_t>(b.batch),
                             .cache_bytes = static_cast<std::size_t>(b.gigabytes * 1e9),
                             .seconds = {0.99 * seconds, seconds, 1.01 * seconds},
                             .empty_seconds = {0.5 * seconds, 0.5 * seconds, 0.5 * seconds}});
    };
    add(demo::paper_full_batch, f.length);
    for (std::size_t i = 0; i < paper_table_1_parts.size(); ++i) {
        add(demo::paper_batches[i], f.states(paper_table_1_parts[i]));
        demo::retention r{.states = f.states(paper_table_1_parts[i]),
                          .recent = {75, 1.0},
                          .recent_at_random = 50,
                          .first_to_the_end = {100, 0.0},
                          .first_held = {100, 0.0},
                          .next_to_the_end = {0, 0.0},
                          .next_held = {10, 1.0},
                          .all_to_the_end = 100.0 / static_cast<double>(paper_table_1_parts[i]),
                          .average_steps = demo::paper_average_steps[i],
                          .classes = {}};
        for (std::size_t c = 0; c < demo::paper_classes.size(); ++c) {
            r.classes[c] = {100, {demo::paper_class_steps[c][i], 0.1}};
        }
        f.retained[i] = r;
    }
    return f;
}

std::vector<claim> all_claims(const paper_findings& f) {
    std::vector<claim> claims = demo::perplexity_claims(f);
    for (const auto& more : {demo::batch_claims(f), demo::retention_claims(f)}) {
        claims.insert(claims.end(), more.begin(), more.end());
    }
    return claims;
}

const claim& find(const std::vector<claim>& claims, const std::string& text) {
    const auto found = std::ranges::find(claims, text, &claim::text);
    if (found == claims.end()) throw std::runtime_error("no claim: " + text);
    return *found;
}

TEST(PaperClaims, HoldInThePaper) {
    for (const claim& c : all_claims(published())) {
        SCOPED_TRACE(c.text);
        EXPECT_EQ(c.verdict, verdict::holds) << c.reason;
        EXPECT_EQ(c.reason, "");
        ASSERT_EQ(c.here.size(), c.columns.size());
        for (std::size_t i = 0; i < c.paper.size(); ++i) {
            EXPECT_NEAR(c.here[i]->value, c.paper[i], 0.03 * std::abs(c.paper[i]) + 1e-6) << c.columns[i];
        }
        EXPECT_TRUE(c.paper_text.empty() == (c.paper.size() == c.columns.size()));
    }
}

/// Each claim fails with the opposite, and says where.
TEST(PaperClaims, DoNotHoldWithTheOpposite) {
    const auto set = [](paper_findings& f, const char* policy, std::size_t size, double perplexity) {
        f.rows[demo::paper_row(policy)][size] = outcome_of(perplexity, demo::paper_row(policy));
    };
    using change = std::function<void(paper_findings&)>;
    const std::map<std::string, std::pair<change, std::string>> cases{
        {"Without the first tokens a window collapses", {[&](auto& f) { set(f, "window", 2, 8.5); }, "not at 1/16"}},
        {"One sink is nearly as good as four", {[&](auto& f) { set(f, "window+1", 0, 10.5); }, "not at 1/64"}},
        {"TOVA is better than H2O", {[&](auto& f) { set(f, "h2o", 1, 8); }, "not at 1/32"}},
        {"TOVA is better than a window with sinks", {[&](auto& f) { set(f, "window+4", 5, 7.1); }, "not at 1/2"}},
        {"TOVA is better per layer than per head", {[&](auto& f) { set(f, "tova_head", 4, 7.2); }, "not at 1/4"}},
        {"A sink improves TOVA by less than 1 %", {[&](auto& f) { set(f, "tova+1", 0, 9.2); }, "not at 1/64"}},
        {"Four sinks improve TOVA by less than 1 %", {[&](auto& f) { set(f, "tova+4", 3, 7.2); }, "not at 1/8"}},
        {"TOVA with 1/8 of the states is within 5.6 % of full",
         {[&](auto& f) { set(f, "tova", 3, 7.6); }, "not at 1/8"}},
        {"No other policy comes so close with less than 1/2 of the states",
         {[&](auto& f) { set(f, "h2o", 4, 7.3); }, "not for h2o"}},
        {"A shorter context is worse than every policy but a window without sinks",
         {[&](auto& f) { set(f, "shorter_context", 0, 11); }, "not at 1/64"}},
        {"The memory of a sequence falls in proportion to k",
         {[](auto& f) { f.batches[2].cache_bytes *= 2; }, "not at 1/8"}},
        {"In the same memory, the fewer states the more tokens per second",
         {[](auto& f) {
              f.batches[1].seconds = {50, 50, 50};
          },
          "not at 1/16"}},
        {"A step of the larger batch takes longer than one of full",
         {[](auto& f) {
              f.batches[4].seconds = {7, 7, 7};
          },
          "not at 1/2"}},
        {"Less than 80 % of the kept states are recent",
         {[](auto& f) { f.retained[0]->recent.value = 90; }, "not at 1/16"}},
        {"The first token is kept to the end",
         {[](auto& f) { f.retained[3]->first_to_the_end.value = 80; }, "not at 1/2"}},
        {"Positions 1 to 4 are kept to the end less often than the average token",
         {[](auto& f) { f.retained[3]->next_to_the_end.value = 80; }, "not at 1/2"}},
        {"TOVA keeps a closing quote longer than the average token",
         {[](auto& f) { f.retained[1]->classes[0].steps.value = 300; }, "not at 1/8"}},
        {"TOVA keeps a closing bracket longer than the average token",
         {[](auto& f) { f.retained[1]->classes[1].steps.value = 300; }, "not at 1/8"}},
        {"TOVA keeps a sentence end longer than the average token",
         {[](auto& f) { f.retained[1]->classes[2].steps.value = 300; }, "not at 1/8"}},
        {"TOVA keeps a newline longer than the average token",
         {[](auto& f) { f.retained[1]->classes[3].steps.value = 300; }, "not at 1/8"}}};
    EXPECT_EQ(all_claims(published()).size(), cases.size());
    for (const auto& [text, expected] : cases) {
        SCOPED_TRACE(text);
        paper_findings f = published();
        expected.first(f);
        const auto claims = all_claims(f);
        const claim& c = find(claims, text);
        EXPECT_EQ(c.verdict, verdict::does_not_hold);
        EXPECT_TRUE(c.reason.ends_with(expected.second)) << c.reason;
        EXPECT_EQ(c.reason.starts_with(c.by_size ? "holds at " : "holds for "), c.columns.size() > 1) << c.reason;
    }
}

/// A difference of half a thousandth is less than the sequences differ by.
TEST(PaperClaims, NothingIsDecidedNearABound) {
    paper_findings f = published();
    const std::size_t h2o = demo::paper_row("h2o"), tova = demo::paper_row("tova");
    f.rows[h2o][1] = outcome_of(1.0005 * paper_policies[tova].perplexity[1], h2o);
    const auto claims = all_claims(f);
    const claim& c = find(claims, "TOVA is better than H2O");
    EXPECT_EQ(c.verdict, verdict::undecided);
    EXPECT_EQ(c.reason, "holds at 1/64, 1/16 to 1/2; within the error at 1/32");
    std::ostringstream out;
    demo::print_summary(out, {demo::table_format::text, 88}, claims);
    EXPECT_NE(out.str().find("\nundecided           TOVA is better than H2O (holds at"), std::string::npos)
        << out.str();
    EXPECT_NE(out.str().find("Of 20 claims, 19 hold and 0 do not hold here; undecided: 1, not comparable: 0."),
              std::string::npos)
        << out.str();
}

/// The policy that is nearest with its error counts, not the one with the smallest value.
TEST(PaperClaims, TheShorterContextIsComparedWithWhatItCanBeToldFromLeast) {
    paper_findings f = published();
    const std::size_t h2o = demo::paper_row("h2o");
    f.rows[h2o][0] = outcome_of(10, h2o);
    f.rows[h2o][0]->sequences[0].nll -= 500;  // another sequence is as much worse, so the mean stays
    f.rows[h2o][0]->sequences[2].nll += 500;
    const auto claims = all_claims(f);
    const claim& c = find(claims, "A shorter context is worse than every policy but a window without sinks");
    EXPECT_EQ(c.verdict, verdict::undecided);
    EXPECT_EQ(c.reason, "holds at 1/32 to 1/2; within the error at 1/64");
}

claim judged(std::vector<std::optional<ms::estimate>> here) {
    claim c{.text = "less", .measure = "a number", .low = 0, .high = 10, .columns = {"a", "b", "c"}};
    c.here = std::move(here);
    demo::judge(c);
    return c;
}

TEST(PaperClaims, TwoStandardErrorsDecide) {
    const auto expect = [](const claim& c, verdict mark, const std::string& reason) {
        EXPECT_EQ(c.verdict, mark) << reason;
        EXPECT_EQ(c.reason, reason);
    };
    expect(judged({{{5, 1.0}}, {{2.1, 1.0}}, {{7.9, 1.0}}}), verdict::holds, "");
    expect(judged({{{5, 1.0}}, {{1.9, 1.0}}, {{7.9, 1.0}}}), verdict::undecided,
           "holds at a, c; within the error at b");
    expect(judged({{{5, 1.0}}, {{-1.9, 1.0}}, {{12.1, 1.0}}}), verdict::does_not_hold,
           "holds at a; not at c; within the error at b");
    expect(judged({{{1, 1.0}}, {{0, 1.0}}, {{-1, 1.0}}}), verdict::undecided, "within the error at all of them");
    expect(judged({{{-5, 1.0}}, {{-5, 1.0}}, {{-5, 1.0}}}), verdict::does_not_hold, "not at any of them");
    expect(judged({{{5, 0.0}}, {}, {{5, 0.0}}}), verdict::holds, "measured at a, c only");
    expect(judged({{{5}}, {{5}}, {{5}}}), verdict::not_comparable, "no standard error, which takes two sequences");
    expect(judged({{}, {}, {}}), verdict::not_comparable, "not measured");
}

TEST(PaperClaims, OneSequenceDecidesNothing) {
    paper_findings f = published();
    f.full->sequences.resize(1);
    for (auto& row : f.rows) {
        for (auto& m : row) m->sequences.resize(1);
    }
    for (const claim& c : demo::perplexity_claims(f)) EXPECT_EQ(c.verdict, verdict::not_comparable) << c.text;
}

TEST(PaperClaims, WhatWasNotMeasuredIsSaid) {
    paper_findings f;
    f.no_batches = "cells serve some heads of this model";
    for (const claim& c : demo::perplexity_claims(f)) EXPECT_EQ(c.reason, "not measured") << c.text;
    for (const claim& c : demo::batch_claims(f)) EXPECT_EQ(c.reason, f.no_batches) << c.text;
    EXPECT_EQ(demo::throughput_parts(f), "");
    f = published();
    for (auto& r : f.retained) r->classes[1] = {0, {std::numeric_limits<double>::quiet_NaN()}};
    const auto claims = demo::retention_claims(f);
    EXPECT_EQ(find(claims, "TOVA keeps a closing bracket longer than the average token").reason,
              "the sequences of the whole length have none");
}

TEST(PaperClaims, TheLimitOfTheThroughputIsComputed) {
    const std::string text = demo::throughput_parts(published());
    EXPECT_NE(text.find("of full 50 ± 1 %, at 1/16 50 ± 1 %"), std::string::npos) << text;
    EXPECT_NE(text.find("the larger batch alone would give 1.79 ± 0.01 times"), std::string::npos) << text;
    EXPECT_NE(text.find("a batch of 139 would reach 17.00"), std::string::npos) << text;
    paper_findings f = published();
    for (demo::batch_row& row : f.batches) row.empty_seconds = row.seconds;
    EXPECT_NE(demo::throughput_parts(f).find("of full too little to measure"), std::string::npos);
}

TEST(PaperReport, EveryNumberStandsBesideThePublishedOne) {
    const paper_findings f = published();
    const auto claims = all_claims(f);
    for (const auto format : {demo::table_format::text, demo::table_format::markdown}) {
        std::ostringstream out;
        const demo::paper_style style{format, 88};
        demo::print_above_full(out, style, f);
        demo::print_batches(out, style, f);
        demo::print_retention(out, style, f);
        demo::print_claims(out, style, claims);
        demo::print_summary(out, style, claims);
        EXPECT_NE(out.str().find("Of 20 claims, 20 hold and 0 do not hold here; undecided: 0, not comparable: 0."),
                  std::string::npos)
            << out.str();
        if (format == demo::table_format::markdown) continue;
        EXPECT_NE(
            out.str().find("\ntova             33.1 ± 0.1  16.2 ± 0.1   7.7 ± 0.1   3.5 ± 0.1   1.3 ± 0.1   "
                           "0.1 ± 0.1\n  paper                33.1        16.2         7.7         3.5         1.3"
                           "         0.1\n"),
            std::string::npos)
            << out.str();
        EXPECT_NE(out.str().find("\n  here     75.0 ± 1.0   75.0 ± 1.0   75.0 ± 1.0   75.0 ± 1.0\n  paper: 73 to 76 "
                                 "percent\n\n"),
                  std::string::npos)
            << out.str();
        std::istringstream lines(out.str());
        for (std::string line; std::getline(lines, line);) EXPECT_LE(demo::shown_width(line), 88U) << line;
    }
}

TEST(PaperReport, ANumberThatRoundsToZeroHasNoSign) {
    paper_findings f = published();
    f.rows[demo::paper_row("tova")][5] = outcome_of(demo::paper_full_perplexity * 0.9999, demo::paper_row("tova"));
    std::ostringstream out;
    demo::print_above_full(out, {demo::table_format::text, 88}, f);
    EXPECT_NE(out.str().find("  0.0 ± 0.1\n"), std::string::npos) << out.str();
    EXPECT_EQ(out.str().find("-0.0"), std::string::npos) << out.str();
}

TEST(PaperClasses, AreToldByTheText) {
    const std::vector<std::string> texts{"\"", "\"", "Yes", "\"", ".",  " \"",   " No", ",\"", " (", "a",
                                         ")",  ".",  "\n",  "\"", "Oh", "!\"\n", "’",   "”",   " .", " "};
    const std::size_t none = demo::paper_classes.size();
    EXPECT_EQ(demo::paper_classes_of(texts),
              (std::vector<std::size_t>{none, 0, none, 0,    2,    none, none, 0, none, none,
                                        1,    2, 3,    none, none, 0,    none, 0, 2,    none}));
}

TEST(PaperClasses, AllClosingBracketsAndEndsOfSentencesCount) {
    const std::vector<std::string> texts{"", ")", " ]", "}", "(", "?", "!", ",", "\n"};
    EXPECT_EQ(demo::paper_classes_of(texts), (std::vector<std::size_t>{4, 1, 1, 1, 4, 2, 2, 4, 3}));
}

/// The spelling of BOS is no text that a quotation mark could close.
TEST(PaperClasses, NoQuotationIsClosedAfterBos) {
    demo::vocabulary spelled;
    spelled.model = "llama";
    spelled.tokens = {"<unk>", "<s>", "</s>", "\"", "a"};
    spelled.scores = {0, 0, 0, 0, 0};
    spelled.types = {2, 3, 3, 1, 1};
    const demo::tokenizer words(spelled);
    ASSERT_EQ(words.bos(), 1);
    const std::vector<demo::token> after_bos{1, 3, 4, 3};
    EXPECT_EQ(demo::paper_classes_of(words, after_bos), (std::vector<std::size_t>{4, 4, 4, 0}));
}

/// Two sequences of eight tokens, k = 2, one layer: what survives is the first token and the newest, or the newest two.
TEST(PaperRetention, IsWorkedOutByHand) {
    ms::lifetimes first({.layers = 1, .kv_heads = 1, .tokens = 8}), window = first;
    for (const ms::position j : {1, 2, 3, 4, 5}) {
        first.forget({.layer = 0, .kv_head = 0, .position = j, .step = j + 1});
    }
    for (const ms::position j : {0, 1, 2, 3, 4}) {
        window.forget({.layer = 0, .kv_head = 0, .position = j, .step = j + 2});
    }
    const std::vector<ms::lifetimes> lives{first, window};
    const std::size_t none = demo::paper_classes.size();
    std::vector<std::size_t> some(8, none), others(8, none);
    some[3] = 2;
    others[3] = 2;
    others[4] = 2;
    const auto r = demo::retention_of(lives, std::vector{some, others}, 2);
    EXPECT_EQ(r.states, 2U);
    EXPECT_DOUBLE_EQ(r.recent.value, 75);  // half of the survivors, and all
    EXPECT_DOUBLE_EQ(*r.recent.error, 25);
    EXPECT_DOUBLE_EQ(r.first_to_the_end.value, 50);
    EXPECT_DOUBLE_EQ(r.first_held.value, 100 * (8.0 / 8 + 3.0 / 8) / 2);
    EXPECT_DOUBLE_EQ(r.next_to_the_end.value, 0);
    EXPECT_DOUBLE_EQ(r.next_held.value, 100 * (2.0 + 3.0) * (1.0 / 7 + 1.0 / 6 + 1.0 / 5 + 1.0 / 4) / 8);
    EXPECT_DOUBLE_EQ(r.all_to_the_end, 100 * (3.0 + 3.0) / 16);
    EXPECT_DOUBLE_EQ(r.recent_at_random, 100 * (2.0 / 3 + 2.0 / 4 + 2.0 / 5 + 2.0 / 6 + 2.0 / 7) / 5);
    EXPECT_DOUBLE_EQ(r.average_steps, ((8 + 5 * 2 + 2 + 1) + (6 * 3 + 2 + 1)) / 16.0);
    EXPECT_EQ(r.classes[2].tokens, 3U);
    EXPECT_DOUBLE_EQ(r.classes[2].steps.value, (2 + 3 + 3) / 3.0);
    ASSERT_TRUE(r.classes[2].steps.error);
    EXPECT_GT(*r.classes[2].steps.error, 0);
    EXPECT_EQ(r.classes[0].tokens, 0U);
    // A class that only one sequence has gets no error.
    EXPECT_FALSE(
        demo::retention_of(lives, std::vector{std::vector<std::size_t>(8, none), others}, 2).classes[2].steps.error);
}

/// 6 of 7 layers, 23 times: the sum is rounded, and yet there is no error.
TEST(PaperRetention, EqualSequencesHaveNoError) {
    ms::lifetimes one({.layers = 7, .kv_heads = 1, .tokens = 8});
    one.forget({.layer = 3, .kv_head = 0, .position = 0, .step = 4});
    const std::vector<ms::lifetimes> lives(23, one);
    const std::vector classes(23, std::vector<std::size_t>(8, demo::paper_classes.size()));
    const auto r = demo::retention_of(lives, classes, 4);
    EXPECT_NEAR(r.first_to_the_end.value, 600.0 / 7, 1e-9);
    EXPECT_EQ(r.first_to_the_end.error, 0.0);
}

/// The published averages are those of any policy that keeps k states: of 4096 tokens, each step t is attended by
/// min(t + 1, k + 1). So a class is compared with the average, and the average with nothing.
TEST(PaperRetention, TheAverageDependsOnTheSizesAlone) {
    for (std::size_t i = 0; i < paper_table_1_parts.size(); ++i) {
        const std::size_t k = demo::paper_context / paper_table_1_parts[i];
        double steps = 0;
        for (std::size_t t = 0; t < demo::paper_context; ++t) steps += static_cast<double>(std::min(t, k) + 1);
        EXPECT_EQ(std::round(steps / static_cast<double>(demo::paper_context)), demo::paper_average_steps[i]);
    }
}

TEST(BatchThroughput, AMedianHasAnErrorThatOutliersDoNotMove) {
    EXPECT_EQ(demo::median_of({3, 1, 2}).value, 2);
    EXPECT_EQ(demo::median_of({4, 1, 2, 3}).value, 2.5);
    EXPECT_FALSE(demo::median_of({1}).error);
    const auto calm = demo::median_of({1, 2, 3, 4, 5}), disturbed = demo::median_of({1, 2, 3, 4, 500});
    EXPECT_EQ(calm.value, disturbed.value);
    EXPECT_EQ(calm.error, disturbed.error);
    EXPECT_NEAR(*calm.error, 1.2533 * 1.4826 / std::sqrt(5), 1e-4);
}

/// 20 sequences where full decodes 10, each with half of full's work on its cache: 20 / (3 + 2 * 4) against 10 / 6 if
/// only the batch were larger, 10 / (2 + 4 / 2) if only the caches were smaller.
TEST(BatchThroughput, WhatTheBatchAndTheStatesGainAlone) {
    const demo::batch_row full{
        .states = 100, .batch = 10, .cache_bytes = 2, .seconds = {6, 6}, .empty_seconds = {2, 2}};
    const demo::batch_row row{.states = 50, .batch = 20, .cache_bytes = 1, .seconds = {7, 7}, .empty_seconds = {3, 3}};
    EXPECT_DOUBLE_EQ(demo::throughput_by_batch(row, full).value, 20.0 / 11 / (10.0 / 6));
    EXPECT_DOUBLE_EQ(demo::throughput_by_states(row, full).value, 6.0 / 4);
    EXPECT_DOUBLE_EQ(demo::throughput_by_batch(full, full).value, 1);
    EXPECT_DOUBLE_EQ(demo::throughput_by_states(full, full).value, 1);
}

class Batches : public testing::Test {
  protected:
    Batches() { demo::write_synthetic_llama(folder_ / "model.gguf", {}); }

    demo::sequence text(std::size_t tokens) const {
        demo::random_numbers random(5);
        demo::sequence made(tokens);
        for (auto& each : made) each = static_cast<demo::token>(random.below(512));
        return made;
    }

    demo::temporary_folder folder_;
};

TEST_F(Batches, AsManyCachesAsFitInTheMemoryOfTheFullOnes) {
    const demo::gguf file(folder_ / "model.gguf");
    ms::thread_pool pool(2);
    demo::llama model(file, pool);
    const demo::batch_plan plan{.states = {16, 32}, .full_batch = 3, .turns = 2};
    std::size_t steps = 0;
    const auto rows =
        demo::measure_batches(model, text(64), plan, {.progress = [&](std::size_t n) { steps += n; }, .stop = {}});
    ASSERT_EQ(rows.size(), 3U);
    EXPECT_EQ(steps, demo::steps_of(plan));
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const std::size_t states = i == 0 ? 64 : plan.states[i - 1];
        EXPECT_EQ(rows[i].states, states);
        const ms::cache<ms::tova> same(model.cache_shape(states, 1));
        EXPECT_NEAR(static_cast<double>(rows[i].cache_bytes), static_cast<double>(same.memory_bytes()),
                    0.02 * static_cast<double>(same.memory_bytes()));
        EXPECT_EQ(rows[i].batch, 3 * rows[0].cache_bytes / rows[i].cache_bytes);
        EXPECT_EQ(rows[i].seconds.size(), 2U);
        EXPECT_EQ(rows[i].empty_seconds.size(), 2U);
        EXPECT_GT(rows[i].step_seconds(), 0);
        EXPECT_DOUBLE_EQ(rows[i].tokens_per_second(), static_cast<double>(rows[i].batch) / rows[i].step_seconds());
    }
    EXPECT_EQ(rows[0].batch, 3U);
    EXPECT_EQ(demo::relative_throughput(rows[0], rows[0]).value, 1);
}

TEST_F(Batches, AStopKeepsCompleteTurnsOnly) {
    const demo::gguf file(folder_ / "model.gguf");
    ms::thread_pool pool(1);
    demo::llama model(file, pool);
    const demo::batch_plan plan{.states = {16}, .full_batch = 2, .turns = 3};
    const std::size_t turn = demo::steps_of(plan) / plan.turns;
    for (const auto& [after, complete] : {std::pair<std::size_t, std::size_t>{turn - 1, 0}, {turn + 1, 1}}) {
        std::size_t steps = 0;
        const auto rows = demo::measure_batches(
            model, text(64), plan,
            {.progress = [&](std::size_t n) { steps += n; }, .stop = [&, limit = after] { return steps >= limit; }});
        ASSERT_EQ(rows.size(), 2U);
        for (const auto& row : rows) EXPECT_EQ(row.seconds.size(), complete);
    }
    EXPECT_TRUE(demo::measure_batches(model, text(64), plan, {.progress = {}, .stop = [] { return true; }}).empty());
}

TEST_F(Batches, RefusesATextThatIsTooShort) {
    const demo::gguf file(folder_ / "model.gguf");
    ms::thread_pool pool(1);
    demo::llama model(file, pool);
    EXPECT_THROW((void)demo::measure_batches(model, text(63), {.states = {16}}, {}), std::runtime_error);
}

}  // namespace paper_test
