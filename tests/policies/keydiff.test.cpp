// keydiff: hand-checked decisions.
#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/keydiff.hpp>
#include <multistate/table/table.hpp>

#include "reference/numbers.hpp"
#include "reference/rule.hpp"
#include "support/micro.hpp"
#include "support/random.hpp"
#include "support/stored.hpp"

namespace keydiff_test {

namespace ms = multistate;
using positions = std::vector<int>;

template <class P>
struct driven {
    explicit driven(const ms::table_shape& shape) : table(shape), stored(shape) {}
    void place(const support::vectors& keys) {
        stored.place(table, table.next_position(), keys, support::vectors(keys.size(), {0}));
    }
    /// Forgets, and returns the scores that decided.
    std::vector<float> forget() {
        stored.forget(table);
        return {table.scores().begin(), table.scores().end()};
    }
    ms::table<P> table;
    support::stored_floats stored;
};

constexpr ms::table_shape shape_of(std::size_t states) { return {.states = states, .head_dim = 2, .value_dim = 1}; }

/// Unit keys (1, 0), (0, 1), (1, 0): the anchor points to (2, 1).
TEST(keydiff, forgets_the_key_most_like_the_mean_of_directions) {
    driven<ms::keydiff> d(shape_of(2));
    d.place({{2, 0}});
    d.place({{0, 50}});
    d.place({{1, 0}});
    const auto scores = d.forget();
    EXPECT_EQ(support::forgotten(d.table), positions{0}) << "of the two that are equal the oldest";
    EXPECT_NEAR(scores[1], -1 / std::sqrt(5.0), 1e-6) << "its length does not matter";
    EXPECT_NEAR(scores[0], -2 / std::sqrt(5.0), 1e-6) << "position 2 moved into the hole";
}

TEST(keydiff, the_anchor_is_of_the_states_held) {
    driven<ms::keydiff> d(shape_of(3));
    for (const float x : {1.0f, 1.0f, 1.0f, 1.0f, 1.0f}) d.place({{x, 0}});
    d.place({{0, 1}});
    d.place({{0, 1}});
    // Two along each axis are held: all equal, twice. Then most are along y, though not of all that ever came.
    d.place({{1, 0}});
    EXPECT_EQ(support::forgotten(d.table), positions{3});
    d.place({{0, 1}});
    EXPECT_EQ(support::forgotten(d.table), positions{4});
    d.place({{0, 1}});
    EXPECT_EQ(support::forgotten(d.table), positions{5});
}

TEST(keydiff, opposite_and_zero_keys_are_unlike_the_others) {
    driven<ms::keydiff> d(shape_of(3));
    d.place({{0, 0}});
    d.place({{1, 0}});
    d.place({{-1, 0}});
    d.place({{1, 0}});
    const auto scores = d.forget();
    EXPECT_EQ(support::forgotten(d.table), positions{1});
    EXPECT_EQ(scores[0], 0.0f);
    EXPECT_FLOAT_EQ(scores[2], 1.0f);
}

/// Each of two directions is as far from their mean as the other, whatever rounding makes of it.
TEST(keydiff, of_two_the_oldest_goes) {
    support::random_numbers random(1);
    driven<ms::keydiff> d(shape_of(1));
    for (int i = 0; i < 50; ++i) d.place({random.floats(2, 1)});
    EXPECT_EQ(support::held(d.table), (positions{48, 49}));
}

TEST(keydiff, without_a_direction_the_oldest_goes) {
    driven<ms::keydiff> zeros(shape_of(2)), cancelled(shape_of(3));
    for (int i = 0; i < 3; ++i) zeros.place({{0, 0}});
    for (const float x : {1.0f, -1.0f, 1.0f, -1.0f}) cancelled.place({{x, 0}});
    for (const float score : zeros.forget()) EXPECT_EQ(score, 0.0f);
    for (const float score : cancelled.forget()) EXPECT_EQ(score, 0.0f);
    EXPECT_EQ(support::forgotten(zeros.table), positions{0});
    EXPECT_EQ(support::forgotten(cancelled.table), positions{0});
}

/// In head 0 the keys 0 and 1 are alike, in head 1 the keys 1 and 2: together 1 is the least new.
TEST(keydiff, a_layer_sums_over_its_heads) {
    driven<ms::composed<ms::keydiff, ms::per_layer>> d(
        {.states = 2, .heads = 2, .kv_heads = 2, .head_dim = 2, .value_dim = 1});
    d.place({{1, 0}, {0, 1}});
    d.place({{1, 0}, {1, 0}});
    d.place({{0, 1}, {1, 0}});
    d.forget();
    EXPECT_EQ(support::forgotten(d.table), positions{1});
}

}  // namespace keydiff_test

namespace reference::keydiff {

numbers unlike_the_mean(const evidence& e) {
    numbers scores(e.states().size());
    if (scores.size() == 2) return scores;  // each is as far from their mean as the other
    for (std::size_t h = e.first_kv_head; h < e.end_kv_head(); ++h) {
        numbers anchor;
        for (const state& s : e.held[h]) add(scaled(s.key, 1 / norm(s.key)), anchor);
        for (std::size_t j = 0; j < scores.size(); ++j) {
            scores[j] -= dot(e.held[h][j].key, anchor) / norm(e.held[h][j].key) / norm(anchor);
        }
    }
    return scores;
}

// Of two states, both have one score.
const registered rule{{.name = "keydiff", .score = unlike_the_mean, .ties_are_exact = true}};

}  // namespace reference::keydiff
