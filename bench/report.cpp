#include "report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <vector>

#include "report_tables.hpp"

namespace bench {
namespace {

using row = std::vector<std::string>;

std::string number(double x, int decimals) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", decimals, x);
    return text;
}

std::string line(const row& cells) {
    std::string result = "|";
    for (const std::string& cell : cells) result.append(" ").append(cell).append(" |");
    return result.append("\n");
}

std::string whole_table(const row& headings, const std::vector<row>& rows) {
    std::string result = line(headings) + line(row(headings.size(), "-"));
    for (const row& r : rows) result += line(r);
    return result;
}

/// "a/b/c" as {"a", "b", "c"}; what is beyond `most` parts stays in the last.
row parts_of(const std::string& name, std::size_t most) {
    row parts;
    std::size_t begin = 0;
    for (std::size_t end; parts.size() + 1 < most && (end = name.find('/', begin)) != name.npos; begin = end + 1) {
        parts.push_back(name.substr(begin, end - begin));
    }
    parts.push_back(name.substr(begin));
    return parts;
}

std::string cell(const result& r, const column& c) {
    const auto found = r.counters.find(c.counter);
    return found == r.counters.end() ? "" : number(c.factor * found->second, c.decimals);
}

std::string plain_table(const family& f, std::span<const result* const> results) {
    row headings = f.parts;
    for (const column& c : f.columns) headings.push_back(c.heading);
    std::vector<row> rows;
    for (const result* r : results) {
        row cells = parts_of(r->name, f.parts.size() + 1);
        cells.erase(cells.begin());
        cells.resize(f.parts.size());
        for (const column& c : f.columns) cells.push_back(cell(*r, c));
        if (!r->error.empty()) cells[f.parts.size()] = "failed: " + r->error;
        rows.push_back(std::move(cells));
    }
    return whole_table(headings, rows);
}

/// The first part of the names goes across, with one counter for all.
std::string table_across(const family& f, std::span<const result* const> results) {
    row across, down;
    std::map<std::pair<std::string, std::string>, std::string> cells;
    const auto note = [](row& list, const std::string& item) {
        if (std::find(list.begin(), list.end(), item) == list.end()) list.push_back(item);
    };
    for (const result* r : results) {
        const row parts = parts_of(r->name, 3);
        if (parts.size() < 3) continue;
        note(across, parts[1]);
        note(down, parts[2]);
        cells[{parts[2], parts[1]}] = r->error.empty() ? cell(*r, f.columns.front()) : "failed: " + r->error;
    }
    row headings(f.parts.begin() + 1, f.parts.end());
    const std::size_t own = headings.size();
    headings.insert(headings.end(), across.begin(), across.end());
    std::vector<row> rows;
    for (const std::string& rest : down) {
        row r = parts_of(rest, own);
        r.resize(own);
        for (const std::string& c : across) r.push_back(cells[{rest, c}]);
        rows.push_back(std::move(r));
    }
    return whole_table(headings, rows);
}

std::string family_of(const std::string& name) { return name.substr(0, name.find('/')); }

/// Whatever a family that nobody described has measured.
family undescribed(const std::string& name, const result& first) {
    family f{.name = name, .title = name, .parts = {"benchmark"}, .columns = {}};
    for (const auto& [counter, value] : first.counters) f.columns.push_back({counter, counter, 1, 2});
    if (f.columns.empty()) f.columns.push_back({"", "", 1, 0});
    return f;
}

std::string section(const family& f, std::span<const result> results) {
    std::vector<const result*> own;
    for (const result& r : results) {
        if (family_of(r.name) == f.name) own.push_back(&r);
    }
    if (own.empty()) return "";
    std::string text = "\n### " + f.title + "\n\n";
    if (!f.note.empty()) text += f.note + "\n\n";
    return text + (f.first_part_across ? table_across(f, own) : plain_table(f, own));
}

/// Each goal beside the worst of the results that it is about.
std::string goals_table(std::span<const result> results) {
    std::vector<row> rows;
    for (const goal& g : goals()) {
        const result* worst = nullptr;
        double value = 0;
        for (const result& r : results) {
            const auto found = r.counters.find(g.counter);
            if (found == r.counters.end() || !std::regex_match(r.name, g.names)) continue;
            if (worst != nullptr && (g.at_least ? found->second >= value : found->second <= value)) continue;
            worst = &r;
            value = found->second;
        }
        if (worst == nullptr) continue;
        const bool reached = g.at_least ? value >= g.bound : value <= g.bound;
        rows.push_back({g.what, (g.at_least ? "at least " : "at most ") + number(g.bound, g.decimals),
                        number(value, g.decimals), worst->name, reached ? "yes" : "no"});
    }
    if (rows.empty()) return "";
    return "\n### Goals\n\n" + whole_table({"what", "goal", "worst measured", "where", "reached"}, rows);
}

std::string read(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    if (!in) throw std::runtime_error("cannot read " + file.string());
    return text;
}

/// Where the text between the markers begins and ends.
std::pair<std::size_t, std::size_t> between_markers(const std::filesystem::path& file, const std::string& text) {
    const std::size_t first = text.find(first_marker);
    const std::size_t last = text.find(last_marker);
    const bool once = first != text.npos && last != text.npos && first < last && text.rfind(first_marker) == first &&
                      text.rfind(last_marker) == last;
    if (!once) {
        throw std::runtime_error(file.string() + " must have the lines\n" + std::string(first_marker) + "\n" +
                                 std::string(last_marker) + "\nonce and in this order: the tables go between them");
    }
    return {first + first_marker.size(), last};
}

}  // namespace

std::string markdown(std::span<const result> results) {
    std::string text = goals_table(results);
    row described;
    for (const family& f : families()) {
        described.push_back(f.name);
        text += section(f, results);
    }
    for (const result& r : results) {
        const std::string name = family_of(r.name);
        if (std::find(described.begin(), described.end(), name) != described.end()) continue;
        described.push_back(name);
        text += section(undescribed(name, r), results);
    }
    return text;
}

void require_markers(const std::filesystem::path& file) { between_markers(file, read(file)); }

void write_between_markers(const std::filesystem::path& file, std::string_view text) {
    const std::string old = read(file);
    const auto [begin, end] = between_markers(file, old);
    const std::filesystem::path temporary = file.string() + ".new";
    std::ofstream out(temporary, std::ios::binary);
    out << std::string_view(old).substr(0, begin) << "\n\n" << text << "\n" << std::string_view(old).substr(end);
    out.close();
    if (!out) throw std::runtime_error("cannot write " + temporary.string());
    std::filesystem::rename(temporary, file);
}

}  // namespace bench
