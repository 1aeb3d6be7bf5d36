// h2o_normalized: observed_attention's averages between guards, for the layer.
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/h2o_normalized.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"

namespace h2o_normalized_test {

namespace ms = multistate;

TEST(h2o_normalized, guards_what_openvino_guards_where_it_fits) {
    constexpr ms::h2o_normalized policy;
    EXPECT_EQ(policy.forgets(), ms::per::layer);
    EXPECT_EQ(policy.default_guards(672).sinks, 32u);
    EXPECT_EQ(policy.default_guards(672).recent, 128u);
    EXPECT_EQ(policy.default_guards(100000).sinks, 32u);
    EXPECT_EQ(policy.default_guards(100000).recent, 128u);
    EXPECT_EQ(policy.default_guards(64).sinks, 8u);
    EXPECT_EQ(policy.default_guards(64).recent, 16u);
    for (std::size_t states = 1; states < 2000; ++states) {
        const ms::guards guards = policy.default_guards(states);
        ASSERT_LT(guards.sinks + guards.recent, states);
    }
}

/// Eight states, one of them a sink and two recent. Position 0 gets the least from two heads, position 8 next to it,
/// then position 5, which is open to choice.
TEST(h2o_normalized, forgets_the_least_average_between_the_guards) {
    ms::table<ms::h2o_normalized> table({.states = 8, .heads = 2});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{0.0f}, {0.0f}});
    for (int p = 1; p < 9; ++p) {
        EXPECT_NE(table.place(p), ms::no_row);
        std::vector<float> seen(table.size(), 0.0f);
        for (std::size_t j = 1; j < seen.size(); ++j) seen[j] = j == 5 || j == 8 ? 0.01f : 0.1f;
        support::observe(table, {seen, seen});
    }
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), std::vector<int>{5});
    EXPECT_FLOAT_EQ(table.scores()[1], 0.2f) << "both heads, whatever the age";
}

}  // namespace h2o_normalized_test

namespace reference::h2o_normalized {

const registered rule{{.name = "h2o_normalized",
                       .forgets = unit::layer,
                       .score = averaged,
                       .sinks = at_most<32, 8>,
                       .recent = at_most<128, 4>}};

}  // namespace reference::h2o_normalized
