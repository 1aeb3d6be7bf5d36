// What a model still finds after forgetting: pass keys and passages, hidden at a depth of a text and asked for at its
// end.
//
//     const auto tasks = demo::recall_tasks(tokenizer, text, {.lengths = {256, 512, 1024}, .tries = 6});
//     const auto m = demo::measure(model, demo::sequences_of(tasks), setting, {.keep_hidden = true});
//     const auto cells = demo::recall_of(model, tasks, m);            // one per kind, length and depth
//
// The answer is fed as the rest of the sequence; a token counts if it was the likeliest. So a pass key is right if all
// its tokens are, which is what greedy decoding would give.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "llama.hpp"
#include "measurement.hpp"
#include "repeats.hpp"
#include "sequences.hpp"
#include "tokenizer.hpp"

namespace demo {

enum class recall_kind {
    pass_key,  ///< "The pass key is 48213. Remember it.", and "The pass key is" at the end
    passage,   ///< 32 tokens of the text, whose first 8 come again at the end
};
inline constexpr std::array<std::string_view, 2> recall_kind_names{"pass key", "passage"};

struct recall_plan {
    std::vector<std::size_t> lengths;                   ///< tokens of a sequence
    std::vector<double> depths{0, 0.25, 0.5, 0.75, 1};  ///< 0: after the first token; 1: directly before the question
    std::size_t tries = 6;                              ///< sequences per kind, length and depth
    std::uint32_t seed = 1;
};

struct recall_task {
    recall_kind kind;
    std::size_t length;  ///< as in the plan
    double depth;
    sequence tokens;         ///< ends with the answer
    std::size_t answer = 0;  ///< how many tokens the answer has
};

/// Throws std::invalid_argument if `text` has fewer tokens than the longest sequence, or if a length is too short for
/// statement and question. The same seed gives the same tasks.
[[nodiscard]] std::vector<recall_task> recall_tasks(const tokenizer& tokenizer, std::span<const token> text,
                                                    const recall_plan& plan);
[[nodiscard]] std::vector<sequence> sequences_of(std::span<const recall_task> tasks);

/// The tries of one kind, length and depth.
struct recall_cell {
    recall_kind kind;
    std::size_t length;
    double depth;
    std::size_t tries = 0;
    double score = 0;  ///< pass keys: the share that is right; passages: the share of tokens that is
};

/// Whether both have one kind, length and depth.
[[nodiscard]] bool same_place(const recall_cell& a, const recall_cell& b);

/// `m` must have the hidden states of the tasks' sequences. Cells in the order of the tasks.
[[nodiscard]] std::vector<recall_cell> recall_of(llama& model, std::span<const recall_task> tasks,
                                                 const measurement& m);

/// What one policy at one k found; cells as recall_of gives them.
struct recall_run {
    setting what;
    std::vector<recall_cell> cells;
};

/// What all policies found.
struct recall_results {
    std::size_t tries = 0;
    std::string tasks;             ///< fingerprint of their tokens, and of the text that repeats
    std::vector<recall_run> runs;  ///< the full cache first: the control
    repeat_results repeats;
};

/// The full cache finds less than this share: forgetting cannot be judged there.
inline constexpr double least_measurable = 0.5;

/// One grid per kind: lengths down, depths across. Where full scores under least_measurable, the cell says so, unless
/// `cells` are those of full.
void print_recall(std::ostream& out, std::string_view name, std::span<const recall_cell> cells,
                  std::span<const recall_cell> full);

}  // namespace demo
