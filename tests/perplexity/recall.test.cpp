// Hidden facts: what the tasks look like, and what the bundled model finds with and without its states.
#include "recall.hpp"

#include <algorithm>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>

#include "bundled.hpp"
#include "read_vocabulary.hpp"

namespace recall_test {

namespace ms = multistate;
using demo::recall_cell;
using demo::recall_kind;
using demo::recall_plan;
using demo::recall_task;

class Recall : public testing::Test {
  protected:
    const demo::gguf file{demo::bundled_model(), "bundled"};
    const demo::tokenizer words = demo::read_tokenizer(file);
    const std::vector<demo::token> text = words.encode(demo::bundled_text().substr(0, 6000));

    std::string decoded(std::span<const demo::token> tokens) const {
        std::string result;
        for (const demo::token id : tokens) result += words.decode(id);
        return result;
    }
};

TEST_F(Recall, TasksHaveTheirLengthAndEndWithTheAnswer) {
    const auto tasks = demo::recall_tasks(words, text, {.lengths = {128, 200}, .depths = {0, 0.5, 1}, .tries = 2});
    ASSERT_EQ(tasks.size(), 2U * 2 * 3 * 2);
    for (const recall_task& task : tasks) {
        ASSERT_EQ(task.tokens.size(), task.length);
        EXPECT_EQ(task.tokens.front(), words.bos());
        const std::string all = decoded(task.tokens);
        const std::string answer = decoded(std::span(task.tokens).last(task.answer));
        if (task.kind == recall_kind::passage) {
            EXPECT_EQ(task.answer, 24U);
            continue;
        }
        const std::string key = answer.substr(answer.find_first_not_of(' '));
        EXPECT_EQ(key.size(), 5U) << answer;
        EXPECT_TRUE(std::ranges::all_of(key, [](unsigned char c) { return std::isdigit(c) != 0; })) << answer;
        const std::size_t stated = all.find("The pass key is " + key + ". Remember it.");
        ASSERT_NE(stated, std::string::npos) << all;
        EXPECT_TRUE(all.ends_with("What is the pass key? The pass key is " + key)) << all;
        const std::size_t earliest = task.depth == 1 ? all.size() - 130 : 0;
        const std::size_t latest = task.depth == 0 ? 8 : all.size();
        EXPECT_GE(stated, earliest) << all;
        EXPECT_LE(stated, latest) << all;
    }
}

TEST_F(Recall, APassageComesTwice) {
    const auto tasks = demo::recall_tasks(words, text, {.lengths = {160}, .depths = {0}, .tries = 1});
    const recall_task& task = tasks.back();
    ASSERT_EQ(task.kind, recall_kind::passage);
    const auto passage = std::span(task.tokens).last(32);
    EXPECT_TRUE(std::ranges::equal(passage, std::span(task.tokens).subspan(1, 32)));
}

/// The filler comes from the same text, but from elsewhere: else the fact would stand at two depths.
TEST_F(Recall, TheFillerDoesNotHoldThePassage) {
    const auto tasks = demo::recall_tasks(words, text, {.lengths = {512}, .depths = {0.5}, .tries = 40});
    for (const recall_task& task : tasks) {
        if (task.kind != recall_kind::passage) continue;
        const auto passage = std::span(task.tokens).last(32);
        std::size_t found = 0;
        for (auto from = task.tokens.begin();;) {
            from = std::search(from, task.tokens.end(), passage.begin(), passage.end());
            if (from == task.tokens.end()) break;
            ++found;
            ++from;
        }
        EXPECT_EQ(found, 2U) << "the statement, and the question with its answer";
    }
}

TEST_F(Recall, TheSeedDecides) {
    const recall_plan plan{.lengths = {128}, .depths = {0.5}, .tries = 2};
    recall_plan other = plan;
    other.seed = 2;
    EXPECT_EQ(demo::sequences_of(demo::recall_tasks(words, text, plan)),
              demo::sequences_of(demo::recall_tasks(words, text, plan)));
    EXPECT_NE(demo::sequences_of(demo::recall_tasks(words, text, plan)),
              demo::sequences_of(demo::recall_tasks(words, text, other)));
}

TEST_F(Recall, RefusesWhatCannotBe) {
    EXPECT_THROW((void)demo::recall_tasks(words, text, {.lengths = {60}, .tries = 1}), std::invalid_argument);
    EXPECT_THROW((void)demo::recall_tasks(words, text, {.lengths = {text.size() + 1}, .tries = 1}),
                 std::invalid_argument);
}

TEST_F(Recall, AWindowFindsOnlyWhatItStillHolds) {
    ms::thread_pool pool(1);
    demo::llama model(file, pool);
    const auto tasks = demo::recall_tasks(words, text, {.lengths = {256}, .depths = {0, 1}, .tries = 3});
    const auto sequences = demo::sequences_of(tasks);
    const auto cells = [&](const std::string& policy) {
        const demo::setting s{.policy = demo::parse_policies(policy).front(), .states = 96};
        const auto found = demo::recall_of(model, tasks, demo::measure(model, sequences, s, {.keep_hidden = true}));
        std::map<double, double> pass_keys;
        for (const recall_cell& cell : found) {
            EXPECT_EQ(cell.tries, 3U);
            if (cell.kind == recall_kind::pass_key) pass_keys[cell.depth] = cell.score;
        }
        return pass_keys;
    };
    EXPECT_EQ(cells("full"), (std::map<double, double>{{0, 1}, {1, 1}}));
    EXPECT_EQ(cells("window"), (std::map<double, double>{{0, 0}, {1, 1}}));
}

TEST(RecallGrid, SaysWhereTheModelItselfFails) {
    const std::vector<recall_cell> full{{recall_kind::pass_key, 256, 0, 4, 0.25},
                                        {recall_kind::pass_key, 256, 1, 4, 1}};
    const std::vector<recall_cell> cells{{recall_kind::pass_key, 256, 0, 4, 0.5},
                                         {recall_kind::pass_key, 256, 1, 4, 0.75}};
    std::ostringstream out;
    demo::print_recall(out, "tova at k = 64", cells, full);
    EXPECT_EQ(out.str(),
              "tova at k = 64, pass key\n"
              "   depth    0 %  100 %\n"
              "     256  n. m.   75 %\n");
}

}  // namespace recall_test
