// max_over_heads: hand-checked.
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/max_over_heads.hpp>
#include <multistate/modifiers/pool.hpp>
#include <multistate/policies/h2o.hpp>
#include <multistate/policies/observed_attention.hpp>
#include <multistate/policies/tova_head.hpp>
#include <multistate/table/table.hpp>

#include "support/micro.hpp"
#include "support/thrown.hpp"

namespace max_over_heads_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// The greatest are .625 .3125 .1875 .375; the means .375 .1875 .1875 .25 would forget position 1.
TEST(max_over_heads, one_head_is_enough_to_stay) {
    ms::table<ms::composed<ms::tova_head, ms::max_over_heads>> table({.states = 3, .heads = 2});
    support::fill(table, 4, 2);
    support::observe(table, {{0.625f, 0.0625f, 0.1875f, 0.125f}, {0.125f, 0.3125f, 0.1875f, 0.375f}});
    EXPECT_EQ(table.scores()[1], 0.3125f);
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{2});
}

TEST(max_over_heads, of_one_head_is_refused) {
    using policy = ms::composed<ms::h2o, ms::max_over_heads>;
    EXPECT_EQ(support::what_is_thrown([] { ms::table<policy>({.states = 3}); }),
              "max_over_heads: query heads of a table must be at least 2 to have an effect, is 1");
    EXPECT_NO_THROW(ms::table<policy>({.states = 3, .heads = 2}));
}

/// The base's own memory, the sum, is not where the greatest are put.
TEST(max_over_heads, has_memory_of_its_own) {
    ms::table<ms::composed<ms::observed_attention, ms::max_over_heads>> table({.states = 1, .heads = 3});
    EXPECT_EQ(ms::detail::size_of_memory(table.policy(), table.shape(), 1).per_state, 2 * sizeof(float));
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}, {1.0f}, {1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.75f, 0.25f}, {0.5f, 0.5f}, {0.25f, 0.75f}});
    static_cast<void>(table.forget());  // (1 + .75) / 2 and .75
    EXPECT_EQ(support::forgotten(table), positions{1});
    EXPECT_EQ(table.scores()[0], 0.875f);
}

TEST(max_over_heads, goes_with_modifiers) {
    ms::table table({.states = 2, .heads = 2},
                    ms::composed{ms::tova_head{}, ms::max_over_heads{}, ms::pool{.width = 3}});
    support::fill(table, 3, 2);
    support::observe(table, {{0.5f, 0.25f, 0.25f}, {0.125f, 0.125f, 0.75f}});
    static_cast<void>(table.forget());  // .5 .25 .75: pooled .375 .5 .5
    EXPECT_EQ(support::forgotten(table), positions{0});
    EXPECT_EQ(table.scores()[0], 0.5f);
}

}  // namespace max_over_heads_test
