#pragma once

// Tables driven by hand-given queries.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policy/chunks.hpp>
#include <multistate/table/table.hpp>

#include "support/micro.hpp"
#include "support/random.hpp"
#include "support/stored.hpp"

namespace support {

/// Shows a table the queries of the token placed last, one for each query head.
template <class Table>
void ask(Table& table, const std::vector<std::vector<float>>& heads) {
    std::vector<float> flat;
    for (const auto& head : heads) flat.insert(flat.end(), head.begin(), head.end());
    const std::size_t width = heads.front().size();
    table.observe_queries({flat.data(), heads.size(), width, width}, table.size());
}

/// The next token, with the same key, value and query in all heads.
template <class Table>
void step(Table& table, const std::vector<float>& key, const std::vector<float>& value,
          const std::vector<float>& query) {
    stored_floats stored(table.shape());
    const std::size_t heads = table.shape().kv_heads;
    stored.place(table, table.next_position(), vectors(heads, key), vectors(heads, value));
    ask(table, vectors(table.shape().heads, query));
}

/// The next token, of random numbers.
template <class Table>
void step_at_random(Table& table, std::uint64_t seed) {
    random_numbers random(seed);
    const auto key = random.floats(table.shape().head_dim, 2);
    const auto value = random.floats(table.shape().value_dim, 1);
    step(table, key, value, random.floats(table.shape().head_dim, 2));
}

/// The test that a policy must pass whose pieces may begin, and end, within a block: there all keys come before the
/// first query. Nothing is forgotten.
template <class P>
void expect_blocks_to_equal_single_steps(multistate::table_shape shape, std::size_t block) {
    const std::size_t tokens = shape.states, heads = shape.heads, kv_heads = shape.kv_heads;
    shape.block = block;
    random_numbers random(block);
    const auto k = random.floats(tokens * kv_heads * shape.head_dim, 1),
               v = random.floats(tokens * kv_heads * shape.value_dim, 1),
               q = random.floats(tokens * heads * shape.head_dim, 1);
    const auto of = [](const std::vector<float>& x, std::size_t t, std::size_t count, std::size_t width) {
        return multistate::rows{x.data() + t * count * width, count, width, width};
    };
    multistate::table<P> single(shape), blocks(shape);
    for (std::size_t t = 0; t < tokens; ++t) {
        EXPECT_NE(
            single.place(static_cast<int>(t), of(k, t, kv_heads, shape.head_dim), of(v, t, kv_heads, shape.value_dim)),
            multistate::no_row);
        single.observe_queries(of(q, t, heads, shape.head_dim), single.size());
    }
    for (std::size_t first = 0; first < tokens; first += block) {
        const std::size_t end = std::min(first + block, tokens);
        static_cast<void>(blocks.append(static_cast<int>(first), end - first));
        for (std::size_t t = first; t < end; ++t) {
            blocks.observe_arrival(t, of(k, t, kv_heads, shape.head_dim), of(v, t, kv_heads, shape.value_dim));
        }
        for (std::size_t t = first; t < end; ++t) blocks.observe_queries(of(q, t, heads, shape.head_dim), t + 1);
    }
    EXPECT_TRUE(std::ranges::equal(single.scores(), blocks.scores())) << "blocks of " << block;
}

/// The test that a policy of pieces must pass: a copy continues alike, and with other budgets pieces begin anew, of a
/// quarter of the states at most. Leaves the table cleared.
template <class Table>
void expect_copies_to_continue_and_budgets_to_begin_anew(Table& table) {
    for (std::uint64_t p = 0; p < 25; ++p) step_at_random(table, p);
    auto copy = table;
    for (std::uint64_t p = 25; p < 60; ++p) step_at_random(table, p);
    for (std::uint64_t p = 25; p < 60; ++p) step_at_random(copy, p);
    EXPECT_EQ(held(table), held(copy));
    for (const std::size_t states : {17u, 90u, 33u}) {
        static_cast<void>(table.rebudget(states));
        for (std::uint64_t i = 0; i < 40; ++i) step_at_random(table, i);
        for (const float score : table.scores()) EXPECT_TRUE(std::isfinite(score));
        EXPECT_LE(static_cast<std::size_t>(std::ranges::count(table.scores(), multistate::waiting)), states / 4);
    }
    table.clear();
}

}  // namespace support
