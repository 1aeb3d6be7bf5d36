// h2o_layer: as h2o, over all query heads of a layer.
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/h2o_layer.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"

namespace h2o_layer_test {

namespace ms = multistate;

TEST(h2o_layer, sums_over_all_heads_and_decides_once) {
    ms::table<ms::h2o_layer> table({.states = 3});
    support::fill(table, 3, 4);
    EXPECT_NE(table.place(3), ms::no_row);
    // Alone, the first head would forget position 0 and the last position 2; position 1 has the least sum of those
    // that are not among the newest floor(3 / 2).
    const float before[] = {table.scores()[0], table.scores()[1], table.scores()[2]};
    EXPECT_FLOAT_EQ(before[0], 4 * (1 + 0.5f + 1.0f / 3));
    support::observe(table, {{0.0f, 0.1f, 0.9f, 0}, {0.5f, 0, 0.5f, 0}, {0.5f, 0, 0.5f, 0}, {0.5f, 0.5f, 0, 0}});
    EXPECT_FLOAT_EQ(table.scores()[1], before[1] + 0.6f);
    EXPECT_FLOAT_EQ(table.scores()[2], before[2] + 1.9f);
    EXPECT_NE(table.place(4), ms::no_row);
    EXPECT_EQ(support::forgotten(table), std::vector<int>{2});
    EXPECT_EQ(ms::h2o_layer{}.default_guards(9).recent, 4u);
    EXPECT_EQ(ms::h2o_layer{}.forgets(), ms::per::layer);
}

}  // namespace h2o_layer_test

namespace reference::h2o_layer {

const registered rule{{.name = "h2o_layer", .forgets = unit::layer, .score = summed, .recent = half}};

}  // namespace reference::h2o_layer
