// The attention oracle, on attention drawn at random, against sums worked out pair by pair.
#include <algorithm>
#include <cstddef>
#include <random>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/evaluation/oracle.hpp>
#include <multistate/table/table.hpp>

namespace oracle_test {

namespace ms = multistate;

constexpr std::size_t tokens = 24, kv_heads = 2, group = 3, heads = kv_heads * group;

/// [token, head, position]; numbers in [0, 1), not normalized.
struct attention {
    std::vector<float> values = std::vector<float>(tokens * heads * tokens);

    attention() {
        std::mt19937 random(7);
        for (float& a : values) a = static_cast<float>(random() % 4096) / 4096;
    }
    float at(std::size_t t, std::size_t head, std::size_t j) const { return values[(t * heads + head) * tokens + j]; }
    /// Of the query heads of `count` KV heads, by all tokens after t.
    double still_to_come(std::size_t t, std::size_t kv_head, std::size_t count, std::size_t j) const {
        double sum = 0;
        for (std::size_t later = t + 1; later < tokens; ++later) {
            for (std::size_t h = kv_head * group; h < (kv_head + count) * group; ++h) {
                sum += static_cast<double>(at(later, h, j));
            }
        }
        return sum;
    }
};

ms::table_shape shape_of(std::size_t states, std::size_t kv_head, std::size_t count) {
    return {.states = states, .kv_head = kv_head, .heads = count * group, .kv_heads = count};
}

/// Feeds one token to a table of the KV heads from `kv_head` on; returns the row that it took.
template <class P>
std::size_t feed(ms::table<P>& table, const attention& a, std::size_t t) {
    const ms::table_shape& s = table.shape();
    const std::size_t row = table.place(static_cast<ms::position>(t));
    std::vector<float> probabilities(s.heads * table.size());
    for (std::size_t i = 0; i < s.heads; ++i) {
        for (std::size_t j = 0; j < table.size(); ++j) {
            const auto position = static_cast<std::size_t>(table.positions()[j]);
            probabilities[i * table.size() + j] = a.at(t, s.kv_head * group + i, position);
        }
    }
    table.observe({probabilities.data(), s.heads, table.size(), table.size()});
    return row;
}

ms::attention_record recorded(const attention& a) {
    ms::attention_record record({.layers = 1, .kv_heads = kv_heads, .tokens = tokens});
    ms::table<ms::attention_recorder> table(shape_of(tokens, 0, kv_heads), {&record});
    for (std::size_t t = 0; t < tokens; ++t) feed(table, a, t);
    record.finish();
    return record;
}

TEST(Oracle, RecordsTheAttentionStillToCome) {
    const attention a;
    const ms::attention_record record = recorded(a);
    for (std::size_t h = 0; h < kv_heads; ++h) {
        for (std::size_t t = 0; t + 1 < tokens; ++t) {
            const auto later = record.attention_from({0, h, static_cast<ms::position>(t) + 1});
            ASSERT_EQ(later.size(), t + 2);
            // Sums of at most 72 numbers below 1 with 12 bits: exact in float32.
            for (std::size_t j = 0; j <= t; ++j) EXPECT_EQ(later[j], a.still_to_come(t, h, 1, j)) << t << ' ' << j;
        }
    }
}

/// At every step, the state that left is the one with the least attention still to come among those held.
template <class P>
void expect_least(const attention& a, const P& oracle, std::size_t kv_head, std::size_t count) {
    ms::table<P> table(shape_of(5, kv_head, count), oracle);
    std::vector<std::size_t> held;
    for (std::size_t t = 0; t < tokens; ++t) {
        if (held.size() > 5) {
            held.erase(std::ranges::min_element(
                held, {}, [&](std::size_t j) { return a.still_to_come(t - 1, kv_head, count, j); }));
        }
        held.push_back(t);
        feed(table, a, t);
        std::vector<std::size_t> kept(table.positions().begin(), table.positions().end());
        std::ranges::sort(kept);
        ASSERT_EQ(kept, held) << "token " << t;
    }
}

TEST(Oracle, ForgetsTheStateWithTheLeastAttentionStillToCome) {
    const attention a;
    const ms::attention_record record = recorded(a);
    expect_least(a, ms::attention_oracle{&record}, 0, 1);
    expect_least(a, ms::attention_oracle{&record}, 1, 1);
    ms::attention_oracle_layer layer;
    layer.get<ms::attention_oracle>().record = &record;
    expect_least(a, layer, 0, kv_heads);
}

TEST(Oracle, ARecordIsUsedAgainAfterClear) {
    const attention a;
    ms::attention_record record = recorded(a);
    record.clear();
    for (std::size_t t = 0; t < tokens; ++t) {
        for (const float x : record.attention({0, 0, static_cast<ms::position>(t)})) ASSERT_EQ(x, 0);
    }
}

TEST(OracleDeath, PassesInTheWrongOrder) {
    const attention a;
    ms::attention_record record({.layers = 1, .kv_heads = kv_heads, .tokens = tokens});
    ms::table<ms::attention_oracle> early(shape_of(5, 0, 1), {&record});
    EXPECT_DEATH(feed(early, a, 0), "call finish\\(\\) after pass 1");
    record.finish();
    EXPECT_DEATH(record.finish(), "called again");
}

TEST(Oracle, RefusesWhatDoesNotFit) {
    EXPECT_THROW(ms::attention_record({.layers = 0, .kv_heads = 1, .tokens = 1}), std::invalid_argument);
    EXPECT_THROW(ms::attention_record({.layers = 1, .kv_heads = 1, .tokens = 0}), std::invalid_argument);
    EXPECT_THROW(ms::attention_record({.layers = 1, .kv_heads = 1, .tokens = std::size_t{1} << 31}),
                 std::invalid_argument);
    EXPECT_THROW(ms::table<ms::attention_oracle>(shape_of(5, 0, 1)), std::invalid_argument);
    ms::attention_record small({.layers = 1, .kv_heads = 1, .tokens = tokens});
    EXPECT_THROW(ms::table<ms::attention_oracle>(shape_of(5, 1, 1), {&small}), std::invalid_argument);
    EXPECT_THROW(ms::table<ms::attention_recorder>(shape_of(5, 0, 2), {&small}), std::invalid_argument);
}

}  // namespace oracle_test
