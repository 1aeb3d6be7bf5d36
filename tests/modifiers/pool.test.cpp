// pool: hand-checked means and maxima of neighbors in the text.
#include <algorithm>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/pool.hpp>
#include <multistate/policies/h2o.hpp>
#include <multistate/policies/tova_head.hpp>
#include <multistate/policy/composed.hpp>
#include <multistate/table/table.hpp>

#include "support/micro.hpp"

namespace pool_test {

namespace ms = multistate;
using positions = std::vector<int>;
using floats = std::vector<float>;
using pooled = ms::composed<ms::tova_head, ms::pool>;

pooled with(ms::pool pool) { return {{}, pool}; }

/// Scores in the order of the positions.
template <class Table>
floats scores(const Table& table) {
    std::vector<std::pair<int, float>> all;
    for (std::size_t j = 0; j < table.size(); ++j) all.emplace_back(table.positions()[j], table.scores()[j]);
    std::ranges::sort(all);
    floats result;
    for (const auto& [position, score] : all) result.push_back(score);
    return result;
}

/// Five states, all in the order of the text, with the scores 6 0 3 9 1; decided with none forgotten but the least.
floats after_decision(ms::pool pool, ms::guards guarded = {}) {
    ms::table<pooled> table({.states = 4, .block = 5, .sinks = guarded.sinks, .recent = guarded.recent}, with(pool));
    static_cast<void>(table.append(0, 5));
    support::observe(table, {{6, 0, 3, 9, 1}});
    floats result;
    // The state that goes is out of sight afterwards; it is the least of what is left to see.
    static_cast<void>(table.forget());
    result = scores(table);
    result.insert(result.begin() + support::forgotten(table)[0], -1.0f);
    return result;
}

TEST(pool, is_the_mean_of_the_neighbors_that_exist) {
    EXPECT_EQ(after_decision({.width = 1}), (floats{6, -1, 3, 9, 1}));
    EXPECT_EQ(after_decision({.width = 3}), (floats{-1, 3, 4, 13.0f / 3, 5}));            // (6 + 0) / 2 = 3, the older
    EXPECT_EQ(after_decision({.width = 5}), (floats{-1, 4.5f, 3.8f, 3.25f, 13.0f / 3}));  // 9 / 3 = 3 at the left end
    EXPECT_EQ(after_decision({.width = 100}), (floats{-1, 3.8f, 3.8f, 3.8f, 3.8f}));
}

TEST(pool, may_count_zeros_beyond_the_ends) {
    EXPECT_EQ(after_decision({.width = 1, .zero_padded = true}), (floats{6, -1, 3, 9, 1}));
    EXPECT_EQ(after_decision({.width = 3, .zero_padded = true}), (floats{-1, 3, 4, 13.0f / 3, 10.0f / 3}));  // 6 / 3
    EXPECT_EQ(after_decision({.width = 5, .zero_padded = true}), (floats{-1, 3.6f, 3.8f, 2.6f, 2.6f}));      // 9 / 5
    // Zeros lie where guards do, too: 9 / 3 beside the newest, which is guarded, where a mean of two would be 4.5.
    EXPECT_EQ(after_decision({.width = 3, .zero_padded = true}, {.sinks = 1, .recent = 1}), (floats{6, -1, 4, 4, 1}));
    EXPECT_EQ(after_decision({.width = 3, .greatest = true, .zero_padded = true}), (floats{-1, 6, 9, 9, 9}));
}

TEST(pool, of_an_even_width_takes_the_greater_half_from_before) {
    EXPECT_EQ(after_decision({.width = 2}), (floats{6, 3, -1, 6, 5}));
}

TEST(pool, may_be_the_greatest_of_the_neighbors) {
    EXPECT_EQ(after_decision({.width = 3, .greatest = true}), (floats{-1, 6, 9, 9, 9}));
    EXPECT_EQ(after_decision({.width = 1, .greatest = true}), (floats{6, -1, 3, 9, 1}));
}

TEST(pool, leaves_guarded_states_out) {
    EXPECT_EQ(after_decision({.width = 3}, {.recent = 1}), (floats{-1, 3, 4, 6, 1}));
    EXPECT_EQ(after_decision({.width = 3}, {.sinks = 1}), (floats{6, -1, 4, 13.0f / 3, 5}));
    EXPECT_EQ(after_decision({.width = 3}, {.sinks = 1, .recent = 2}), (floats{6, -1, 1.5f, 9, 1}));
}

/// Rows are reused; neighbors are neighbors in the text.
TEST(pool, follows_the_text_and_not_the_rows) {
    ms::table<pooled> table({.states = 3}, with({.width = 3}));
    support::fill(table, 4, 1);
    support::observe(table, {{0.1f, 0.4f, 0.3f, 0.2f}});  // pooled .25 .27 .3 .25: position 0 goes
    EXPECT_EQ(table.place(4), 0u);
    // Positions 1 2 3 4 lie in rows 1 2 3 0, with .4 .1 .1 .4: pooled .25 .2 .2 .25.
    support::observe(table, {{0.4f, 0.4f, 0.1f, 0.1f}});
    EXPECT_EQ(table.place(5), 2u);
    // Positions 1 3 4 5 lie in rows 1 3 0 2, with 0 .5 .5 0: pooled .25 .33 .33 .25. By rows, 4 would go.
    support::observe(table, {{0.5f, 0.0f, 0.0f, 0.5f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{1});
    EXPECT_EQ(scores(table).size(), 3u);
    EXPECT_FLOAT_EQ(scores(table)[0], 1.0f / 3);
    EXPECT_FLOAT_EQ(scores(table)[2], 0.25f);
}

TEST(pool, leaves_the_sums_of_the_policy_alone) {
    ms::table table({.states = 2}, ms::composed{ms::h2o{.recent_at_most = 0}, ms::pool{.width = 3}});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.5f, 0.5f}});
    EXPECT_NE(table.place(2), ms::no_row);
    support::observe(table, {{0.25f, 0.25f, 0.5f}});
    EXPECT_EQ(table.place(3), 2u);  // sums 1.75 .75 .5, pooled 1.25 1 .625
    support::observe(table, {{0.25f, 0.25f, 0.5f}});
    static_cast<void>(table.forget());  // sums 2 1 .5, pooled 1.5 1.17 .75
    EXPECT_EQ(table.scores()[0], 1.5f);
    EXPECT_FLOAT_EQ(table.scores()[1], 3.5f / 3);
}

TEST(pool, needs_a_width) { EXPECT_THROW(ms::table<pooled>({.states = 2}, with({.width = 0})), std::invalid_argument); }

}  // namespace pool_test
