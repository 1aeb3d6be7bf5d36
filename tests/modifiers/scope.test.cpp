// per_layer and per_head: the same policy, another scope.
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/cache/cache.hpp>
#include <multistate/modifiers/decayed.hpp>
#include <multistate/modifiers/scope.hpp>
#include <multistate/modifiers/value_norm.hpp>
#include <multistate/policies/h2o.hpp>
#include <multistate/policies/random.hpp>
#include <multistate/policies/tova.hpp>

#include "support/micro.hpp"

namespace scope_test {

namespace ms = multistate;

template <class P>
using layered = ms::composed<P, ms::per_layer>;

static_assert(layered<ms::h2o>().forgets() == ms::per::layer && ms::h2o::forgets() == ms::per::head);
static_assert(ms::composed<ms::tova, ms::per_head>().forgets() == ms::per::head);
static_assert(ms::composed<layered<ms::h2o>, ms::per_head>().forgets() == ms::per::head);
static_assert(ms::hooks_of<layered<ms::h2o>> == ms::hooks_of<ms::h2o>);
static_assert(ms::hooks_of<layered<ms::random>> == ms::hook::on_insert);

TEST(scope, says_how_many_tables_a_cache_has) {
    const ms::shape shape{.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 4, .states = 2};
    const std::vector<float> keys(8, 0.0f);
    const auto alike = [&](auto cache) {
        for (int p = 0; p < 60; ++p) EXPECT_TRUE(cache.layer(0).append(p, keys, keys));
        return std::ranges::equal(cache.layer(0).positions(0), cache.layer(0).positions(1));
    };
    EXPECT_FALSE(alike(ms::cache<ms::random>(shape)));
    EXPECT_TRUE(alike(ms::cache<layered<ms::random>>(shape)));
}

TEST(scope, a_layer_sums_over_all_heads) {
    ms::table<layered<ms::h2o>> table({.states = 4, .heads = 4, .kv_heads = 2});
    support::fill(table, 2, 4);
    EXPECT_EQ(table.scores()[0], 6.0f);
    EXPECT_EQ(table.scores()[1], 2.0f);
}

TEST(scope, keeps_the_numbers_of_the_policy) {
    ms::composed<ms::h2o, ms::decayed, ms::per_layer> policy;
    policy.get<ms::decayed>().decay = 0.5f;
    ms::table table({.states = 4}, policy);
    support::fill(table, 2, 1);
    EXPECT_EQ(table.scores()[0], 1.0f);
    policy.get<ms::decayed>().decay = 2;
    EXPECT_THROW(ms::table({.states = 4}, policy), std::invalid_argument);
}

TEST(scope, goes_with_modifiers) {
    using weighed = ms::composed<ms::h2o, ms::value_norm, ms::per_layer>;
    ms::table<weighed> table({.states = 1, .heads = 2, .kv_heads = 2});
    const float values[] = {1, 2, 4, 8};
    EXPECT_NE(table.place(0, {}, {values, 2, 1, 1}), ms::no_row);
    support::observe(table, {{1.0f}, {1.0f}});
    EXPECT_NE(table.place(1, {}, {values + 2, 2, 1, 1}), ms::no_row);
    support::observe(table, {{0.5f, 0.5f}, {0.5f, 0.5f}});
    static_cast<void>(table.forget());  // 3 * 3 and 1 * 12
    EXPECT_EQ(support::forgotten(table), std::vector<int>{0});
    EXPECT_EQ(weighed{}.forgets(), ms::per::layer);
}

}  // namespace scope_test
