// A policy's memory: laid out without overlap, aligned, zero at first, and with its state wherever that goes.
#include <array>
#include <complex>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/multistate.hpp>
#include <multistate/policies/list.hpp>

#include "support/hand_held.hpp"
#include "support/micro.hpp"

namespace memory_test {

namespace ms = multistate;

struct sixteen_bytes {
    std::uint64_t first;
    std::uint64_t second;
};

/// Remembers of each state its position, in elements of every size, and counts tokens; finds any that are wrong.
struct remembers {
    static constexpr std::string_view name = "remembers";
    static constexpr ms::per forgets() noexcept { return ms::per::layer; }

    std::size_t words = 3;
    struct memory {
        ms::per_state<std::uint8_t> one;
        ms::per_state<std::int16_t> two;
        ms::per_state<float> four;
        ms::per_state_array<std::uint64_t> eight;
        ms::per_state<sixteen_bytes> sixteen;
        ms::per_table<bool> flag;
        ms::per_table<std::uint64_t> tokens;
        ms::per_table_array<float> vectors;
        ms::per_table<int> faults;
    };
    void lay_out(memory& m, ms::layout& l) const noexcept {
        l(m.one);
        l(m.two);
        l(m.four);
        l(m.eight, words);
        l(m.sixteen);
        l(m.flag);
        l(m.tokens);
        l(m.vectors, 3, l.shape().heads);
        l(m.faults);
    }

    static bool is_zero(const memory& m, std::size_t row) noexcept {
        std::uint64_t all =
            m.one[row] | m.sixteen[row].first | m.sixteen[row].second | (m.two[row] != 0) | (m.four[row] != 0);
        for (std::size_t i = 0; i < m.eight.size(); ++i) all |= m.eight[i][row];
        return all == 0;
    }
    static bool is_of(const memory& m, std::size_t row, ms::position p) noexcept {
        const auto n = static_cast<std::uint64_t>(p) + 1;
        bool right = m.one[row] == static_cast<std::uint8_t>(n) && m.two[row] == static_cast<std::int16_t>(n) &&
                     m.four[row] == static_cast<float>(n) && m.sixteen[row].first == n && m.sixteen[row].second == ~n;
        for (std::size_t i = 0; i < m.eight.size(); ++i) right = right && m.eight[i][row] == (n << (8 * i));
        return right;
    }
    void on_insert(ms::rows, ms::rows, ms::view states, std::size_t row) const noexcept {
        const memory m = states.memory(*this);
        if (!is_zero(m, row)) ++m.faults[0];
        const auto n = static_cast<std::uint64_t>(states.position[row]) + 1;
        m.one[row] = static_cast<std::uint8_t>(n);
        m.two[row] = static_cast<std::int16_t>(n);
        m.four[row] = static_cast<float>(n);
        for (std::size_t i = 0; i < words; ++i) m.eight[i][row] = n << (8 * i);
        m.sixteen[row] = {n, ~n};
        ++m.tokens[0];
        m.flag[0] = true;
        for (std::size_t i = 0; i < 3; ++i) std::ranges::fill(m.vectors[i], static_cast<float>(i));
    }
    void on_attention(ms::rows probabilities, ms::view states) const noexcept {
        const memory m = states.memory(*this);
        for (std::size_t row = 0; row < states.size(); ++row) {
            if (!is_of(m, row, states.position[row])) ++m.faults[0];
            states.score[row] = probabilities[0][row];
        }
        for (std::size_t i = 0; i < 3; ++i) {
            for (const float x : m.vectors[i]) m.faults[0] += x != static_cast<float>(i);
        }
        m.faults[0] += !m.flag[0];
        if (m.faults[0] > 0) std::ranges::fill(states.score, -1.0f);
    }
};
static_assert(ms::has_memory<remembers> && ms::has_memory<ms::composed<remembers, ms::per_head>>);

/// Shows a table scores in such an order that states of all ages go. Returns whether the policy found a fault.
template <class Table>
bool observe_all_ages(Table& table) {
    std::vector<float> seen(table.size());
    for (std::size_t j = 0; j < seen.size(); ++j) seen[j] = static_cast<float>(1 + table.positions()[j] * 7 % 5);
    support::observe(table, std::vector<std::vector<float>>(table.shape().heads, seen));
    return table.scores()[0] < 0;
}
template <class Table>
void append(Table& table, std::size_t count) {
    static_cast<void>(table.append(table.next_position(), count));
    for (std::size_t row = table.size() - count; row < table.size(); ++row) table.observe_arrival(row, {}, {});
}

TEST(memory, is_zero_at_placing_and_moves_with_its_state) {
    for (const std::size_t slack : {0u, 2u}) {
        ms::table<remembers> table({.states = 6, .block = 5, .slack = slack});
        for (const std::size_t count : {5u, 4u, 1u, 1u, 5u, 3u, 1u, 1u, 1u, 5u, 5u, 1u, 2u}) {
            append(table, count);
            ASSERT_FALSE(observe_all_ages(table)) << table.next_position();
        }
    }
}

TEST(memory, of_a_row_that_is_used_again_is_zero) {
    ms::table<remembers> table({.states = 4});
    for (int p = 0; p < 30; ++p) {
        EXPECT_NE(table.place(p), ms::no_row);
        ASSERT_FALSE(observe_all_ages(table));
    }
    table.clear();
    for (int p = 0; p < 9; ++p) {
        EXPECT_NE(table.place(p), ms::no_row);
        ASSERT_FALSE(observe_all_ages(table)) << "the table's own memory was zeroed, too, then filled again";
    }
}

TEST(memory, survives_another_budget_and_a_copy) {
    ms::table<remembers> table({.states = 20, .block = 3, .heads = 1});
    for (int i = 0; i < 12; ++i) {
        append(table, 3);
        ASSERT_FALSE(observe_all_ages(table));
    }
    for (const std::size_t states : {31u, 7u, 8u, 64u}) {
        static_cast<void>(table.rebudget(states));
        ASSERT_FALSE(observe_all_ages(table));
        ms::table<remembers> copy = table;
        append(copy, 2);
        ASSERT_FALSE(observe_all_ages(copy));
        append(table, 3);
        ASSERT_FALSE(observe_all_ages(table));
    }
}

/// What a policy counts in its table, by the score of each state.
struct counts {
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    struct memory {
        ms::per_table<std::uint64_t> tokens;
    };
    static void lay_out(memory& m, ms::layout& l) noexcept { l(m.tokens); }
    void on_attention(ms::rows, ms::view states) const noexcept {
        std::ranges::fill(states.score, static_cast<float>(++states.memory(*this).tokens[0]));
    }
};

TEST(memory, of_the_table_goes_on_after_another_budget_and_starts_anew_after_clear) {
    ms::table<counts> table({.states = 4});
    support::fill(table, 3, 1);
    static_cast<void>(table.rebudget(9));
    support::fill(table, 0, 1);
    EXPECT_NE(table.place(3), ms::no_row);
    support::observe(table, {{1, 0, 0, 0}});
    EXPECT_EQ(table.scores()[0], 4.0f);
    table.clear();
    support::fill(table, 1, 1);
    EXPECT_EQ(table.scores()[0], 1.0f);
}

TEST(memory, is_aligned_and_seen_as_far_as_the_states) {
    const remembers policy;
    support::hand_held held(policy, {.states = 5, .heads = 7}, 13);
    ms::view states = held.states();
    states.score = states.score.first(9);
    const auto m = states.memory(policy);
    const auto is_aligned = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 64 == 0; };
    for (const void* p : std::initializer_list<const void*>{m.one.data(), m.two.data(), m.four.data(),
                                                            m.eight[0].data(), m.eight[2].data(), m.sixteen.data(),
                                                            m.flag.data(), m.tokens.data(), m.vectors.data()}) {
        EXPECT_TRUE(is_aligned(p));
    }
    EXPECT_EQ(m.one.size(), 9u);
    EXPECT_EQ(m.eight.size(), 3u);
    EXPECT_EQ(m.eight[1].size(), 9u);
    EXPECT_EQ(m.eight[1].data(), m.eight.data() + m.eight.stride());
    EXPECT_EQ(m.tokens.size(), 1u);
    EXPECT_EQ(m.vectors.size(), 3u);
    EXPECT_EQ(m.vectors[2].size(), 7u);
    EXPECT_EQ(m.vectors[2].data(), m.vectors.data() + 2 * m.vectors.length());
}

/// Bytes of all members lie apart: each is filled with a number of its own.
TEST(memory, members_do_not_overlap) {
    const remembers policy{.words = 2};
    support::hand_held held(policy, {.states = 5, .heads = 3}, 6);
    const auto m = held.states().memory(policy);
    int number = 0;
    const auto bytes = [](const auto& span) { return std::as_writable_bytes(std::span(span)); };
    const auto members =
        std::vector{bytes(m.one),     bytes(m.two),  bytes(m.four),   bytes(m.eight[0]),   bytes(m.eight[1]),
                    bytes(m.sixteen), bytes(m.flag), bytes(m.tokens), bytes(m.vectors[0]), bytes(m.vectors[2])};
    for (const auto& member : members) {
        for (const std::byte b : member) ASSERT_EQ(b, std::byte{0}) << number;
        std::ranges::fill(member, static_cast<std::byte>(++number));
    }
    number = 0;
    for (const auto& member : members) {
        ++number;
        for (const std::byte b : member) ASSERT_EQ(b, static_cast<std::byte>(number));
    }
}

/// Policies in policies: every part finds its own memory.
TEST(memory, of_the_parts_of_a_composition_does_not_overlap) {
    struct merges_nothing {
        struct memory {
            ms::per_state<std::uint32_t> mark;
            ms::per_table<std::uint32_t> calls;
        };
        static void lay_out(memory& m, ms::layout& l) noexcept {
            l(m.mark);
            l(m.calls);
        }
        void merge(const ms::editor&, std::span<const std::uint32_t>, ms::view states) const noexcept {
            const auto [mark, calls] = states.memory(*this);
            std::ranges::fill(mark, ~0u);
            calls[0] = ~0u;
        }
    };
    using all = ms::composed<remembers, ms::max_over_heads, ms::pool, merges_nothing>;
    ms::table<all> table({.states = 6, .block = 2, .heads = 2, .head_dim = 1, .value_dim = 1});
    const ms::no_rows nothing;
    ms::storage_access none{};
    ms::editor stored = nothing.lend(table.shape());
    stored.access = &none;
    stored.kv_heads = stored.head_dim = stored.value_dim = 1;
    for (int i = 0; i < 20; ++i) {
        static_cast<void>(table.append(table.next_position(), 2, stored));
        const float zero = 0;
        for (std::size_t row = table.size() - 2; row < table.size(); ++row) {
            table.observe_arrival(row, {&zero, 1, 1, 1}, {&zero, 1, 1, 1});
        }
        static_cast<void>(observe_all_ages(table));
        for (const float score : table.scores()) ASSERT_GE(score, 0.0f) << "the policy met a fault";
    }
    static_cast<void>(table.forget(stored));
    for (const float score : table.scores()) EXPECT_GT(score, 0.0f) << "the policy met a fault in the end";
}

struct scissorhands_of_a_layer : ms::composed<ms::scissorhands, ms::per_layer> {
    static constexpr std::string_view name = "scissorhands_of_a_layer";
};

TEST(memory, of_one_of_is_that_of_its_choice) {
    using choice = ms::one_of<ms::window, remembers, scissorhands_of_a_layer>;
    const ms::table_shape shape{.states = 6, .block = 2};
    ms::table<choice> table(shape, remembers{.words = 5});
    EXPECT_EQ(table.memory_bytes(), (ms::table<remembers>(shape, {.words = 5}).memory_bytes()));
    for (int i = 0; i < 20; ++i) {
        append(table, 2);
        ASSERT_FALSE(observe_all_ages(table));
    }
    EXPECT_EQ(ms::detail::size_of_memory(choice(ms::window{}), shape, 9).states, 0u);
}

TEST(memory, reports_the_bytes_that_it_has) {
    const ms::table_shape shape{.states = 100, .heads = 5};
    const auto size = ms::detail::size_of_memory(remembers{}, shape, 101);
    EXPECT_EQ(size.per_state, 1u + 2 + 4 + 3 * 8 + 16);
    EXPECT_EQ(size.per_table, 1u + 8 + 3 * 5 * 4 + 4);
    EXPECT_EQ(size.states, 128u + 256 + 448 + 3 * 832 + 1664) << "planes of 101 elements, in cache lines";
    EXPECT_EQ(size.table, 4u * 64);
    const ms::detail::policy_memory memory(remembers{}, shape, 101);
    EXPECT_EQ(memory.bytes(), size.states + size.table + 9 * sizeof(ms::detail::memory_member));
    EXPECT_EQ(memory.bytes(), ms::detail::policy_memory::bytes_for(remembers{}, shape, 101));
    const ms::table<remembers> table(shape), without(shape, {.words = 0});
    EXPECT_EQ(table.memory_bytes(), ms::table<remembers>::bytes_for(shape, {}));
    EXPECT_EQ(table.memory_bytes() - without.memory_bytes(), 3u * 832);
}

/// Sizes that no memory has are refused before anything is allocated, however they overflow.
struct asks_for {
    std::size_t of_state = 0, of_table = 0, length = 1;
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    struct memory {
        ms::per_state_array<double> of_state;
        ms::per_table<double> of_table;
        ms::per_table_array<double> vectors;
    };
    void lay_out(memory& m, ms::layout& l) const noexcept {
        l(m.of_state, of_state);
        l(m.of_table, of_table);
        l(m.vectors, of_table, length);
    }
};

TEST(memory, that_cannot_be_is_refused) {
    constexpr std::size_t half = std::size_t{1} << 63, most = static_cast<std::size_t>(-1);
    for (const asks_for& policy :
         {asks_for{.of_state = most}, asks_for{.of_state = most / 64}, asks_for{.of_table = half},
          asks_for{.of_table = most / 8}, asks_for{.of_table = half >> 8, .length = half >> 8},
          asks_for{.of_state = half >> 11, .of_table = half >> 4}}) {
        std::string message;
        try {
            static_cast<void>(ms::table<asks_for>({.states = 8}, policy));
        } catch (const std::invalid_argument& refused) {
            message = refused.what();
        }
        EXPECT_NE(message.find("table: shape must be smaller than any memory can be"), std::string::npos) << message;
    }
    EXPECT_THROW((ms::table<asks_for>({.states = 8}, {.of_table = half >> 12})), std::invalid_argument)
        << "a size, but more than the machine has";
}

/// A ring by the number of the token goes on where a float would stand still.
TEST(memory, counters_pass_two_to_the_24) {
    const ms::scissorhands policy{.history = 100};
    support::hand_held held(policy, {.states = 1}, 2);
    const ms::view states = held.states();
    const auto m = states.memory(policy);
    constexpr std::uint64_t begin = (std::uint64_t{1} << 24) + 1;
    m.tokens[0] = begin;
    const float attention[] = {1, 0};
    for (int i = 0; i < 3; ++i) policy.on_attention({attention, 1, 2, 2}, states);
    EXPECT_EQ(m.tokens[0], begin + 3);
    std::uint64_t marked[2] = {};
    for (std::uint64_t t = begin; t < begin + 3; ++t) marked[t % 100 / 64] |= std::uint64_t{1} << t % 100 % 64;
    EXPECT_EQ(m.record[0][1], marked[0]);
    EXPECT_EQ(m.record[1][1], marked[1]);
    EXPECT_EQ(states.score[1], -3.0f);
}

/// Counts tokens, behind memory whose size depends on the states.
struct counts_behind {
    static constexpr std::string_view name = "counts_behind";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    struct memory {
        ms::per_table<float> many;
        ms::per_table<std::uint64_t> tokens;
    };
    static void lay_out(memory& m, ms::layout& l) noexcept {
        l(m.many, l.shape().states);
        l(m.tokens);
    }
    void on_insert(ms::rows, ms::rows, ms::view states, std::size_t) const noexcept {
        ++states.memory(*this).tokens[0];
    }
    void on_forget(ms::view states) const noexcept {
        std::ranges::fill(states.score, static_cast<float>(states.memory(*this).tokens[0]));
    }
};

/// A rebudget decides for the new number of states, on memory that was laid out for the old one.
TEST(memory, a_rebudget_decides_on_what_was_remembered) {
    ms::table<counts_behind> table({.states = 64});
    for (int p = 0; p < 30; ++p) EXPECT_NE(table.place(p), ms::no_row);
    for (const float score : table.scores_at(128)) EXPECT_EQ(score, 30.0f);
    static_cast<void>(table.rebudget(16));
    for (const float score : table.scores()) EXPECT_EQ(score, 30.0f);
    EXPECT_NE(table.place(30), ms::no_row);
    for (const float score : table.scores_at(16)) EXPECT_EQ(score, 31.0f);
}

struct three_bytes {
    char bytes[3];
};
static_assert(ms::memory_element<float> && ms::memory_element<bool> && ms::memory_element<sixteen_bytes>);
static_assert(ms::memory_element<ms::chunk_counter> && ms::memory_element<std::complex<float>>);
static_assert(!ms::memory_element<three_bytes> && !ms::memory_element<std::array<char, 128>>);
static_assert(!ms::memory_element<std::string> && !ms::memory_element<std::vector<float>>);

// A struct without lay_out, or the other way around: see tests/rejected for what compilers print.
struct no_layout : counts {
    struct memory {
        ms::per_state<float> number;
    };
};
struct may_throw {
    struct memory {};
    void lay_out(memory&, ms::layout&) const {}
};
struct changes_itself {
    struct memory {};
    void lay_out(memory&, ms::layout&) noexcept {}
};
struct no_struct {
    void lay_out(ms::layout&) const noexcept {}
};
static_assert(ms::has_memory<counts> && !ms::has_memory<ms::window>);
static_assert(ms::has_memory<ms::any_policy> && ms::has_memory<ms::vatp>);
static_assert(!ms::has_memory<no_layout> && !ms::has_memory<may_throw>);
static_assert(!ms::has_memory<changes_itself> && !ms::has_memory<no_struct>);

}  // namespace memory_test
