// given: what the caller writes is what counts.
#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/given.hpp>
#include <multistate/table/table.hpp>

#include "reference/rule.hpp"
#include "support/micro.hpp"

namespace given_test {

namespace ms = multistate;
using positions = std::vector<int>;

ms::table<ms::given> scored(ms::table_shape shape, const std::vector<float>& worth) {
    ms::table<ms::given> table(shape);
    for (std::size_t p = 0; p < worth.size(); ++p) {
        const std::size_t row = table.place(static_cast<int>(p));
        table.scores()[row] = worth[p];
    }
    return table;
}

TEST(given, forgets_the_least_score_that_it_was_given) {
    auto table = scored({.states = 3}, {0.7f, 0.2f, 0.9f, 0.5f});
    EXPECT_EQ(table.place(4), 1u);
    EXPECT_EQ(support::forgotten(table), positions{1});
}

TEST(given, a_score_lives_as_long_as_its_state) {
    auto table = scored({.states = 3}, {0.7f, 0.2f, 0.9f, 0.5f});
    EXPECT_NE(table.place(4), ms::no_row);
    EXPECT_EQ(table.scores()[1], 0.0f) << "placed anew";
    EXPECT_EQ(table.scores()[0], 0.7f);
    table.scores()[1] = 0.6f;
    EXPECT_EQ(table.place(5), 3u);
    EXPECT_EQ(table.place(6), 3u) << "position 5 was never scored";
    EXPECT_EQ(support::held(table), (positions{0, 2, 4, 6}));
}

TEST(given, may_judge_a_block_and_guard_what_it_has_not_judged) {
    ms::table<ms::given> table({.states = 4, .block = 6, .recent = 2});
    static_cast<void>(table.append(0, 6));
    const float worth[] = {0.3f, 0.1f, 0.4f, 0.2f, 0, 0};
    for (std::size_t row = 0; row < table.size(); ++row) {
        table.scores()[row] = worth[table.positions()[row]];
    }
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), (positions{0, 2, 4, 5}));
    EXPECT_EQ(table.scores()[1], worth[table.positions()[1]]) << "scores move with their states";
}

TEST(given, of_no_scores_the_oldest_goes_and_no_number_goes_first) {
    auto zeros = scored({.states = 2}, {0, 0, 0});
    EXPECT_EQ(zeros.place(3), 0u);
    auto table = scored({.states = 2}, {-5, std::nanf(""), 1});
    EXPECT_EQ(table.place(3), 1u);
}

}  // namespace given_test

namespace reference::given {

const registered rule{{.name = "given"}};  // without scores the oldest goes

}  // namespace reference::given
