// What "Transformers are Multi-State RNNs" (Oren et al., arXiv 2401.06104, version 2) published, what was measured here,
// and whether each claim holds here.
//
//     demo::paper_findings found;                             // filled by paper_session.cpp
//     for (const demo::claim& c : demo::perplexity_claims(found)) c.verdict, c.reason
//
// Models differ, so no perplexity is compared with a published one: ratios are, at the same share of the context. Every
// claim is one measure that must stay within bounds at each size. The paper says its claims in words; the bounds are
// ours. A value counts as inside, or as outside, only by more than two standard errors.
#pragma once

#include <array>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/evaluation/lifetimes.hpp>

#include "batch_throughput.hpp"
#include "measurement.hpp"
#include "tokenizer.hpp"

namespace demo {

/// Published k as parts of the context of 4096: 64 … 2048.
inline constexpr std::array<std::size_t, 6> paper_parts{64, 32, 16, 8, 4, 2};
/// Those of Table 1, on memory, and of Table 2, on retained states: 256 … 2048.
inline constexpr std::array<std::size_t, 4> paper_table_1_parts{16, 8, 4, 2};
inline constexpr std::size_t paper_context = 4096;

/// A row of Table 3: perplexities of LLaMA-2-7B on PG-19.
struct paper_policy {
    std::string_view spec;  ///< as --policy names it; "shorter_context" for the paper's Baseline
    std::string_view name;  ///< as the paper names it
    std::array<double, paper_parts.size()> perplexity;
    bool comparable = true;
};
inline constexpr double paper_full_perplexity = 7.16;
inline constexpr std::array<paper_policy, 10> paper_policies{{
    {"shorter_context", "Baseline", {17.65, 12.97, 10.39, 8.92, 8.04, 7.50}},
    {"window", "Window", {4812.27, 4025.01, 3275.58, 2184.62, 1001.29, 240.17}},
    {"window+1", "Window+1", {10.20, 8.97, 8.22, 7.76, 7.50, 7.33}},
    {"window+4", "Window+4", {10.28, 8.98, 8.19, 7.73, 7.46, 7.30}},
    {"h2o", "H2O-head", {10.22, 8.97, 8.21, 7.75, 7.49, 7.32}},
    // equal to Window+1 in all columns, probably by mistake
    {"h2o_layer", "H2O-layer", {10.20, 8.97, 8.22, 7.76, 7.50, 7.33}, false},
    {"tova_head", "TOVA-head", {11.13, 9.55, 8.69, 7.90, 7.52, 7.27}},
    {"tova", "TOVA-layer", {9.53, 8.32, 7.71, 7.41, 7.25, 7.17}},
    {"tova+1", "TOVA-layer+1", {9.53, 8.31, 7.71, 7.41, 7.25, 7.17}},
    {"tova+4", "TOVA-layer+4", {9.63, 8.33, 7.72, 7.41, 7.25, 7.17}},
}};
[[nodiscard]] std::size_t paper_row(std::string_view spec);

/// Table 1: a V100 that decodes sequences of 4096 tokens. Full takes 2.18 GB, in 16 bits; 8 of them fit.
struct paper_batch {
    double gigabytes;  ///< keys and values of one sequence
    double batch;
    double throughput;  ///< full is 1
};
inline constexpr paper_batch paper_full_batch{2.18, 8, 1};
inline constexpr std::array<paper_batch, paper_table_1_parts.size()> paper_batches{
    {{0.15, 139, 8.5}, {0.28, 70, 4.8}, {0.56, 35, 3.1}, {1.11, 17, 1.7}}};

/// Table 2: the mean number of steps that TOVA keeps a token, by tag. Those that can be told without a tagger: '',
/// ")" with all closing brackets, "." with all ends of sentences, \n.
inline constexpr std::array<std::string_view, 4> paper_classes{"closing quote", "closing bracket", "sentence end",
                                                               "newline"};
inline constexpr std::array<std::array<double, paper_table_1_parts.size()>, paper_classes.size()> paper_class_steps{
    {{845, 1101, 1413, 1774}, {379, 670, 1161, 1558}, {350, 645, 1117, 1677}, {303, 550, 969, 1538}}};
inline constexpr std::array<double, paper_table_1_parts.size()> paper_average_steps{249, 481, 897, 1537};
inline constexpr std::string_view paper_recent_share = "73 to 76";

/// The class of each token by the text of the tokens; paper_classes.size() for all others. A token with a quotation mark
/// that follows neither a space nor a line break closes a quotation, also as `,"`; apostrophes belong to no class.
[[nodiscard]] std::vector<std::size_t> paper_classes_of(std::span<const std::string> texts);
/// BOS stands for no text.
[[nodiscard]] std::vector<std::size_t> paper_classes_of(const tokenizer& words, std::span<const token> tokens);

/// The tokens of a class, and the mean of their steps.
struct class_steps {
    std::size_t tokens;
    ms::estimate steps;
};

/// What TOVA keeps at one k, over sequences of one length; shares in percent.
struct retention {
    std::size_t states;
    ms::estimate recent;            ///< of the states that survive a step: among the newest k positions
    double recent_at_random;        ///< the same for k states that are drawn at each step
    ms::estimate first_to_the_end;  ///< layers and sequences that hold the first token to the end
    ms::estimate first_held;        ///< of the steps that the first token could be held
    ms::estimate next_to_the_end;   ///< of the tokens at positions 1 to 4
    ms::estimate next_held;
    double all_to_the_end;  ///< of all tokens: about k / length
    double average_steps;
    std::array<class_steps, paper_classes.size()> classes;
};
[[nodiscard]] retention retention_of(std::span<const ms::lifetimes> lives,
                                     std::span<const std::vector<std::size_t>> classes, std::size_t states);

struct paper_findings {
    std::size_t length = 0;  ///< of the sequences
    std::optional<outcome> full;
    std::array<std::array<std::optional<outcome>, paper_parts.size()>, paper_policies.size()> rows;
    std::vector<batch_row> batches;  ///< full, then paper_table_1_parts; empty if not measured
    std::string no_batches;          ///< why not
    std::array<std::optional<retention>, paper_table_1_parts.size()> retained;
    std::string no_retention;

    [[nodiscard]] std::size_t states(std::size_t part) const { return length / part; }
};

/// Undecided: nowhere outside the bounds, but somewhere within the error of one.
enum class verdict { holds, does_not_hold, undecided, not_comparable };
[[nodiscard]] std::string_view text_of(verdict v);

/// "The measure is more than `low` and less than `high` at each size."
struct claim {
    std::string text;
    std::string measure;
    double low = -std::numeric_limits<double>::infinity();
    double high = std::numeric_limits<double>::infinity();
    std::vector<std::string> columns{};               ///< sizes as shares of the context, or policies
    std::vector<std::optional<ms::estimate>> here{};  ///< by column; none: not measured
    std::vector<double> paper{};                      ///< by column; NaN: not published
    std::string paper_text{};                         ///< instead of numbers by column
    int digits = 1;
    bool by_size = true;  ///< neighboring columns form ranges
    demo::verdict verdict = demo::verdict::not_comparable;
    std::string reason{};
};
/// Sets verdict and reason. A column that was not measured is passed over, and the reason says so.
void judge(claim& c);
/// "less than 0", "more than 70 and less than 80"
[[nodiscard]] std::string bounds_text(const claim& c);

[[nodiscard]] std::vector<claim> perplexity_claims(const paper_findings& found);
[[nodiscard]] std::vector<claim> batch_claims(const paper_findings& found);
[[nodiscard]] std::vector<claim> retention_claims(const paper_findings& found);

/// What the larger batch and the fewer states each add to the throughput, as steps with empty caches tell; no text if not
/// measured.
[[nodiscard]] std::string throughput_parts(const paper_findings& found);

/// What the paper says and this program cannot repeat, with the reason.
struct incomparable {
    std::string_view what;
    std::string_view reason;
};
[[nodiscard]] std::span<const incomparable> incomparables();

}  // namespace demo
