#include "report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <ostream>
#include <utility>

#include "terminal.hpp"

namespace demo {

namespace {

bool forgets(const run& r) { return demo::forgets(r.what); }

std::string states_cell(const run& r) {
    if (!forgets(r)) return "all";
    return std::to_string(r.what.states) + (r.result.forgot_nothing ? "*" : "");
}

/// Sorted by this, least first.
double sort_key(const run& r, const std::string& key) {
    if (key == "states") return static_cast<double>(r.what.states);
    if (key == "kl") return r.result.fidelity ? r.result.fidelity->kl.mean : 0;
    if (key == "memory") return static_cast<double>(r.result.bytes.cache);
    if (key == "speed") return -tokens_per_second(r.result);
    return r.result.perplexity();
}

/// A policy in one codec; the name tells the codec if there are several.
struct contestant {
    std::string policy;
    std::string codec;

    bool operator==(const contestant&) const = default;
    [[nodiscard]] bool is(const run& r) const { return r.what.policy.text == policy && r.what.codec == codec; }
};

std::vector<std::string> codecs_of(std::span<const run> runs) {
    std::vector<std::string> codecs;
    for (const run& r : runs) {
        if (std::ranges::count(codecs, r.what.codec) == 0) codecs.push_back(r.what.codec);
    }
    return codecs;
}

std::vector<std::size_t> distinct_states(std::span<const run> runs) {
    std::vector<std::size_t> states;
    for (const run& r : runs) states.push_back(r.what.states);
    std::ranges::sort(states);
    states.erase(std::unique(states.begin(), states.end()), states.end());  // std::ranges::unique: not in Clang 14
    return states;
}

std::string list_of(std::span<const std::size_t> numbers) {
    std::string text;
    for (const std::size_t n : numbers) text += (text.empty() ? "" : ", ") + std::to_string(n);
    return text;
}

std::string verdict_of(std::span<const run> runs, const contestant& who, const outcome& full) {
    std::vector<std::size_t> not_counted;  // any k would do for a policy that had nothing to forget
    bool forgot = false;
    for (const std::size_t k : distinct_states(runs)) {
        const auto r =
            std::ranges::find_if(runs, [&](const run& each) { return who.is(each) && each.what.states == k; });
        if (r == runs.end()) continue;
        if (r->result.forgot_nothing) {
            not_counted.push_back(k);
            continue;
        }
        forgot = true;
        if (!(compare(r->result, full).value <= 1)) continue;  // NaN is not within
        return "k = " + std::to_string(k) + " is the smallest k measured within 1 % of full.";
    }
    if (!forgot) return "forgot nothing at any k measured: k = " + list_of(not_counted) + ".";
    if (not_counted.empty()) return "no k measured is within 1 % of full.";
    return "no k measured is within 1 % of full; k = " + list_of(not_counted) + " forgot nothing and does not count.";
}

/// " 243 186 128 70 13", or "96-160" for a layer whose KV heads or sequences differ.
std::string layers_of(const outcome& m) {
    std::string text;
    for (const layer_budget& b : m.budget) {
        text += ' ' + std::to_string(b.least);
        if (b.most != b.least) text += '-' + std::to_string(b.most);
    }
    return text;
}

void print_budgets(std::ostream& out, std::span<const run> runs) {
    if (std::ranges::all_of(runs, [](const run& r) { return r.result.budget.empty(); })) return;
    out << "\nBudgets: the states of each layer, from the first on (least-most over its KV heads and all sequences)\n";
    for (const run& r : runs) {
        if (r.result.budget.empty()) continue;
        out << r.what.policy.text << ", k = " << r.what.states << ':' << layers_of(r.result) << "; mean "
            << fixed(r.result.mean_budget, 2) << '\n';
    }
}

/// "At 32,768 tokens, full takes 168 MB. k = 128 takes 0.66 MB; k = 256 takes 1.3 to 1.4 MB."
std::string long_context_text(std::span<const run> runs, const outcome& full) {
    const std::vector<std::string> codecs = codecs_of(runs);
    std::string text;
    for (const std::string& codec : codecs) {
        for (const std::size_t k : distinct_states(runs)) {
            std::size_t least = std::numeric_limits<std::size_t>::max(), most = 0;
            for (const run& r : runs) {
                if (r.what.codec != codec || r.what.states != k || !forgets(r)) continue;
                least = std::min(least, r.result.bytes.cache_at_32k);
                most = std::max(most, r.result.bytes.cache_at_32k);
            }
            if (most == 0) continue;
            const std::string from = human_bytes(least), to = human_bytes(most);
            text += (text.empty() ? "" : ", ") + from + (from == to ? "" : " to " + to) +
                    " at k = " + std::to_string(k) + (codecs.size() > 1 || codec != "f32" ? " in " + codec : "");
        }
    }
    if (text.empty() || full.bytes.cache_at_32k == 0) return "";
    return "At 32k (32,768 tokens that come one by one): " + human_bytes(full.bytes.cache_at_32k) + " becomes " + text +
           ".";
}

/// Policies by policies; all at one k and in one codec.
void print_matrix(std::ostream& out, std::span<const shared_share> shared) {
    std::vector<std::string> names;
    std::map<std::pair<std::string, std::string>, double> shares;
    for (const shared_share& s : shared) {
        for (const std::string& name : {s.a, s.b}) {
            if (std::ranges::count(names, name) == 0) names.push_back(name);
        }
        shares[{s.a, s.b}] = shares[{s.b, s.a}] = s.share;
    }
    std::size_t width = 5;
    for (const std::string& name : names) width = std::max(width, name.size());
    out << std::string(width, ' ');
    for (const std::string& name : names) out << "  " << aligned_right(name, width);
    for (const std::string& a : names) {
        out << '\n' << aligned_left(a, width);
        for (const std::string& b : names) {
            const auto share = shares.find({a, b});  // none for a pair that was not measured
            const std::string text = a == b ? "100.0" : share == shares.end() ? "-" : fixed(100 * share->second, 1);
            out << "  " << aligned_right(text, width);
        }
    }
    out << '\n';
}

/// Each policy against the oracle at the same k, if it was measured.
void print_regret(std::ostream& out, std::span<const run> runs, std::size_t columns) {
    const auto oracle_at = [&](std::size_t k) {
        return std::ranges::find_if(runs, [&](const run& r) { return r.what.oracle && r.what.states == k; });
    };
    bool first = true;
    for (const run& r : runs) {
        const auto oracle = oracle_at(r.what.states);
        if (oracle == runs.end() || r.what.oracle || !forgets(r)) continue;
        if (first) {
            out << '\n'
                << wrapped(
                       "Regret: percent above the attention oracle of each KV head at the same k. Below zero, the "
                       "policy "
                       "is better than the oracle, which knows the attention to come but not what the model makes "
                       "of it.",
                       {.width = columns})
                << '\n';
        }
        first = false;
        out << r.what.policy.text << ", k = " << r.what.states << ", " << r.what.codec << ": "
            << with_error(compare(r.result, oracle->result), 2) << " %\n";
    }
    if (!first) out << '\n';
}

/// The runs that are below full by more than two standard errors; empty if there are none.
std::string helped_text(std::span<const run> runs, const outcome& full) {
    std::string list;
    for (const run& r : runs) {
        const ms::estimate above = compare(r.result, full);
        if (!forgets(r) || r.result.forgot_nothing || !above.error || !(above.value + 2 * *above.error < 0)) continue;
        list += (list.empty() ? "" : "; ") + r.what.policy.text + ", k = " + std::to_string(r.what.states) + ", " +
                r.what.codec + ": " + with_error(above, 2) + " %";
    }
    if (list.empty()) return {};
    return "Forgetting helped (below full by more than two standard errors), as it can where sequences are longer than "
           "those that the model was trained on; --columns position shows where: " +
           list + ".";
}

}  // namespace

namespace {

std::vector<text_table::head> heads_of(const result_table::layout& how) {
    std::vector<text_table::head> heads{{"policy", how.policy_width}, {"k", 5}};
    for (const column& c : how.columns) heads.push_back({c.head, c.width});
    return heads;
}

}  // namespace

result_table::result_table(std::ostream& out, layout how, const outcome& full)
    : how_(std::move(how)), full_(full), lines_(out, how_.format, heads_of(how_)) {
    print_row({.what = {.policy = parse_policies("full").front(), .states = 0}, .result = full});
}

void result_table::print_row(const run& r) {
    const bool is_baseline = r.what.states == 0;
    std::vector<std::string> cells{r.what.policy.text};
    if (how_.format == table_format::csv) {
        cells.push_back(is_baseline ? "" : std::to_string(r.what.states));
    } else {
        cells.push_back(states_cell(r));
    }
    for (const column& c : how_.columns) cells.push_back(is_baseline && c.compares ? c.nothing : c.cell(r, full_));
    lines_.row(cells);
}

void result_table::add(const run& r) {
    if (!forgets(r) && r.what.codec == "f32") return;  // its row is there
    if (how_.sort.empty()) return print_row(r);
    kept_.push_back(r);
}

void result_table::finish() {
    if (how_.sort == "policy") {
        std::ranges::stable_sort(kept_, {}, [](const run& r) { return r.what.policy.text; });
    } else {
        std::ranges::stable_sort(kept_, {}, [&](const run& r) { return sort_key(r, how_.sort); });
    }
    for (const run& r : kept_) print_row(r);
    kept_.clear();
}

void print_conclusions(std::ostream& out, std::span<const run> runs, const outcome& full, std::size_t columns) {
    const auto paragraph = [&](const std::string& text) {
        if (!text.empty()) out << wrapped(text, {.width = columns}) << '\n';
    };
    out << '\n';
    paragraph("full: perplexity " + with_error(ms::perplexity(full.sequences), 3) + ". KL: to full, nats per token; " +
              "same top: tokens whose likeliest next token is that of full; ±: standard error, paired by sequence.");
    if (std::ranges::any_of(runs, [](const run& r) { return forgets(r) && r.result.forgot_nothing; })) {
        paragraph("* forgot nothing: k is not below the length of a sequence, so the row says nothing of the policy.");
    }
    print_budgets(out, runs);
    print_regret(out, runs, columns);
    paragraph(long_context_text(runs, full));
    paragraph(helped_text(runs, full));
    std::vector<contestant> contestants;
    for (const run& r : runs) {
        if (!forgets(r)) continue;
        const contestant who{r.what.policy.text, r.what.codec};
        if (std::ranges::count(contestants, who) == 0) contestants.push_back(who);
    }
    if (contestants.empty()) return;
    out << '\n';
    const bool several = codecs_of(runs).size() > 1;
    for (const contestant& who : contestants) {
        paragraph(who.policy + (several ? " in " + who.codec : "") + ": " + verdict_of(runs, who, full));
    }
}

void print_shared(std::ostream& out, std::span<const shared_share> shared) {
    std::vector<std::pair<std::size_t, std::string>> done;
    for (const shared_share& first : shared) {
        const std::pair key(first.states, first.codec);
        if (std::ranges::count(done, key) > 0) continue;
        done.push_back(key);
        std::vector<shared_share> same;
        std::ranges::copy_if(shared, std::back_inserter(same),
                             [&](const shared_share& s) { return s.states == key.first && s.codec == key.second; });
        out << "\nStates kept at the end of a sequence by both policies, in percent of those kept by either, k = "
            << key.first << ", " << key.second << '\n';
        print_matrix(out, same);
    }
}

double tokens_per_second(const outcome& m) { return static_cast<double>(m.tokens()) / m.seconds; }

std::string grouped(std::size_t n) {
    const std::string digits = std::to_string(n);
    std::string text;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        if (i != 0 && (digits.size() - i) % 3 == 0) text += ',';
        text += digits[i];
    }
    return text;
}

std::string human_bytes(std::size_t n) {
    constexpr std::array units{"B", "kB", "MB", "GB", "TB"};
    auto value = static_cast<double>(n);
    std::size_t unit = 0;
    for (; value >= 999.5 && unit + 1 < units.size(); ++unit) value /= 1000;
    return fixed(value, unit > 0 && value < 9.95 ? 1 : 0) + ' ' + units[unit];
}

}  // namespace demo
