#include "options.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <iostream>
#include <span>
#include <stdexcept>
#include <thread>

#include <CLI/CLI.hpp>
#include <multistate/codecs/list.hpp>

#include "policy_list.hpp"

namespace demo {

namespace {

constexpr auto codecs = multistate::codecs::names;
constexpr std::array<std::string_view, 3> prefills{"exact", "block", "once"};

constexpr const char* description =
    "Measures what it costs a language model to forget: the perplexity of a text when the KV cache may keep only k\n"
    "states in each layer, by policy and k, beside the cost of the full cache. With no arguments it measures the\n"
    "bundled model on the bundled novella.";

constexpr const char* footer =
    "Policies (--list-policies shows all, with their parameters):\n"
    "  tova                        by its name, with default parameters\n"
    "  window+4                    the first 4 states, the sinks, are never forgotten\n"
    "  h2o(recent=0.25, sinks=2)   nor are the newest quarter of k and the first 2 states\n"
    "  snapkv:class                a preset: other defaults, here those of the authors' class\n"
    "  tova(slack=16)              16 states beyond k may wait for a decision, which falls every 17 tokens\n"
    "                              (of sinks, recent and slack a whole number counts states, one with a point is a\n"
    "                              share of k)\n"
    "  'h2o|value_norm|pool(width=7)'   a policy and parts that change it, in this order\n"
    "  'snapkv|pyramid(beta=20)'   a budget, last: layers keep different numbers of states, k in the mean\n"
    "  AdaKV                       as papers call it: snapkv|adaptive, whose KV heads keep k in the mean; it needs\n"
    "                              --prefill once\n"
    "  all                         every policy of the list; full is measured anyway\n"
    "\n"
    "How a sequence reaches the cache (--prefill):\n"
    "  exact  the states that survive are those of one token at a time; what papers call the perplexity of a policy\n"
    "  block  each block of --block tokens attends to itself and the survivors, then the cache shrinks to k once\n"
    "  once   all of a sequence but its last quarter is a prompt in one block, then one token at a time\n"
    "\n"
    "Examples:\n"
    "  perplexity --policy tova,h2o,window+4 --states 64,256\n"
    "  perplexity --model SmolLM-135M.Q8_0.gguf --text book.txt --context 2048 --limit 20000\n"
    "  perplexity --policy 'h2o(recent=0.25)' --states 128 --codec int8 --json result.json\n"
    "  perplexity --policy all --states 128 --limit 5000\n"
    "  perplexity --profile --near 64 --json heads.json\n"
    "  perplexity --print-tokens > ids.txt && perplexity --tokens ids.txt --policy tova --states 64 --nll nll.txt\n"
    "\n"
    "- as FILE is standard input for --text and --tokens, and standard output for --json, --nll and --trace, which "
    "then\n"
    "need --quiet. Of a text at most 256 MiB are read. Bytes that are not UTF-8, or 0, are tokenized as they are, "
    "with\n"
    "a note. An option that would have no effect is an error, except beside --list-policies. A policy that is given\n"
    "twice is measured once.\n"
    "\n"
    "Exit code: 0; 1 for an error; 2 if a policy cannot be had at some k (window+4 at k = 4) and was skipped.";

/// What CLI11 fills in, before it is checked.
struct raw {
    std::vector<std::string> policies{"window,window+4,h2o,tova"};
    std::vector<std::string> states;
    std::string context, limit, block, threads, near;
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
    app.add_option("--model", o.model, "the model, a GGUF file with general.architecture = llama")->type_name("FILE");
    auto* text =
        app.add_option("--text", o.text, "the text, cut into sequences of --context tokens")->type_name("FILE");
    app.add_option("--tokens", o.tokens, "token ids instead of a text: one sequence per line, taken as it is")
        ->type_name("FILE")
        ->excludes(text);
    app.add_option("--policy", r.policies, "which states to forget; several by commas or by repeating the option")
        ->type_name("SPEC")
        ->allow_extra_args(false)
        ->capture_default_str();
    app.add_flag("--list-policies", r.list_policies, "print what --policy can name, with parameters, and stop");
    app.add_option("--states", r.states,
                   "k: how many states survive; several by commas (default: 1/8, 1/4, 1/2 of the context)")
        ->type_name("K,...")
        ->allow_extra_args(false);
    app.add_option("--context", r.context, "tokens in a sequence (default 1024, or the trained length if less)")
        ->type_name("N");
    app.add_option("--limit", r.limit, "predict no more than this many tokens of the text (default: all)")
        ->type_name("TOKENS");
    app.add_option("--codec", o.codec, "how keys and values are stored: " + multistate::listed(codecs))
        ->capture_default_str();
    app.add_option("--prefill", o.prefill, "how tokens reach the cache: " + multistate::listed(prefills))
        ->capture_default_str();
    app.add_option("--block", r.block, "tokens that are worked on at once (default 64)")->type_name("N");
    app.add_option("--threads", r.threads, "threads (default: one per core)")->type_name("N");
    app.add_option("--json", o.json, "write the results as JSON")->type_name("FILE");
    app.add_option("--nll", o.nll, "write one negative log likelihood per line; one policy and one k only")
        ->type_name("FILE");
    app.add_option("--trace", o.trace, "write each state forgotten as CSV; one policy and one k only")
        ->type_name("FILE");
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
    if (o.tokens && given(app, "--context")) {
        throw std::invalid_argument("--context has no effect with --tokens, whose sequences are taken as they are");
    }
    if (o.model == "-") {
        throw std::invalid_argument("--model must be a file, is '-': a model cannot be read from standard input");
    }
}

/// "64,256", as often as the option is given.
std::vector<std::size_t> parse_states(const std::vector<std::string>& texts) {
    std::vector<std::size_t> states;
    for (const std::string& text : texts) {
        for (std::size_t begin = 0; begin <= text.size();) {
            const std::size_t end = std::min(text.find(',', begin), text.size());
            const std::size_t k = parse_count("--states", text.substr(begin, end - begin), 1);
            if (std::ranges::count(states, k) > 0) {
                throw std::invalid_argument("--states has " + std::to_string(k) + " twice");
            }
            states.push_back(k);
            begin = end + 1;
        }
    }
    return states;
}

void interpret(options& o, const raw& r) {
    for (const std::string& specs : r.policies) {
        for (auto& spec : parse_policies(specs)) o.policies.push_back(std::move(spec));
    }
    o.states = parse_states(r.states);
    if (!r.context.empty()) o.context = parse_count("--context", r.context, 2);
    if (!r.limit.empty()) o.limit = parse_count("--limit", r.limit, 1);
    if (!r.block.empty()) o.block = parse_count("--block", r.block, 1);
    if (r.profile) {
        o.profile.emplace();
        if (!r.near.empty()) o.profile->near = parse_count("--near", r.near, 1);
        if (r.without_own) o.profile->own = multistate::own_token::left_out;
    }
    o.threads = std::max(1u, std::thread::hardware_concurrency());
    if (!r.threads.empty()) o.threads = parse_count("--threads", r.threads, 1, most_threads);
    require_choice("--codec", o.codec, codecs);
    require_choice("--prefill", o.prefill, prefills);
    for (const policy_spec& spec : o.policies) {
        if (!spec.budget.needs_prompt() || o.feeding() == feeding::once) continue;
        throw std::invalid_argument("--policy " + spec.text + ": the budget " + std::string(spec.budget.name()) +
                                    " is computed from a whole prompt, which only --prefill once has");
    }
    if ((o.nll || o.trace) && (o.policies.size() != 1 || o.states.size() != 1)) {
        throw std::invalid_argument(std::string(o.nll ? "--nll" : "--trace") +
                                    " needs exactly one --policy and one --states");
    }
}

}  // namespace

feeding options::feeding() const {
    return prefill == "block" ? feeding::block : prefill == "once" ? feeding::once : feeding::exact;
}

std::optional<options> parse_options(int count, const char* const* arguments) {
    options o;
    o.model = std::filesystem::path(PERPLEXITY_MODEL_DIR) / "books-4m-f16.gguf";
    o.text = std::filesystem::path(PERPLEXITY_MODEL_DIR) / "bell-at-sallow-ferry.txt";
    raw r;
    CLI::App app(description, "perplexity");
    app.footer(footer);
    app.allow_extras();
    app.get_formatter()->column_width(28);
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
        print_policies(std::cout, describe_all_policies());
        return std::nullopt;
    }
    check_effects(app, o);
    interpret(o, r);
    return o;
}

}  // namespace demo
