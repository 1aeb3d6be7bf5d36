// full: never forgets, and says so when its rows are used up.
#include <algorithm>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/multistate.hpp>

#include "reference/rule.hpp"
#include "support/micro.hpp"
#include "support/stream.hpp"

namespace full_test {

namespace ms = multistate;

TEST(full, a_table_answers_no_row_and_stays_as_it_is) {
    ms::table<ms::full> table({.states = 3, .block = 2});
    for (int p = 0; p < 5; ++p) EXPECT_EQ(table.place(p), static_cast<std::size_t>(p));
    EXPECT_EQ(table.place(5), ms::no_row);
    EXPECT_EQ(support::held(table), (std::vector<int>{0, 1, 2, 3, 4}));
    EXPECT_EQ(table.next_position(), 5);
    EXPECT_TRUE(table.forget().empty());
    EXPECT_EQ(table.size(), 5u);
    EXPECT_TRUE(table.forgotten().empty());
}

template <class P>
void fill_and_overflow(ms::cache<P> cache) {
    ms::workspace scratch(cache.shape());
    const support::stream tokens(cache.shape(), 12, 1);
    std::vector<float> out(4 * tokens.out_width);
    const auto two = std::span(out).first(2 * tokens.out_width);
    const auto one = std::span(out).first(tokens.out_width);
    ASSERT_TRUE(ms::prefill(cache.layer(0), 0, {tokens.q(0, 4), tokens.k(0, 4), tokens.v(0, 4)}, out, scratch));
    ASSERT_TRUE(ms::prefill(cache.layer(0), 4, {tokens.q(4, 4), tokens.k(4, 4), tokens.v(4, 4)}, out, scratch));
    ASSERT_TRUE(ms::step(cache.layer(0), 8, {tokens.q(8), tokens.k(8), tokens.v(8)}, one, scratch));
    const std::vector<float> keys(cache.layer(0).keys(0).data,
                                  cache.layer(0).keys(0).data + 10 * cache.layer(0).keys(0).stride);

    // One row is left: a block of two does not fit, and nothing may change.
    std::ranges::fill(out, 7.0f);
    for (const auto mode : {ms::prefill_mode::exact, ms::prefill_mode::block}) {
        EXPECT_FALSE(
            ms::prefill(cache.layer(0), 9, {tokens.q(9, 2), tokens.k(9, 2), tokens.v(9, 2)}, two, scratch, mode));
    }
    EXPECT_EQ(cache.layer(0).size(), 9u);
    ASSERT_TRUE(ms::step(cache.layer(0), 9, {tokens.q(9), tokens.k(9), tokens.v(9)}, one, scratch));
    EXPECT_FALSE(cache.layer(0).append(10, tokens.k(10), tokens.v(10)));
    std::ranges::fill(out, 7.0f);
    EXPECT_FALSE(ms::step(cache.layer(0), 10, {tokens.q(10), tokens.k(10), tokens.v(10)}, one, scratch));
    EXPECT_EQ(std::ranges::count(out, 7.0f), static_cast<std::ptrdiff_t>(out.size()));
    EXPECT_EQ(cache.layer(0).size(), 10u);
    EXPECT_EQ(cache.layer(0).next_position(), 10);
    EXPECT_EQ(cache.layer(1).size(), 0u) << "another layer";
    EXPECT_TRUE(std::equal(keys.begin(), keys.begin() + 9 * 16, cache.layer(0).keys(0).data));
}

TEST(full, a_cache_answers_false_and_stays_as_it_is) {
    const ms::shape shape{.layers = 2, .heads = 2, .kv_heads = 1, .head_dim = 16, .states = 6, .block = 4};
    fill_and_overflow(ms::cache<ms::full>(shape));
    fill_and_overflow(ms::cache<ms::any_policy>(shape, ms::full{}));
}

TEST(full, ignores_guards) {
    ms::table<ms::full> table({.states = 2, .sinks = 9, .recent = 9});
    for (int p = 0; p < 3; ++p) EXPECT_NE(table.place(p), ms::no_row);
}

}  // namespace full_test

namespace reference::full {

const registered rule{{.name = "full", .forgets = unit::never}};

}  // namespace reference::full
