// h2o_local: h2o's sums and no guard.
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/list.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"

namespace h2o_local_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// Three states whose sums are 1.5 .6 .4, then a fourth token with the probabilities .4 .1 .2 .3.
ms::table<ms::h2o> after_four_tokens(ms::table_shape shape) {
    ms::table table(shape, ms::h2o_local::make());
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.5f, 0.5f}});
    EXPECT_NE(table.place(2), ms::no_row);
    support::observe(table, {{0.0f, 0.1f, 0.4f}});
    EXPECT_NE(table.place(3), ms::no_row);
    support::observe(table, {{0.4f, 0.1f, 0.2f, 0.3f}});
    return table;
}

/// Sums 1.9 .7 .6 .3: the newest has attended once only, and goes.
TEST(h2o_local, forgets_the_newest_of_the_least_sum) {
    auto table = after_four_tokens({.states = 3});
    EXPECT_EQ(table.place(4), 3u);
    EXPECT_EQ(support::held(table), (positions{0, 1, 2, 4}));
    EXPECT_EQ(ms::h2o_local::make().default_guards(100).recent, 0u);
}

TEST(h2o_local, may_be_given_a_window) {
    auto table = after_four_tokens({.states = 3, .recent = 1});
    EXPECT_EQ(table.place(4), 2u);
    EXPECT_EQ(support::held(table), (positions{0, 1, 3, 4}));
}

}  // namespace h2o_local_test

namespace reference::h2o_local {

const registered rule{{.name = "h2o_local", .score = summed}};

}  // namespace reference::h2o_local
