#include "recall_session.hpp"

#include <algorithm>
#include <ctime>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "bundled.hpp"
#include "inputs.hpp"
#include "output_file.hpp"
#include "page.hpp"
#include "plan.hpp"
#include "read_vocabulary.hpp"
#include "recall.hpp"
#include "results.hpp"
#include "terminal.hpp"

namespace demo {

namespace {

/// A quarter, a half and all of the context.
std::vector<std::size_t> lengths_for(std::size_t context) { return {context / 4, context / 2, context}; }

class recall_session {
  public:
    explicit recall_session(const options& o) : o_(o) {
        if (o.json) json_.emplace(*o.json);
        if (o.report) report_.emplace(*o.report);
    }

    int measure_and_print() {
        const gguf file = open_model(o_);
        const std::unique_ptr<ms::thread_pool> pool = make_pool(o_.threads);
        llama model(file, *pool);
        const std::size_t context = prepare(file, model);
        bool skipped = false;
        const std::vector<setting> settings = plan(o_, model, context, skipped);
        progress_bar bar((settings.size() + 1) * count_tokens(sequences_), o_.quiet);
        postpone_signals();
        bar.begin("full");
        const setting full{.policy = parse_policies("full").front(), .states = 1, .block = o_.block};
        run(model, {&full, 1}, bar, [&](const setting& s, std::vector<recall_cell> cells) {
            control_ = std::move(cells);
            report(s, control_);
        });
        // Without the control nothing can be judged: it failed, or was interrupted.
        if (!settings.empty() && !control_.empty() && postponed_signal() == 0) {
            bar.begin(name_of(settings.front()));
            run(model, settings, bar,
                [&](const setting& s, const std::vector<recall_cell>& cells) { report(s, cells); });
        }
        finish();
        for (const std::string& failure : failures_) std::cerr << "perplexity: " << failure << '\n';
        return !failures_.empty() ? 1 : skipped ? 2 : 0;
    }

  private:
    /// Signals come to the first thread only.
    static std::unique_ptr<ms::thread_pool> make_pool(std::size_t threads) {
        const signals_blocked blocked;
        return std::make_unique<ms::thread_pool>(threads);
    }

    /// Makes the tasks; returns the context.
    std::size_t prepare(const gguf& file, const llama& model) {
        const std::size_t context = context_for(o_, file);
        const tokenizer words = read_tokenizer(file);
        const std::string text = o_.text ? read_file(*o_.text) : std::string(bundled_text());
        tasks_ = recall_tasks(words, words.encode(text), {.lengths = lengths_for(context), .tries = o_.recall_tries});
        sequences_ = sequences_of(tasks_);
        for (const std::string& sentence : model.notes()) note(sentence);
        about_ = provenance_of(o_, file, model, sequences_, context, std::time(nullptr));
        if (o_.quiet) return context;
        std::cout << about_.model << ": " << recall_kind_names[0] << "s and " << recall_kind_names[1] << "s in "
                  << about_.text << ", " << o_.recall_tries
                  << " tries per cell. A pass key is found if all its tokens are "
                  << "the likeliest; of a passage the share of tokens counts. n. m.: not measurable with this model, "
                  << "whose full cache finds less than half.\n"
                  << std::flush;
        return context;
    }

    void run(llama& model, std::span<const setting> settings, progress_bar& bar, auto&& deliver) {
        const watch w{.keep_hidden = true,
                      .progress = [&](std::size_t tokens) { bar.advance(tokens); },
                      .stop = [] { return postponed_signal() != 0; }};
        measure_all(model, sequences_, settings, w, [&](finished f) {
            bar.clear();
            if (!f.result) return failures_.push_back(f.failure);
            llama judge = model;  // results may come from any thread
            deliver(settings[f.index], recall_of(judge, tasks_, *f.result));
            if (f.index + 1 < settings.size()) bar.begin(name_of(settings[f.index + 1]));
        });
    }

    void report(const setting& s, const std::vector<recall_cell>& cells) {
        if (!o_.quiet) {
            std::cout << '\n';
            print_recall(std::cout, name_of(s) + (o_.codecs.size() > 1 ? ", " + s.codec : ""), cells, control_);
            std::cout << std::flush;
        }
        runs_.push_back({s, cells});
        for (const recall_cell& cell : cells) {
            const auto control =
                std::ranges::find_if(control_, [&](const recall_cell& c) { return same_place(c, cell); });
            list_.push_back({{"policy", s.policy.text},
                             {"states", s.states},
                             {"codec", s.codec},
                             {"kind", recall_kind_names[static_cast<std::size_t>(cell.kind)]},
                             {"length", cell.length},
                             {"depth", cell.depth},
                             {"tries", cell.tries},
                             {"score", cell.score},
                             {"measurable", control->score >= least_measurable}});
        }
    }

    void finish() {
        if (json_) {
            json_->stream() << nlohmann::ordered_json{{"model", about_.model},
                                                      {"model_fingerprint", about_.model_fingerprint},
                                                      {"text", about_.text},
                                                      {"context", about_.context},
                                                      {"version", about_.version},
                                                      {"date", about_.date},
                                                      {"recall", list_}}
                                   .dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
                            << '\n';
            json_->commit();
        }
        if (report_ && !runs_.empty()) {
            results all;
            all.about = about_;
            write_page(report_->stream(), all,
                       {.tokens = {}, .lives = {}, .recall = std::move(runs_), .command = o_.command});
            report_->commit();
        }
        if (postponed_signal() != 0) note("interrupted; what is done is printed");
    }

    const options& o_;
    std::optional<output_file> json_, report_;
    provenance about_;
    std::vector<recall_task> tasks_;
    std::vector<sequence> sequences_;
    std::vector<recall_cell> control_;
    std::vector<recall_run> runs_;  // for the report
    std::vector<std::string> failures_;
    nlohmann::ordered_json list_ = nlohmann::ordered_json::array();
};

}  // namespace

int measure_recall(const options& o) {
    check_files(o);
    return recall_session(o).measure_and_print();
}

}  // namespace demo
