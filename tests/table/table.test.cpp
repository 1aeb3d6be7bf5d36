// What a table answers to its owner: rows, moves, what was forgotten.
#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/list.hpp>
#include <multistate/table/table.hpp>

#include "support/engine.hpp"
#include "support/micro.hpp"
#include "support/random.hpp"

namespace table_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// Scores that the test writes down by hand.
struct by_hand {
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    void on_attention(ms::rows probabilities, ms::view states) const noexcept {
        std::ranges::copy(probabilities[0].first(states.size()), states.score.begin());
    }
};
static_assert(ms::has_on_attention<by_hand>);

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
    for (const std::size_t slack : {0u, 1u, 6u}) {
        for (const std::size_t states : {1u, 2u, 5u, 12u}) {
            for (const std::size_t block : {1u, 2u, 7u, 20u}) {
                ms::table<by_hand> table({.states = states, .block = block, .slack = slack});
                EXPECT_EQ(table.rows(), states + slack + block);
                positions rows(table.rows(), -1);
                support::random_numbers random(states * 100 + block);
                ms::position next = 0;
                for (int round = 0; round < 60; ++round) {
                    const std::size_t count = 1 + random.below(block);
                    if (count == 1 && (!table.is_due() || table.size() == states + 1)) {
                        rows[table.place(next)] = next;
                    } else {
                        const auto moves = table.append(next, count);
                        EXPECT_LE(moves.size(), std::min(block + slack, states));
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
}

TEST(table, slack_lets_states_wait_for_a_common_decision) {
    ms::table<by_hand> table({.states = 3, .slack = 2});
    EXPECT_EQ(table.rows(), 6u);
    for (int p = 0; p < 6; ++p) {
        EXPECT_FALSE(table.is_due());
        EXPECT_EQ(table.place(p), static_cast<std::size_t>(p)) << "a free row";
        EXPECT_TRUE(table.forgotten().empty());
        score(table, std::vector<float>(table.size(), 1.0f));
    }
    EXPECT_TRUE(table.is_due());
    score(table, {5, 1, 2, 6, 3, 4});
    const auto moves = table.append(6, 1);
    ASSERT_EQ(moves.size(), 2u);
    EXPECT_EQ(moves[0].from, 3u);
    EXPECT_EQ(moves[0].to, 1u);
    EXPECT_EQ(moves[1].from, 5u);
    EXPECT_EQ(moves[1].to, 2u);
    EXPECT_EQ(support::forgotten(table), (positions{1, 2, 4}));
    EXPECT_EQ(table.forgotten()[2].decided_by, 5);
    EXPECT_TRUE(std::ranges::equal(table.positions(), positions{0, 3, 5, 6}));
    score(table, {1, 2, 3, 4});
    EXPECT_TRUE(table.append(7, 1).empty());
    EXPECT_TRUE(table.forgotten().empty());
    score(table, {5, 4, 3, 2, 1});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), (positions{0, 3, 5})) << "a decision may fall before its time";
}

TEST(table, recent_counts_the_newest_held_at_the_decision) {
    ms::table<by_hand> table({.states = 4, .recent = 2});
    support::fill(table, 5, 1);
    score(table, {5, 4, 3, 1, 2});  // positions 3 and 4 are protected, the incoming one is none of the two
    EXPECT_NE(table.place(5), ms::no_row);
    EXPECT_EQ(support::forgotten(table), positions{2});
}

TEST(table, sinks_are_the_first_arrivals) {
    ms::table<by_hand> table({.states = 4, .sinks = 2});
    support::fill(table, 5, 1);
    score(table, {1, 2, 5, 4, 3});
    EXPECT_NE(table.place(5), ms::no_row);
    EXPECT_EQ(support::forgotten(table), positions{4});
}

TEST(table, guards_may_leave_one_candidate) {
    ms::table<by_hand> table({.states = 4, .sinks = 1, .recent = 2});
    for (int p = 0; p < 5; ++p) {
        EXPECT_NE(table.place(p), ms::no_row);
        score(table, std::vector<float>(table.size(), 1));
    }
    score(table, {0, 9, 8, 0, 0});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{2});
    ms::table<by_hand> tight({.states = 4, .sinks = 2, .recent = 1});
    for (int p = 0; p < 30; ++p) {
        EXPECT_NE(tight.place(p), ms::no_row);
        score(tight, std::vector<float>(tight.size(), static_cast<float>(p)));
        static_cast<void>(tight.forget());
        const positions guarded = p == 0 ? positions{0} : positions{0, 1, std::max(p, 1)};
        EXPECT_TRUE(std::ranges::includes(support::held(tight), std::set<int>(guarded.begin(), guarded.end())));
    }
}

TEST(table, a_nan_score_goes_first) {
    ms::table<by_hand> table({.states = 3});
    support::fill(table, 4, 1);
    score(table, {-1e30f, 1, std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()});
    static_cast<void>(table.forget());
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
    EXPECT_NE(copy.place(10), ms::no_row);
    EXPECT_EQ(table.size(), 4u);
    EXPECT_FALSE(std::ranges::equal(table.positions(), copy.positions()));
    EXPECT_EQ(copy.memory_bytes(), table.memory_bytes());
}

/// Memory of a policy is zeroed when a state is placed, and moves with it.
struct counts_its_life {
    static constexpr ms::per forgets() noexcept { return ms::per::layer; }
    struct memory {
        ms::per_state<float> age, attention;
    };
    static void lay_out(memory& m, ms::layout& l) noexcept {
        l(m.age);
        l(m.attention);
    }
    void on_attention(ms::rows probabilities, ms::view states) const noexcept {
        const auto [age, attention] = states.memory(*this);
        for (float& a : age) a += 1;
        for (std::size_t j = 0; j < states.size(); ++j) attention[j] += 10 * probabilities[0][j];
        for (std::size_t j = 0; j < states.size(); ++j) states.score[j] = attention[j] - 0.001f * age[j];
    }
};
static_assert(ms::has_memory<counts_its_life> && ms::has_on_attention<counts_its_life>);

TEST(table, a_policy_s_memory_lives_and_moves_with_the_state) {
    ms::table<counts_its_life> table({.states = 3, .block = 3});
    for (int p = 0; p < 3; ++p) {
        EXPECT_NE(table.place(p), ms::no_row);
        score(table, std::vector<float>(table.size(), 0.5f));
    }
    EXPECT_FLOAT_EQ(table.scores()[0], 15 - 0.003f);
    EXPECT_FLOAT_EQ(table.scores()[2], 5 - 0.001f);
    static_cast<void>(table.append(3, 3));  // positions 0 … 5
    score(table, {0, 0, 0, 9, 9, 9});
    const auto moves = table.forget();
    EXPECT_EQ(moves.size(), 3u);
    EXPECT_EQ(support::held(table), (positions{3, 4, 5}));
    for (const float s : table.scores()) EXPECT_FLOAT_EQ(s, 90 - 0.001f);
    score(table, {0, 0, 0});
    for (const float s : table.scores()) EXPECT_FLOAT_EQ(s, 90 - 0.002f) << "memory moved along";
    table.clear();
    EXPECT_NE(table.place(0), ms::no_row);
    score(table, {1});
    EXPECT_FLOAT_EQ(table.scores()[0], 10 - 0.001f) << "and starts at zero";
}

/// Copies what it is shown: the queries to the memory of the table, their first number to every state in sight.
struct keeps_queries {
    static constexpr ms::per forgets() noexcept { return ms::per::layer; }
    struct memory {
        ms::per_table_array<float> queries;
    };
    static void lay_out(memory& m, ms::layout& l) noexcept { l(m.queries, l.shape().heads, l.shape().head_dim); }
    void on_query(ms::rows queries, ms::view states) const noexcept {
        const auto kept = states.memory(*this).queries;
        for (std::size_t i = 0; i < queries.count; ++i) std::ranges::copy(queries[i], kept[i].begin());
        for (float& s : states.score) s += kept[0][0] + 1000 * static_cast<float>(states.newest);
    }
    void on_forget(ms::view states) const noexcept {
        for (float& s : states.score) s = states.memory(*this).queries[1][2];
    }
};
static_assert(ms::has_on_query<keeps_queries> && ms::has_memory<keeps_queries>);

constexpr ms::table_shape two_heads{.states = 4, .block = 3, .heads = 2, .head_dim = 3, .value_dim = 1};

TEST(table, queries_reach_the_policy_with_the_rows_their_token_sees) {
    ms::table<keeps_queries> table(two_heads);
    const float queries[] = {1, 2, 3, -1, 4, 5, 6, -1};
    EXPECT_NE(table.place(0), ms::no_row);
    table.observe_queries({queries, 2, 3, 4}, 1);
    EXPECT_TRUE(std::ranges::equal(table.scores(), std::vector<float>{1}));
    static_cast<void>(table.append(1, 3));
    for (std::size_t width = 2; width <= 4; ++width) table.observe_queries({queries, 2, 3, 4}, width);
    EXPECT_TRUE(std::ranges::equal(table.scores(), std::vector<float>{6004, 6003, 5002, 3001}));
    EXPECT_NE(table.place(4), ms::no_row);
    table.observe_queries({queries, 2, 3, 4}, 5);
    EXPECT_NE(table.place(5), ms::no_row);  // decides by what it remembers: all equal, so the oldest goes
    EXPECT_EQ(support::forgotten(table), positions{0});
    EXPECT_EQ(table.scores()[1], 6) << "the last query of the second head";
}

TEST(table, memory_of_its_own_is_copied_and_zeroed_by_clear) {
    ms::table<keeps_queries> table(two_heads);
    const float queries[] = {1, 2, 3, 4, 5, 6}, others[] = {7, 8, 9, 10, 11, 12};
    const auto fill = [](auto& t) {
        const std::vector<float> zeros(6);
        for (int p = 0; p < 5; ++p) {
            EXPECT_NE(t.place(t.next_position()), ms::no_row);
            t.observe_queries({zeros.data(), 2, 3, 3}, t.size());
        }
    };
    fill(table);
    table.observe_queries({queries, 2, 3, 3}, 5);
    ms::table<keeps_queries> copy = table;
    copy.observe_queries({others, 2, 3, 3}, 5);
    EXPECT_NE(table.place(5), ms::no_row);
    EXPECT_NE(copy.place(5), ms::no_row);
    EXPECT_EQ(table.scores()[1], 6);
    EXPECT_EQ(copy.scores()[1], 12);
    table.clear();
    fill(table);
    EXPECT_NE(table.place(5), ms::no_row);
    EXPECT_EQ(table.scores()[1], 0);
    EXPECT_GE(copy.memory_bytes(), 6 * sizeof(float));
}

/// Looks at the order of the text wherever it is promised. Scores are the test's.
struct looks_at_order : by_hand {
    std::size_t decisions = 0;
    std::size_t merges = 0;
    bool right = true;

    void look(ms::view states) noexcept {
        right = right && states.by_position.size() == states.size();
        for (std::size_t i = 0; right && i < states.size(); ++i) {
            right = states.by_position[i] < states.size();
            if (i > 0) right = right && position(states, i - 1) < position(states, i);
        }
        right = right && position(states, states.size() - 1) == states.newest;
    }
    static ms::position position(ms::view states, std::size_t i) noexcept {
        return states.position[states.by_position[i]];
    }
    void on_forget(ms::view states) noexcept {
        ++decisions;
        look(states);
    }
    void merge(const ms::reader&, std::span<const std::uint32_t> gone, ms::view states) noexcept {
        ++merges;
        look(states);
        right = right && !gone.empty() && std::ranges::is_sorted(gone, std::ranges::less_equal());  // without equals
    }
};
static_assert(ms::has_on_forget<looks_at_order> && ms::has_merge<looks_at_order>);

/// By places, blocks, early decisions, other budgets and clears.
TEST(table, by_position_is_the_order_of_the_text) {
    for (const std::size_t slack : {0u, 3u}) {
        ms::table<looks_at_order> table(
            {.states = 9, .block = 5, .slack = slack, .sinks = 1, .recent = 2, .head_dim = 1, .value_dim = 1});
        support::random_numbers random(slack);
        support::stored_floats stored(1, 17, 1, 1);  // the same for all budgets: nothing is read
        ms::position next = 0;
        std::size_t decisions = 0;
        for (int round = 0; round < 400; ++round) {
            const std::size_t action = random.below(12);
            const bool more = table.size() > table.states();
            if (action == 0) {
                static_cast<void>(table.forget(stored.edit()));
                decisions += more;
            } else if (action == 1) {
                static_cast<void>(table.rebudget(4 + random.below(9), stored.edit()));
                decisions = table.policy().decisions;
            } else if (action == 2 && random.below(5) == 0) {
                table.clear();
            } else {
                decisions += table.is_due();
                if (action < 9 && (!table.is_due() || table.size() == table.states() + 1)) {
                    EXPECT_NE(table.place(next++, {}, {}, stored.edit()), ms::no_row);
                } else {
                    const std::size_t count = 1 + random.below(5);
                    static_cast<void>(table.append(next, count, stored.edit()));
                    next += static_cast<int>(count);
                }
                score(table, random.floats(table.size(), 1));
            }
            ASSERT_TRUE(table.policy().right) << round;
            ASSERT_EQ(table.policy().decisions, decisions) << round;
            ASSERT_EQ(table.policy().merges, decisions) << round;
        }
        EXPECT_GT(decisions, 100u);
    }
}

/// Adds the values that go to the value of the oldest that stays, and writes down what it was shown.
struct hands_down : by_hand {
    inline static std::vector<std::pair<ms::position, float>> shown;

    void merge(const ms::editor& stored, std::span<const std::uint32_t> gone, ms::view states) const noexcept {
        shown.clear();
        const auto heir = *std::ranges::find_if(
            states.by_position, [&](std::uint32_t row) { return !std::ranges::binary_search(gone, row); });
        float sum = 0, value = 0, key = 0;
        for (const std::uint32_t row : gone) {
            stored.key(0, row, {&key, 1});
            stored.value(0, row, {&value, 1});
            shown.emplace_back(states.position[row], key);
            sum += value;
        }
        stored.value(0, heir, {&value, 1});
        value += sum;
        stored.set_value(0, heir, {&value, 1});
    }
};
static_assert(ms::has_merge<hands_down>);

/// A token's key is its position and its value is 1, so no value is ever lost.
TEST(table, merge_is_shown_what_goes_before_it_is_overwritten) {
    for (const std::size_t slack : {0u, 2u}) {
        support::engine<hands_down> engine(
            {.states = 4, .block = 6, .slack = slack, .head_dim = 1, .value_dim = 1, .scale = 0.1f});
        const float query[] = {-0.5f, 0.5f, 1, -1, 0.1f, -0.1f}, ones[] = {1, 1, 1, 1, 1, 1};
        ms::position next = 0;
        const auto check = [&] {
            std::vector<std::pair<ms::position, float>> gone;
            for (const auto& one : engine.table.forgotten()) {
                gone.emplace_back(one.position, static_cast<float>(one.position));
            }
            std::ranges::sort(hands_down::shown);
            std::ranges::sort(gone);
            EXPECT_EQ(hands_down::shown, gone) << "after " << next;
            float sum = 0;
            for (std::size_t row = 0; row < engine.table.size(); ++row) sum += *engine.rows.value(0, row);
            EXPECT_EQ(sum, static_cast<float>(next));
            hands_down::shown.clear();
        };
        for (const std::size_t n : {1u, 1u, 1u, 1u, 1u, 1u, 1u, 6u, 1u, 1u, 5u, 2u, 0u, 1u, 1u, 1u, 6u, 6u, 0u}) {
            std::vector<float> keys(n);
            std::iota(keys.begin(), keys.end(), static_cast<float>(next));
            const std::span queries = std::span(query).first(n), values = std::span(ones).first(n);
            if (n == 0) {
                engine.forget();
            } else if (n == 1) {
                engine.step(next, queries, keys, values);
            } else {
                engine.block(next, n, queries, keys, values);
            }
            next += static_cast<int>(n);
            check();
        }
        engine.rows.relocate(engine.table.rebudget(2, engine.rows.edit()));
        EXPECT_EQ(engine.table.forgotten().size(), 2u);
        check();
    }
}

TEST(table, a_smaller_budget_forgets_down_to_it) {
    ms::table<by_hand> table({.states = 6, .block = 2, .sinks = 1, .recent = 1});
    support::fill(table, 7, 1);
    score(table, {0, 5, 1, 6, 2, 7, 0});
    positions rows(table.positions().begin(), table.positions().end());
    for (const auto [from, to] : table.rebudget(4)) rows[to] = rows[from];
    EXPECT_EQ(table.states(), 4u);
    EXPECT_EQ(table.shape().states, 4u);
    EXPECT_EQ(table.rows(), 6u);
    EXPECT_EQ(table.size(), 4u);
    EXPECT_EQ(support::forgotten(table), (positions{1, 2, 4})) << "by the scores, and guards hold";
    EXPECT_TRUE(std::equal(table.positions().begin(), table.positions().end(), rows.begin()));
    EXPECT_EQ(table.next_position(), 7);
    // and it goes on with as many
    static_cast<void>(table.append(7, 2));
    score(table, {0, 1, 2, 3, 4, 5});
    static_cast<void>(table.append(9, 1));
    EXPECT_EQ(table.size(), 5u);
    EXPECT_TRUE(std::ranges::includes(support::held(table), positions{0, 8, 9}));
    score(table, {0, 1, 2, 3, 4});
    static_cast<void>(table.rebudget(4));
    EXPECT_EQ(table.size(), 4u) << "the same number is a decision, too";
}

TEST(table, a_larger_budget_forgets_nothing) {
    ms::table<counts_its_life> table({.states = 3, .block = 2});
    support::fill(table, 4, 1);
    const positions before = support::held(table);
    const std::vector<float> scores(table.scores().begin(), table.scores().end());
    EXPECT_TRUE(table.rebudget(6).empty());
    EXPECT_EQ(table.rows(), 8u);
    EXPECT_EQ(support::held(table), before);
    EXPECT_TRUE(std::ranges::equal(table.scores(), scores));
    EXPECT_TRUE(table.forgotten().empty());
    score(table, {0, 0, 0, 0});
    for (std::size_t j = 0; j < 4; ++j) EXPECT_FLOAT_EQ(table.scores()[j], scores[j] - 0.001f) << "memory came along";
    for (int p = 4; p < 7; ++p) {
        EXPECT_NE(table.place(p), ms::no_row);
        score(table, std::vector<float>(table.size(), 1));
        EXPECT_TRUE(table.forgotten().empty()) << p;
    }
    EXPECT_NE(table.place(7), ms::no_row);
    EXPECT_EQ(table.forgotten().size(), 1u);
}

/// H2O guards a half of the states, so its guards change with the budget. Recent states stay, whatever their scores.
template <class P>
void check_recent_after(const std::vector<std::size_t>& budgets, std::optional<std::size_t> recent) {
    ms::table<P> table({.states = budgets.front(), .block = 3, .recent = recent});
    support::random_numbers random(1);
    ms::position next = 0;
    for (const std::size_t states : budgets) {
        ms::position whole = next;  // from here on nothing is missing
        while (std::ranges::count(table.positions(), whole - 1) == 1) --whole;
        static_cast<void>(table.rebudget(states));
        const auto guarded = static_cast<int>(recent.value_or(ms::default_guards(P{}, states).recent));
        for (int i = 0; i < 40; ++i) {
            EXPECT_LE(table.size(), states + 3);
            for (ms::position p = std::max(whole, next - guarded); p < next; ++p) {
                EXPECT_EQ(std::ranges::count(table.positions(), p), 1) << p << " of " << next << ", states " << states;
            }
            EXPECT_GE(table.size(), std::min(states, static_cast<std::size_t>(i)));
            const std::size_t count = 1 + random.below(3);
            static_cast<void>(table.append(next, count));
            next += static_cast<int>(count);
            // the newer the less
            std::vector<float> scores;
            for (const ms::position p : table.positions()) scores.push_back(1 / (1 + static_cast<float>(p)));
            score(table, scores);
        }
    }
}

TEST(table, recent_states_are_guarded_under_every_budget) {
    check_recent_after<by_hand>({5, 9, 4, 20, 5, 4}, 3);
    check_recent_after<by_hand>({2, 30, 2}, 1);
    check_recent_after<ms::h2o>({20, 5, 30, 8, 8, 1, 2, 40, 10}, {});
}

TEST(table, a_refused_budget_changes_nothing) {
    ms::table<by_hand> table({.states = 6, .sinks = 1, .recent = 3});
    support::fill(table, 9, 1);
    score(table, {9, 2, 3, 4, 5, 6, 7});
    ms::table<by_hand> as_before = table;
    const std::vector<int> forgotten = support::forgotten(table);
    EXPECT_THROW(static_cast<void>(table.rebudget(0)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(table.rebudget(4)), std::invalid_argument) << "the guards leave no candidate";
    EXPECT_THROW(static_cast<void>(table.rebudget(std::size_t{1} << 31)), std::invalid_argument);
    EXPECT_EQ(table.states(), 6u);
    EXPECT_EQ(table.rows(), 7u);
    EXPECT_EQ(support::forgotten(table), forgotten);
    EXPECT_EQ(table.memory_bytes(), as_before.memory_bytes());
    EXPECT_TRUE(std::ranges::equal(table.scores(), as_before.scores()));
    for (int p = 9; p < 20; ++p) {
        EXPECT_EQ(table.place(p), as_before.place(p));
        EXPECT_TRUE(std::ranges::equal(table.positions(), as_before.positions()));
        for (auto* t : {&table, &as_before}) score(*t, std::vector<float>(t->size(), static_cast<float>(-p)));
    }
}

TEST(table, full_refuses_fewer_rows_than_it_holds) {
    ms::table<ms::full> table({.states = 4, .block = 4});
    for (int p = 0; p < 7; ++p) EXPECT_NE(table.place(p), ms::no_row);
    EXPECT_THROW(static_cast<void>(table.rebudget(2)), std::invalid_argument);
    EXPECT_EQ(table.size(), 7u);
    EXPECT_TRUE(table.rebudget(3).empty());
    EXPECT_EQ(table.place(7), ms::no_row);
    EXPECT_TRUE(table.rebudget(10).empty());
    EXPECT_EQ(support::held(table), (positions{0, 1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(table.place(7), 7u);
}

struct with_a_number : by_hand {
    float number = 1;
    static constexpr ms::parameter<with_a_number> parameters[] = {{"number", &with_a_number::number, 0.5f, 2.0f}};
};

TEST(table, the_constructor_checks_the_policy_s_parameters) {
    const auto refusal = [](float number) -> std::string {
        with_a_number policy;
        policy.number = number;
        try {
            ms::table<with_a_number> table({.states = 2}, policy);
        } catch (const std::invalid_argument& error) {
            return error.what();
        }
        return "nothing was thrown";
    };
    EXPECT_EQ(refusal(0.5f), "nothing was thrown");
    EXPECT_EQ(refusal(2), "nothing was thrown");
    EXPECT_EQ(refusal(0.25f), "policy: number must be from 0.500000 to 2.000000, is 0.250000");
    EXPECT_EQ(refusal(3), "policy: number must be from 0.500000 to 2.000000, is 3.000000");
    EXPECT_EQ(refusal(std::numeric_limits<float>::quiet_NaN()),
              "policy: number must be from 0.500000 to 2.000000, is nan");
}

TEST(table, clear_forgets_arrivals_too) {
    ms::table<ms::window> table({.states = 3, .sinks = 1, .recent = 1});
    for (int p = 50; p < 60; ++p) EXPECT_NE(table.place(p), ms::no_row);
    table.clear();
    EXPECT_EQ(table.size(), 0u);
    EXPECT_EQ(table.next_position(), 0);
    EXPECT_TRUE(table.forgotten().empty());
    for (int p = 7; p < 12; ++p) EXPECT_NE(table.place(p), ms::no_row);
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), (positions{7, 10, 11})) << "the first arrival since clear is the sink";
}

/// A state that is not finite keeps its mark where blocks move rows, and loses it with its row.
TEST(table_of_spoiled_states, they_go_first_wherever_they_lie) {
    ms::table<by_hand> table({.states = 4, .block = 6, .recent = 1});
    const std::vector<float> good{1, 2}, bad{1, std::numeric_limits<float>::infinity()}, huge{1e30f, 0};
    const auto key = [](const std::vector<float>& x) { return ms::rows{x.data(), 1, 2, 2}; };
    static_cast<void>(table.append(0, 6));
    for (std::size_t row = 0; row < 6; ++row) table.observe_arrival(row, key(row == 5 ? bad : good), key(good));
    EXPECT_TRUE(table.holds_spoiled());
    score(table, {1, 2, 3, 4, 5, 6});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), (positions{2, 3, 4, 5})) << "guarded, it stays, and moves down";
    EXPECT_TRUE(table.holds_spoiled());
    static_cast<void>(table.place(6, key(good), key(huge)));
    score(table, {9, 9, 9, 9, 9});
    const auto copy = table;
    EXPECT_TRUE(copy.holds_spoiled());
    static_cast<void>(table.place(7, key(good), key(good)));
    EXPECT_EQ(support::forgotten(table), positions{5});
    score(table, {9, 9, 9, 9, 9});
    static_cast<void>(table.rebudget(5));
    score(table, {9, 9, 9, 9, 9});
    static_cast<void>(table.place(8));
    score(table, {9, 9, 9, 9, 9, 9});
    static_cast<void>(table.place(9));
    EXPECT_EQ(support::forgotten(table), positions{6});
    EXPECT_FALSE(table.holds_spoiled());
    table.clear();
    EXPECT_FALSE(table.holds_spoiled());
}

}  // namespace table_test
