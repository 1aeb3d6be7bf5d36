// knorm: hand-checked decisions.
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/knorm.hpp>
#include <multistate/table/table.hpp>

#include "reference/numbers.hpp"
#include "reference/rule.hpp"
#include "support/micro.hpp"
#include "support/stored.hpp"

namespace knorm_test {

namespace ms = multistate;
using positions = std::vector<int>;

constexpr ms::table_shape shape{.states = 3, .head_dim = 2, .value_dim = 1};

template <class P>
void place_all(ms::table<P>& table, const std::vector<std::vector<float>>& keys) {
    support::stored_floats stored(table.shape());
    for (const auto& key : keys) stored.place(table, table.next_position(), {key}, {{0}});
}

TEST(knorm, forgets_the_longest_key) {
    ms::table<ms::knorm> table(shape);
    place_all(table, {{1, 0}, {3, -4}, {0, 2}, {-3, 3}});
    const float expected[] = {-1, -5, -2, -4.2426407f};
    for (std::size_t j = 0; j < 4; ++j) EXPECT_FLOAT_EQ(table.scores()[j], expected[j]);
    place_all(table, {{0, 0}});
    EXPECT_EQ(support::forgotten(table), positions{1});
}

TEST(knorm, the_newest_is_a_candidate_and_of_equals_the_oldest_goes) {
    ms::table<ms::knorm> table(shape);
    place_all(table, {{1, 0}, {0, 1}, {1, 0}, {2, 0}, {0, -1}, {1, 0}});
    EXPECT_EQ(support::held(table), (positions{1, 2, 4, 5}));
}

TEST(knorm, a_zero_key_stays_longest) {
    ms::table<ms::knorm> table(shape);
    place_all(table, {{0, 0}, {0.1f, 0}, {0, 0}, {1e-20f, 0}, {0, 1e18f}, {1, 1}, {1, 1}});
    EXPECT_EQ(support::held(table), (positions{0, 2, 3, 6}));
    for (const float score : table.scores()) EXPECT_FALSE(std::isnan(score));
}

TEST(knorm, a_layer_sums_the_norms_of_its_heads) {
    ms::table<ms::composed<ms::knorm, ms::per_layer>> table(
        {.states = 2, .heads = 2, .kv_heads = 2, .head_dim = 1, .value_dim = 1});
    support::stored_floats stored(table.shape());
    stored.place(table, 0, {{5}, {-1}}, {{0}, {0}});
    stored.place(table, 1, {{-3}, {4}}, {{0}, {0}});
    EXPECT_FLOAT_EQ(table.scores()[0], -6.0f);
    EXPECT_FLOAT_EQ(table.scores()[1], -7.0f);
}

TEST(knorm, one_state) {
    ms::table<ms::knorm> table({.states = 1, .head_dim = 2, .value_dim = 1});
    place_all(table, {{1, 0}, {5, 0}, {2, 0}});
    EXPECT_EQ(support::held(table), (positions{0, 2}));
}

}  // namespace knorm_test

namespace reference::knorm {

numbers minus_norms(const evidence& e) {
    numbers scores(e.states().size());
    for (std::size_t h = e.first_kv_head; h < e.end_kv_head(); ++h) {
        for (std::size_t j = 0; j < scores.size(); ++j) scores[j] -= norm(e.held[h][j].key);
    }
    return scores;
}

const registered rule{{.name = "knorm", .score = minus_norms}};

}  // namespace reference::knorm
