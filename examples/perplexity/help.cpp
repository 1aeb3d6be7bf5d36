#include "help.hpp"

#include <algorithm>
#include <array>

#include "terminal.hpp"

namespace demo {

namespace {

/// A term and what is said of it; either may be empty. A term without an indent begins a paragraph.
struct entry {
    const char* term;
    const char* text;
};

constexpr std::array footer{
    entry{"", "Policies (--list-policies shows all, with their parameters):"},
    entry{"tova", "by its name, with default parameters"},
    entry{"window+4", "the first 4 states, the sinks, are never forgotten"},
    entry{"h2o(recent=0.25,sinks=2)", "nor are the newest quarter of k and the first 2 states"},
    entry{"snapkv:class", "a preset: other defaults, here those of the authors' class"},
    entry{"tova(slack=16)",
          "16 states beyond k may wait for a decision, which falls every 17 tokens (of sinks, recent and slack a whole "
          "number counts states, one with a point is a share of k)"},
    entry{"'h2o|value_norm|pool(width=7)'", "a policy and parts that change it, in this order"},
    entry{"'snapkv|pyramid(beta=20)'", "a budget, last: layers keep different numbers of states, k in the mean"},
    entry{"AdaKV", "as papers call it: snapkv|adaptive, whose KV heads keep k in the mean; it needs --prefill once"},
    entry{"all", "every policy of the list; full is measured anyway"},
    entry{"", "How a sequence reaches the cache (--prefill):"},
    entry{"exact",
          "the states that survive are those of one token at a time; what papers call the perplexity of a policy"},
    entry{"block",
          "each block of --block tokens attends to itself and the survivors, then the cache shrinks to k once"},
    entry{"once", "all of a sequence but its last quarter is a prompt in one block, then one token at a time"},
    entry{"", "Groups of columns (--columns), each beside policy and k:"},
    entry{"summary", "perplexity, percent above full, KL, same top token, MB of the cache, tokens per second"},
    entry{"quality", "perplexity and percent above full, with standard errors"},
    entry{
        "fidelity",
        "KL divergence to full (mean, median, 99 %), the share of tokens with the same likeliest next token, the mean "
        "change of the right token's probability"},
    entry{"position", "percent above full in each quarter of the sequences"},
    entry{"memory", "the cache, its rows, its bookkeeping, scratch; bytes of one state in one KV head"},
    entry{"speed", "tokens per second and seconds, of all threads"},
    entry{"", "Examples:"},
    entry{"perplexity --policy tova,h2o,window+4 --states 64,1/4", ""},
    entry{"perplexity --model SmolLM-135M.Q8_0.gguf --text book.txt --context 2048 --limit 20000", ""},
    entry{"perplexity --policy 'h2o(recent=0.25)' --states 128 --codec f32,int8,int4 --columns fidelity,memory", ""},
    entry{"perplexity --policy all --states 128 --sort perplexity --json all.json", ""},
    entry{"perplexity --policy all --states 128 --sort perplexity --resume all.json", ""},
    entry{"perplexity --compare before.json after.json --format markdown", ""},
    entry{"perplexity --paper --limit 4000", ""},
    entry{"perplexity --print-tokens > ids.txt && perplexity --tokens ids.txt --policy tova --states 64 --nll nll.txt",
          ""},
    entry{"",
          "- as FILE is standard input for --text, --tokens, --resume and --compare, and standard output for --json, "
          "--nll and --trace, which then need --quiet. Of a text at most 256 MiB are read. Bytes that are not UTF-8, "
          "or 0, are tokenized as they are, with a note. An option that would have no effect is an error, except "
          "beside --list-policies. A policy that is given twice is measured once."},
    entry{"",
          "Ctrl-C and SIGTERM end a measurement with what is done: the table so far is printed, --json is written, "
          "and --resume goes on. A second signal ends at once."},
    entry{"",
          "Exit code: 0; 1 for an error; 2 if a policy cannot be had at some k (window+4 at k = 4) and was skipped."},
};

}  // namespace

help_formatter::help_formatter(std::size_t columns)
    : columns_(std::min<std::size_t>(columns, 120)), indent_(columns >= 72 ? 28 : 8) {}

std::string help_formatter::make_description(const CLI::App* app) const {
    return wrapped(app->get_description(), {.width = columns_}) + "\n\n";
}

/// "  TERM    text", or the text below a term that is too long for that.
static std::string make_entry(const std::string& term, const std::string& text, std::size_t indent,
                              std::size_t columns) {
    const std::string first = "  " + wrapped(term, {.width = columns, .indent = 6, .begun = 2});
    if (text.empty()) return first + '\n';
    const std::string space(indent, ' ');
    const std::string rest = wrapped(text, {.width = columns, .indent = indent, .begun = indent});
    if (indent > 8 && shown_width(first) + 2 <= indent) return first + space.substr(first.size()) + rest + '\n';
    return first + '\n' + space + rest + '\n';
}

std::string help_formatter::make_option(const CLI::Option* option, bool) const {
    return make_entry(make_option_name(option, false) + make_option_opts(option), make_option_desc(option), indent_,
                      columns_);
}

/// Defaults are in the descriptions.
std::string help_formatter::make_option_opts(const CLI::Option* option) const {
    const std::string type = option->get_type_name();
    return type.empty() ? type : ' ' + type;
}

std::string help_formatter::make_footer(const CLI::App*) const {
    std::string text;
    for (const entry& e : footer) {
        if (*e.term == '\0') {
            text += (text.empty() ? "" : "\n") + wrapped(e.text, {.width = columns_}) + '\n';
        } else {
            text += make_entry(e.term, e.text, indent_, columns_);
        }
    }
    return text;
}

}  // namespace demo
