#include "text_table.hpp"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <ostream>
#include <sstream>

#include "terminal.hpp"

namespace demo {

namespace {

std::string space_after(const std::string& text, std::size_t width) {
    const std::size_t shown = shown_width(text);
    return std::string(width > shown ? width - shown : 0, ' ');
}

std::string in_markdown(const std::string& text) {
    std::string escaped;
    for (const char c : text) {
        if (c == '|') escaped.push_back('\\');
        escaped.push_back(c);
    }
    return escaped;
}

std::string in_csv(const std::string& text) {
    if (text.find_first_of(",\"\n") == std::string::npos) return text;
    std::string quoted(1, '"');
    for (const char c : text) quoted.append(c == '"' ? 2 : 1, c);
    quoted.push_back('"');
    return quoted;
}

}  // namespace

std::string fixed(double value, int digits) {
    if (std::isnan(value)) return "-";
    std::ostringstream text;
    text << std::fixed << std::setprecision(digits) << value;
    return text.str();
}

std::string with_error(const ms::estimate& e, int digits) {
    if (std::abs(e.value) >= 1000) digits = 0;
    return fixed(e.value, digits) + (e.error ? " ± " + fixed(*e.error, digits) : "");
}

std::string aligned_left(const std::string& text, std::size_t width) { return text + space_after(text, width); }
std::string aligned_right(const std::string& text, std::size_t width) { return space_after(text, width) + text; }

text_table::text_table(std::ostream& out, table_format format, const std::vector<head>& heads)
    : out_(out), format_(format) {
    std::vector<std::string> texts;
    for (const head& h : heads) {
        widths_.push_back(std::max(h.width, shown_width(h.text)));
        texts.push_back(h.text);
    }
    row(texts);
    if (format_ != table_format::markdown) return;
    out_ << "| --- |";
    for (std::size_t i = 1; i < heads.size(); ++i) out_ << " ---: |";
    out_ << '\n';
}

void text_table::row(const std::vector<std::string>& cells) {
    std::string line;
    if (format_ == table_format::markdown) line.push_back('|');
    for (std::size_t i = 0; i < cells.size(); ++i) {
        switch (format_) {
            case table_format::text:
                line += i == 0 ? aligned_left(cells[i], widths_[i]) : aligned_right(" " + cells[i], widths_[i] + 2);
                break;
            case table_format::markdown:
                line.append(" ").append(in_markdown(cells[i])).append(" |");
                break;
            case table_format::csv:
                line.append(i == 0 ? "" : ",").append(in_csv(cells[i]));
                break;
        }
    }
    out_ << line << '\n' << std::flush;
}

}  // namespace demo
