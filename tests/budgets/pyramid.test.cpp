// pyramid_budget: the rule of the paper, with an exact sum.
#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>
#include <multistate/budgets/pyramid.hpp>
#include <multistate/policies/snapkv.hpp>
#include <multistate/policy/guards.hpp>

#include "support/thrown.hpp"

namespace pyramid_test {

namespace ms = multistate;
using budget = std::vector<std::size_t>;
constexpr float nan = std::numeric_limits<float>::quiet_NaN();
using support::what_is_thrown;

std::size_t sum(const budget& b) { return std::accumulate(b.begin(), b.end(), std::size_t{0}); }

TEST(pyramid_budget, falls_linearly_from_most_to_least) {
    // least 100 / 20 = 5, most 195; 4 steps of 47.5
    EXPECT_EQ(ms::pyramid_budget(5, 100), (budget{195, 148, 100, 52, 5}));
    // least 40 / 4 + 12, most 2 * 40 - 10 + 12
    EXPECT_EQ(ms::pyramid_budget(2, 52, 4, 12), (budget{82, 22}));
    EXPECT_EQ(ms::pyramid_budget(3, 64, 1), (budget{64, 64, 64}));
    EXPECT_EQ(ms::pyramid_budget(1, 64), (budget{64}));
}

TEST(pyramid_budget, sums_exactly_and_leaves_no_layer_without) {
    for (const std::size_t layers : {1u, 2u, 3u, 7u, 32u, 80u}) {
        for (const std::size_t states : {2u, 3u, 10u, 33u, 128u, 2048u}) {
            for (const std::size_t window : {0u, 1u, 9u, 32u}) {
                if (window >= states) continue;
                const budget b = ms::pyramid_budget(layers, states, 20, window);
                EXPECT_EQ(sum(b), layers * states);
                EXPECT_TRUE(std::ranges::is_sorted(b, std::greater()));
                EXPECT_GT(b.back(), window);
            }
        }
    }
    EXPECT_EQ(ms::pyramid_budget(4, 1), (budget{1, 1, 1, 1}));
}

/// As its authors keep it, where the shape says so; by itself a policy guards half of a layer's states at most.
TEST(pyramid_budget, keeps_the_window_whole_where_the_shape_names_it) {
    for (const std::size_t states : ms::pyramid_budget(4, 48, 20, 32)) {
        EXPECT_EQ(ms::guards_in_force({.states = states, .recent = 32}, ms::snapkv()).recent, 32u);
        EXPECT_EQ(ms::guards_in_force({.states = states}, ms::snapkv()).recent, std::min<std::size_t>(32, states / 2));
    }
}

/// The authors' rounds the step from layer to layer down: 936 - 29 layer, and the window of 32.
TEST(pyramid_budget, sums_to_less_than_the_authors_own) {
    std::size_t theirs = 0, ours = 0;
    const std::size_t least = (512 - 32) / 20, most = 2 * (512 - 32) - least, step = (most - least) / 31;
    for (std::size_t layer = 0; layer < 32; ++layer) theirs += most - layer * step + 32;
    for (const std::size_t states : ms::pyramid_budget(32, 512, 20, 32)) ours += states;
    EXPECT_EQ(ours, 32u * 512);
    EXPECT_EQ(theirs, ours + 208) << "as the header says";
}

TEST(pyramid_budget, names_what_it_refuses) {
    EXPECT_EQ(what_is_thrown([] { ms::pyramid_budget(0, 8); }), "pyramid_budget: layers must be at least 1, is 0");
    EXPECT_EQ(what_is_thrown([] { ms::pyramid_budget(2, 0); }),
              "pyramid_budget: states must be from 1 to 1073741823, is 0");
    EXPECT_EQ(what_is_thrown([] { ms::pyramid_budget(2, 8, 0.5f); }),
              "pyramid_budget: beta must be finite and at least 1, is 0.500000");
    EXPECT_EQ(what_is_thrown([] { ms::pyramid_budget(2, 8, nan); }),
              "pyramid_budget: beta must be finite and at least 1, is nan");
    EXPECT_EQ(what_is_thrown([] { ms::pyramid_budget(2, 8, 2, 8); }),
              "pyramid_budget: window must be at most states - 1 = 7, is 8");
}

}  // namespace pyramid_test
