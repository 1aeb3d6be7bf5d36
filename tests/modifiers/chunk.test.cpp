// chunk: hand-checked means of runs of the text.
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/chunk.hpp>
#include <multistate/policies/h2o.hpp>
#include <multistate/policies/tova_head.hpp>
#include <multistate/table/table.hpp>

#include "support/micro.hpp"

namespace chunk_test {

namespace ms = multistate;
using positions = std::vector<int>;
using chunked = ms::composed<ms::tova_head, ms::chunk>;

chunked with(std::size_t length) { return {{}, {ms::chunk{.length = length}}}; }

/// What goes of seven states with the scores 5 1 2 3 0 8 3.
positions gone(std::size_t length, std::size_t states) {
    ms::table<chunked> table({.states = states, .block = 7}, with(length));
    static_cast<void>(table.append(0, 7));
    support::observe(table, {{5, 1, 2, 3, 0, 8, 3}});
    static_cast<void>(table.forget());
    return support::forgotten(table);
}

TEST(chunk, goes_as_a_whole) {
    EXPECT_EQ(gone(2, 5), (positions{2, 3}));     // means 3 2.5 4 3
    EXPECT_EQ(gone(3, 4), (positions{0, 1, 2}));  // means 2.67 3.67 3
    EXPECT_EQ(gone(1, 6), (positions{4}));
}

TEST(chunk, goes_in_part_from_the_oldest_where_the_count_ends) {
    EXPECT_EQ(gone(2, 6), (positions{2}));
    EXPECT_EQ(gone(2, 4), (positions{0, 2, 3}));
    EXPECT_EQ(gone(3, 3), (positions{0, 1, 2, 6}));
    EXPECT_EQ(gone(50, 5), (positions{0, 1}));
}

/// Rows are reused; a chunk is a run of the text.
TEST(chunk, follows_the_text_and_not_the_rows) {
    ms::table<chunked> table({.states = 4}, with(2));
    support::fill(table, 5, 1);
    support::observe(table, {{0.1f, 0.1f, 0.3f, 0.3f, 0.2f}});
    EXPECT_EQ(table.place(5), 0u);
    // Positions 1 2, 3 4, 5 lie in rows 1 2, 3 4, 0: means .3, .15, .1 in the text; in the rows .05, .25, .4.
    support::observe(table, {{0.1f, 0.0f, 0.6f, -0.1f, 0.4f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{5});
    EXPECT_FLOAT_EQ(table.scores()[1], 0.3f);
    EXPECT_FLOAT_EQ(table.scores()[3], 0.15f);
}

TEST(chunk, leaves_the_sums_of_the_policy_alone) {
    ms::table table({.states = 2}, ms::composed{ms::h2o{.recent_at_most = 0}, ms::chunk{.length = 2}});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.5f, 0.5f}});
    EXPECT_NE(table.place(2), ms::no_row);
    support::observe(table, {{0.25f, 0.25f, 0.5f}});
    EXPECT_EQ(table.place(3), 2u);  // 1.75 .75 .5: means 1.25 1.25 .5
    support::observe(table, {{0.25f, 0.25f, 0.5f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(table.scores()[0], 1.5f);  // of 2 and 1, not of 1.5 and 1.5
}

TEST(chunk, needs_a_length) { EXPECT_THROW(ms::table<chunked>({.states = 2}, with(0)), std::invalid_argument); }

}  // namespace chunk_test
