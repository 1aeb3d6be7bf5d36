// scissorhands: hand-checked counts, and the ring of bits against a plain recount.
#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/scissorhands.hpp>
#include <multistate/table/table.hpp>

#include "reference/numbers.hpp"
#include "reference/rule.hpp"
#include "support/micro.hpp"
#include "support/random.hpp"

namespace scissorhands_test {

namespace ms = multistate;
using positions = std::vector<int>;

std::vector<float> scores(const ms::table<ms::scissorhands>& table) {
    return {table.scores().begin(), table.scores().end()};
}

TEST(scissorhands, counts_how_often_a_state_got_less_than_average) {
    ms::table<ms::scissorhands> table({.states = 3, .recent = 0});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});  // 1 of 1 is average
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.75f, 0.25f}});
    EXPECT_NE(table.place(2), ms::no_row);
    support::observe(table, {{0.5f, 0.25f, 0.25f}});
    EXPECT_EQ(scores(table), (std::vector<float>{0, -2, -1}));
    EXPECT_NE(table.place(3), ms::no_row);
    support::observe(table, {{0.125f, 0.25f, 0.25f, 0.375f}});  // the average itself is not less
    EXPECT_EQ(scores(table), (std::vector<float>{-1, -2, -1, 0}));
    EXPECT_EQ(table.place(4), 1u);
    EXPECT_EQ(scores(table), (std::vector<float>{-1, 0, -1, 0})) << "a new state has no record";
    support::observe(table, {{0.25f, 0.25f, 0.25f, 0.25f}});
    static_cast<void>(table.forget());
    EXPECT_EQ(support::forgotten(table), positions{0}) << "ties go to the oldest";
}

TEST(scissorhands, compares_the_mean_of_the_group) {
    ms::table<ms::scissorhands> table({.states = 3, .heads = 2});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}, {1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.875f, 0.125f}, {0.25f, 0.75f}});  // means .5625 .4375
    EXPECT_EQ(scores(table), (std::vector<float>{0, -1}));
}

TEST(scissorhands, remembers_as_many_tokens_as_it_is_told) {
    ms::table<ms::scissorhands> table({.states = 3}, {.history = 2});
    support::fill(table, 2, 1);
    for (const float first : {0.1f, 0.2f, 0.3f, 0.4f}) support::observe(table, {{first, 1 - first}});
    EXPECT_EQ(scores(table), (std::vector<float>{-2, 0}));
    support::observe(table, {{0.9f, 0.1f}});
    EXPECT_EQ(scores(table), (std::vector<float>{-1, -1}));
    support::observe(table, {{0.9f, 0.1f}});
    EXPECT_EQ(scores(table), (std::vector<float>{0, -2}));
}

/// Which token gave which position less than average.
struct event {
    std::size_t token;
    int position;
};

TEST(scissorhands, its_ring_of_bits_is_exact) {
    for (const std::size_t history : {1u, 23u, 24u, 25u, 50u, 400u}) {
        ms::table<ms::scissorhands> table({.states = 7}, {.history = history});
        support::random_numbers random(history);
        std::vector<event> low;
        for (std::size_t t = 0; t < 500; ++t) {
            EXPECT_NE(table.place(static_cast<int>(t)), ms::no_row);
            std::vector<float> seen(table.size());
            float sum = 0;
            for (float& a : seen) sum += a = 1 + random.within(1);
            for (std::size_t j = 0; j < seen.size(); ++j) {
                seen[j] /= sum;
                if (seen[j] < 1 / static_cast<float>(seen.size())) low.push_back({t, table.positions()[j]});
            }
            support::observe(table, {seen});
            for (std::size_t j = 0; j < table.size(); ++j) {
                const auto count = std::ranges::count_if(
                    low, [&](const event& e) { return e.token + history > t && e.position == table.positions()[j]; });
                ASSERT_EQ(table.scores()[j], static_cast<float>(-count)) << "history " << history << " token " << t;
            }
        }
    }
}

TEST(scissorhands, a_copy_continues_alike_and_clear_forgets_the_ring) {
    ms::table<ms::scissorhands> table({.states = 4}, {.history = 3});
    support::fill(table, 5, 1);
    support::observe(table, {{0.1f, 0.1f, 0.1f, 0.1f, 0.6f}});
    ms::table<ms::scissorhands> copy = table;
    for (auto* one : {&table, &copy}) {
        for (int i = 0; i < 3; ++i) support::observe(*one, {{0.5f, 0.2f, 0.1f, 0.1f, 0.1f}});
    }
    EXPECT_EQ(scores(table), scores(copy));
    EXPECT_EQ(scores(table), (std::vector<float>{0, 0, -3, -3, -3}));
    table.clear();
    support::fill(table, 2, 1);
    support::observe(table, {{0.9f, 0.1f}});
    EXPECT_EQ(scores(table), (std::vector<float>{0, -1}));
}

TEST(scissorhands, one_state_and_saturated_softmax) {
    ms::table<ms::scissorhands> table({.states = 1});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{1.0f, 0.0f}});
    EXPECT_EQ(scores(table), (std::vector<float>{0, -1}));
    EXPECT_EQ(table.place(2), 1u);
}

TEST(scissorhands, guards_ten_or_half_and_needs_a_history) {
    EXPECT_EQ(ms::scissorhands{}.default_guards(1).recent, 0u);
    EXPECT_EQ(ms::scissorhands{}.default_guards(8).recent, 4u);
    EXPECT_EQ(ms::scissorhands{}.default_guards(512).recent, 10u);
    EXPECT_EQ(ms::detail::size_of_memory(ms::scissorhands{}, {.states = 1}, 1).per_state, 60u);
    EXPECT_THROW(ms::table<ms::scissorhands>({.states = 2}, {.history = 0}), std::invalid_argument);
}

}  // namespace scissorhands_test

namespace reference::scissorhands {

/// How rarely each of the last 400 tokens gave the state less than its share.
numbers rarely_below_average(const evidence& e) {
    const auto heads = static_cast<double>(e.end_head() - e.first_head());
    numbers scores;
    for (const state& s : e.states()) {
        double low = 0;
        for (const token& t : e.newest(400)) {
            const auto seen = static_cast<double>(t.seen[e.first_kv_head].size());
            if (t.position < s.position || seen == 1) continue;
            const double mean = e.attention(t, s.position) / heads;
            e.compare(mean, 1 / seen);
            if (mean < 1 / seen) ++low;
        }
        scores.push_back(-low);
    }
    return scores;
}

const registered rule{
    {.name = "scissorhands", .score = rarely_below_average, .recent = at_most<10, 2>, .ties_are_exact = true}};

}  // namespace reference::scissorhands
