// How long states were held, against numbers worked out by hand.
#include <cmath>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/evaluation/lifetimes.hpp>
#include <multistate/policies/window.hpp>
#include <multistate/table/table.hpp>

namespace lifetimes_test {

namespace ms = multistate;

TEST(Lifetimes, StatesThatWereNeverForgottenAreHeldToTheEnd) {
    const ms::lifetimes lives({.layers = 2, .kv_heads = 3, .tokens = 5});
    for (const ms::position last : lives.last_steps(1, 2)) EXPECT_EQ(last, 4);
    for (ms::position j = 0; j < 5; ++j) EXPECT_EQ(lives.held_share(j), 1);
}

TEST(Lifetimes, TheShareIsTheMeanOverLayersAndKvHeads) {
    ms::lifetimes lives({.layers = 2, .kv_heads = 1, .tokens = 8});
    lives.forget({.layer = 1, .kv_head = 0, .position = 2, .step = 4});  // held for 3 of 6 steps; 6 of 6 in layer 0
    EXPECT_EQ(lives.held_share(2), 0.75);
    EXPECT_EQ(lives.last_steps(1, 0)[2], 4);
    EXPECT_EQ(lives.last_steps(0, 0)[2], 7);
    lives.forget({.layer = 0, .kv_head = 0, .position = 2, .step = 2});  // its own step only
    EXPECT_DOUBLE_EQ(lives.held_share(2), (3.0 + 1.0) / 12);
}

TEST(Lifetimes, OfAWindowAreItsLength) {
    constexpr std::size_t tokens = 12, states = 3;
    ms::table<ms::window> table({.states = states});
    ms::lifetimes lives({.layers = 1, .kv_heads = 1, .tokens = tokens});
    for (ms::position p = 0; p < static_cast<ms::position>(tokens); ++p) {
        ASSERT_NE(table.place(p), ms::no_row);
        for (const auto& f : table.forgotten()) {
            lives.forget({.layer = 0, .kv_head = 0, .position = f.position, .step = f.decided_by});
        }
    }
    EXPECT_EQ(lives.recent_share(states), 1);
    // A state attends with its own token and with `states` later ones: attention sees states + 1.
    for (ms::position p = 0; p + 4 < static_cast<ms::position>(tokens); ++p) {
        EXPECT_EQ(lives.last_steps(0, 0)[static_cast<std::size_t>(p)], p + 3);
    }
}

TEST(Lifetimes, RecentSurvivorsAreAmongTheNewestPositions) {
    // Two states survive each step from 2 on: the first and the newest.
    ms::lifetimes lives({.layers = 1, .kv_heads = 2, .tokens = 6});
    for (const ms::position j : {1, 2, 3}) lives.forget({.layer = 0, .kv_head = 0, .position = j, .step = j + 1});
    // The other KV head forgets each token at its own step, and keeps the first two.
    for (const ms::position j : {2, 3, 4, 5}) lives.forget({.layer = 0, .kv_head = 1, .position = j, .step = j});
    // Steps 2, 3 and 4: of six survivors of the first head the three newest tokens are recent; of the other head only
    // token 1 after step 2.
    EXPECT_DOUBLE_EQ(lives.recent_share(2), (3.0 + 1.0) / 12);
}

TEST(Lifetimes, WithoutALaterStepThereIsNoShareOfRecentStates) {
    const ms::lifetimes lives({.layers = 1, .kv_heads = 1, .tokens = 4});
    EXPECT_TRUE(std::isnan(lives.recent_share(4)));
    EXPECT_TRUE(std::isnan(lives.recent_share(3)));
}

TEST(Lifetimes, RefusesSizesOfZero) {
    EXPECT_THROW(ms::lifetimes({.layers = 0, .kv_heads = 1, .tokens = 1}), std::invalid_argument);
    EXPECT_THROW(ms::lifetimes({.layers = 1, .kv_heads = 0, .tokens = 1}), std::invalid_argument);
    EXPECT_THROW(ms::lifetimes({.layers = 1, .kv_heads = 1, .tokens = 0}), std::invalid_argument);
}

}  // namespace lifetimes_test
