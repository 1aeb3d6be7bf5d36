// lagkv: hand-checked ranks.
#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/lagkv.hpp>
#include <multistate/table/table.hpp>

#include "reference/chunks.hpp"
#include "support/micro.hpp"
#include "support/stored.hpp"

namespace lagkv_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// Chunks of four tokens behind two sinks.
constexpr ms::table_shape shape{.states = 16, .head_dim = 2, .value_dim = 2};

/// Keys whose channels differ by 0, 1, .5 and .25 of a range from 0 to 1, so their deviations rank 0, 3, 2, 1. The
/// values are all equal to the first.
const std::vector<std::vector<float>> chunk = {{0, 0}, {1, 0}, {0.5f, 0}, {0.75f, 1}};

struct driven {
    explicit driven(const ms::table_shape& s, ms::lagkv policy = {}) : table(s, policy), stored(s) {}
    void place(const std::vector<float>& key, const std::vector<float>& value) {
        stored.place(table, table.next_position(), {key}, {value});
    }
    void place_text(int tokens) {
        while (table.next_position() < 2 && tokens-- > 0) place({9, -9}, {9, -9});
        for (; tokens > 0; --tokens) place(chunk[static_cast<std::size_t>(table.next_position() + 2) % 4], {0, 0});
    }
    ms::table<ms::lagkv> table;
    support::stored_floats stored;
};

TEST(lagkv, ranks_by_deviation_in_the_range_of_the_next_chunk) {
    driven d(shape);
    d.place_text(17);
    static_cast<void>(d.table.forget(d.stored.edit()));
    // 2 to 5 and 6 to 9 have a next chunk that has ended; rank 0 of both scores 0, and the older goes.
    EXPECT_EQ(support::forgotten(d.table), positions{2});
    const float expected[] = {0.75f, 0.5f, 0.25f, 0, 0.75f, 0.5f, 0.25f};
    for (std::size_t row = 3; row < 10; ++row) EXPECT_FLOAT_EQ(d.table.scores()[row], expected[row - 3]) << row;
    for (std::size_t row = 10; row < 16; ++row) EXPECT_EQ(d.table.scores()[row], ms::waiting) << row;
}

TEST(lagkv, every_chunk_loses_alike) {
    driven d(shape);
    d.place_text(17);
    positions gone;
    for (int p = 17; p < 24; ++p) {
        d.place_text(1);
        gone.push_back(support::forgotten(d.table).at(0));
    }
    // Rank 0 of each chunk as it is scored (at 17 that of 10 to 13, at 21 of 14 to 17), then rank 1 from the oldest.
    EXPECT_EQ(gone, (positions{2, 6, 10, 5, 9, 14, 13}));
}

TEST(lagkv, keys_and_values_count_alike) {
    // Deviations of keys 0 0 0 1, of values 1 0 0 0: tokens 0 and 3 are as good as each other.
    driven d(shape);
    d.place_text(2);
    const std::vector<float> flat{0.5f, 0.5f}, wide{0, 1}, low{0, 0}, high{1, 1};
    for (int i = 0; i < 4; ++i) d.place(i == 3 ? wide : flat, i == 0 ? wide : flat);
    for (int i = 0; i < 11; ++i) d.place(i % 2 == 0 ? low : high, i % 2 == 0 ? high : low);
    d.place({0, 0}, {0, 0});
    EXPECT_EQ(support::forgotten(d.table), positions{3});
    EXPECT_FLOAT_EQ(d.table.scores()[2], 0.5f) << "the older of two equal scores ranks lower";
    EXPECT_FLOAT_EQ(d.table.scores()[5], 0.75f);
}

TEST(lagkv, without_ranks_the_score_is_the_sum_of_both_softmaxes) {
    driven d(shape, {.ranks = false});
    d.place_text(17);
    static_cast<void>(d.table.forget(d.stored.edit()));
    double total = 0;
    const double deviations[] = {0, 1 / std::sqrt(2), 0.5 / std::sqrt(2), 0.25 / std::sqrt(2)};
    for (const double x : deviations) total += std::exp(x);
    for (std::size_t i = 1; i < 4; ++i) {
        EXPECT_NEAR(d.table.scores()[2 + i], std::exp(deviations[i]) / total + 0.25, 1e-6);
    }
}

TEST(lagkv, lag_matters) {
    driven four({.states = 64, .head_dim = 2, .value_dim = 2}, {.lag = 4}),
        all({.states = 64, .head_dim = 2, .value_dim = 2});
    four.place_text(65);
    all.place_text(65);
    static_cast<void>(four.table.forget(four.stored.edit()));
    static_cast<void>(all.table.forget(all.stored.edit()));
    EXPECT_EQ(std::ranges::count(four.table.scores(), ms::waiting), 5);
    EXPECT_EQ(std::ranges::count(all.table.scores(), ms::waiting), 29) << "chunks of 16";
}

TEST(lagkv, channels_that_do_not_vary_count_nothing) {
    driven zeros(shape), equal(shape);
    for (int p = 0; p < 30; ++p) {
        zeros.place({0, 0}, {0, 0});
        equal.place({3, 4}, {static_cast<float>(p), 1});
    }
    for (const float score : zeros.table.scores()) EXPECT_FALSE(std::isnan(score));
    for (const float score : equal.table.scores()) EXPECT_FALSE(std::isnan(score));
    EXPECT_EQ(support::held(zeros.table).front(), 0);
}

/// A rebudget changes the length of chunks, but decides on a text that was divided by the old length.
TEST(lagkv, a_rebudget_decides_by_the_chunks_that_there_are) {
    const ms::table_shape chunks_of_eight{.states = 32, .head_dim = 2, .value_dim = 2};
    driven open(chunks_of_eight, {.lag = 8});
    for (int p = 0; p < 4 + 8 + 8 + 4; ++p) open.place({static_cast<float>(p % 3), 1}, {0, 0});
    static_cast<void>(open.table.rebudget(16, open.stored.edit()));  // chunks of four
    EXPECT_EQ(std::ranges::count(open.table.scores(), ms::waiting), 8 + 4) << "the third chunk has not ended";

    driven ended(chunks_of_eight, {.lag = 8});
    for (int p = 0; p < 4 + 8 + 8 + 8; ++p) ended.place({static_cast<float>(p % 3), 1}, {0, 0});
    static_cast<void>(ended.table.rebudget(16, ended.stored.edit()));
    EXPECT_EQ(std::ranges::count(ended.table.scores(), ms::waiting), 8) << "the third chunk has ended";
}

TEST(lagkv, small_tables_forget_the_oldest) {
    for (const std::size_t states : {1u, 2u, 15u}) {
        driven d({.states = states, .head_dim = 2, .value_dim = 2});
        d.place_text(20);
        const std::size_t sinks = ms::lagkv::default_guards(states).sinks;
        EXPECT_EQ(support::held(d.table)[sinks], 19 - static_cast<int>(states - sinks)) << states;
    }
}

TEST(lagkv, a_layer_sums_before_it_ranks) {
    ms::table<ms::composed<ms::lagkv, ms::per_layer>> table(
        {.states = 16, .heads = 2, .kv_heads = 2, .head_dim = 2, .value_dim = 2});
    support::stored_floats stored(table.shape());
    for (int p = 0; p < 17; ++p) {
        // Head 1 sees the chunks in reverse, so that the sums are those of 0 + .25, 1 + .5, .5 + 1, .25 + 0.
        const auto i = static_cast<std::size_t>(p + 2) % 4;
        stored.place(table, p, {chunk[i], chunk[3 - i]}, {{0, 0}, {0, 0}});
    }
    static_cast<void>(table.forget(stored.edit()));
    EXPECT_EQ(support::forgotten(table), positions{2}) << "equal to 5, and older";
    EXPECT_FLOAT_EQ(table.scores()[5], 0.25f);
}

TEST(lagkv, a_copy_continues_alike) {
    driven d(shape);
    d.place_text(19);
    driven copy = d;
    d.place_text(9);
    copy.place_text(9);
    EXPECT_EQ(support::held(d.table), support::held(copy.table));
    d.table.clear();
    d.place_text(17);
    static_cast<void>(d.table.forget(d.stored.edit()));
    EXPECT_EQ(support::forgotten(d.table), positions{2});
}

TEST(lagkv, guards_leave_a_candidate) {
    for (std::size_t states = 1; states < 100; ++states) {
        const ms::guards g = ms::lagkv::default_guards(states);
        EXPECT_LE(g.sinks + g.recent, states - 1);
    }
}

}  // namespace lagkv_test

namespace reference::lagkv {

/// Softmax over the rows x of the deviation of their channels, each measured by its range in the rows that follow.
numbers lag_relative(const std::vector<numbers>& x, const std::vector<numbers>& next) {
    numbers deviations;
    for (const numbers& row : x) {
        numbers relative;
        for (std::size_t c = 0; c < row.size(); ++c) {
            double least = waiting, most = -waiting;
            for (const numbers& one : next) {
                least = std::min(least, one[c]);
                most = std::max(most, one[c]);
            }
            relative.push_back(most > least ? (row[c] - least) / (most - least) : 0);
        }
        deviations.push_back(deviation(relative));
    }
    return softmax(deviations);
}

numbers rank_of_lag(const evidence& e) {
    return by_chunks(e, 128, sinks_of(e, 4), 1, [](const chunk& p) {
        const chunk next{p.e, p.first + p.length, p.length};
        const auto held = p.held(next.first + next.length - 1), held_next = next.held(next.first + next.length - 1);
        numbers sums(held.size());
        for (std::size_t h = p.e.first_kv_head; h < p.e.end_kv_head(); ++h) {
            for (const auto of : {&token::keys, &token::values}) {
                std::vector<numbers> x, y;
                for (const std::size_t i : held) x.push_back((p[i].*of)[h]);
                for (const std::size_t i : held_next) y.push_back((next[i].*of)[h]);
                if (!x.empty()) add(lag_relative(x, y), sums);
            }
        }
        numbers sorted = sums, scores(p.length);
        std::ranges::sort(sorted);
        for (std::size_t i = 1; i < sorted.size(); ++i) p.e.compare(sorted[i - 1], sorted[i]);
        for (std::size_t i = 0; i < held.size(); ++i) {
            const auto rank = std::ranges::lower_bound(sorted, sums[i]) - sorted.begin();
            scores[held[i]] = static_cast<double>(rank) / static_cast<double>(held.size());
        }
        return scores;
    });
}

// States that wait have one score, and scores are ranks.
const registered rule{{.name = "lagkv", .score = rank_of_lag, .sinks = at_most<4, 8>, .ties_are_exact = true}};

}  // namespace reference::lagkv
