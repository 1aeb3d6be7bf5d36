// tova_head: one table per KV head, hand-checked.
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/tova_head.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"

namespace tova_head_test {

namespace ms = multistate;
using positions = std::vector<int>;

TEST(tova_head, heads_decide_apart) {
    ms::table<ms::tova_head> first({.states = 3});
    ms::table<ms::tova_head> second({.states = 3});
    support::fill(first, 4, 1);
    support::fill(second, 4, 1);
    support::observe(first, {{0.4f, 0.1f, 0.2f, 0.3f}});
    support::observe(second, {{0.3f, 0.3f, 0.1f, 0.3f}});
    EXPECT_EQ(first.place(4), 1u);
    EXPECT_EQ(second.place(4), 2u);
}

/// Sums of the group: .75 .375 .375 .5, exact in binary. The greatest of the group would have chosen row 2.
TEST(tova_head, averages_the_group_and_of_equals_forgets_the_oldest) {
    ms::table<ms::tova_head> table({.states = 3});
    support::fill(table, 4, 2);
    support::observe(table, {{0.625f, 0.0625f, 0.1875f, 0.125f}, {0.125f, 0.3125f, 0.1875f, 0.375f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), (positions{0, 2, 3}));
}

}  // namespace tova_head_test

namespace reference::tova_head {

const registered rule{{.name = "tova_head", .score = current}};

}  // namespace reference::tova_head
