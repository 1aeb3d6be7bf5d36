// Handles of layers: what they read, and parts of a step for one table after the other.
#include <algorithm>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/attention/step.hpp>
#include <multistate/cache/cache.hpp>
#include <multistate/codecs/f16.hpp>
#include <multistate/policies/h2o.hpp>
#include <multistate/policies/tova.hpp>

#include "support/stream.hpp"

namespace layer_test {

namespace ms = multistate;

constexpr ms::shape small{.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 5, .states = 6, .block = 3};

TEST(layer, says_what_it_is) {
    ms::cache<ms::h2o> cache(small);
    const auto layer = cache.layer(1);
    EXPECT_EQ(layer.index(), 1u);
    EXPECT_EQ(&layer.shape(), &cache.shape());
    EXPECT_EQ(layer.table_count(), 2u);
    EXPECT_EQ(layer.states(), 6u);
    EXPECT_EQ(layer.rows(), 9u);
    EXPECT_EQ(layer.tables()[1].shape().kv_head, 1u);
    EXPECT_EQ(ms::cache<ms::tova>(small).layer(0).table_count(), 1u);
}

/// The policy that decides can be asked for its parameters.
TEST(layer, shows_its_policy) {
    struct numbered : ms::h2o {
        int number = 0;
    };
    numbered policy;
    policy.number = 7;
    ms::cache<numbered> cache(small, policy);
    EXPECT_EQ(cache.policy().number, 7);
    EXPECT_EQ(cache.layer(1).policy().number, 7);
    cache.layer(1).tables()[1].policy().number = 8;
    EXPECT_EQ(cache.layer(1).restricted_to(1).policy().number, 8);
    EXPECT_EQ(cache.policy().number, 7);
}

/// Heads that decide alone may take their parts of a step in any order, as tasks of an engine do.
TEST(layer, restricted_to_one_table_after_the_other_is_the_whole) {
    ms::cache<ms::h2o, ms::f16> whole(small), parts(small);
    ms::workspace scratch(small);
    const support::stream tokens(small, 40, 5);
    std::vector<float> expected(tokens.out_width), out(tokens.out_width);
    for (std::size_t t = 0; t < 40; ++t) {
        const auto p = static_cast<ms::position>(t);
        ASSERT_TRUE(ms::step(whole.layer(0), p, {tokens.q(t), tokens.k(t), tokens.v(t)}, expected, scratch));
        const auto layer = parts.layer(0);
        for (const std::size_t head : {1u, 0u}) {
            ASSERT_TRUE(layer.restricted_to(head).append(p, tokens.k(t), tokens.v(t)));
        }
        const ms::rows probabilities = ms::attend(layer, tokens.q(t), out, scratch);
        for (const std::size_t head : {1u, 0u}) {
            layer.restricted_to(head).observe_queries(tokens.q(t));
            layer.restricted_to(head).observe(probabilities);
        }
        EXPECT_EQ(out, expected);
        for (std::size_t h = 0; h < 2; ++h) {
            EXPECT_TRUE(std::ranges::equal(layer.positions(h), whole.layer(0).positions(h)));
            EXPECT_TRUE(std::ranges::equal(layer.scores(h), whole.layer(0).scores(h)));
            EXPECT_EQ(layer.forgotten(h).size(), t < 7 ? 0u : 1u);
        }
    }
    parts.layer(0).restricted_to(1).forget();
    EXPECT_EQ(parts.layer(0).size(0), 7u);
    EXPECT_EQ(parts.layer(0).size(1), 6u);
    EXPECT_EQ(parts.layer(0).largest_size(), 7u);
}

TEST(layer, forgotten_states_are_those_of_one_call_or_of_several) {
    ms::cache<ms::h2o> cache(small);
    const auto layer = cache.layer(0);
    const support::stream tokens(small, 12, 1);
    ms::workspace scratch(small);
    std::vector<float> out(tokens.out_width);
    std::size_t forgotten = 0;
    for (std::size_t t = 0; t < 12; ++t) {
        const auto log = t < 9 ? ms::forgotten_log::restart : ms::forgotten_log::extend;
        EXPECT_TRUE(layer.append(static_cast<ms::position>(t), tokens.k(t), tokens.v(t), log));
        layer.observe(ms::attend(layer, tokens.q(t), out, scratch));
        forgotten = t < 7 ? 0 : t < 9 ? 1 : forgotten + 1;
        EXPECT_EQ(layer.forgotten().size(), forgotten) << t;
    }
    layer.forget();
    EXPECT_EQ(layer.forgotten().size(), 1u);
    layer.forget();
    EXPECT_TRUE(layer.forgotten().empty()) << "nothing was left to forget";
}

/// Staged tokens are stored and not held; relocating brings one to a row that is.
TEST(layer, staging_decides_nothing) {
    ms::cache<ms::tova> cache(small);
    const auto layer = cache.layer(1);
    const support::stream tokens(small, 3, 1);
    EXPECT_TRUE(layer.append(0, tokens.k(0), tokens.v(0)));
    layer.stage(tokens.k(1, 2), tokens.v(1, 2));
    EXPECT_EQ(layer.size(), 1u);
    EXPECT_EQ(layer.next_position(), 1);
    const ms::relocation last{2, 0};
    layer.relocate({&last, 1});
    for (std::size_t h = 0; h < 2; ++h) {
        std::vector<float> key(5);
        layer.keys(h).read(0, key.data());
        EXPECT_TRUE(std::ranges::equal(key, tokens.k(2).subspan(h * 5, 5)));
        layer.keys(h).read(1, key.data());
        EXPECT_TRUE(std::ranges::equal(key, tokens.k(1).subspan(h * 5, 5)));
    }
}

}  // namespace layer_test
