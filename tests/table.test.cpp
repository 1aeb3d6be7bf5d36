// What a table answers to its owner: rows, moves, what was forgotten.
#include <algorithm>
#include <limits>
#include <set>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies.hpp>
#include <multistate/table.hpp>

#include "support/micro.hpp"
#include "support/random.hpp"

namespace {

namespace ms = multistate;
using positions = std::vector<int>;

/// Scores that the test writes down by hand.
struct by_hand {
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    void on_attention(ms::rows probabilities, ms::view states) const noexcept {
        std::ranges::copy(probabilities[0].first(states.size()), states.score.begin());
    }
};
static_assert(ms::observes_attention<by_hand>);

template <class Table>
void score(Table& table, const std::vector<float>& scores) {
    table.observe({scores.data(), 1, scores.size(), scores.size()});
}

TEST(table, fills_rows_in_order_then_reuses_the_forgotten_one) {
    ms::table<by_hand> table({.states = 3});
    EXPECT_EQ(table.rows(), 4u);
    EXPECT_EQ(table.size(), 0u);
    for (int p = 0; p < 4; ++p) {
        EXPECT_EQ(table.place(p), static_cast<std::size_t>(p));
        score(table, std::vector<float>(table.size(), 1.0f));
    }
    score(table, {3, 1, 2, 4});
    EXPECT_EQ(table.place(10), 1u);
    EXPECT_EQ(table.size(), 4u);
    EXPECT_EQ(table.scores()[1], 0.0f) << "a state is placed with the score 0";
    EXPECT_TRUE(std::ranges::equal(table.positions(), positions{0, 10, 2, 3}));
    ASSERT_EQ(table.forgotten().size(), 1u);
    EXPECT_EQ(table.forgotten()[0].position, 1);
    EXPECT_EQ(table.forgotten()[0].decided_by, 3) << "the newest position held, not the incoming one";
    EXPECT_EQ(table.next_position(), 11);
}

TEST(table, forget_moves_the_last_survivor_into_the_hole) {
    ms::table<by_hand> table({.states = 3});
    support::fill(table, 4, 1);
    score(table, {3, 1, 2, 4});
    const auto moves = table.forget();
    ASSERT_EQ(moves.size(), 1u);
    EXPECT_EQ(moves[0].from, 3u);
    EXPECT_EQ(moves[0].to, 1u);
    EXPECT_TRUE(std::ranges::equal(table.positions(), positions{0, 3, 2}));
    EXPECT_TRUE(std::ranges::equal(table.scores(), std::vector<float>{3, 4, 2})) << "scores move along";
    EXPECT_TRUE(table.forget().empty());
    EXPECT_TRUE(table.forgotten().empty()) << "nothing more to forget";
}

TEST(table, forget_needs_no_move_when_the_last_row_goes) {
    ms::table<by_hand> table({.states = 3});
    support::fill(table, 4, 1);
    score(table, {3, 2, 2, 1});
    EXPECT_TRUE(table.forget().empty());
    EXPECT_EQ(support::forgotten(table), positions{3});
}

TEST(table, a_block_shrinks_once_with_few_moves) {
    ms::table<by_hand> table({.states = 4, .block = 6});
    EXPECT_TRUE(table.append(0, 6).empty());
    EXPECT_EQ(table.size(), 6u);
    score(table, {9, 1, 8, 2, 7, 6});
    const auto moves = table.append(6, 5);
    ASSERT_EQ(moves.size(), 2u);
    EXPECT_EQ(moves[0].from, 4u);
    EXPECT_EQ(moves[0].to, 1u);
    EXPECT_EQ(moves[1].from, 5u);
    EXPECT_EQ(moves[1].to, 3u);
    EXPECT_EQ(support::forgotten(table), (positions{1, 3}));
    EXPECT_EQ(table.forgotten()[0].decided_by, 5);
    EXPECT_TRUE(std::ranges::equal(table.positions(), positions{0, 4, 2, 5, 6, 7, 8, 9, 10}));
    score(table, {1, 2, 3, 4, 5, 6, 7, 8, 9});
    EXPECT_LE(table.forget().size(), 4u);
    EXPECT_EQ(support::held(table), (positions{7, 8, 9, 10}));
    EXPECT_EQ(support::forgotten(table), (positions{0, 2, 4, 5, 6})) << "in the order of their age";
}

/// The owner that applies the moves always finds in row j what the table says lies there.
TEST(table, an_owner_of_the_rows_can_follow) {
    for (const std::size_t states : {1u, 2u, 5u, 12u}) {
        for (const std::size_t block : {1u, 2u, 7u, 20u}) {
            ms::table<by_hand> table({.states = states, .block = block});
            positions rows(table.rows(), -1);
            support::random_numbers random(states * 100 + block);
            ms::position next = 0;
            for (int round = 0; round < 60; ++round) {
                const std::size_t count = 1 + random.below(block);
                if (count == 1 && table.size() <= states + 1) {
                    rows[table.place(next)] = next;
                } else {
                    const auto moves = table.append(next, count);
                    EXPECT_LE(moves.size(), std::min(block, states));
                    for (const auto [from, to] : moves) rows[to] = rows[from];
                    for (std::size_t i = 0; i < count; ++i) {
                        rows[table.size() - count + i] = next + static_cast<int>(i);
                    }
                }
                next += static_cast<int>(count);
                ASSERT_TRUE(std::equal(table.positions().begin(), table.positions().end(), rows.begin()));
                score(table, random.floats(table.size(), 1));
            }
        }
    }
}

TEST(table, recent_counts_the_newest_held_at_the_decision) {
    ms::table<by_hand> table({.states = 4, .recent = 2});
    support::fill(table, 5, 1);
    score(table, {5, 4, 3, 1, 2});  // positions 3 and 4 are protected, the incoming one is none of the two
    table.place(5);
    EXPECT_EQ(support::forgotten(table), positions{2});
}

TEST(table, sinks_are_the_first_arrivals) {
    ms::table<by_hand> table({.states = 4, .sinks = 2});
    support::fill(table, 5, 1);
    score(table, {1, 2, 5, 4, 3});
    table.place(5);
    EXPECT_EQ(support::forgotten(table), positions{4});
}

TEST(table, guards_may_leave_one_candidate) {
    ms::table<by_hand> table({.states = 4, .sinks = 1, .recent = 2});
    for (int p = 0; p < 5; ++p) {
        table.place(p);
        score(table, std::vector<float>(table.size(), 1));
    }
    score(table, {0, 9, 8, 0, 0});
    table.forget();
    EXPECT_EQ(support::forgotten(table), positions{2});
    ms::table<by_hand> tight({.states = 4, .sinks = 2, .recent = 1});
    for (int p = 0; p < 30; ++p) {
        tight.place(p);
        score(tight, std::vector<float>(tight.size(), static_cast<float>(p)));
        tight.forget();
        const positions guarded = p == 0 ? positions{0} : positions{0, 1, std::max(p, 1)};
        EXPECT_TRUE(std::ranges::includes(support::held(tight), std::set<int>(guarded.begin(), guarded.end())));
    }
}

TEST(table, a_nan_score_goes_first) {
    ms::table<by_hand> table({.states = 3});
    support::fill(table, 4, 1);
    score(table, {-1e30f, 1, std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()});
    table.forget();
    EXPECT_EQ(support::forgotten(table), positions{2});
}

TEST(table, a_copy_is_a_snapshot) {
    ms::table<by_hand> table({.states = 3, .block = 4, .recent = 1});
    support::fill(table, 9, 1);
    ms::table<by_hand> copy = table;
    score(table, {4, 3, 2, 1});
    score(copy, {4, 3, 2, 1});
    EXPECT_EQ(table.place(9), copy.place(9));
    EXPECT_TRUE(std::ranges::equal(table.positions(), copy.positions()));
    score(copy, {1, 2, 3, 4});
    copy.place(10);
    EXPECT_EQ(table.size(), 4u);
    EXPECT_FALSE(std::ranges::equal(table.positions(), copy.positions()));
    EXPECT_EQ(copy.memory_bytes(), table.memory_bytes());
}

/// Memory of a policy is zeroed when a state is placed, and moves with it.
struct counts_its_life {
    static constexpr ms::per forgets() noexcept { return ms::per::layer; }
    static constexpr std::size_t floats_per_state() noexcept { return 2; }
    void on_attention(ms::rows probabilities, ms::view states) const noexcept {
        for (float& age : states.memory(0)) age += 1;
        for (std::size_t j = 0; j < states.size(); ++j) states.memory(1)[j] += 10 * probabilities[0][j];
        for (std::size_t j = 0; j < states.size(); ++j) {
            states.score[j] = states.memory(1)[j] - 0.001f * states.memory(0)[j];
        }
    }
};
static_assert(ms::keeps_memory<counts_its_life> && ms::observes_attention<counts_its_life>);

TEST(table, a_policy_s_memory_lives_and_moves_with_the_state) {
    ms::table<counts_its_life> table({.states = 3, .block = 3});
    for (int p = 0; p < 3; ++p) {
        table.place(p);
        score(table, std::vector<float>(table.size(), 0.5f));
    }
    EXPECT_FLOAT_EQ(table.scores()[0], 15 - 0.003f);
    EXPECT_FLOAT_EQ(table.scores()[2], 5 - 0.001f);
    table.append(3, 3);  // positions 0 … 5
    score(table, {0, 0, 0, 9, 9, 9});
    const auto moves = table.forget();
    EXPECT_EQ(moves.size(), 3u);
    EXPECT_EQ(support::held(table), (positions{3, 4, 5}));
    for (const float s : table.scores()) EXPECT_FLOAT_EQ(s, 90 - 0.001f);
    score(table, {0, 0, 0});
    for (const float s : table.scores()) EXPECT_FLOAT_EQ(s, 90 - 0.002f) << "memory moved along";
    table.clear();
    table.place(0);
    score(table, {1});
    EXPECT_FLOAT_EQ(table.scores()[0], 10 - 0.001f) << "and starts at zero";
}

TEST(table, clear_forgets_arrivals_too) {
    ms::table<ms::window> table({.states = 3, .sinks = 1, .recent = 1});
    for (int p = 50; p < 60; ++p) table.place(p);
    table.clear();
    EXPECT_EQ(table.size(), 0u);
    EXPECT_EQ(table.next_position(), 0);
    EXPECT_TRUE(table.forgotten().empty());
    for (int p = 7; p < 12; ++p) table.place(p);
    table.forget();
    EXPECT_EQ(support::held(table), (positions{7, 10, 11})) << "the first arrival since clear is the sink";
}

}  // namespace
