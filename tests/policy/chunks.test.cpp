// Chunks of the text: their length, who is in which, and that all states have a score in the end.
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policy/chunks.hpp>
#include <multistate/table/table.hpp>

#include "support/micro.hpp"

namespace chunks_test {

namespace ms = multistate;

TEST(chunks, are_no_longer_than_a_quarter_of_the_states) {
    EXPECT_EQ(ms::chunk_length(128, {.states = 512}), 128u);
    EXPECT_EQ(ms::chunk_length(128, {.states = 4096}), 128u);
    EXPECT_EQ(ms::chunk_length(128, {.states = 100}), 25u);
    EXPECT_EQ(ms::chunk_length(128, {.states = 16}), 4u);
    EXPECT_EQ(ms::chunk_length(128, {.states = 15}), 1u);
    EXPECT_EQ(ms::chunk_length(128, {.states = 1}), 1u);
}

TEST(chunks, counter_numbers_chunks_from_one_and_tokens_from_zero) {
    ms::chunk_counter counter;
    EXPECT_EQ(counter.number(), 0u);
    EXPECT_FALSE(counter.ended(3));
    for (int token = 0; token < 9; ++token) {
        EXPECT_EQ(counter.count(3), static_cast<std::size_t>(token % 3));
        EXPECT_EQ(counter.number(), static_cast<std::uint32_t>(1 + token / 3));
        EXPECT_EQ(counter.ended(3), token % 3 == 2);
    }
}

TEST(chunks, counter_goes_on_where_floats_would_stand_still) {
    ms::chunk_counter counter;
    for (int token = 0; token < (1 << 24) + 5; ++token) counter.count(1);
    EXPECT_EQ(counter.number(), (1u << 24) + 5);
    ms::chunk_counter long_chunk;
    for (int token = 0; token < (1 << 24) + 5; ++token) long_chunk.count(1 << 25);
    EXPECT_EQ(long_chunk.count(1 << 25), (std::size_t{1} << 24) + 5);
}

/// Scores each token of a chunk by its index.
struct indexed {
    [[maybe_unused]] static constexpr std::string_view name = "indexed";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    struct memory {
        ms::chunk_memory chunks;
    };
    static void lay_out(memory& m, ms::layout& l) noexcept { m.chunks.lay_out(l); }
    std::size_t length = 4;

    void on_insert(ms::rows, ms::rows, ms::view states, std::size_t row) const noexcept {
        const auto chunks = states.memory(*this).chunks;
        const ms::chunk_place token = ms::join_chunk(states, *this, chunks, length, row);
        const std::vector<float> scores{3, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
        if (token.is_last) ms::score_chunk(states, chunks, token.chunk, std::span(scores).first(token.index + 1));
    }
};
static_assert(ms::policy<indexed> && ms::has_on_insert<indexed>);

TEST(chunks, states_wait_until_their_chunk_has_ended) {
    ms::table<indexed> table({.states = 16});
    for (int p = 0; p < 7; ++p) EXPECT_NE(table.place(p), ms::no_row);
    const std::vector<float> expected{3, 1, 2, 4, ms::waiting, ms::waiting, ms::waiting};
    EXPECT_EQ(std::vector<float>(table.scores().begin(), table.scores().end()), expected);
    EXPECT_NE(table.place(7), ms::no_row);
    EXPECT_EQ(table.scores()[5], 1.0f);
    for (int p = 8; p < 18; ++p) EXPECT_NE(table.place(p), ms::no_row);
    EXPECT_EQ(support::forgotten(table), std::vector<int>{1});
}

TEST(chunks, another_budget_leaves_none_waiting_for_ever) {
    ms::table<indexed> table({.states = 32}, {.length = 8});
    for (int p = 0; p < 22; ++p) EXPECT_NE(table.place(p), ms::no_row);
    EXPECT_EQ(std::ranges::count(table.scores(), ms::waiting), 6);
    static_cast<void>(table.rebudget(20));  // chunks of 5
    EXPECT_NE(table.place(22), ms::no_row);
    EXPECT_EQ(std::ranges::count(table.scores(), ms::waiting), 1) << "the newest only";
    EXPECT_EQ(table.scores()[0], 3.0f) << "what has a score keeps it";
    for (int p = 23; p < 27; ++p) EXPECT_NE(table.place(p), ms::no_row);
    EXPECT_EQ(std::ranges::count(table.scores(), ms::waiting), 0);
    static_cast<void>(table.rebudget(23));  // chunks of 5 again
    EXPECT_NE(table.place(27), ms::no_row);
    static_cast<void>(table.rebudget(20));
    for (int p = 28; p < 32; ++p) EXPECT_NE(table.place(p), ms::no_row);
    EXPECT_EQ(std::ranges::count(table.scores(), ms::waiting), 0);
}

TEST(chunks, what_waited_for_a_chunk_of_another_length_is_in_none) {
    ms::table<indexed> table({.states = 32}, {.length = 16});
    for (int p = 0; p < 6; ++p) EXPECT_NE(table.place(p), ms::no_row);
    static_cast<void>(table.rebudget(64));
    for (int p = 6; p < 22; ++p) EXPECT_NE(table.place(p), ms::no_row);
    for (std::size_t row = 0; row < 6; ++row) EXPECT_EQ(table.scores()[row], 0.0f);
    EXPECT_EQ(table.scores()[6], 3.0f);
}

TEST(chunks, of_one_token_score_nothing) {
    ms::table<indexed> table({.states = 8});
    for (int p = 0; p < 10; ++p) EXPECT_NE(table.place(p), ms::no_row);
    EXPECT_EQ(table.scores()[0], 0.0f);
    EXPECT_EQ(support::held(table), (std::vector<int>{1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

}  // namespace chunks_test
