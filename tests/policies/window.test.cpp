// window, and Window+i.
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/window.hpp>
#include <multistate/table/table.hpp>

#include "reference/rule.hpp"
#include "support/micro.hpp"

namespace window_test {

namespace ms = multistate;
using positions = std::vector<int>;

TEST(window, keeps_the_newest) {
    ms::table<ms::window> table({.states = 3});
    for (int p = 0; p <= 4; ++p) EXPECT_NE(table.place(p), ms::no_row);
    EXPECT_EQ(support::held(table), (positions{1, 2, 3, 4})) << "the survivors and the token being processed";
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), (positions{2, 3, 4}));
}

TEST(window, with_sinks_keeps_the_first_arrivals_too) {
    ms::table<ms::window> table({.states = 4, .sinks = 1});
    for (int p = 0; p <= 6; ++p) EXPECT_NE(table.place(p), ms::no_row);
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), (positions{0, 4, 5, 6}));
    EXPECT_EQ(table.next_position(), 7);
}

/// Sinks are the first arrivals, not the positions below i.
TEST(window, sinks_need_not_be_at_position_zero) {
    ms::table<ms::window> table({.states = 3, .sinks = 2});
    for (int p = 100; p < 200; p += 10) EXPECT_NE(table.place(p), ms::no_row);
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), (positions{100, 110, 190}));
}

TEST(window, one_state_is_the_newest) {
    ms::table<ms::window> table({.states = 1});
    for (int p = 0; p < 5; ++p) {
        EXPECT_NE(table.place(p), ms::no_row);
        static_cast<void>(table.forget());
        EXPECT_EQ(support::held(table), positions{p});
    }
}

}  // namespace window_test

namespace reference::window {

const registered rule{{.name = "window", .forgets = unit::layer}};

}  // namespace reference::window
