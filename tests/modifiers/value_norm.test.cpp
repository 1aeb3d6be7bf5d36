// value_norm: hand-checked products of scores and sizes of values.
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/value_norm.hpp>
#include <multistate/policies/tova_head.hpp>
#include <multistate/table/table.hpp>

#include "support/micro.hpp"

namespace value_norm_test {

namespace ms = multistate;
using positions = std::vector<int>;
using weighed = ms::composed<ms::tova_head, ms::value_norm>;

std::size_t place(ms::table<weighed>& table, int position, const std::vector<float>& values, std::size_t kv_heads = 1) {
    const std::size_t width = values.size() / kv_heads;
    return table.place(position, {}, {values.data(), kv_heads, width, width});
}

TEST(value_norm, multiplies_by_the_sum_of_absolute_values) {
    ms::table<weighed> table({.states = 2});
    place(table, 0, {1, -2});
    support::observe(table, {{1.0f}});
    place(table, 1, {0.25f, 0.25f});
    support::observe(table, {{0.5f, 0.5f}});
    place(table, 2, {-4, 0});
    support::observe(table, {{0.25f, 0.5f, 0.25f}});
    EXPECT_EQ(place(table, 3, {8, 8}), 1u);  // .75 .25 1, where the attention alone would keep position 1
    EXPECT_EQ(table.scores()[0], 0.75f);
    EXPECT_EQ(table.scores()[2], 1.0f);
    support::observe(table, {{0.25f, 0.0625f, 0.6875f}});
    static_cast<void>(table.forget());  // .75 1 2.75: the row has the size of its new value
    EXPECT_EQ(support::forgotten(table), positions{0});
    EXPECT_EQ(table.scores()[1], 1.0f);
}

TEST(value_norm, sums_over_the_kv_heads_of_the_table) {
    ms::table<weighed> table({.states = 1, .heads = 2, .kv_heads = 2});
    place(table, 0, {1, 1, -3, 1}, 2);
    support::observe(table, {{1.0f}, {1.0f}});
    place(table, 1, {0, 0, 1, 0}, 2);
    support::observe(table, {{0.5f, 0.5f}, {0.25f, 0.75f}});
    static_cast<void>(table.forget());  // .75 * 6, 1.25 * 1
    EXPECT_EQ(support::forgotten(table), positions{1});
    EXPECT_EQ(table.scores()[0], 4.5f);
}

TEST(value_norm, looks_at_each_token_of_a_block) {
    ms::table<weighed> table({.states = 2, .block = 3});
    const float values[] = {4, 1, 2};
    static_cast<void>(table.append(0, 3));
    for (std::size_t row = 0; row < 3; ++row) table.observe_arrival(row, {}, {values + row, 1, 1, 1});
    support::observe(table, {{0.25f, 0.5f, 0.25f}});
    static_cast<void>(table.forget());  // 1 .5 .5
    EXPECT_EQ(support::forgotten(table), positions{1});
}

TEST(value_norm, of_no_value_is_nothing) {
    ms::table<weighed> table({.states = 1});
    place(table, 0, {0, 0});
    support::observe(table, {{1.0f}});
    place(table, 1, {0, 1});
    support::observe(table, {{1.0f, 0.0f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{0}) << "both 0, the oldest goes";
    EXPECT_EQ(table.scores()[0], 0.0f);
}

}  // namespace value_norm_test
