#include "recall.hpp"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <ostream>
#include <random>
#include <stdexcept>
#include <utility>

namespace demo {

namespace {

constexpr std::size_t passage_tokens = 32, cue_tokens = 8;

/// The tokens of one task that are not filler.
struct hidden_fact {
    std::vector<token> statement, question, answer;
    std::size_t source = 0;       // where the statement stands in the text
    std::size_t source_size = 0;  // 0: nowhere
};

hidden_fact pass_key(const tokenizer& tokenizer, std::mt19937& random) {
    std::string key;
    for (std::size_t i = 0; i < 5; ++i) key += static_cast<char>('0' + random() % 10);
    hidden_fact fact{
        .statement = tokenizer.encode("The pass key is " + key + ". Remember it. " + key + " is the pass key.\n"),
        .question = tokenizer.encode("\nWhat is the pass key? The pass key is"),
        .answer = tokenizer.encode("\nWhat is the pass key? The pass key is " + key)};
    // The answer is what follows the question in the same text: a tokenizer may join the space with the first digit.
    const auto [in_question, in_answer] = std::ranges::mismatch(fact.question, fact.answer);
    fact.question.erase(in_question, fact.question.end());
    fact.answer.erase(fact.answer.begin(), in_answer);
    return fact;
}

hidden_fact passage(std::span<const token> text, std::mt19937& random) {
    const std::size_t begin = random() % (text.size() - passage_tokens + 1);
    const auto tokens = text.subspan(begin, passage_tokens);
    const auto cue = tokens.first(cue_tokens), rest = tokens.subspan(cue_tokens);
    return {.statement = {tokens.begin(), tokens.end()},
            .question = {cue.begin(), cue.end()},
            .answer = {rest.begin(), rest.end()},
            .source = begin,
            .source_size = passage_tokens};
}

/// A random place of `size` tokens in the text that does not hold the fact a second time, if there is one.
std::size_t place_for(std::size_t size, std::size_t text_size, const hidden_fact& fact, std::mt19937& random) {
    const std::size_t places = text_size - size + 1;
    const std::size_t begin = fact.source + 1 > size ? fact.source + 1 - size : 0;  // the first that overlaps
    const std::size_t end = fact.source_size == 0 ? begin : std::min(fact.source + fact.source_size, places);
    if (begin >= end || end - begin == places) return random() % places;
    const std::size_t place = random() % (places - (end - begin));
    return place < begin ? place : place + (end - begin);
}

/// Filler from a random place of the text, the statement at its depth, question and answer at the end.
sequence assembled(const tokenizer& tokenizer, std::span<const token> text, const hidden_fact& fact, double depth,
                   std::size_t length, std::mt19937& random) {
    sequence tokens;
    if (tokenizer.bos()) tokens.push_back(*tokenizer.bos());
    const std::size_t fixed = tokens.size() + fact.statement.size() + fact.question.size() + fact.answer.size();
    if (fixed >= length) {
        throw std::invalid_argument("recall: length: must be more than " + std::to_string(fixed) +
                                    ", what statement, question and answer take, is " + std::to_string(length));
    }
    const std::size_t filler = length - fixed;
    const auto pages = text.subspan(place_for(filler, text.size(), fact, random), filler);
    const auto before = static_cast<std::size_t>(std::lround(depth * static_cast<double>(filler)));
    const auto append = [&](std::span<const token> more) { tokens.insert(tokens.end(), more.begin(), more.end()); };
    append(pages.first(before));
    append(fact.statement);
    append(pages.subspan(before));
    append(fact.question);
    append(fact.answer);
    return tokens;
}

/// How many of the last `answer` tokens were the likeliest. Row i of `hidden` predicts token i + 1.
std::size_t likeliest(llama& model, const recall_task& task, const matrix& hidden, matrix& logits) {
    const std::size_t first = task.tokens.size() - task.answer;
    model.logits(hidden, first - 1, task.answer, logits);
    std::size_t right = 0;
    for (std::size_t i = 0; i < task.answer; ++i) {
        Eigen::Index best = 0;
        logits.row(static_cast<Eigen::Index>(i)).maxCoeff(&best);
        if (best == task.tokens[first + i]) ++right;
    }
    return right;
}

/// "88 %", or what stands for a cell that full does not find either.
std::string percent(double share) { return std::to_string(std::lround(100 * share)) + " %"; }
constexpr std::string_view not_measurable = "n. m.";

template <class T, class Of>
std::vector<T> distinct(std::span<const recall_cell> cells, Of of) {
    std::vector<T> values;
    for (const recall_cell& cell : cells) {
        if (std::ranges::find(values, of(cell)) == values.end()) values.push_back(of(cell));
    }
    return values;
}

const recall_cell* find(std::span<const recall_cell> cells, const recall_cell& like) {
    const auto found = std::ranges::find_if(cells, [&](const recall_cell& c) { return same_place(c, like); });
    return found == cells.end() ? nullptr : &*found;
}

}  // namespace

std::vector<recall_task> recall_tasks(const tokenizer& tokenizer, std::span<const token> text,
                                      const recall_plan& plan) {
    const std::size_t longest = std::ranges::max(plan.lengths);
    if (text.size() < longest) {
        throw std::invalid_argument("recall: the text: must have at least as many tokens as the longest sequence, " +
                                    std::to_string(longest) + ", has " + std::to_string(text.size()));
    }
    std::mt19937 random(plan.seed);
    std::vector<recall_task> tasks;
    for (const recall_kind kind : {recall_kind::pass_key, recall_kind::passage}) {
        for (const std::size_t length : plan.lengths) {
            for (const double depth : plan.depths) {
                for (std::size_t i = 0; i < plan.tries; ++i) {
                    const hidden_fact fact =
                        kind == recall_kind::pass_key ? pass_key(tokenizer, random) : passage(text, random);
                    tasks.push_back({kind, length, depth, assembled(tokenizer, text, fact, depth, length, random),
                                     fact.answer.size()});
                }
            }
        }
    }
    return tasks;
}

std::vector<sequence> sequences_of(std::span<const recall_task> tasks) {
    std::vector<sequence> sequences;
    for (const recall_task& task : tasks) sequences.push_back(task.tokens);
    return sequences;
}

bool same_place(const recall_cell& a, const recall_cell& b) {
    return a.kind == b.kind && a.length == b.length && a.depth == b.depth;
}

std::vector<recall_cell> recall_of(llama& model, std::span<const recall_task> tasks, const measurement& m) {
    std::vector<recall_cell> cells;
    matrix logits;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        const recall_task& task = tasks[i];
        const recall_cell like{task.kind, task.length, task.depth};
        if (cells.empty() || find(std::span(cells).last(1), like) == nullptr) cells.push_back(like);
        const std::size_t right = likeliest(model, task, m.hidden[i], logits);
        const double share = static_cast<double>(right) / static_cast<double>(task.answer);
        recall_cell& cell = cells.back();
        cell.score += task.kind == recall_kind::pass_key ? (right == task.answer ? 1.0 : 0.0) : share;
        ++cell.tries;
    }
    for (recall_cell& cell : cells) cell.score /= static_cast<double>(cell.tries);
    return cells;
}

void print_recall(std::ostream& out, std::string_view name, std::span<const recall_cell> cells,
                  std::span<const recall_cell> full) {
    const auto lengths = distinct<std::size_t>(cells, [](const recall_cell& c) { return c.length; });
    const auto depths = distinct<double>(cells, [](const recall_cell& c) { return c.depth; });
    constexpr int width = 7;
    for (const recall_kind kind : distinct<recall_kind>(cells, [](const recall_cell& c) { return c.kind; })) {
        out << name << ", " << recall_kind_names[static_cast<std::size_t>(kind)] << "\n   depth";
        for (const double depth : depths) out << std::setw(width) << percent(depth);
        out << '\n';
        for (const std::size_t length : lengths) {
            out << std::setw(8) << length;
            for (const double depth : depths) {
                const recall_cell like{kind, length, depth};
                const recall_cell *cell = find(cells, like), *control = find(full, like);
                const bool judged = cells.data() == full.data() ||  // the control itself shows what it finds
                                    (control != nullptr && control->score >= least_measurable);
                out << std::setw(width) << (judged && cell != nullptr ? percent(cell->score) : not_measurable);
            }
            out << '\n';
        }
    }
}

}  // namespace demo
