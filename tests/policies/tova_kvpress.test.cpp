// tova_kvpress: as tova, but the newest stays.
#include <algorithm>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/list.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"

namespace tova_kvpress_test {

namespace ms = multistate;
using positions = std::vector<int>;

TEST(tova_kvpress, keeps_the_newest_where_tova_forgets_it) {
    ms::table table({.states = 3}, ms::tova_kvpress::make());
    support::fill(table, 3, 2);
    EXPECT_NE(table.place(3), ms::no_row);
    support::observe(table, {{0.4f, 0.1f, 0.2f, 0.3f}, {0.3f, 0.3f, 0.1f, 0.3f}});
    EXPECT_EQ(table.place(4), 2u);
    // Rows in the order of positions 0 1 4 3: mean .55 .20 .075 .175.
    support::observe(table, {{0.5f, 0.2f, 0.1f, 0.2f}, {0.6f, 0.2f, 0.05f, 0.15f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{3});
    EXPECT_EQ(support::held(table), (positions{0, 1, 4}));
}

TEST(tova_kvpress, has_nothing_to_guard_with_one_state) {
    EXPECT_EQ(ms::tova_kvpress::make().default_guards(1).recent, 0u);
    EXPECT_EQ(ms::tova_kvpress::make().default_guards(2).recent, 1u);
    EXPECT_EQ(ms::tova_kvpress::make().default_guards(512).recent, 1u);
    ms::table table({.states = 1}, ms::tova_kvpress::make());
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{1.0f, 0.0f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{1});
}

}  // namespace tova_kvpress_test

namespace reference::tova_kvpress {

const registered rule{
    {.name = "tova_kvpress", .forgets = unit::layer, .score = current, .recent = [](std::size_t states) {
         return std::min<std::size_t>(1, states - 1);
     }}};

}  // namespace reference::tova_kvpress
