// into_similar: what is similar enough is merged, by hand.
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/mergers/into_similar.hpp>
#include <multistate/policies/d2o.hpp>
#include <multistate/policy/composed.hpp>

#include "support/by_hand.hpp"
#include "support/micro.hpp"
#include "support/stored.hpp"

namespace into_similar_test {

namespace ms = multistate;
using policy = ms::composed<support::by_hand, ms::into_similar>;
using numbers = std::vector<float>;

struct state {
    numbers key;
    float value;
    float worth;
};

/// A table of one KV head with keys of 2 and values of 1 that holds the given states, in the order of the text.
struct setting {
    setting(std::size_t states, const std::vector<state>& held, const policy& p = {})
        : shape{.states = states, .block = held.size(), .head_dim = 2, .value_dim = 1}, table(shape, p), stored(shape) {
        static_cast<void>(table.append(0, held.size(), stored.edit()));
        numbers worth;
        for (std::size_t row = 0; row < held.size(); ++row) {
            std::ranges::copy(held[row].key, stored.key(0, row));
            *stored.value(0, row) = held[row].value;
            worth.push_back(held[row].worth);
        }
        support::score(table, worth);
    }
    /// One more token, which is worth the most; what is least goes first.
    void place(const state& one, const numbers& worth_of_others) {
        stored.place(table, table.next_position(), {one.key}, {{one.value}});
        numbers worth;
        for (const int p : table.positions()) {
            worth.push_back(p + 1 == table.next_position() ? one.worth : worth_of_others[static_cast<std::size_t>(p)]);
        }
        support::score(table, worth);
    }
    std::size_t row(int position) const {
        return static_cast<std::size_t>(std::ranges::find(table.positions(), position) - table.positions().begin());
    }
    float value(int position) const { return *stored.value(0, row(position)); }
    numbers key(int position) const { return {stored.key(0, row(position)), stored.key(0, row(position)) + 2}; }

    ms::table_shape shape;
    ms::table<policy> table;
    support::stored_floats stored;
};

/// Cosines .8 with the first and .6 with the last, whatever the lengths.
const std::vector<state> three{{{1, 0}, 1, 5}, {{4, 3}, 10, 1}, {{0, 2}, 7, 5}};

TEST(into_similar, merges_the_value_into_that_of_the_nearest_key) {
    setting s(2, three);
    s.stored.forget(s.table);
    EXPECT_EQ(support::held(s.table), (std::vector{0, 2}));
    EXPECT_FLOAT_EQ(s.value(0), (1 + 0.8f * 10) / 1.8f);
    EXPECT_EQ(s.value(2), 7);
    EXPECT_EQ(s.key(0), (numbers{1, 0})) << "keys stay unless asked for";
}

TEST(into_similar, merges_keys_if_asked) {
    policy p;
    p.get<ms::into_similar>().keys = true;
    setting s(2, three, p);
    s.stored.forget(s.table);
    EXPECT_FLOAT_EQ(s.key(0)[0], (1 + 0.8f * 4) / 1.8f);
    EXPECT_FLOAT_EQ(s.key(0)[1], 0.8f * 3 / 1.8f);
    EXPECT_EQ(s.key(2), (numbers{0, 2}));
    EXPECT_FLOAT_EQ(s.value(0), 5);
}

/// A key that was merged is looked at afresh: the first becomes (13.2, 2.4) / 1.8, which is shorter than it was.
TEST(into_similar, finds_what_is_near_to_a_merged_key) {
    policy p;
    p.get<ms::into_similar>().keys = true;
    setting s(2, {{{10, 0}, 1, 5}, {{4, 3}, 10, 1}, {{0, 2}, 7, 5}}, p);
    s.place({{13.2f, 2.4f}, 100, 0}, {5, 0, 5});
    EXPECT_FLOAT_EQ(s.value(0), 5);
    s.place({{-1, -1}, 0, 9}, {5, 0, 5, 1});
    EXPECT_FLOAT_EQ(s.value(0), (5 + 100) / 2.0f) << "the cosine is 1";
}

/// What a row held before has no say in what it holds now.
TEST(into_similar, forgets_the_length_of_a_key_with_the_key) {
    policy p;
    p.get<ms::into_similar>().alpha = 0;
    p.get<ms::into_similar>().beta = 0;  // merges all that is similar at all
    setting s(2, {{{1, 0}, 0, 5}, {{100, 0}, 0, 1}, {{0, 1}, 0, 5}}, p);
    s.place({{0.06f, 0.08f}, 50, 0}, {5, 0, 5});  // in row 1
    s.place({{1, 1}, 0, 9}, {5, 0, 5, 1});
    EXPECT_FLOAT_EQ(s.value(2), 0.8f * 50 / 1.8f);
    EXPECT_EQ(s.value(0), 0);
}

/// A key at this cosine with (1, 0).
numbers at(float cosine) { return {cosine, std::sqrt(1 - cosine * cosine)}; }

/// One state stays, with the key (1, 0), and the others come and go: which of them are merged?
std::vector<bool> merged(float alpha, float beta, const std::vector<numbers>& keys) {
    policy p;
    p.get<ms::into_similar>().alpha = alpha;
    p.get<ms::into_similar>().beta = beta;
    setting s(1, {{{1, 0}, 0, 9}}, p);
    std::vector<bool> result;
    for (const numbers& key : keys) {
        s.place({key, 1, 1}, {9});
        s.stored.forget(s.table);
        result.push_back(s.value(0) != 0);
        *s.stored.value(0, 0) = 0;
    }
    return result;
}

TEST(into_similar, moves_its_threshold_with_what_it_sees) {
    // .8; .5 (.8 + .6) = .7; .5 (.7 + .9) = .8; .5 (.8 + .75) = .775; .5 (.775 - .6) = .0875; .5 (.0875 + .1) = .09375
    EXPECT_EQ(merged(0.5f, 0.5f, {at(0.8f), at(0.6f), at(0.9f), at(0.75f), at(-0.6f), at(0.1f)}),
              (std::vector{true, false, true, false, false, true}));
    const std::vector<numbers> keys{at(0.8f), at(0.6f), at(0.9f), at(0.75f), at(-0.6f)};
    EXPECT_EQ(merged(1, 0, keys), (std::vector{true, false, true, false, false})) << "as at first";
    EXPECT_EQ(merged(0, 1, keys), (std::vector{true, true, true, true, false}));
    EXPECT_EQ(merged(0.75f, 0, {at(0.8f), at(0.59f), at(0.46f), at(0.33f)}), (std::vector{true, false, true, false}))
        << ".8 .6 .45 .3375";
    EXPECT_EQ(merged(1, 1, {at(0.3f), at(0.4f), at(0.9f)}), (std::vector{true, false, false})) << ".3 .7 1.6";
}

/// A key of zeros counts as across, .5 (.8 + 0) = .4, and one that is no number as opposite, .5 (.8 - 1) = -.1.
TEST(into_similar, moves_its_threshold_by_keys_without_direction_too) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(merged(0.5f, 0.5f, {at(0.8f), {0, 0}, at(0.35f)}), (std::vector{true, false, false})) << ".375";
    EXPECT_EQ(merged(0.5f, 0.5f, {at(0.8f), {0, 0}, at(0.45f)}), (std::vector{true, false, true})) << ".425";
    EXPECT_EQ(merged(0.5f, 0.5f, {at(0.8f), {nan, 0}, at(0.9f), at(0.3f)}), (std::vector{true, false, true, false}))
        << ".4 .35";
}

TEST(into_similar, starts_anew_after_clear) {
    setting s(2, three);
    s.stored.forget(s.table);
    s.table.clear();
    s.stored.place(s.table, 0, {{1, 0}}, {{1}});
    support::score(s.table, {1});
    s.stored.place(s.table, 1, {{1, 2}}, {{10}});
    support::score(s.table, {2, 1});
    s.stored.place(s.table, 2, {{-1, 1}}, {{0}});
    support::score(s.table, {5, 1, 5});
    s.stored.forget(s.table);
    const float cosine = 1 / std::sqrt(5.0f);  // with the first; .316 with the last. Less than .8, yet the first seen
    EXPECT_FLOAT_EQ(s.value(0), (1 + cosine * 10) / (1 + cosine));
}

/// The second and the third go into the first at once, the fourth goes and is like none.
TEST(into_similar, divides_by_all_that_is_merged_at_once) {
    setting s(2, {{{2, 0}, 1, 9}, {{3, 4}, 10, 1}, {{4, 3}, 20, 1}, {{-5, 0.1f}, 30, 1}, {{0, -1}, 40, 9}});
    s.stored.forget(s.table);
    // cosines .6, .8 and about 0 with the last; their mean is about .46
    EXPECT_FLOAT_EQ(s.value(0), (1 + 0.6f * 10 + 0.8f * 20) / 2.4f);
    EXPECT_EQ(s.value(4), 40);
}

/// The two that go are the most like each other.
TEST(into_similar, never_merges_into_what_goes) {
    setting s(2, {{{1, 0}, 1, 9}, {{3, 4}, 10, 1}, {{3, 4.1f}, 20, 1}, {{-1, 0}, 40, 9}});
    s.stored.forget(s.table);
    const float second = 3 / std::sqrt(9 + 4.1f * 4.1f);
    // the mean of .6 and .590 lets only the first through
    EXPECT_LT(second, 0.6f);
    EXPECT_FLOAT_EQ(s.value(0), (1 + 0.6f * 10) / 1.6f);
    EXPECT_EQ(s.value(3), 40);
}

TEST(into_similar, merges_nothing_that_points_away) {
    setting s(1, {{{-1, 0}, 1, 9}, {{1, 0}, 10, 1}});
    s.stored.forget(s.table);
    EXPECT_EQ(s.value(0), 1);
}

TEST(into_similar, has_no_use_for_keys_without_direction) {
    setting gone(2, {{{1, 0}, 1, 9}, {{0, 0}, 10, 1}, {{0, 1}, 3, 9}});
    gone.stored.forget(gone.table);
    EXPECT_EQ(gone.value(0), 1);
    EXPECT_EQ(gone.value(2), 3);
    setting kept(2, {{{0, 0}, 1, 9}, {{3, 4}, 10, 1}, {{0, 1}, 3, 9}});
    kept.stored.forget(kept.table);
    EXPECT_EQ(kept.value(0), 1);
    EXPECT_FLOAT_EQ(kept.value(2), (3 + 8) / 1.8f);
    setting none(2, {{{0, 0}, 1, 9}, {{0, 0}, 10, 1}, {{0, 0}, 3, 9}});
    none.stored.forget(none.table);
    EXPECT_EQ(none.value(0), 1);
    EXPECT_EQ(none.value(2), 3);
}

/// All the same: the oldest that stays, wherever it lies.
TEST(into_similar, prefers_the_oldest_of_equals) {
    setting s(2, {{{1, 1}, 1, 1}, {{1, 1}, 3, 9}, {{1, 1}, 5, 9}});
    s.stored.forget(s.table);  // position 2 moves to row 0
    EXPECT_EQ(s.value(1), 2);
    EXPECT_EQ(s.value(2), 5);
    s.stored.place(s.table, 3, {{1, 1}}, {{8}});
    support::score(s.table, {9, 9, 1});
    s.stored.forget(s.table);
    EXPECT_FLOAT_EQ(s.value(1), 5) << "its cosine is as great as the threshold";
    EXPECT_EQ(s.value(2), 5);
}

TEST(into_similar, is_not_misled_by_numbers_that_are_none) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    setting s(2, {{{nan, 0}, 1, 9}, {{3, 4}, 10, 1}, {{0, 1}, 3, 9}});
    s.stored.forget(s.table);
    EXPECT_EQ(s.value(0), 1);
    EXPECT_FLOAT_EQ(s.value(2), (3 + 8) / 1.8f);
    setting t(2, {{{1, 0}, 1, 9}, {{nan, 4}, 10, 1}, {{0, 1}, 3, 9}});
    t.stored.forget(t.table);
    EXPECT_EQ(t.value(0), 1);
    EXPECT_EQ(t.value(2), 3);
    setting huge(2, {{{3e30f, 0}, 1, 9}, {{3e30f, 4e30f}, 10, 1}, {{0, 1e-30f}, 3, 9}});
    huge.stored.forget(huge.table);
    EXPECT_TRUE(std::isfinite(huge.value(0)) && std::isfinite(huge.value(2)));
}

/// And by its own threshold: .8 is the first that one head sees, .3 the first of the other.
TEST(into_similar, merges_each_kv_head_of_a_table_by_its_own_keys) {
    const ms::table_shape shape{.states = 2, .block = 3, .heads = 2, .kv_heads = 2, .head_dim = 2, .value_dim = 1};
    ms::table<policy> table(shape);
    support::stored_floats stored(shape);
    static_cast<void>(table.append(0, 3, stored.edit()));
    const numbers keys[2][3] = {{{1, 0}, at(0.8f), {0, 2}}, {{-1, 0}, at(0.3f), {1, 0}}};
    for (std::size_t h = 0; h < 2; ++h) {
        for (std::size_t row = 0; row < 3; ++row) {
            std::ranges::copy(keys[h][row], stored.key(h, row));
            *stored.value(h, row) = three[row].value;
        }
    }
    support::score(table, {5, 1, 5});
    stored.forget(table);
    EXPECT_FLOAT_EQ(*stored.value(0, 0), 5);
    EXPECT_EQ(*stored.value(0, 1), 7);
    EXPECT_EQ(*stored.value(1, 0), 1);
    EXPECT_FLOAT_EQ(*stored.value(1, 1), (7 + 0.3f * 10) / 1.3f);
}

TEST(d2o, is_h2o_with_sinks_that_merges) {
    for (const std::size_t states : {1u, 2u, 3u, 4u, 5u, 9u, 10u, 512u}) {
        const ms::guards g = ms::d2o{}.default_guards(states);
        EXPECT_LT(g.sinks + g.recent, states);
        EXPECT_EQ(g.recent, states / 2);
        EXPECT_EQ(g.sinks, states < 9 ? (states - 1) / 2 : 4);
    }
    const ms::table_shape shape{.states = 3, .head_dim = 2, .value_dim = 1};
    ms::table<ms::d2o> table(shape);
    support::stored_floats stored(shape);
    const std::vector<numbers> attention{{1}, {0, 1}, {0, 0.5f, 0.5f}, {0, 0, 0.5f, 0.5f}};
    const std::vector<numbers> keys{{1, 0}, {0, 1}, {3, 4}, {0, 2}};
    for (int p = 0; p < 4; ++p) {
        const auto i = static_cast<std::size_t>(p);
        stored.place(table, p, {keys[i]}, {{static_cast<float>(10 * p)}});
        support::observe(table, {attention[i]});
    }
    stored.place(table, 4, {{1, 1}}, {{0}});  // of positions 1 and 2 the second has the lesser sum
    EXPECT_EQ(support::held(table), (std::vector{0, 1, 3, 4}));
    EXPECT_FLOAT_EQ(*stored.value(0, 1), (10 + 0.8f * 20) / 1.8f);
}

}  // namespace into_similar_test
