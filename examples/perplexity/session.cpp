#include "session.hpp"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <iostream>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <unistd.h>
#include <utility>
#include <vector>

#include "inputs.hpp"
#include "output_file.hpp"
#include "page.hpp"
#include "plan.hpp"
#include "profile.hpp"
#include "read_vocabulary.hpp"
#include "recall_session.hpp"
#include "report.hpp"
#include "results.hpp"
#include "terminal.hpp"

namespace demo {

namespace {

/// The text of each token; its id if the file has no tokenizer.
std::vector<std::string> texts_of(const sequence& tokens, const gguf& file) {
    std::vector<std::string> texts;
    if (!file.has("tokenizer.ggml.model")) {
        for (const token id : tokens) texts.push_back(std::to_string(id) + ' ');
        return texts;
    }
    const tokenizer words = read_tokenizer(file);
    for (const token id : tokens) texts.push_back(words.decode(id));
    return texts;
}

std::string announcement(const options& o, const provenance& about, const std::vector<sequence>& sequences) {
    std::string text = about.model + " (" + std::to_string(about.layers) + " layers, " + std::to_string(about.heads) +
                       " query heads on " + std::to_string(about.kv_heads) + " KV heads of " +
                       std::to_string(about.key_dim) + ") on " + about.text + ": " + std::to_string(sequences.size()) +
                       (sequences.size() == 1 ? " sequence" : " sequences");
    if (!o.tokens) text += " of up to " + std::to_string(about.context) + " tokens";
    text += ", " + grouped(count_predictions(sequences)) + " tokens predicted, " + o.prefill + " prefill, ";
    text += ms::listed(o.codecs);
    return text + " cache, " + std::to_string(o.threads) + (o.threads == 1 ? " thread, " : " threads, ") + about.target;
}

void require_standard_output() {
    if (!std::cout.flush()) throw std::runtime_error("standard output: cannot be written");
}

/// Whether it must be measured: full in f32 is the baseline, which is there.
bool costs(const setting& s) { return forgets(s) || s.codec != "f32"; }

constexpr double not_known = std::numeric_limits<double>::quiet_NaN();

/// What recall is measured of: all but the baselines.
std::vector<setting> policies_among(std::span<const setting> settings) {
    std::vector<setting> result;
    std::ranges::copy_if(settings, std::back_inserter(result),
                         [](const setting& s) { return costs(s) && !s.shorter && !s.oracle; });
    return result;
}

/// One call of the program that measures.
class session {
  public:
    explicit session(const options& o) : o_(o) {
        if (o.json) json_.emplace(*o.json);
        if (o.report) report_.emplace(*o.report);
        if (o.nll) nll_.emplace(*o.nll);
        if (o.trace) trace_.emplace(*o.trace);
    }

    int measure_and_print(std::optional<results> before) {
        const gguf file = open_model(o_);
        const std::unique_ptr<ms::thread_pool> pool = make_pool(o_.threads);
        const llama model(file, *pool);
        std::size_t context = 0;
        std::vector<token> text;
        sequences_ = read_sequences(o_, file, context, model.config().vocabulary, &text);
        if (count_predictions(sequences_) == 0) {
            throw std::runtime_error(source_name(o_) + ": too short: sequences of one token, nothing to predict");
        }
        print_notes(file, model, sequences_);
        all_.about = provenance_of(o_, file, model, sequences_, context, std::time(nullptr));
        if (before) take(std::move(*before));
        if (o_.recall) recall_.emplace(o_, file, text, all_);
        bool skipped = false;
        std::vector<setting> settings = plan(o_, model, context, skipped);
        const std::vector<setting> recalled = policies_among(settings);
        std::erase_if(settings, [&](const setting& s) { return find_run(all_.runs, s) != nullptr; });
        const std::size_t columns = terminal_columns(STDOUT_FILENO);
        if (prints_text()) {
            std::cout << wrapped(announcement(o_, all_.about, sequences_), {.width = columns}) << "\n\n" << std::flush;
        }
        if (!json_ && !report_ && !nll_ && !trace_) require_standard_output();  // nobody would see the results
        has_cells_ = model.config().replaced.has_value();
        if (report_) texts_ = texts_of(sequences_.front(), file);
        measure(model, settings);
        print_below_table(columns);
        if (recall_ && all_.full && !interrupted()) measure_recall(model, recalled);
        finish();
        if (report_ && all_.full) write_report(model);
        for (const std::string& failure : failures_) std::cerr << "perplexity: " << failure << '\n';
        return !failures_.empty() ? 1 : skipped ? 2 : 0;
    }

  private:
    /// Signals come to the first thread only.
    static std::unique_ptr<ms::thread_pool> make_pool(std::size_t threads) {
        const signals_blocked blocked;
        return std::make_unique<ms::thread_pool>(threads);
    }
    static bool interrupted() { return postponed_signal() != 0; }
    [[nodiscard]] bool prints_text() const { return !o_.quiet && o_.format != table_format::csv; }

    /// Goes on from a file. Throws if it is of something else.
    void take(results before) {
        const std::string name = name_of(*o_.resume);
        refuse_other(before.about, all_.about, name);
        if (before.about.version != all_.about.version || before.about.target != all_.about.target) {
            note(name + ": was measured by version " + before.about.version + " for " + before.about.target +
                 ", this is version " + all_.about.version + " for " + all_.about.target +
                 ": decisions that are close may differ");
        }
        all_.full = std::move(before.full);
        all_.runs = std::move(before.runs);
        resumed_ = all_.runs.size();
        all_.shared = std::move(before.shared);
        all_.recall = std::move(before.recall);
    }

    void measure(const llama& model, const std::vector<setting>& settings) {
        std::vector<setting> costly;
        std::ranges::copy_if(settings, std::back_inserter(costly), costs);
        const bool needs_full = !o_.quiet || json_ || report_ || costly.size() < settings.size();
        const bool runs_full = needs_full && !(all_.full && settings.empty());
        progress_bar bar((costly.size() + (runs_full ? 1 : 0)) * count_tokens(sequences_), o_.quiet);
        bar_ = &bar;
        postpone_signals();
        wanted_ = all_.runs.size() + settings.size();
        if (runs_full && !measure_full(model, !costly.empty())) return;
        start_table(settings);
        const watch w = watching({.forgotten = trace_ || report_, .beside = baseline_ ? &*baseline_ : nullptr});
        if (!costly.empty()) bar.begin(name_of(costly.front()));
        auto next = settings.begin();  // those before it are delivered, in this order
        const auto deliver_baselines = [&] {
            for (; next != settings.end() && !costs(*next); ++next) deliver(*next, *baseline_);
        };
        measure_all(model, sequences_, costly, w, [&](finished f) {
            deliver_baselines();
            ++next;
            if (f.index + 1 < costly.size()) bar.begin(name_of(costly[f.index + 1]));
            if (!f.result) return failures_.push_back(f.failure);
            deliver(costly[f.index], *f.result);
        });
        if (!interrupted()) deliver_baselines();
    }

    /// Beside the perplexity, which is there.
    void measure_recall(const llama& model, const std::vector<setting>& settings) {
        const auto failures = recall_->measure(model, settings, [this] {
            if (json_ && json_->replaces()) save_json();
        });
        failures_.insert(failures_.end(), failures.begin(), failures.end());
    }

    watch watching(watch w) const {
        w.progress = [this](std::size_t tokens) { bar_->advance(tokens); };
        w.stop = interrupted;
        return w;
    }

    /// Returns whether it was measured, or was interrupted. Throws not_finite: without it nothing can be said.
    bool measure_full(const llama& model, bool keep_hidden) {
        bar_->begin("full");
        const setting s{.policy = parse_policies("full").front(), .states = 1, .block = o_.block};
        std::string failure;
        measure_all(model, sequences_, {&s, 1}, watching({.keep_hidden = keep_hidden}), [&](finished f) {
            baseline_ = std::move(f.result);
            failure = f.failure;
        });
        if (!failure.empty()) throw not_finite(failure);
        if (baseline_ && !all_.full) all_.full = *baseline_;
        return baseline_.has_value();
    }

    void start_table(const std::vector<setting>& settings) {
        if (o_.quiet) return;
        std::size_t width = 0;
        bool several = o_.codecs.size() > 1;
        for (const setting& s : settings) width = std::max(width, s.policy.text.size());
        for (const run& r : all_.runs) {
            width = std::max(width, r.what.policy.text.size());
            several = several || r.what.codec != o_.codecs.front();
        }
        bar_->clear();
        const bool csv = o_.format == table_format::csv;
        table_.emplace(std::cout,
                       result_table::layout{.format = o_.format,
                                            .columns = csv ? csv_columns() : columns_of(o_.columns, several),
                                            .sort = o_.sort,
                                            .policy_width = width},
                       *all_.full);
        for (const run& r : all_.runs) table_->add(r);
    }

    /// A result is printed and written as soon as it is there.
    void deliver(const setting& s, const measurement& m) {
        bar_->clear();
        if (json_ || o_.shared_states) compare_kept(s, m);
        all_.runs.push_back({s, m});
        if (table_) table_->add(all_.runs.back());
        if (nll_) {
            write_nll(nll_->stream(), m);
            nll_->commit();
        }
        if (report_ && !has_cells_ && !s.shorter && s.codec == o_.codecs.front())
            lives_.push_back(retained_of(s, m, shape_of_lives()));
        if (trace_) {
            write_trace(trace_->stream(), m);
            trace_->commit();
        }
        if (json_ && json_->replaces()) save_json();
    }

    /// With each policy before, at the same k and in the same codec. No file holds which states a run kept: the share
    /// with a run of --resume does not exist.
    void compare_kept(const setting& s, const measurement& m) {
        const auto comparable = [&](const setting& other) {
            return forgets(other) && !other.shorter && other.states == s.states && other.codec == s.codec;
        };
        if (!comparable(s)) return;
        measurement only;
        only.kept = m.kept;
        for (const run& r : std::span(all_.runs).first(resumed_)) {
            if (comparable(r.what))
                all_.shared.push_back({r.what.policy.text, s.policy.text, s.states, s.codec, not_known});
        }
        for (const auto& [other, held] : held_) {
            if (!comparable(other)) continue;
            all_.shared.push_back(
                {other.policy.text, s.policy.text, s.states, s.codec, shared_states(held, only, sequences_).share()});
        }
        held_.emplace_back(s, std::move(only));
    }

    void note_unknown_shares() const {
        const auto unknown =
            std::ranges::count_if(all_.shared, [](const shared_share& s) { return std::isnan(s.share); });
        if (unknown == 0) return;
        note("shared_states lack " + std::to_string(unknown) + (unknown == 1 ? " pair" : " pairs") +
             ": --resume does not know which states a run kept that was measured before. Policies that are measured in "
             "one call have all pairs");
    }

    void save_json() {
        write_json(json_->stream(), all_);
        json_->commit();
    }

    [[nodiscard]] ms::lifetimes_shape shape_of_lives() const {
        return {.layers = all_.about.layers, .kv_heads = all_.about.kv_heads, .tokens = sequences_.front().size()};
    }

    /// A pass over the first sequence; none if cells serve some heads, or if all of its tokens are near.
    [[nodiscard]] std::optional<head_shares> shares_of_heads(const llama& model) const {
        const profile_setting s;
        if (has_cells_ || sequences_.front().size() <= s.near) return std::nullopt;
        return head_shares{s.near, profile_heads(model, {&sequences_.front(), 1}, s, {}).near.recency()};
    }

    void write_report(const llama& model) {
        write_page(report_->stream(), all_,
                   {.tokens = std::move(texts_),
                    .lives = std::move(lives_),
                    .heads = shares_of_heads(model),
                    .command = o_.command});
        report_->commit();
    }

    void print_below_table(std::size_t columns) {
        bar_ = nullptr;
        if (!table_) return;
        table_->finish();
        if (!prints_text()) return;
        print_conclusions(std::cout, all_.runs, *all_.full, columns);
        if (o_.shared_states) print_shared(std::cout, all_.shared);
        std::cout << std::flush;
    }

    /// The last state of the JSON. If nothing was done, nothing is written.
    void finish() {
        all_.complete = !interrupted() && failures_.empty();
        if (json_ && all_.full) save_json();
        note_unknown_shares();
        if (!interrupted()) return;
        std::cout << std::flush;
        note("interrupted; " + std::to_string(all_.runs.size()) + " of " + std::to_string(wanted_) +
             " results are done" + (recall_ ? ", recall is not" : "") +
             (o_.json && all_.full && *o_.json != "-" ? ", --resume " + o_.json->string() + " goes on" : ""));
    }

    const options& o_;
    std::optional<output_file> json_, report_, nll_, trace_;
    std::vector<sequence> sequences_;
    results all_;
    std::size_t resumed_ = 0;  // results that were there before: the first of all_.runs
    std::optional<recall_session> recall_;
    std::optional<measurement> baseline_;                // full, if it was measured now
    std::vector<std::pair<setting, measurement>> held_;  // of each, only what it kept
    std::vector<std::string> texts_;                     // for the report, of the tokens of the first sequence
    std::vector<retained> lives_;                        // for the report, of the first sequence
    bool has_cells_ = false;                             // cells serve some heads, which hold no states
    std::vector<std::string> failures_;
    std::optional<result_table> table_;
    progress_bar* bar_ = nullptr;  // while something is measured
    std::size_t wanted_ = 0;       // results in all
};

}  // namespace

int measure(options o) {
    std::optional<results> before;
    if (o.resume) {
        before = read_json(read_file(*o.resume), name_of(*o.resume));
        if (!o.json && *o.resume != "-") o.json = o.resume;
    }
    check_files(o);
    return session(o).measure_and_print(std::move(before));
}

int compare(const options& o) {
    const auto read = [](const std::filesystem::path& path) { return read_json(read_file(path), name_of(path)); };
    const results a = read(o.compare.front());
    const results b = read(o.compare.back());
    print_comparison(std::cout, o, a, b);
    return 0;
}

}  // namespace demo
