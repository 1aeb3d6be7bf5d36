// perplexity: what forgetting costs on a real model, by policy and by k. See --help.
#include <algorithm>
#include <exception>
#include <iostream>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <unistd.h>
#include <vector>

#include "gguf.hpp"
#include "llama.hpp"
#include "measurement.hpp"
#include "options.hpp"
#include "output_file.hpp"
#include "profile.hpp"
#include "read_vocabulary.hpp"
#include "report.hpp"
#include "sequences.hpp"

namespace {

constexpr std::size_t default_context = 1024;

/// A bar on standard error, only where that is a terminal.
class progress_bar {
  public:
    progress_bar(std::size_t total, bool quiet) : total_(total), shown_(!quiet && isatty(STDERR_FILENO) != 0) {}
    ~progress_bar() {
        if (shown_) std::cerr << "\r\033[K" << std::flush;
    }
    progress_bar(const progress_bar&) = delete;
    progress_bar& operator=(const progress_bar&) = delete;

    void begin(std::string name) { name_ = std::move(name); }
    void advance(std::size_t tokens) {
        constexpr std::size_t width = 40;
        const std::lock_guard lock(mutex_);
        done_ += tokens;
        const std::size_t filled = std::min(width, width * done_ / total_);
        if (!shown_) return;
        std::cerr << "\r\033[K[" << std::string(filled, '#') << std::string(width - filled, ' ') << "] "
                  << 100 * done_ / total_ << " %  " << name_ << std::flush;
    }

  private:
    std::mutex mutex_;  // sequences run on several threads
    std::size_t total_;
    std::size_t done_ = 0;
    bool shown_;
    std::string name_;
};

/// What the reader of the results should know, quiet or not.
void note(const std::string& sentence) { std::cerr << "perplexity: note: " << sentence << '\n'; }

std::string tokens_of(std::size_t n) { return demo::grouped(n) + (n == 1 ? " token" : " tokens"); }

std::size_t count_tokens(const std::vector<demo::sequence>& sequences) {
    std::size_t tokens = 0;
    for (const auto& s : sequences) tokens += s.size();
    return tokens;
}

std::size_t count_predictions(const std::vector<demo::sequence>& sequences) {
    return count_tokens(sequences) - sequences.size();
}

std::filesystem::path source_of(const demo::options& o) { return o.tokens ? *o.tokens : o.text; }

/// The trained length bounds the default only: a user may ask for more, or have a file that names none.
std::size_t context_for(const demo::options& o, const demo::gguf& file) {
    if (o.context) return *o.context;
    const std::uint64_t trained = file.integer("llama.context_length", 0);
    return trained < 2 ? default_context : static_cast<std::size_t>(std::min<std::uint64_t>(trained, default_context));
}

/// The text in sequences of `context` tokens; says how much of it is in none.
std::vector<demo::sequence> cut_text(const demo::options& o, const demo::tokenizer& words, std::size_t context) {
    const std::string text = demo::read_file(o.text);
    const std::string name = demo::name_of(o.text);
    if (const std::string odd = demo::odd_bytes(text); !odd.empty()) note(name + ": " + odd);
    const std::vector<demo::token> tokens = words.encode(text);
    auto sequences = demo::cut(tokens, words.bos(), context);
    const std::size_t bos = words.bos() ? 1 : 0;
    const std::size_t all = tokens.size() + bos;
    if (sequences.empty()) {
        throw std::runtime_error(name + ": too short: " + tokens_of(all) + (bos ? " with BOS" : "") +
                                 ", a sequence of --context " + std::to_string(context) + " needs at least " +
                                 std::to_string((context + 1) / 2) +
                                 (all < 2 ? "" : "; --context " + std::to_string(all) + " takes them all"));
    }
    const std::size_t left_out = tokens.size() + bos * sequences.size() - count_tokens(sequences);
    if (left_out > 0 && (!o.limit || count_predictions(sequences) < *o.limit)) {
        note(name + ": the last " + demo::grouped(left_out) + " of " + tokens_of(tokens.size()) +
             " are left out, less than half a sequence of --context " + std::to_string(context));
    }
    return sequences;
}

/// All of a text or of the ids in a file, to the limit; in `context` how long a sequence may be.
std::vector<demo::sequence> read_sequences(const demo::options& o, const demo::gguf& file, std::size_t& context,
                                           std::size_t vocabulary) {
    std::vector<demo::sequence> sequences;
    if (o.tokens) {
        sequences = demo::read_tokens(*o.tokens, vocabulary);
        if (sequences.empty()) throw std::runtime_error(demo::name_of(*o.tokens) + ": too short: no tokens");
        context = std::ranges::max(sequences, {}, &demo::sequence::size).size();
    } else {
        context = context_for(o, file);
        const demo::tokenizer words = demo::read_tokenizer(file);
        for (const std::string& sentence : words.notes()) note(sentence);
        if (words.size() > vocabulary) {
            throw file.error("the tokenizer has " + std::to_string(words.size()) + " tokens, the model only " +
                             std::to_string(vocabulary));
        }
        sequences = cut_text(o, words, context);
    }
    if (o.limit) demo::limit_predictions(sequences, *o.limit);
    return sequences;
}

int print_tokens(const demo::options& o) {
    const demo::gguf file(o.model);
    const auto any_size = static_cast<std::size_t>(std::numeric_limits<demo::token>::max());
    std::size_t context = 0;
    demo::print_tokens(std::cout, read_sequences(o, file, context, any_size));
    return 0;
}

/// The pairs that can be had, in order; says which cannot, and which policies are there already.
std::vector<demo::setting> plan(const demo::options& o, const demo::llama& model, std::size_t context, bool& skipped) {
    std::vector<std::size_t> states = o.states;
    if (states.empty()) {
        for (const std::size_t part : {8U, 4U, 2U}) states.push_back(std::max<std::size_t>(1, context / part));
        states.erase(std::unique(states.begin(), states.end()), states.end());
    }
    std::vector<demo::setting> settings;
    std::map<std::string, std::string> known;  // what a policy comes to at all k: how it was written first
    for (const demo::policy_spec& policy : o.policies) {
        std::vector<demo::setting> possible;
        std::vector<std::string> problems;
        std::string meaning;
        for (const std::size_t k : states) {
            demo::setting s{.policy = policy, .states = k, .codec = o.codec, .feeding = o.feeding(), .block = o.block};
            try {
                meaning += demo::resolved(model, s) + '\n';
                possible.push_back(std::move(s));
            } catch (const std::invalid_argument& problem) {
                meaning += std::string(policy.policy.name()) + ' ' + problem.what() + '\n';
                problems.push_back("skipped " + policy.text + " at " + problem.what());
            }
        }
        if (const auto [first, added] = known.emplace(meaning, policy.text); !added) {
            note(policy.text + (first->second == policy.text ? " is given twice" : " is the same as " + first->second) +
                 " and measured once");
            continue;
        }
        settings.insert(settings.end(), possible.begin(), possible.end());
        for (const std::string& problem : problems) std::cerr << "perplexity: " << problem << '\n';
        skipped = skipped || !problems.empty();
    }
    return settings;
}

bool forgets(const demo::setting& s) { return s.policy.policy.forgets() != multistate::per::never; }

void announce(const demo::options& o, const demo::llama& model, const std::vector<demo::sequence>& sequences,
              std::size_t context) {
    const auto& c = model.config();
    std::cout << o.model.filename().string() << " (" << c.layers << " layers, " << c.heads << " query heads on "
              << c.kv_heads << " KV heads of " << c.key_dim << ") on "
              << (source_of(o) == "-" ? demo::name_of("-") : source_of(o).filename().string()) << ": "
              << sequences.size() << (sequences.size() == 1 ? " sequence" : " sequences");
    if (!o.tokens) std::cout << " of up to " << context << " tokens";
    std::cout << ", " << demo::grouped(count_predictions(sequences)) << " tokens predicted, " << o.prefill
              << " prefill, " << o.codec << " cache, " << o.threads << (o.threads == 1 ? " thread, " : " threads, ")
              << multistate::target_name() << "\n\n"
              << std::flush;
}

void print_notes(const demo::gguf& file, const demo::llama& model, const std::vector<demo::sequence>& sequences) {
    for (const std::string& sentence : model.notes()) note(sentence);
    const std::size_t longest = std::ranges::max(sequences, {}, &demo::sequence::size).size();
    const std::uint64_t trained = file.integer("llama.context_length", 0);
    if (trained < 2 || longest <= trained) return;
    note("sequences of " + tokens_of(longest) + " are longer than the " + demo::grouped(trained) +
         " that the model was made for");
}

struct measurements {
    std::vector<demo::run> runs;
    std::optional<demo::measurement> full;  ///< the baseline; in `runs` only where it was asked for
    std::vector<std::string> failures;
};

/// Without the baseline nothing can be said; without another result, all but that.
measurements measure_all(const demo::options& o, const demo::llama& model, const std::vector<demo::sequence>& sequences,
                         const std::vector<demo::setting>& settings) {
    const auto forgetting = static_cast<std::size_t>(std::ranges::count_if(settings, forgets));
    const bool needs_full = !o.quiet || forgetting < settings.size();
    const std::size_t passes = forgetting + (needs_full ? 1 : 0);
    progress_bar bar(std::max<std::size_t>(1, passes * count_tokens(sequences)), o.quiet);
    const demo::watch watch{.forgotten = o.trace.has_value(), .progress = [&](std::size_t n) { bar.advance(n); }};
    measurements all;
    if (needs_full) {
        bar.begin("full");
        demo::setting s{.policy = demo::parse_policies("full").front(), .states = 1, .codec = o.codec};
        s.block = o.block;
        all.full = demo::measure(model, sequences, s, watch);
    }
    for (const demo::setting& s : settings) {
        bar.begin(s.policy.text + ", k = " + std::to_string(s.states));
        try {
            all.runs.push_back({s, forgets(s) ? demo::measure(model, sequences, s, watch) : *all.full});
        } catch (const demo::not_finite& problem) {
            all.failures.emplace_back(problem.what());
        }
    }
    return all;
}

/// What the options name to be read and written, without two that are the same file.
void check_files(const demo::options& o) {
    std::vector<demo::named_file> inputs{{"--model", o.model}, {o.tokens ? "--tokens" : "--text", source_of(o)}};
    std::vector<demo::named_file> outputs;
    if (!o.quiet) outputs.push_back({"the table (--quiet prints none)", "-"});
    if (o.json) outputs.push_back({"--json", *o.json});
    if (o.nll) outputs.push_back({"--nll", *o.nll});
    if (o.trace) outputs.push_back({"--trace", *o.trace});
    demo::check_files(inputs, outputs);
}

int print_profile(const demo::options& o) {
    check_files(o);
    std::optional<demo::output_file> json;
    if (o.json) json.emplace(*o.json);
    const demo::gguf file(o.model);
    multistate::thread_pool pool(o.threads);
    const demo::llama model(file, pool);
    std::size_t context = 0;
    const auto sequences = read_sequences(o, file, context, model.config().vocabulary);
    print_notes(file, model, sequences);
    const std::size_t near = o.profile->near + (o.profile->own == multistate::own_token::counted ? 0 : 1);
    if (std::ranges::max(sequences, {}, &demo::sequence::size).size() <= near) {
        throw std::runtime_error(demo::name_of(source_of(o)) + ": too short: no sequence has more than " +
                                 tokens_of(near) + ", so that all are near");
    }
    progress_bar bar(count_tokens(sequences), o.quiet);
    bar.begin("profile");
    const auto profile =
        demo::profile_heads(model, sequences, *o.profile, [&](std::size_t tokens) { bar.advance(tokens); });
    if (!o.quiet) demo::print_profile(std::cout, profile, model.config(), *o.profile);
    if (json) {
        demo::write_profile(json->stream(), profile, model.config(), *o.profile, o.model.string());
        json->commit();
    }
    return 0;
}

void require_standard_output() {
    if (!std::cout.flush()) throw std::runtime_error("standard output: cannot be written");
}

int measure(const demo::options& o) {
    check_files(o);
    std::optional<demo::output_file> json, nll, trace;
    if (o.json) json.emplace(*o.json);
    if (o.nll) nll.emplace(*o.nll);
    if (o.trace) trace.emplace(*o.trace);

    const demo::gguf file(o.model);
    multistate::thread_pool pool(o.threads);
    const demo::llama model(file, pool);
    std::size_t context = 0;
    const auto sequences = read_sequences(o, file, context, model.config().vocabulary);
    if (count_predictions(sequences) == 0) {
        throw std::runtime_error(demo::name_of(source_of(o)) +
                                 ": too short: sequences of one token, nothing to predict");
    }
    print_notes(file, model, sequences);
    bool skipped = false;
    const auto settings = plan(o, model, context, skipped);
    if (!o.quiet) announce(o, model, sequences, context);
    if (!json && !nll && !trace) require_standard_output();  // nobody would see the results

    const auto [runs, full, failures] = measure_all(o, model, sequences, settings);
    if (!o.quiet) demo::print_table(std::cout, runs, *full);
    if (json) {
        demo::write_json(json->stream(), runs, o, context);
        json->commit();
    }
    if (nll && !runs.empty()) {
        demo::write_nll(nll->stream(), runs.front().result);
        nll->commit();
    }
    if (trace && !runs.empty()) {
        demo::write_trace(trace->stream(), runs.front().result);
        trace->commit();
    }
    for (const std::string& failure : failures) std::cerr << "perplexity: " << failure << '\n';
    return !failures.empty() ? 1 : skipped ? 2 : 0;
}

}  // namespace

int main(int count, char** arguments) {
    demo::open_standard_descriptors();
    demo::handle_signals();
    try {
        const auto o = demo::parse_options(count, arguments);
        const int code = !o ? 0 : o->print_tokens ? print_tokens(*o) : o->profile ? print_profile(*o) : measure(*o);
        require_standard_output();
        return code;
    } catch (const std::bad_alloc&) {
        std::cerr << "perplexity: not enough memory\n";
    } catch (const std::exception& error) {
        std::cerr << "perplexity: " << error.what() << '\n';
    }
    return 1;
}
