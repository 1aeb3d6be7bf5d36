#include "options.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <iostream>
#include <memory>
#include <span>
#include <stdexcept>
#include <thread>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <multistate/codecs/list.hpp>

#include "bundled.hpp"
#include "help.hpp"
#include "policy_list.hpp"
#include "sequences.hpp"
#include "terminal.hpp"

namespace demo {

namespace {

constexpr auto codecs = multistate::codecs::names;
constexpr std::array<std::string_view, 3> prefills{"exact", "block", "once"};

constexpr std::array<std::string_view, 3> formats{"text", "markdown", "csv"};
constexpr std::array<std::string_view, 6> column_groups{"summary",  "quality", "fidelity",
                                                        "position", "memory",  "speed"};
constexpr std::array<std::string_view, 6> sort_keys{"policy", "states", "perplexity", "kl", "memory", "speed"};

/// What CLI11 fills in, before it is checked.
struct raw {
    std::vector<std::string> policies{"window,window+4,h2o,tova"};
    std::vector<std::string> states, codecs, compare;
    std::string context, limit, block, threads, format, columns, tries, near;
    bool list_policies = false, profile = false, without_own = false;
};

constexpr std::size_t most_states = (1u << 30) - 1;  // as many as a table may have
constexpr std::size_t most_threads = 1024;

std::size_t parse_count(const std::string& option, const std::string& text, std::size_t least,
                        std::size_t most = most_states) {
    std::size_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
        throw std::invalid_argument(option + " must be a whole number from " + std::to_string(least) + " to " +
                                    std::to_string(most) + ", is '" + text + "'");
    }
    return value;
}

template <class Choices>
void require_choice(const std::string& option, const std::string& value, const Choices& choices) {
    if (std::ranges::find(choices, value) != choices.end()) return;
    throw std::invalid_argument(option + " must be one of " + multistate::listed(choices) + ", is '" + value + "'" +
                                multistate::did_you_mean(value, choices));
}

void describe(CLI::App& app, options& o, raw& r) {
    app.add_option("--model", o.model, "the model, a GGUF file of architecture llama or recurformer")
        ->type_name("FILE");
    auto* text =
        app.add_option("--text", o.text, "the text, cut into sequences of --context tokens")->type_name("FILE");
    app.add_option("--tokens", o.tokens, "token ids instead of a text: one sequence per line, taken as it is")
        ->type_name("FILE")
        ->excludes(text);
    app.add_option("--policy", r.policies,
                   "which states to forget; several by commas or by repeating the option (default "
                   "window,window+4,h2o,tova)")
        ->type_name("SPEC,...")
        ->allow_extra_args(false);
    app.add_flag("--shorter-context", o.shorter_context,
                 "also measure the full cache on pieces of k tokens: the baseline of papers");
    app.add_flag("--oracle", o.oracle,
                 "also measure the attention oracle, per KV head and per layer: it forgets the states with the least "
                 "attention still to come, which takes two passes");
    app.add_flag("--list-policies", r.list_policies, "print what --policy can name, with parameters, and stop");
    app.add_option("--states", r.states,
                   "k: how many states survive, a number or a share of the context; several by commas (default: "
                   "1/8,1/4,1/2)")
        ->type_name("K,...")
        ->allow_extra_args(false);
    app.add_option("--context", r.context, "tokens in a sequence (default 1024, or the trained length if less)")
        ->type_name("N");
    app.add_option("--limit", r.limit, "predict no more than this many tokens of the text (default: all)")
        ->type_name("TOKENS");
    app.add_option("--codec", r.codecs,
                   "how keys and values are stored: " + multistate::listed(codecs) +
                       "; several by commas, all compared with full in f32 (default f32)")
        ->type_name("CODEC,...")
        ->allow_extra_args(false);
    app.add_option("--prefill", o.prefill,
                   "how tokens reach the cache: " + multistate::listed(prefills) + " (default exact)")
        ->type_name("HOW");
    app.add_option("--block", r.block, "tokens that are worked on at once (default 64)")->type_name("N");
    app.add_option("--threads", r.threads, "threads (default: one per core)")->type_name("N");
    app.add_option("--format", r.format, "of the table: " + multistate::listed(formats) + " (default text)")
        ->type_name("FORMAT");
    app.add_option(
           "--columns", r.columns,
           "groups of columns by commas: " + multistate::listed(column_groups) + " (default summary; csv has all)")
        ->type_name("GROUP,...");
    app.add_option("--sort", o.sort, "sort the rows by " + multistate::listed(sort_keys) + " (default: as measured)")
        ->type_name("KEY");
    app.add_flag("--shared-states", o.shared_states,
                 "print which share of their states each two policies have in common at the end of a sequence");
    app.add_option("--json", o.json, "write the results as JSON, each as soon as it is there")->type_name("FILE");
    app.add_option("--report", o.report, "write a web page that needs no network: charts, tables, retained states")
        ->type_name("FILE");
    app.add_option("--resume", o.resume,
                   "go on with a JSON file that was interrupted: what it has is not measured again, the rest is added "
                   "to it, or written to --json")
        ->type_name("FILE");
    app.add_option("--compare", r.compare, "print two JSON files of the same text beside each other, and stop")
        ->type_name("FILE FILE")
        ->expected(2);
    app.add_option("--nll", o.nll, "write one negative log likelihood per line; one policy and one k only")
        ->type_name("FILE");
    app.add_option("--trace", o.trace, "write each state forgotten as CSV; one policy and one k only")
        ->type_name("FILE");
    app.add_flag(
        "--recall", o.recall,
        "also hide pass keys and passages in the text, at five depths, and print how many are found at its end; "
        "then how well the passages that the text repeats are predicted (with the defaults about two minutes "
        "on two cores)");
    app.add_option("--tries", r.tries, "of --recall: sequences per kind, length and depth (default 6)")->type_name("N");
    app.add_flag("--paper", o.paper,
                 "measure what the paper on TOVA (arXiv 2401.06104) claims: its tables, each number beside the "
                 "published one, and a verdict for each claim; takes 61 measurements of the text (bundled: one to four "
                 "minutes on two cores), which --limit shortens");
    app.add_flag("--profile", r.profile,
                 "print how near each query head looks: the share of its attention on the last tokens, and stop");
    app.add_option("--near", r.near, "with --profile: how many of the last tokens are near (default 32)")
        ->type_name("N");
    app.add_flag("--without-own-token", r.without_own,
                 "with --profile: leave out the attention of each token to itself, which is counted otherwise");
    app.add_flag("--print-tokens", o.print_tokens, "print the text's token ids as --tokens reads them, and stop");
    app.add_flag("--quiet", o.quiet, "print no table and no progress; notes and errors still come");
}

void check_extras(const CLI::App& app) {
    const auto extras = app.remaining();
    if (extras.empty()) return;
    std::vector<std::string> known;
    for (const CLI::Option* option : app.get_options()) known.push_back("--" + option->get_lnames().front());
    const std::string word = extras.front().substr(0, extras.front().find('='));
    throw std::invalid_argument("unknown argument '" + word + "'" + multistate::did_you_mean(word, known) +
                                " (--help lists all)");
}

/// A value that a script left empty must not pass for an option that was not given.
void check_empty(const CLI::App& app) {
    for (const CLI::Option* option : app.get_options()) {
        if (std::ranges::count(option->results(), "") == 0) continue;
        throw std::invalid_argument("--" + option->get_lnames().front() + " needs a value, is ''");
    }
}

bool given(const CLI::App& app, const std::string& option) { return app.get_option(option)->count() > 0; }

/// Refuses all options but `allowed` if `mode` is given.
void check_effects_with(const CLI::App& app, const std::string& mode, const char* what,
                        std::span<const std::string_view> allowed) {
    if (!given(app, "--" + mode)) return;
    for (const CLI::Option* option : app.get_options()) {
        const std::string name = option->get_lnames().front();
        if (option->count() == 0 || std::ranges::count(allowed, name) > 0) continue;
        throw std::invalid_argument("--" + name + " has no effect with --" + mode + ", which " + what);
    }
}

/// An option that would change nothing is a mistake of who gives it.
void check_effects(const CLI::App& app, const options& o) {
    check_effects_with(app, "print-tokens", "measures nothing",
                       std::array<std::string_view, 6>{"print-tokens", "model", "text", "tokens", "context", "limit"});
    check_effects_with(app, "profile", "measures no policy",
                       std::array<std::string_view, 11>{"profile", "near", "without-own-token", "model", "text",
                                                        "tokens", "context", "limit", "threads", "json", "quiet"});
    for (const char* option : {"--near", "--without-own-token"}) {
        if (!given(app, "--profile") && given(app, option)) {
            throw std::invalid_argument(std::string(option) + " has no effect without --profile");
        }
    }
    check_effects_with(app, "paper", "has its own policies and sizes",
                       std::array<std::string_view, 10>{"paper", "model", "text", "context", "limit", "block",
                                                        "threads", "format", "json", "quiet"});
    if (given(app, "--tries") && !o.recall) throw std::invalid_argument("--tries has no effect without --recall");
    check_effects_with(app, "compare", "measures nothing", std::array<std::string_view, 2>{"compare", "format"});
    if (o.tokens && o.recall) {
        throw std::invalid_argument("--recall needs a text to hide facts in, which --tokens is not");
    }
    if (o.tokens && given(app, "--context")) {
        throw std::invalid_argument("--context has no effect with --tokens, whose sequences are taken as they are");
    }
    for (const char* option : {"--format", "--columns", "--sort", "--shared-states"}) {
        if (!o.quiet || !given(app, option)) continue;
        throw std::invalid_argument(std::string(option) + " has no effect with --quiet, which prints no table");
    }
    if (o.model == "-") {
        throw std::invalid_argument("--model must be a file, is '-': a model cannot be read from standard input");
    }
    std::string from_standard_input;
    for (const auto& [option, path] : {std::pair("--text", o.text), {"--tokens", o.tokens}, {"--resume", o.resume}}) {
        if (path != "-") continue;
        if (!from_standard_input.empty()) {
            throw std::invalid_argument(from_standard_input + " and " + option + " would both read standard input");
        }
        from_standard_input = option;
    }
    for (const char* option : {"--nll", "--trace"}) {
        if (!o.resume || !given(app, option)) continue;
        throw std::invalid_argument(std::string(option) + " needs a measurement, which --resume may leave out");
    }
}

/// "a,b", as often as the option is given, in single words.
std::vector<std::string> split(const std::vector<std::string>& texts) {
    std::vector<std::string> words;
    for (const std::string& text : texts) {
        for (std::size_t begin = 0; begin <= text.size();) {
            const std::size_t end = std::min(text.find(',', begin), text.size());
            words.push_back(text.substr(begin, end - begin));
            begin = end + 1;
        }
    }
    return words;
}

/// "64" or "1/8".
state_count parse_state_count(const std::string& text) {
    const std::size_t slash = text.find('/');
    if (slash == std::string::npos) return {.number = parse_count("--states", text, 1)};
    const state_count share{.number = parse_count("--states", text.substr(0, slash), 1),
                            .parts = parse_count("--states", text.substr(slash + 1), 1)};
    if (share.number <= share.parts) return share;
    throw std::invalid_argument("--states must be at most 1 as a share of the context, is '" + text + "'");
}

std::vector<state_count> parse_states(const std::vector<std::string>& texts) {
    std::vector<state_count> states;
    for (const std::string& word : split(texts)) {
        const state_count k = parse_state_count(word);
        if (std::ranges::count(states, k) > 0) {
            throw std::invalid_argument("--states has " + std::to_string(k.number) +
                                        (k.parts > 0 ? '/' + std::to_string(k.parts) : std::string()) + " twice");
        }
        states.push_back(k);
    }
    return states;
}

/// Words that are among the choices, each once.
template <class Choices>
std::vector<std::string> parse_choices(const std::string& option, const std::vector<std::string>& texts,
                                       const Choices& choices) {
    std::vector<std::string> chosen;
    for (const std::string& word : split(texts)) {
        require_choice(option, word, choices);
        if (std::ranges::count(chosen, word) > 0) throw std::invalid_argument(option + " has " + word + " twice");
        chosen.push_back(word);
    }
    return chosen;
}

void interpret_table(options& o, const raw& r) {
    if (!r.format.empty()) {
        require_choice("--format", r.format, formats);
        o.format = static_cast<table_format>(std::ranges::find(formats, r.format) - formats.begin());
    }
    if (!r.columns.empty()) o.columns = parse_choices("--columns", {r.columns}, column_groups);
    if (!r.columns.empty() && o.format == table_format::csv) {
        throw std::invalid_argument("--columns has no effect with --format csv, which has all columns");
    }
    if (o.paper && o.format == table_format::csv) {
        throw std::invalid_argument("--format must be text or markdown with --paper, is 'csv'; --json has all numbers");
    }
    if (!o.sort.empty()) require_choice("--sort", o.sort, sort_keys);
}

void interpret(options& o, const raw& r) {
    for (const std::string& specs : r.policies) {
        for (auto& spec : parse_policies(specs)) o.policies.push_back(std::move(spec));
    }
    if (!r.states.empty()) o.states = parse_states(r.states);
    if (!r.codecs.empty()) o.codecs = parse_choices("--codec", r.codecs, codecs);
    o.compare.assign(r.compare.begin(), r.compare.end());
    if (std::ranges::count(o.compare, "-") > 1) {
        throw std::invalid_argument("--compare can read standard input once only, is '- -'");
    }
    interpret_table(o, r);
    if (o.recall && (o.quiet || o.format == table_format::csv) && !o.json && !o.report && !o.resume) {
        throw std::invalid_argument("--recall has no effect with " + std::string(o.quiet ? "--quiet" : "--format csv") +
                                    ", unless --json or --report is given");
    }
    if (!r.context.empty()) o.context = parse_count("--context", r.context, 2);
    if (!r.tries.empty()) o.recall_tries = parse_count("--tries", r.tries, 1);
    if (!r.limit.empty()) o.limit = parse_count("--limit", r.limit, 1);
    if (!r.block.empty()) o.block = parse_count("--block", r.block, 1);
    if (r.profile) {
        o.profile.emplace();
        if (!r.near.empty()) o.profile->near = parse_count("--near", r.near, 1);
        if (r.without_own) o.profile->own = multistate::own_token::left_out;
    }
    o.threads = std::max(1u, std::thread::hardware_concurrency());
    if (!r.threads.empty()) o.threads = parse_count("--threads", r.threads, 1, most_threads);
    require_choice("--prefill", o.prefill, prefills);
    for (const policy_spec& spec : o.policies) {
        if (!spec.budget.needs_prompt() || o.feeding() == feeding::once) continue;
        throw std::invalid_argument("--policy " + spec.text + ": the budget " + std::string(spec.budget.name()) +
                                    " is computed from a whole prompt, which only --prefill once has");
    }
    if ((o.nll || o.trace) && (o.policies.size() != 1 || o.states.size() != 1 || o.codecs.size() != 1)) {
        throw std::invalid_argument(std::string(o.nll ? "--nll" : "--trace") +
                                    " needs exactly one --policy and one --states, and one --codec");
    }
}

}  // namespace

feeding feeding_named(std::string_view prefill) {
    return prefill == "block" ? feeding::block : prefill == "once" ? feeding::once : feeding::exact;
}

std::size_t state_count::at(std::size_t context) const {
    return parts == 0 ? number : std::max<std::size_t>(1, context * number / parts);
}

std::string model_name(const options& o) {
    return o.model ? o.model->filename().string() : std::string(bundled_model_name);
}

std::string text_name(const options& o) {
    const std::optional<std::filesystem::path>& path = o.tokens ? o.tokens : o.text;
    if (!path) return std::string(bundled_text_name);
    return *path == "-" ? name_of(*path) : path->filename().string();
}

std::optional<options> parse_options(int count, const char* const* arguments) {
    options o;
    raw r;
    CLI::App app(help_description, "perplexity");
    app.formatter(std::make_shared<help_formatter>(terminal_columns(STDOUT_FILENO)));
    app.allow_extras();
    describe(app, o, r);
    app.set_version_flag("--version", "multistate " MULTISTATE_VERSION);
    try {
        app.parse(count, arguments);
    } catch (const CLI::Success& help) {
        app.exit(help, std::cout, std::cerr);
        return std::nullopt;
    } catch (const CLI::ParseError& error) {
        throw std::invalid_argument(error.what());
    }
    check_extras(app);
    check_empty(app);
    if (r.list_policies) {
        print_policies(std::cout, describe_all_policies(), terminal_columns(STDOUT_FILENO));
        return std::nullopt;
    }
    check_effects(app, o);
    o.command = "perplexity";
    for (int i = 1; i < count; ++i) o.command.append(" ").append(arguments[i]);
    interpret(o, r);
    return o;
}

}  // namespace demo
