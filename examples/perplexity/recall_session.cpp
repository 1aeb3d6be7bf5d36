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

/// The most tokens of a text that is read as one sequence, unless --limit asks for more: the time of the full cache
/// grows with the square.
constexpr std::size_t longest_whole = 32768;

bool prints_text(const options& o) { return !o.quiet && o.format != table_format::csv; }

recall_results& begun(results& all) { return all.recall ? *all.recall : all.recall.emplace(); }

std::string explanation(const options& o) {
    return "Recall: " + std::string(recall_kind_names[0]) + "s and " + std::string(recall_kind_names[1]) +
           "s hidden in the text, " + std::to_string(o.recall_tries) + (o.recall_tries == 1 ? " try" : " tries") +
           " per cell. Across: the depth of the fact. Down: the tokens of the text. A pass key is found if all its "
           "tokens are the likeliest. A passage scores the share of its tokens that are; some of them can be guessed "
           "without it, see a small window. n. m.: not measurable with this model, whose full cache finds less than "
           "half. A text of at most k tokens scores as under full: nothing is forgotten.";
}

setting full_cache(const options& o) {
    return {.policy = parse_policies("full").front(), .states = 1, .block = o.block};
}

/// The first tokens of the text, after BOS if the model wants one.
sequence as_one_sequence(std::span<const token> text, std::optional<token> bos, std::size_t most) {
    sequence whole;
    if (bos) whole.push_back(*bos);
    const auto some = text.first(std::min(text.size(), most));
    whole.insert(whole.end(), some.begin(), some.end());
    return whole;
}

}  // namespace

recall_session::recall_session(const options& o, const gguf& file, std::span<const token> text, results& all)
    : o_(o), found_(begun(all)) {
    const tokenizer words = read_tokenizer(file);
    tasks_ = recall_tasks(words, text, {.lengths = lengths_for(all.about.context), .tries = o.recall_tries});
    sequences_ = sequences_of(tasks_);
    whole_ = as_one_sequence(text, words.bos(), o.limit.value_or(longest_whole));
    refuse_other_tasks();
    std::vector<std::string> texts;
    for (const token id : whole_) texts.push_back(words.bos() && texts.empty() ? "" : words.decode(id));
    found_.repeats.tokens = whole_.size();
    found_.repeats.trained_context = all.about.trained_context;
    found_.repeats.found = repeats_in(texts);
}

void recall_session::refuse_other_tasks() {
    const std::string tasks = fingerprint(sequences_) + fingerprint(std::span(&whole_, 1));
    if (!found_.tasks.empty() && found_.tasks != tasks) {
        throw std::runtime_error(name_of(*o_.resume) + ": its recall was measured with other tasks (--tries " +
                                 std::to_string(found_.tries) + "), not with these (--tries " +
                                 std::to_string(o_.recall_tries) + ")");
    }
    found_.tries = o_.recall_tries;
    found_.tasks = tasks;
}

std::vector<std::string> recall_session::measure(const llama& model, std::span<const setting> settings,
                                                 const std::function<void()>& save) {
    save_ = save;
    const std::size_t columns = terminal_columns(STDOUT_FILENO);
    if (prints_text(o_)) {
        std::cout << '\n' << wrapped(explanation(o_), {.width = columns}) << '\n';
        for (const recall_run& r : found_.runs) print(r);
    }
    measure_hidden_facts(model, settings);
    if (!found_.repeats.found.empty()) measure_repeats(model, settings);
    const bool asked = postponed_signal() == 0 || !found_.repeats.runs.empty();
    if (prints_text(o_) && asked) {
        std::cout << '\n';
        print_repeats(std::cout, found_.repeats, o_.format, columns);
        std::cout << std::flush;
    }
    return failures_;
}

void recall_session::run_after_full(std::span<const setting> settings, const auto& done, const auto& run) {
    const setting full = full_cache(o_);
    if (done.empty()) run(std::span(&full, 1));
    if (done.empty()) return;  // it failed, or was interrupted
    std::vector<setting> left;
    std::ranges::copy_if(settings, std::back_inserter(left), [&](const setting& s) {
        return std::ranges::none_of(done, [&](const auto& r) { return same(r.what, s); });
    });
    run(std::span<const setting>(left));
}

void recall_session::measure_hidden_facts(const llama& model, std::span<const setting> settings) {
    run_after_full(settings, found_.runs, [&](std::span<const setting> some) {
        run(model, {"recall", sequences_, true}, some, [&](const setting& s, const measurement& m) {
            llama judge = model;  // results may come from any thread
            found_.runs.push_back({s, recall_of(judge, tasks_, m)});
            print(found_.runs.back());
        });
    });
}

void recall_session::measure_repeats(const llama& model, std::span<const setting> settings) {
    repeat_results& repeats = found_.repeats;
    run_after_full(settings, repeats.runs, [&](std::span<const setting> some) {
        run(model, {"repeats", {&whole_, 1}, false}, some, [&](const setting& s, const measurement& m) {
            repeats.runs.push_back({s, scores_of(repeats.found, m.nll.front())});
        });
    });
}

void recall_session::run(const llama& model, const job& what, std::span<const setting> settings, const auto& deliver) {
    if (settings.empty() || postponed_signal() != 0) return;
    progress_bar bar(settings.size() * count_tokens(what.sequences), o_.quiet);
    const auto begin = [&](std::size_t index) {
        if (index < settings.size()) bar.begin(std::string(what.name) + ", " + name_of(settings[index]));
    };
    const watch w{.keep_hidden = what.keep_hidden,
                  .progress = [&](std::size_t tokens) { bar.advance(tokens); },
                  .stop = [] { return postponed_signal() != 0; }};
    begin(0);
    measure_all(model, what.sequences, settings, w, [&](finished f) {
        bar.clear();
        begin(f.index + 1);
        if (!f.result) return failures_.push_back(std::string(what.name) + ": " + f.failure);
        deliver(settings[f.index], *f.result);
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
