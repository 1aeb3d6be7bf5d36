// The paper's tables and claims beside what was measured here, for people and as JSON.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "paper.hpp"
#include "results.hpp"
#include "text_table.hpp"

namespace demo {

/// How the tables are printed.
struct paper_style {
    table_format format;  ///< text or markdown
    std::size_t columns;  ///< of the terminal, for paragraphs
};

/// Table 3 as the paper prints it, one row at a time: perplexities here.
class paper_perplexities {
  public:
    paper_perplexities(std::ostream& out, const paper_style& style, const paper_findings& found);
    /// The row of paper_policies[row]; "-" where nothing was measured.
    void add(std::size_t row);

  private:
    const paper_findings& found_;
    text_table lines_;
};

void print_above_full(std::ostream& out, const paper_style& style, const paper_findings& found);
void print_batches(std::ostream& out, const paper_style& style, const paper_findings& found);
void print_retention(std::ostream& out, const paper_style& style, const paper_findings& found);
void print_claims(std::ostream& out, const paper_style& style, std::span<const claim> claims);
/// What cannot be compared, and the verdicts.
void print_summary(std::ostream& out, const paper_style& style, std::span<const claim> claims);
void print_paragraph(std::ostream& out, const paper_style& style, const std::string& text);
void print_heading(std::ostream& out, const paper_style& style, const std::string& text);

void write_paper_json(std::ostream& out, const provenance& about, const paper_findings& found,
                      std::span<const claim> claims, bool complete);

}  // namespace demo
