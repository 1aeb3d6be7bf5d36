// A table as text, Markdown or CSV, a row at a time.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <string>
#include <vector>

#include "options.hpp"

namespace demo {

/// With so many digits after the point; "-" for NaN.
[[nodiscard]] std::string fixed(double value, int digits);
/// "8.50 ± 0.63"; without an error, the value alone. From 1,000 on without digits after the point.
[[nodiscard]] std::string with_error(const ms::estimate& e, int digits);
/// Filled with spaces to so many columns, at the end or at the beginning.
[[nodiscard]] std::string aligned_left(const std::string& text, std::size_t width);
[[nodiscard]] std::string aligned_right(const std::string& text, std::size_t width);

/// The first column is aligned left, the others right. Each row is written through at once.
class text_table {
  public:
    struct head {
        std::string text;
        std::size_t width = 0;  ///< at least that of the text
    };
    text_table(std::ostream& out, table_format format, const std::vector<head>& heads);

    void row(const std::vector<std::string>& cells);

  private:
    std::ostream& out_;
    table_format format_;
    std::vector<std::size_t> widths_;
};

}  // namespace demo
