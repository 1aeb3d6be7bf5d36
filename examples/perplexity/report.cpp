#include "report.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <iomanip>
#include <ostream>
#include <sstream>

#include <nlohmann/json.hpp>

namespace demo {

namespace {

constexpr std::size_t least_name_width = 18;
constexpr int cell_width = 14;

std::string fixed(double value, int digits) {
    std::ostringstream text;
    text << std::fixed << std::setprecision(digits) << value;
    return text.str();
}

std::string with_error(double value, const std::optional<double>& error, int digits) {
    return fixed(value, digits) + (error ? " ± " + fixed(*error, digits) : "");
}

/// Characters that a terminal shows; ± takes two bytes.
std::size_t shown_width(std::string_view text) {
    return static_cast<std::size_t>(
        std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string right_aligned(const std::string& text, std::size_t width) {
    const std::size_t shown = shown_width(text);
    return std::string(shown < width ? width - shown : 1, ' ') + text;
}

double tokens_per_second(const measurement& m) { return static_cast<double>(m.tokens()) / m.seconds; }

std::vector<std::string> distinct_policies(std::span<const run> runs) {
    std::vector<std::string> names;
    for (const run& r : runs) {
        if (std::ranges::find(names, r.what.policy.text) == names.end()) names.push_back(r.what.policy.text);
    }
    return names;
}

std::vector<std::size_t> distinct_states(std::span<const run> runs) {
    std::vector<std::size_t> states;
    for (const run& r : runs) states.push_back(r.what.states);
    std::ranges::sort(states);
    states.erase(std::unique(states.begin(), states.end()), states.end());  // std::ranges::unique: not in Clang 14
    return states;
}

const run* find(std::span<const run> runs, const std::string& policy, std::size_t states) {
    const auto found = std::ranges::find_if(
        runs, [&](const run& r) { return r.what.policy.text == policy && r.what.states == states; });
    return found == runs.end() ? nullptr : &*found;
}

/// One grid of policies by k.
void print_grid(std::ostream& out, const std::string& title, std::span<const run> runs,
                const std::function<std::string(const measurement&)>& cell) {
    std::size_t name_width = least_name_width;
    for (const std::string& policy : distinct_policies(runs)) name_width = std::max(name_width, policy.size());
    out << '\n' << title << '\n' << std::string(name_width, ' ');
    for (const std::size_t k : distinct_states(runs)) out << right_aligned("k = " + std::to_string(k), cell_width);
    out << '\n';
    for (const std::string& policy : distinct_policies(runs)) {
        out << policy << std::string(name_width - policy.size(), ' ');
        for (const std::size_t k : distinct_states(runs)) {
            const run* r = find(runs, policy, k);
            out << right_aligned(r == nullptr ? "-" : cell(r->result), cell_width);
        }
        out << '\n';
    }
}

/// " 243 186 128 70 13", or "96-160" for a layer whose KV heads or sequences differ.
void print_layers(std::ostream& out, const measurement& m) {
    for (const layer_budget& b : m.budget) {
        out << ' ' << b.least;
        if (b.most != b.least) out << '-' << b.most;
    }
}

void print_budgets(std::ostream& out, std::span<const run> runs) {
    if (std::ranges::all_of(runs, [](const run& r) { return r.result.budget.empty(); })) return;
    out << "\nBudgets: the states of each layer, from the first on (least-most over its KV heads and all sequences)\n";
    for (const run& r : runs) {
        if (r.result.budget.empty()) continue;
        out << r.what.policy.text << ", k = " << r.what.states << ':';
        print_layers(out, r.result);
        out << "; mean " << fixed(r.result.mean_budget, 2) << '\n';
    }
}

void print_verdict(std::ostream& out, const std::string& policy, std::span<const run> runs, const measurement& full) {
    bool forgot = false;
    std::string not_counted;  // any k would do for a policy that had nothing to forget
    for (const std::size_t k : distinct_states(runs)) {
        const run* r = find(runs, policy, k);
        if (r == nullptr) continue;
        if (r->result.forgot_nothing) {
            not_counted += (not_counted.empty() ? "" : ", ") + std::to_string(k);
            continue;
        }
        forgot = true;
        if (!(compare(r->result, full).percent <= 1)) continue;  // NaN is not within
        out << policy << ": k = " << k << " is the smallest k measured within 1 % of full.\n";
        return;
    }
    out << policy << ": " << (forgot ? "no k measured is within 1 % of full" : "forgot nothing at any k measured");
    if (forgot && !not_counted.empty()) out << "; k = " << not_counted << " forgot nothing and does not count";
    out << ".\n";
}

}  // namespace

void print_table(std::ostream& out, std::span<const run> runs, const measurement& full) {
    out << "full: perplexity " << with_error(full.perplexity(), full.standard_error(), 3) << ", cache "
        << fixed(static_cast<double>(full.cache_bytes) * 1e-6, 2) << " MB, "
        << grouped(static_cast<std::size_t>(tokens_per_second(full))) << " tokens per second\n";
    if (runs.empty()) return;
    print_grid(out, "Perplexity", runs, [](const measurement& m) { return fixed(m.perplexity(), 3); });
    print_grid(out, "Above full, in percent (± standard error, paired by sequence)", runs, [&](const measurement& m) {
        const difference d = compare(m, full);
        return with_error(d.percent, d.standard_error, 2);
    });
    print_grid(out, "Cache, in MB (rows and bookkeeping; what one more sequence costs)", runs,
               [](const measurement& m) { return fixed(static_cast<double>(m.cache_bytes) * 1e-6, 2); });
    print_grid(out, "Tokens per second (of one run: other work on the machine shows)", runs,
               [](const measurement& m) { return grouped(static_cast<std::size_t>(tokens_per_second(m))); });
    print_budgets(out, runs);
    out << '\n';
    for (const std::string& policy : distinct_policies(runs)) print_verdict(out, policy, runs, full);
}

void write_json(std::ostream& out, std::span<const run> runs, const options& o, std::size_t context) {
    using json = nlohmann::ordered_json;
    json list = json::array();
    for (const run& r : runs) {
        const auto error = r.result.standard_error();
        list.push_back({{"policy", r.what.policy.text},
                        {"states", r.what.states},
                        {"codec", r.what.codec},
                        {"prefill", o.prefill},
                        {"ppl", r.result.perplexity()},
                        {"ppl_error", error ? json(*error) : json()},
                        {"nll_sum", r.result.nll_sum()},
                        {"tokens", r.result.tokens()},
                        {"cache_bytes", r.result.cache_bytes},
                        {"scratch_bytes", r.result.scratch_bytes},
                        {"seconds", r.result.seconds},
                        {"tokens_per_second", tokens_per_second(r.result)}});
        if (r.result.forgot_nothing) list.back()["forgot_nothing"] = true;
        for (const layer_budget& b : r.result.budget) list.back()["budget"].push_back({b.least, b.most});
        if (!r.result.budget.empty()) list.back()["mean_budget"] = r.result.mean_budget;
        if (r.what.policy.slack) list.back()["slack"] = r.what.policy.slack_at(r.what.states);
    }
    const json result = {{"model", o.model.string()},
                         {"context", context},
                         {"threads", o.threads},
                         {"cpu", processor_name()},
                         {"target", std::string(ms::target_name())},
                         {"version", MULTISTATE_VERSION},
                         {"runs", list}};
    out << result.dump(2, ' ', false, json::error_handler_t::replace) << '\n';
}

void write_nll(std::ostream& out, const measurement& m) {
    out << std::setprecision(9);
    for (const auto& part : m.nll) {
        for (const double nll : part) out << nll << '\n';
    }
}

void write_trace(std::ostream& out, const measurement& m) {
    out << "sequence,step,layer,kv_head,position\n";
    for (const forgetting& f : m.forgotten) {
        out << f.sequence << ',' << f.step << ',' << f.layer << ',' << f.kv_head << ',' << f.position << '\n';
    }
}

std::string grouped(std::size_t n) {
    const std::string digits = std::to_string(n);
    std::string text;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        if (i != 0 && (digits.size() - i) % 3 == 0) text += ',';
        text += digits[i];
    }
    return text;
}

std::string processor_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
    }
    return "unknown";
}

}  // namespace demo
