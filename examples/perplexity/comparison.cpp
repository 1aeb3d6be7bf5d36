#include <algorithm>
#include <ostream>
#include <stdexcept>
#include <unistd.h>

#include "report.hpp"
#include "terminal.hpp"
#include "text_table.hpp"

namespace demo {

namespace {

std::string described(const results& all) {
    const provenance& p = all.about;
    return p.model + ", " + p.text + ", --prefill " + p.prefill + ", version " + p.version + ", " + p.target + ", " +
           p.date + (all.complete ? "" : ", not complete");
}

std::string kl_text(const outcome& m) { return m.fidelity ? fixed(m.fidelity->kl.mean, 4) : "-"; }

}  // namespace

void print_comparison(std::ostream& out, const options& o, const results& a, const results& b) {
    if (a.about.text_fingerprint != b.about.text_fingerprint) {
        throw std::runtime_error("--compare: the results are of different tokens, " + a.about.text + " and " +
                                 b.about.text + ": their likelihoods cannot be compared");
    }
    if (o.format != table_format::csv) {
        const std::size_t columns = terminal_columns(STDOUT_FILENO);
        out << wrapped("a: " + described(a), {.width = columns, .indent = 3}) << '\n'
            << wrapped("b: " + described(b), {.width = columns, .indent = 3}) << "\n\n";
    }
    std::size_t width = 6;
    for (const run& r : a.runs) width = std::max(width, r.what.policy.text.size());
    text_table table(out, o.format,
                     {{"policy", width},
                      {"k", 5},
                      {"codec", 5},
                      {"a", 9},
                      {"b", 9},
                      {"b above a, %", 14},
                      {"KL a", 6},
                      {"KL b", 6}});
    const auto row = [&](const std::string& policy, const std::string& states, const std::string& codec,
                         const outcome& first, const outcome& second) {
        table.row({policy, states, codec, fixed(first.perplexity(), 3), fixed(second.perplexity(), 3),
                   with_error(compare(second, first), 2), kl_text(first), kl_text(second)});
    };
    if (a.full && b.full) row("full", "all", "f32", *a.full, *b.full);
    std::size_t alone_in_a = 0, in_both = 0;
    for (const run& r : a.runs) {
        if (const run* other = find_run(b.runs, r.what)) {
            row(r.what.policy.text, std::to_string(r.what.states), r.what.codec, r.result, other->result);
            ++in_both;
        } else {
            ++alone_in_a;
        }
    }
    if (o.format == table_format::csv) return;
    out << "\nPerplexities; ±: standard error, paired by sequence.";
    if (alone_in_a > 0) out << " Only in a: " << alone_in_a << '.';
    if (b.runs.size() > in_both) out << " Only in b: " << b.runs.size() - in_both << '.';
    out << '\n';
}

}  // namespace demo
