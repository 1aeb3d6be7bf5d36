#include <algorithm>
#include <cmath>
#include <iomanip>
#include <limits>
#include <sstream>
#include <type_traits>
#include <utility>

#include "report.hpp"
#include "text_table.hpp"

namespace demo {

namespace {

constexpr double not_known = std::numeric_limits<double>::quiet_NaN();

std::string megabytes(std::size_t bytes) { return fixed(static_cast<double>(bytes) * 1e-6, 2); }

/// As many digits as the number has.
std::string exact(double value) {
    if (std::isnan(value)) return "";
    std::ostringstream text;
    text << std::setprecision(std::numeric_limits<double>::max_digits10) << value;
    return text.str();
}

double of_fidelity(const run& r, double (*number)(const fidelity&)) {
    return r.result.fidelity ? number(*r.result.fidelity) : not_known;
}

/// In percent, above full: exp(mean difference) over the parts [first, last) of the text.
double above_full_in(const run& r, const outcome& full, std::size_t first, std::size_t last) {
    double sum = 0;
    std::size_t count = 0;
    const auto& measured = r.result.nll_by_position;
    for (std::size_t i = first; i < std::min({last, measured.size(), full.nll_by_position.size()}); ++i) {
        const double difference = measured[i] - full.nll_by_position[i];
        if (std::isnan(difference)) continue;
        sum += difference;
        ++count;
    }
    return count == 0 ? not_known : 100 * (std::exp(sum / static_cast<double>(count)) - 1);
}

using cell = std::function<std::string(const run&, const outcome&)>;

cell fidelity_cell(double (*number)(const fidelity&), double factor, int digits, const char* unit = "") {
    return [=](const run& r, const outcome&) {
        const double value = of_fidelity(r, number);
        return std::isnan(value) ? "-" : fixed(factor * value, digits) + unit;
    };
}

cell bytes_cell(std::size_t (*number)(const memory_use&)) {
    return [=](const run& r, const outcome&) { return megabytes(number(r.result.bytes)); };
}

cell quarter_cell(std::size_t quarter) {
    return [=](const run& r, const outcome& full) {
        constexpr std::size_t parts = position_parts / 4;
        return fixed(above_full_in(r, full, parts * quarter, parts * (quarter + 1)), 2);
    };
}

double kl_mean(const fidelity& f) { return f.kl.mean; }
double kl_median(const fidelity& f) { return f.kl.median; }
double kl_99(const fidelity& f) { return f.kl.percentile_99; }
double same_top(const fidelity& f) { return f.same_top; }
double probability_change(const fidelity& f) { return f.probability_change; }
std::size_t cache_of(const memory_use& m) { return m.cache; }
std::size_t rows_of(const memory_use& m) { return m.rows; }
std::size_t bookkeeping_of(const memory_use& m) { return m.bookkeeping(); }
std::size_t scratch_of(const memory_use& m) { return m.scratch; }

ms::estimate perplexity_of(const run& r) { return ms::perplexity(r.result.sequences); }

std::vector<column> group_columns(const std::string& group) {
    const cell above = [](const run& r, const outcome& full) { return with_error(compare(r.result, full), 2); };
    const cell speed = [](const run& r, const outcome&) {
        return grouped(static_cast<std::size_t>(tokens_per_second(r.result)));
    };
    if (group == "summary") {
        return {{"perplexity", 10, [](const run& r, const outcome&) { return fixed(r.result.perplexity(), 3); }},
                {"% above full", 14, above},
                {"KL", 6, fidelity_cell(kl_mean, 1, 4)},
                {"same top", 8, fidelity_cell(same_top, 100, 1, " %")},
                {"MB", 5, bytes_cell(cache_of)},
                {"tokens/s", 8, speed}};
    }
    if (group == "quality") {
        return {{"perplexity", 16, [](const run& r, const outcome&) { return with_error(perplexity_of(r), 3); }},
                {"% above full", 14, above}};
    }
    if (group == "fidelity") {
        return {{"KL", 7, fidelity_cell(kl_mean, 1, 4)},
                {"KL median", 9, fidelity_cell(kl_median, 1, 4)},
                {"KL 99 %", 7, fidelity_cell(kl_99, 1, 3)},
                {"same top", 8, fidelity_cell(same_top, 100, 1, " %")},
                {"change of p", 11, fidelity_cell(probability_change, 1, 5)}};
    }
    if (group == "position") {
        std::vector<column> quarters;
        for (std::size_t i = 0; i < 4; ++i) {
            quarters.push_back({"% in quarter " + std::to_string(i + 1), 14, quarter_cell(i)});
        }
        return quarters;
    }
    if (group == "memory") {
        return {{"cache MB", 8, bytes_cell(cache_of)},
                {"rows MB", 7, bytes_cell(rows_of)},
                {"bookkeeping MB", 14, bytes_cell(bookkeeping_of)},
                {"scratch MB", 10, bytes_cell(scratch_of)},
                {"bytes/state", 11, [](const run& r, const outcome&) { return std::to_string(r.result.bytes.state); }}};
    }
    return {{"tokens/s", 8, speed},
            {"seconds", 7, [](const run& r, const outcome&) { return fixed(r.result.seconds, 1); }}};
}

}  // namespace

std::vector<column> columns_of(std::span<const std::string> groups, bool several_codecs) {
    std::vector<column> all;
    if (several_codecs) all.push_back({"codec", 5, [](const run& r, const outcome&) { return r.what.codec; }});
    for (const std::string& group : groups) {
        for (column& each : group_columns(group)) {
            if (std::ranges::any_of(all, [&](const column& c) { return c.head == each.head; })) continue;
            each.compares = each.head.starts_with('%');
            all.push_back(std::move(each));
        }
    }
    return all;
}

std::vector<column> csv_columns() {
    std::vector<column> all{{"codec", 0, [](const run& r, const outcome&) { return r.what.codec; }}};
    const auto add = [&](const std::string& head, auto number) {
        all.push_back({head, 0, [=](const run& r, const outcome& full) {
                           if constexpr (std::is_invocable_v<decltype(number), const run&, const outcome&>) {
                               return exact(number(r, full));
                           } else {
                               return exact(static_cast<double>(number(r)));
                           }
                       }});
    };
    add("perplexity", [](const run& r) { return perplexity_of(r).value; });
    add("perplexity_error", [](const run& r) { return perplexity_of(r).error.value_or(not_known); });
    add("percent_above_full", [](const run& r, const outcome& full) { return compare(r.result, full).value; });
    add("percent_above_full_error",
        [](const run& r, const outcome& full) { return compare(r.result, full).error.value_or(not_known); });
    add("kl_mean", [](const run& r) { return of_fidelity(r, kl_mean); });
    add("kl_median", [](const run& r) { return of_fidelity(r, kl_median); });
    add("kl_99", [](const run& r) { return of_fidelity(r, kl_99); });
    add("same_top", [](const run& r) { return of_fidelity(r, same_top); });
    add("probability_change", [](const run& r) { return of_fidelity(r, probability_change); });
    for (std::size_t i = 0; i < 4; ++i) {
        add("percent_above_full_in_quarter_" + std::to_string(i + 1), [=](const run& r, const outcome& full) {
            return above_full_in(r, full, position_parts / 4 * i, position_parts / 4 * (i + 1));
        });
    }
    add("cache_bytes", [](const run& r) { return r.result.bytes.cache; });
    add("row_bytes", [](const run& r) { return r.result.bytes.rows; });
    add("bookkeeping_bytes", [](const run& r) { return r.result.bytes.bookkeeping(); });
    add("scratch_bytes", [](const run& r) { return r.result.bytes.scratch; });
    add("state_bytes", [](const run& r) { return r.result.bytes.state; });
    add("cache_bytes_at_32k", [](const run& r) { return r.result.bytes.cache_at_32k; });
    add("tokens_per_second", [](const run& r) { return tokens_per_second(r.result); });
    add("forgot_nothing", [](const run& r) { return r.result.forgot_nothing ? 1 : 0; });
    for (column& each : all) {
        each.compares = each.head.starts_with("percent");
        each.nothing = "";
    }
    return all;
}

}  // namespace demo
