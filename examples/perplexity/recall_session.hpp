// perplexity --recall: what each policy still finds, beside the perplexity that a session measures.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "options.hpp"
#include "results.hpp"

namespace demo {

/// Hides pass keys and passages in the text and asks for them (recall.hpp); then reads the text as one sequence and
/// compares the passages that it repeats (repeats.hpp). The full cache is the control of both. The results are in
/// `all.recall`; what is there before is not measured again.
class recall_session {
  public:
    /// `text` is all of it. Throws std::invalid_argument if the tasks do not fit text or context, and
    /// std::runtime_error, one sentence, if `all.recall` has other tasks.
    recall_session(const options& o, const gguf& file, std::span<const token> text, results& all);

    /// Prints one grid per policy and k, and calls `save`, as soon as each is measured. A signal ends this with what is
    /// done. Returns a sentence for each result that is not finite; without the full cache there are no others.
    [[nodiscard]] std::vector<std::string> measure(const llama& model, std::span<const setting> settings,
                                                   const std::function<void()>& save);

  private:
    void refuse_other_tasks();
    void measure_hidden_facts(const llama& model, std::span<const setting> settings);
    void measure_repeats(const llama& model, std::span<const setting> settings);
    /// The full cache first, unless it is among `done`; without it no other.
    void run_after_full(std::span<const setting> settings, const auto& done, const auto& run);
    struct job {
        const char* name;
        std::span<const sequence> sequences;
        bool keep_hidden;
    };
    void run(const llama& model, const job& what, std::span<const setting> settings, const auto& deliver);
    void print(const recall_run& r) const;

    const options& o_;
    recall_results& found_;
    std::vector<recall_task> tasks_;
    std::vector<sequence> sequences_;  // of the tasks
    sequence whole_;                   // the text
    std::function<void()> save_;
    std::vector<std::string> failures_;
};

}  // namespace demo
