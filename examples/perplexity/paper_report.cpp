#include "paper_report.hpp"

#include <algorithm>
#include <cmath>
#include <ostream>

#include <nlohmann/json.hpp>

#include "report.hpp"
#include "terminal.hpp"

namespace demo {

namespace {

using json = nlohmann::ordered_json;

constexpr std::size_t name_width = 15;
constexpr std::size_t cell_width = 10;
constexpr std::size_t claim_name_width = 8, claim_cell_width = 11;

/// Three or more digits need none after the point. No "-0.0".
std::string short_number(double value, int digits) {
    const int shown = std::abs(value) >= 100 ? 0 : digits;
    return fixed(std::abs(value) < 0.5 * std::pow(10, -shown) ? 0 : value, shown);
}
/// With fewer digits if so many make it wider than a cell.
std::string short_estimate(const std::optional<ms::estimate>& e, int digits, std::size_t width = cell_width) {
    if (!e) return "-";
    if (!e->error || *e->error == 0) return short_number(e->value, digits);
    const std::string text =
        short_number(e->value, digits) + " ± " + fixed(*e->error, std::abs(e->value) >= 100 ? 0 : digits);
    return shown_width(text) > width && digits > 0 ? short_estimate(e, digits - 1, width) : text;
}

std::vector<text_table::head> heads_of(const std::string& first, std::span<const std::string> others,
                                       std::size_t width = cell_width) {
    std::vector<text_table::head> heads{{first, name_width}};
    for (const std::string& other : others) heads.push_back({other, width});
    return heads;
}

std::vector<std::string> shares(std::span<const std::size_t> parts) {
    std::vector<std::string> texts;
    for (const std::size_t part : parts) texts.push_back("1/" + std::to_string(part));
    return texts;
}

/// "k here" and "k in the paper".
void add_sizes(text_table& table, const paper_findings& f, std::span<const std::size_t> parts) {
    std::vector<std::string> here{"k here"}, paper{"k in the paper"};
    for (const std::size_t part : parts) {
        here.push_back(std::to_string(f.states(part)));
        paper.push_back(std::to_string(paper_context / part));
    }
    table.row(here);
    table.row(paper);
}

/// JSON has no NaN.
json number(double x) { return std::isfinite(x) ? json(x) : json(); }
json number(const std::optional<double>& x) { return x ? number(*x) : json(); }
json describe(const ms::estimate& e) { return {{"value", number(e.value)}, {"error", number(e.error)}}; }
json describe(const std::optional<ms::estimate>& e) { return e ? describe(*e) : json(); }

json describe(const claim& c) {
    json here = json::array(), paper = json::array();
    for (const auto& e : c.here) here.push_back(describe(e));
    for (const double x : c.paper) paper.push_back(number(x));
    return {{"claim", c.text},
            {"measure", c.measure},
            {"more_than", number(c.low)},
            {"less_than", number(c.high)},
            {"columns", c.columns},
            {"here", here},
            {"paper", c.paper_text.empty() ? paper : json(c.paper_text)},
            {"verdict", text_of(c.verdict)},
            {"reason", c.reason}};
}

json describe_perplexities(const paper_findings& f) {
    json list = json::array();
    for (std::size_t row = 0; row < paper_policies.size(); ++row) {
        const paper_policy& policy = paper_policies[row];
        for (std::size_t i = 0; i < paper_parts.size(); ++i) {
            const auto& m = f.rows[row][i];
            json one{{"policy", policy.spec}, {"states", f.states(paper_parts[i])}, {"part", paper_parts[i]}};
            one["ppl"] = m ? number(m->perplexity()) : json();
            one["ppl_error"] = m ? number(m->standard_error()) : json();
            one["percent_above_full"] = m ? describe(compare(*m, *f.full)) : json();
            one["paper_name"] = policy.name;
            one["paper_ppl"] = policy.perplexity[i];
            one["paper_percent_above_full"] = 100 * (policy.perplexity[i] / paper_full_perplexity - 1);
            one["comparable"] = policy.comparable;
            list.push_back(one);
        }
    }
    return list;
}

json describe_batches(const paper_findings& f) {
    json list = json::array();
    for (std::size_t i = 0; i < f.batches.size(); ++i) {
        const batch_row& row = f.batches[i];
        const paper_batch& paper = i == 0 ? paper_full_batch : paper_batches[i - 1];
        json one{{"states", row.states}, {"batch", row.batch}, {"cache_bytes", row.cache_bytes}};
        if (!row.seconds.empty()) {
            one["step_seconds"] = row.step_seconds();
            one["step_seconds_by_turn"] = row.seconds;
            one["empty_step_seconds_by_turn"] = row.empty_seconds;
            one["tokens_per_second"] = row.tokens_per_second();
            one["relative_throughput"] = describe(relative_throughput(row, f.batches.front()));
        }
        one["paper_gigabytes"] = paper.gigabytes;
        one["paper_batch"] = paper.batch;
        one["paper_relative_throughput"] = paper.throughput;
        list.push_back(one);
    }
    return list;
}

json describe_retention(const paper_findings& f) {
    json list = json::array();
    for (std::size_t i = 0; i < f.retained.size(); ++i) {
        if (!f.retained[i]) continue;
        const retention& r = *f.retained[i];
        json classes = json::array();
        for (std::size_t c = 0; c < paper_classes.size(); ++c) {
            classes.push_back({{"class", paper_classes[c]},
                               {"tokens", r.classes[c].tokens},
                               {"mean_steps", describe(r.classes[c].steps)},
                               {"paper_mean_steps", paper_class_steps[c][i]}});
        }
        list.push_back({{"states", r.states},
                        {"recent_percent", describe(r.recent)},
                        {"recent_percent_at_random", number(r.recent_at_random)},
                        {"first_to_the_end_percent", describe(r.first_to_the_end)},
                        {"first_held_percent", describe(r.first_held)},
                        {"next_to_the_end_percent", describe(r.next_to_the_end)},
                        {"next_held_percent", describe(r.next_held)},
                        {"all_to_the_end_percent", number(r.all_to_the_end)},
                        {"average_steps", r.average_steps},
                        {"paper_average_steps", paper_average_steps[i]},
                        {"classes", classes}});
    }
    return list;
}

/// "1/64: -6.8 ± 0.4, 1/32: ..."
std::string listed_here(const claim& c) {
    std::string text;
    for (std::size_t i = 0; i < c.here.size(); ++i) {
        text += (i == 0 ? "" : ", ") + c.columns[i] + ": " + short_estimate(c.here[i], c.digits, claim_cell_width);
    }
    return text;
}
std::string listed_paper(const claim& c) {
    if (!c.paper_text.empty()) return c.paper_text;
    std::string text;
    for (std::size_t i = 0; i < c.paper.size(); ++i) {
        text += (i == 0 ? "" : ", ") + c.columns[i] + ": " + short_number(c.paper[i], c.digits);
    }
    return text;
}

std::string verdict_of(const claim& c) {
    return std::string(text_of(c.verdict)) + (c.reason.empty() ? "" : " (" + c.reason + ")");
}

void print_claim(std::ostream& out, const paper_style& style, const claim& c) {
    out << wrapped(c.text + ": " + verdict_of(c) + '.', {.width = style.columns}) << '\n';
    if (std::ranges::none_of(c.here, [](const auto& e) { return e.has_value(); })) {
        out << '\n';
        return;
    }
    out << std::string(2, ' ')
        << wrapped(c.measure + ", " + bounds_text(c), {.width = style.columns, .indent = 2, .begun = 2}) << '\n';
    auto heads = heads_of("", c.columns, claim_cell_width);
    heads.front().width = claim_name_width;
    text_table table(out, style.format, heads);
    std::vector<std::string> here{"  here"}, paper{"  paper"};
    for (const auto& e : c.here) here.push_back(short_estimate(e, c.digits, claim_cell_width));
    for (const double x : c.paper) paper.push_back(short_number(x, c.digits));
    table.row(here);
    if (c.paper_text.empty()) {
        table.row(paper);
    } else {
        out << "  paper: " << c.paper_text << '\n';
    }
    out << '\n';
}

}  // namespace

paper_perplexities::paper_perplexities(std::ostream& out, const paper_style& style, const paper_findings& found)
    : found_(found), lines_(out, style.format, heads_of("k / context", shares(paper_parts))) {
    add_sizes(lines_, found, paper_parts);
}

void paper_perplexities::add(std::size_t row) {
    std::vector<std::string> cells{std::string(paper_policies[row].spec)};
    for (const auto& m : found_.rows[row]) cells.push_back(m ? fixed(m->perplexity(), 2) : "-");
    lines_.row(cells);
}

void print_above_full(std::ostream& out, const paper_style& style, const paper_findings& f) {
    text_table table(out, style.format, heads_of("k / context", shares(paper_parts)));
    for (std::size_t row = 0; row < paper_policies.size(); ++row) {
        const paper_policy& policy = paper_policies[row];
        if (std::ranges::none_of(f.rows[row], [](const auto& m) { return m.has_value(); })) continue;
        std::vector<std::string> here{std::string(policy.spec)}, paper{"  paper"};
        for (std::size_t i = 0; i < paper_parts.size(); ++i) {
            const auto& m = f.rows[row][i];
            here.push_back(m ? short_estimate(compare(*m, *f.full), 1) : "-");
            const double percent = 100 * (policy.perplexity[i] / paper_full_perplexity - 1);
            paper.push_back(policy.comparable ? short_number(percent, 1) : "-");
        }
        table.row(here);
        table.row(paper);
    }
}

void print_batches(std::ostream& out, const paper_style& style, const paper_findings& f) {
    constexpr std::size_t batch_width = 12;
    text_table table(out, style.format,
                     {{"k / context", name_width},
                      {"k", 6},
                      {"MB each", 8},
                      {"% of full", 9},
                      {"batch", 6},
                      {"ms / step", 9},
                      {"tokens/s", 9},
                      {"throughput", batch_width}});
    for (std::size_t i = 0; i < f.batches.size(); ++i) {
        const batch_row &row = f.batches[i], &full = f.batches.front();
        const paper_batch& paper = i == 0 ? paper_full_batch : paper_batches[i - 1];
        const std::size_t part = i == 0 ? 1 : paper_table_1_parts[i - 1];
        const bool timed = !row.seconds.empty();
        const auto percent = [](double a, double b) { return fixed(100 * a / b, 1); };
        table.row({i == 0 ? "full" : "1/" + std::to_string(part), std::to_string(row.states),
                   fixed(static_cast<double>(row.cache_bytes) / 1e6, 2),
                   percent(static_cast<double>(row.cache_bytes), static_cast<double>(full.cache_bytes)),
                   std::to_string(row.batch), timed ? fixed(1000 * row.step_seconds(), 2) : "-",
                   timed ? grouped(static_cast<std::size_t>(row.tokens_per_second())) : "-",
                   timed ? short_estimate(relative_throughput(row, full), 2, batch_width) : "-"});
        table.row({"  paper", std::to_string(paper_context / part), fixed(1000 * paper.gigabytes, 0),
                   percent(paper.gigabytes, paper_full_batch.gigabytes), fixed(paper.batch, 0), "-", "-",
                   fixed(paper.throughput, 2)});
    }
}

void print_retention(std::ostream& out, const paper_style& style, const paper_findings& f) {
    auto heads = heads_of("k / context", shares(paper_table_1_parts));
    heads.front().width = 40;
    text_table table(out, style.format, heads);
    add_sizes(table, f, paper_table_1_parts);
    const auto add = [&](const std::string& name, auto cell) {
        std::vector<std::string> cells{name};
        for (const auto& r : f.retained) cells.push_back(r ? cell(*r) : "-");
        table.row(cells);
    };
    const auto add_share = [&](const char* name, ms::estimate retention::*share) {
        add(name, [&](const retention& r) { return short_estimate(r.*share, 1); });
    };
    const auto add_paper = [&](std::span<const double> steps) {
        std::vector<std::string> cells{"  paper"};
        for (const double s : steps) cells.push_back(fixed(s, 0));
        table.row(cells);
    };
    add_share("recent among the kept, %", &retention::recent);
    std::vector<std::string> recent_there(paper_table_1_parts.size() + 1, std::string(paper_recent_share));
    recent_there.front() = "  paper";
    table.row(recent_there);
    add("  k states at random", [](const retention& r) { return fixed(r.recent_at_random, 1); });
    add_share("first token, % held at the end", &retention::first_to_the_end);
    add_share("first token, % of steps held", &retention::first_held);
    add_share("positions 1 to 4, % held at the end", &retention::next_to_the_end);
    add("  all tokens", [](const retention& r) { return fixed(r.all_to_the_end, 1); });
    add_share("positions 1 to 4, % of steps held", &retention::next_held);
    add("steps, average token", [](const retention& r) { return fixed(r.average_steps, 0); });
    add_paper(paper_average_steps);
    for (std::size_t c = 0; c < paper_classes.size(); ++c) {
        std::size_t tokens = 0;
        for (const auto& r : f.retained) tokens = r ? r->classes[c].tokens : tokens;
        add("steps, " + std::string(paper_classes[c]) + " (" + grouped(tokens) + " tokens)",
            [&](const retention& r) { return r.classes[c].tokens == 0 ? "-" : short_estimate(r.classes[c].steps, 0); });
        add_paper(paper_class_steps[c]);
    }
}

void print_claims(std::ostream& out, const paper_style& style, std::span<const claim> claims) {
    if (style.format == table_format::text) {
        for (const claim& c : claims) print_claim(out, style, c);
        return;
    }
    text_table table(out, style.format, {{"claim"}, {"holds if"}, {"here"}, {"paper"}, {"verdict"}});
    for (const claim& c : claims) {
        table.row({c.text, c.measure + ": " + bounds_text(c), listed_here(c), listed_paper(c), verdict_of(c)});
    }
    out << '\n';
}

void print_summary(std::ostream& out, const paper_style& style, std::span<const claim> claims) {
    print_heading(out, style, "Not comparable");
    if (style.format == table_format::markdown) {
        text_table table(out, style.format, {{"in the paper"}, {"why not here"}});
        for (const incomparable& each : incomparables()) {
            table.row({std::string(each.what), std::string(each.reason)});
        }
        out << '\n';
    } else {
        for (const incomparable& each : incomparables()) {
            const std::string text = std::string(each.what) + ": " + std::string(each.reason) + ".";
            out << "- " << wrapped(text, {.width = style.columns, .indent = 2, .begun = 2}) << '\n';
        }
        out << '\n';
    }
    print_heading(out, style, "Summary");
    if (style.format == table_format::markdown) {
        text_table table(out, style.format, {{"claim"}, {"verdict"}, {"reason"}});
        for (const claim& c : claims) table.row({c.text, std::string(text_of(c.verdict)), c.reason});
    } else {
        const std::size_t width = text_of(verdict::does_not_hold).size() + 2;
        for (const claim& c : claims) {
            const std::string text = c.reason.empty() ? c.text : c.text + " (" + c.reason + ")";
            out << aligned_left(std::string(text_of(c.verdict)), width)
                << wrapped(text, {.width = style.columns, .indent = width, .begun = width}) << '\n';
        }
    }
    const auto count = [&](verdict v) { return std::to_string(std::ranges::count(claims, v, &claim::verdict)); };
    out << '\n';
    print_paragraph(out, style,
                    "Of " + std::to_string(claims.size()) + " claims, " + count(verdict::holds) + " hold and " +
                        count(verdict::does_not_hold) + " do not hold here; undecided: " + count(verdict::undecided) +
                        ", not comparable: " + count(verdict::not_comparable) + ".");
}

void print_paragraph(std::ostream& out, const paper_style& style, const std::string& text) {
    out << (style.format == table_format::markdown ? text : wrapped(text, {.width = style.columns})) << "\n\n"
        << std::flush;
}

void print_heading(std::ostream& out, const paper_style& style, const std::string& text) {
    if (style.format == table_format::markdown) {
        out << "## " << text << "\n\n";
    } else {
        out << text << '\n' << std::string(shown_width(text), '=') << '\n';
    }
}

void write_paper_json(std::ostream& out, const provenance& about, const paper_findings& f,
                      std::span<const claim> claims, bool complete) {
    json list = json::array(), others = json::array();
    for (const claim& c : claims) list.push_back(describe(c));
    for (const incomparable& each : incomparables()) others.push_back({{"what", each.what}, {"reason", each.reason}});
    const json all{{"model", about.model},
                   {"model_fingerprint", about.model_fingerprint},
                   {"text", about.text},
                   {"text_fingerprint", about.text_fingerprint},
                   {"context", about.context},
                   {"limit", about.limit ? json(*about.limit) : json()},
                   {"threads", about.threads},
                   {"cpu", about.cpu},
                   {"target", about.target},
                   {"version", about.version},
                   {"date", about.date},
                   {"complete", complete},
                   {"full", f.full ? json{{"ppl", number(f.full->perplexity())},
                                          {"ppl_error", number(f.full->standard_error())},
                                          {"tokens", f.full->tokens()},
                                          {"paper_ppl", paper_full_perplexity}}
                                   : json()},
                   {"perplexity", describe_perplexities(f)},
                   {"batches", describe_batches(f)},
                   {"retention", describe_retention(f)},
                   {"claims", list},
                   {"not_comparable", others}};
    out << all.dump(2, ' ', false, json::error_handler_t::replace) << '\n';
}

}  // namespace demo
