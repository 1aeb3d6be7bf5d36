// The results for people: one table, a row for each policy, k and codec.
//
//     demo::result_table table(std::cout, style, full, widest_policy);
//     table.add(run);                                         // printed at once, unless rows are to be sorted
//     table.finish();
//     demo::print_conclusions(std::cout, results);            // budgets, memory, the smallest k within 1 % of full
#pragma once

#include <cstddef>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "results.hpp"
#include "text_table.hpp"

namespace demo {

/// One column. A cell of the text and of the CSV is made of a run and of the full cache.
struct column {
    std::string head;
    std::size_t width;
    std::function<std::string(const run& r, const outcome& full)> cell;
    bool compares = false;      ///< with full: says nothing of full itself
    std::string nothing = "-";  ///< what stands there instead
};

/// The columns of these groups after policy, k and codec, in the form of tables, or all as numbers for CSV. The codec
/// has a column if there are several.
[[nodiscard]] std::vector<column> columns_of(std::span<const std::string> groups, bool several_codecs);
[[nodiscard]] std::vector<column> csv_columns();

class result_table {
  public:
    /// Prints the head, and the row of the full cache. `full` must live as long.
    struct layout {
        table_format format;
        std::vector<column> columns;
        std::string sort = {};         ///< empty: in the order in which they come
        std::size_t policy_width = 0;  ///< of the longest policy that will come
    };
    result_table(std::ostream& out, layout how, const outcome& full);

    void add(const run& r);
    /// Prints what was kept to be sorted.
    void finish();

  private:
    void print_row(const run& r);

    layout how_;
    const outcome& full_;
    text_table lines_;
    std::vector<run> kept_;
};

/// What stands below the table: the error of full, what forgot nothing, each layer's budget, what a long context takes,
/// and for each policy the smallest k within 1 % of full that forgot something.
void print_conclusions(std::ostream& out, std::span<const run> runs, const outcome& full, std::size_t columns);

/// A matrix of policies by policies for each k and codec.
void print_shared(std::ostream& out, std::span<const shared_share> shared);

/// Two results of the same tokens, beside each other. Throws std::runtime_error if their tokens differ.
void print_comparison(std::ostream& out, const options& o, const results& a, const results& b);

[[nodiscard]] double tokens_per_second(const outcome& m);

/// 12345 as "12,345".
[[nodiscard]] std::string grouped(std::size_t n);

/// Two significant digits or more: "67 MB", "4.3 GB".
[[nodiscard]] std::string human_bytes(std::size_t n);

}  // namespace demo
