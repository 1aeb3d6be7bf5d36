// perplexity: what forgetting costs on a real model, by policy and by k. See --help.
#include <algorithm>
#include <exception>
#include <iostream>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <unistd.h>
#include <vector>

#include "gguf.hpp"
#include "llama.hpp"
#include "measurement.hpp"
#include "options.hpp"
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

std::size_t count_tokens(const std::vector<demo::sequence>& sequences) {
    std::size_t tokens = 0;
    for (const auto& s : sequences) tokens += s.size();
    return tokens;
}

/// The trained length bounds the default only: a user may ask for more, or have a file that names none.
std::size_t context_for(const demo::options& o, const demo::gguf& file) {
    if (o.context) return *o.context;
    const std::uint64_t trained = file.integer("llama.context_length", default_context);
    return static_cast<std::size_t>(std::clamp<std::uint64_t>(trained, 2, default_context));
}

std::vector<demo::sequence> read_sequences(const demo::options& o, const demo::gguf& file, std::size_t context,
                                           std::size_t vocabulary) {
    std::vector<demo::sequence> sequences;
    if (o.tokens) {
        sequences = demo::read_tokens(*o.tokens, vocabulary);
    } else {
        const demo::tokenizer words = demo::read_tokenizer(file);
        for (const std::string& note : words.notes()) std::cerr << "perplexity: note: " << note << '\n';
        if (words.size() > vocabulary) {
            throw file.error("the tokenizer has " + std::to_string(words.size()) + " tokens, the model only " +
                             std::to_string(vocabulary));
        }
        sequences = demo::cut(words.encode(demo::read_file(o.text)), words.bos(), context);
    }
    if (o.limit) demo::limit_predictions(sequences, *o.limit);
    return sequences;
}

int print_tokens(const demo::options& o) {
    const demo::gguf file(o.model);
    const auto any_size = static_cast<std::size_t>(std::numeric_limits<demo::token>::max());
    demo::print_tokens(std::cout, read_sequences(o, file, context_for(o, file), any_size));
    return 0;
}

/// The pairs that can be had, in order; says which cannot.
std::vector<demo::setting> plan(const demo::options& o, const demo::llama& model, std::size_t context, bool& skipped) {
    std::vector<std::size_t> states = o.states;
    if (states.empty()) {
        for (const std::size_t part : {8U, 4U, 2U}) states.push_back(std::max<std::size_t>(1, context / part));
    }
    std::vector<demo::setting> settings;
    for (const demo::policy_spec& policy : o.policies) {
        for (const std::size_t k : states) {
            demo::setting s{.policy = policy, .states = k, .codec = o.codec, .feeding = o.feeding(), .block = o.block};
            try {
                demo::check(model, s);
                settings.push_back(std::move(s));
            } catch (const std::invalid_argument& problem) {
                std::cerr << "perplexity: skipped " << policy.text << " at k = " << k << ": " << problem.what() << '\n';
                skipped = true;
            }
        }
    }
    return settings;
}

bool forgets(const demo::setting& s) { return s.policy.policy.forgets() != multistate::per::never; }

void announce(const demo::options& o, const demo::llama& model, const std::vector<demo::sequence>& sequences,
              std::size_t context) {
    const auto& c = model.config();
    std::cout << o.model.filename().string() << " (" << c.layers << " layers, " << c.heads << " query heads on "
              << c.kv_heads << " KV heads of " << c.key_dim << ") on "
              << (o.tokens ? *o.tokens : o.text).filename().string() << ": " << sequences.size()
              << (sequences.size() == 1 ? " sequence" : " sequences");
    if (!o.tokens) std::cout << " of up to " << context << " tokens";
    std::cout << ", " << demo::grouped(count_tokens(sequences) - sequences.size()) << " tokens predicted, " << o.prefill
              << " prefill, " << o.codec << " cache, " << o.threads << (o.threads == 1 ? " thread, " : " threads, ")
              << multistate::target_name() << "\n\n"
              << std::flush;
    for (const std::string& note : model.notes()) std::cerr << "perplexity: note: " << note << '\n';
}

/// All measurements. A baseline that was not asked for is in `full` alone.
std::vector<demo::run> measure_all(const demo::options& o, const demo::llama& model,
                                   const std::vector<demo::sequence>& sequences,
                                   const std::vector<demo::setting>& settings, std::optional<demo::measurement>& full) {
    const auto forgetting = static_cast<std::size_t>(std::ranges::count_if(settings, forgets));
    const bool needs_full = !o.quiet || forgetting < settings.size();
    const std::size_t passes = forgetting + (needs_full ? 1 : 0);
    progress_bar bar(std::max<std::size_t>(1, passes * count_tokens(sequences)), o.quiet);
    const demo::watch watch{.forgotten = o.trace.has_value(), .progress = [&](std::size_t n) { bar.advance(n); }};
    if (needs_full) {
        bar.begin("full");
        demo::setting s{.policy = demo::parse_policies("full").front(), .states = 1, .codec = o.codec};
        s.block = o.block;
        full = demo::measure(model, sequences, s, watch);
    }
    std::vector<demo::run> runs;
    for (const demo::setting& s : settings) {
        bar.begin(s.policy.text + ", k = " + std::to_string(s.states));
        runs.push_back({s, forgets(s) ? demo::measure(model, sequences, s, watch) : *full});
    }
    return runs;
}

int measure(const demo::options& o) {
    const demo::gguf file(o.model);
    multistate::thread_pool pool(o.threads);
    const demo::llama model(file, pool);
    const std::size_t context = context_for(o, file);
    const auto sequences = read_sequences(o, file, context, model.config().vocabulary);
    if (count_tokens(sequences) == sequences.size()) {
        throw std::runtime_error((o.tokens ? *o.tokens : o.text).string() + ": too short, nothing to predict" +
                                 (o.tokens ? "" : " with sequences of " + std::to_string(context) + " tokens"));
    }
    std::optional<demo::output_file> json, nll, trace;
    if (o.json) json.emplace(*o.json);
    if (o.nll) nll.emplace(*o.nll);
    if (o.trace) trace.emplace(*o.trace);

    bool skipped = false;
    const auto settings = plan(o, model, context, skipped);
    if (!o.quiet) announce(o, model, sequences, context);
    std::optional<demo::measurement> full;
    const auto runs = measure_all(o, model, sequences, settings, full);
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
    return skipped ? 2 : 0;
}

}  // namespace

int main(int count, char** arguments) {
    try {
        const auto o = demo::parse_options(count, arguments);
        const int code = !o ? 0 : o->print_tokens ? print_tokens(*o) : measure(*o);
        if (!std::cout.flush()) throw std::runtime_error("standard output: cannot be written");
        return code;
    } catch (const std::bad_alloc&) {
        std::cerr << "perplexity: not enough memory\n";
    } catch (const std::exception& error) {
        std::cerr << "perplexity: " << error.what() << '\n';
    }
    return 1;
}
