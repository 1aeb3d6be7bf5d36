// citrus: hand-checked decisions.
#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/attention/prefill.hpp>
#include <multistate/cache/cache.hpp>
#include <multistate/policies/citrus_probe.hpp>
#include <multistate/policies/tova.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"
#include "support/random.hpp"
#include "support/stream.hpp"

namespace citrus_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// What each decision forgot, in the order of the text; the tokens' attention is the same whatever the policy.
template <class Policy>
positions decisions(std::size_t slack) {
    ms::table<Policy> table({.states = 9, .slack = slack, .heads = 3});
    support::random_numbers random(7);
    positions result;
    for (int p = 0; p < 300; ++p) {
        static_cast<void>(table.append(p, 1));
        for (const int gone : support::forgotten(table)) result.push_back(gone);
        std::vector<float> given;
        for (std::size_t i = 0; i < 3 * table.size(); ++i) given.push_back(1 + random.within(1));
        table.observe({given.data(), 3, table.size(), table.size()});
    }
    return result;
}

TEST(citrus, token_by_token_is_tova_with_slack_or_without) {
    for (const std::size_t slack : {0u, 1u, 6u}) {
        EXPECT_EQ(decisions<ms::citrus>(slack), decisions<ms::tova>(slack)) << "slack " << slack;
    }
    EXPECT_EQ(decisions<ms::citrus>(0).size(), 290u);
}

/// An exact prefill means single steps, however many tokens lie between two decisions.
TEST(citrus, exact_prefill_is_tova_with_slack_or_without) {
    for (const std::size_t slack : {0u, 5u}) {
        const ms::shape shape{
            .layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 8, .states = 12, .block = 60, .slack = slack};
        const support::stream tokens(shape, 60, 3);
        const auto held_after = [&]<class Policy>(Policy) {
            ms::cache<Policy> cache(shape);
            ms::workspace scratch(cache.shape());
            std::vector<float> out(60 * tokens.out_width);
            EXPECT_TRUE(
                ms::prefill(cache.layer(0), 0, {tokens.q(0, 60), tokens.k(0, 60), tokens.v(0, 60)}, out, scratch));
            positions held(cache.layer(0).positions().begin(), cache.layer(0).positions().end());
            std::ranges::sort(held);
            return held;
        };
        EXPECT_EQ(held_after(ms::citrus{}), held_after(ms::tova{})) << "slack " << slack;
        EXPECT_EQ(held_after(ms::citrus_probe{}), held_after(ms::tova{})) << "slack " << slack;
    }
}

/// Appends a block and shows what each of its tokens attended to.
template <class Table>
void block(Table& table, int first, const std::vector<std::vector<float>>& tokens) {
    static_cast<void>(table.append(first, tokens.size()));
    for (const auto& given : tokens) table.observe({given.data(), 1, given.size(), given.size()});
}

/// Blocks of 2 with states = 2 + 2 and recent = 2: the best two of what came before a block, and the block.
TEST(citrus, a_block_decides_about_what_came_before_it) {
    ms::table<ms::citrus> table({.states = 4, .block = 2, .recent = 2});
    block(table, 0, {{1.0f}, {1.0f, 0.0f}});
    block(table, 2, {{0.75f, 0.0f, 0.25f}, {0.5f, 0.0f, 0.25f, 0.25f}});
    block(table, 4, {{0.0f, 0.25f, 0.0f, 0.125f, 0.625f}, {0.0f, 0.25f, 0.5f, 0.0f, 0.0f, 0.25f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), (positions{1, 2, 4, 5}));  // 0 .5 .5 .125, and the block
    block(table, 6, {{0.125f, 0.125f, 0.5f, 0.125f, 0.125f}, {0.0f, 0.125f, 0.5f, 0.25f, 0.0f, 0.125f}});
    // Rows hold 4 1 2 5 6 7: of what came before this block, .125 .25 1 .375 to 4 1 2 5.
    EXPECT_EQ(table.positions()[0], 4);
    static_cast<void>(table.forget());
    EXPECT_EQ(support::held(table), (positions{2, 5, 6, 7}));
}

/// Slack lets three blocks wait for one decision: it goes by the third alone.
TEST(citrus, of_several_blocks_between_decisions_the_last_counts) {
    ms::table<ms::citrus> table({.states = 4, .block = 2, .slack = 1, .recent = 2});
    block(table, 0, {{1.0f}, {0.0f, 1.0f}});
    block(table, 2, {{0.0f, 1.0f, 0.0f}, {0.0f, 1.0f, 0.0f, 0.0f}});
    block(table, 4, {{0.5f, 0.0f, 0.25f, 0.0f, 0.25f}, {0.5f, 0.125f, 0.25f, 0.125f, 0.0f, 0.0f}});
    static_cast<void>(table.append(6, 2));
    EXPECT_EQ(support::forgotten(table), (positions{1, 3}));  // 1 .125 .5 .125, and the block
}

TEST(citrus, sums_over_the_heads_of_the_layer) {
    EXPECT_EQ(ms::citrus::forgets(), ms::per::layer);
    ms::table<ms::citrus> table({.states = 1, .heads = 2});
    support::fill(table, 2, 2);
    EXPECT_FLOAT_EQ(table.scores()[0], 1.0f);
    EXPECT_FLOAT_EQ(table.scores()[1], 1.0f);
}

TEST(citrus, one_state_and_certain_attention) {
    ms::table<ms::citrus> table({.states = 1});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.0f, 1.0f}});
    EXPECT_NE(table.place(2), ms::no_row);
    EXPECT_EQ(support::forgotten(table), positions{0});
    for (const float score : table.scores()) EXPECT_FALSE(std::isnan(score));
}

TEST(citrus, a_copy_within_a_block_continues_alike) {
    ms::table<ms::citrus> table({.states = 2, .block = 2});
    static_cast<void>(table.append(0, 2));
    support::observe(table, {{1.0f}});
    auto copy = table;
    for (auto* one : {&table, &copy}) {
        support::observe(*one, {{0.25f, 0.75f}});
        EXPECT_FLOAT_EQ(one->scores()[0], 1.25f);
    }
}

TEST(citrus, clear_begins_anew) {
    ms::table<ms::citrus> table({.states = 2, .block = 2});
    block(table, 8, {{1.0f}, {0.5f, 0.5f}});
    table.clear();
    block(table, 9, {{1.0f}, {0.5f, 0.5f}});
    EXPECT_FLOAT_EQ(table.scores()[0], 1.5f);
}

}  // namespace citrus_test

namespace reference::citrus {

/// What the tokens that arrived together last gave.
numbers scores(const evidence& e) { return sum_over(e, std::span(e.past).subspan(e.last_arrival)); }

const registered rule{{.name = "citrus", .forgets = unit::layer, .score = scores}};

}  // namespace reference::citrus
