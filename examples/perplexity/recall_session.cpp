#include "recall_session.hpp"

#include <algorithm>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <unistd.h>
#include <utility>

#include "inputs.hpp"
#include "output_file.hpp"
#include "read_vocabulary.hpp"
#include "terminal.hpp"

namespace demo {

namespace {

/// A quarter, a half and all of the context.
std::vector<std::size_t> lengths_for(std::size_t context) { return {context / 4, context / 2, context}; }

bool prints_text(const options& o) { return !o.quiet && o.format != table_format::csv; }

recall_results& begun(results& all) { return all.recall ? *all.recall : all.recall.emplace(); }

std::string explanation(const options& o) {
    return "Recall: " + std::string(recall_kind_names[0]) + "s and " + std::string(recall_kind_names[1]) +
           "s hidden in the text, " + std::to_string(o.recall_tries) + (o.recall_tries == 1 ? " try" : " tries") +
           " per cell. Across: the depth of the fact. Down: the tokens of the text. A pass key is found if all its "
           "tokens are the likeliest; of a passage the share of tokens counts. n. m.: not measurable with this model, "
           "whose full cache finds less than half.";
}

}  // namespace

recall_session::recall_session(const options& o, const gguf& file, std::span<const token> text, results& all)
    : o_(o), found_(begun(all)) {
    tasks_ =
        recall_tasks(read_tokenizer(file), text, {.lengths = lengths_for(all.about.context), .tries = o.recall_tries});
    sequences_ = sequences_of(tasks_);
    const std::string tasks = fingerprint(sequences_);
    if (!found_.tasks.empty() && found_.tasks != tasks) {
        throw std::runtime_error(name_of(*o.resume) + ": its recall was measured with other tasks (--tries " +
                                 std::to_string(found_.tries) + "), not with these (--tries " +
                                 std::to_string(o.recall_tries) + ")");
    }
    found_.tries = o.recall_tries;
    found_.tasks = tasks;
}

std::vector<std::string> recall_session::measure(const llama& model, std::span<const setting> settings,
                                                 const std::function<void()>& save) {
    save_ = save;
    if (prints_text(o_)) {
        std::cout << '\n' << wrapped(explanation(o_), {.width = terminal_columns(STDOUT_FILENO)}) << '\n';
        for (const recall_run& r : found_.runs) print(r);
    }
    const setting full{.policy = parse_policies("full").front(), .states = 1, .block = o_.block};
    if (found_.runs.empty()) run(model, {&full, 1});
    // Without the control nothing can be judged: it failed, or was interrupted.
    if (found_.runs.empty()) return failures_;
    std::vector<setting> left;
    std::ranges::copy_if(settings, std::back_inserter(left), [&](const setting& s) {
        return std::ranges::none_of(found_.runs, [&](const recall_run& r) { return same(r.what, s); });
    });
    run(model, left);
    return failures_;
}

void recall_session::run(const llama& model, std::span<const setting> settings) {
    if (settings.empty() || postponed_signal() != 0) return;
    progress_bar bar(settings.size() * count_tokens(sequences_), o_.quiet);
    const auto begin = [&](std::size_t index) {
        if (index < settings.size()) bar.begin("recall, " + name_of(settings[index]));
    };
    const watch w{.keep_hidden = true,
                  .progress = [&](std::size_t tokens) { bar.advance(tokens); },
                  .stop = [] { return postponed_signal() != 0; }};
    begin(0);
    measure_all(model, sequences_, settings, w, [&](finished f) {
        bar.clear();
        begin(f.index + 1);
        if (!f.result) return failures_.push_back("recall: " + f.failure);
        llama judge = model;  // results may come from any thread
        found_.runs.push_back({settings[f.index], recall_of(judge, tasks_, *f.result)});
        print(found_.runs.back());
        save_();
    });
}

void recall_session::print(const recall_run& r) const {
    if (!prints_text(o_)) return;
    std::cout << '\n';
    print_recall(std::cout, name_of(r.what) + (o_.codecs.size() > 1 ? ", " + r.what.codec : ""), r.cells,
                 found_.runs.front().cells);
    std::cout << std::flush;
}

}  // namespace demo
