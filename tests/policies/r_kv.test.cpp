// r_kv: hand-checked decisions.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/scope.hpp>
#include <multistate/policies/r_kv.hpp>
#include <multistate/table/table.hpp>

#include "reference/numbers.hpp"
#include "reference/rule.hpp"
#include "support/micro.hpp"
#include "support/random.hpp"
#include "support/stored.hpp"

namespace r_kv_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// A table and its keys; one query for each query head of every token.
template <class Policy = ms::r_kv>
struct stored_table {
    stored_table(const ms::table_shape& s, const Policy& policy) : table(s, policy), stored(s) {}

    void step(int position, const support::vectors& keys, const support::vectors& queries) {
        stored.place(table, position, keys, support::vectors(keys.size(), {0.0f}));
        std::vector<float> flat;
        for (const auto& query : queries) flat.insert(flat.end(), query.begin(), query.end());
        const std::size_t d = queries.front().size();
        table.observe_queries({flat.data(), queries.size(), d, d}, table.size());
    }
    positions forget() {
        stored.forget(table);
        return support::forgotten(table);
    }
    ms::table<Policy> table;
    support::stored_floats stored;
};

const support::vectors x = {{1, 0}}, y = {{0, 1}};
std::vector<support::vectors> same(std::size_t count, const support::vectors& one) {
    return std::vector<support::vectors>(count, one);
}

/// One state more than survive; forgets it.
positions first_to_go(const ms::r_kv& policy, const std::vector<support::vectors>& keys,
                      const std::vector<support::vectors>& queries, std::size_t recent = 0) {
    stored_table<> states({.states = keys.size() - 1,
                           .recent = recent,
                           .heads = queries.front().size(),
                           .head_dim = keys.front().front().size(),
                           .value_dim = 1,
                           .scale = 1},
                          policy);
    for (std::size_t p = 0; p < keys.size(); ++p) states.step(static_cast<int>(p), keys[p], queries[p]);
    return states.forget();
}

// Redundancy alone: lambda = 0.

TEST(r_kv, of_the_same_states_the_newest_are_spared) {
    // The rows of three equal keys, less their newest other: (0 1 0), (1 0 0), (1 0 0), in the columns of these.
    EXPECT_EQ(first_to_go({.lambda = 0}, {y, x, x, x}, same(4, x)), positions{1});
    EXPECT_EQ(first_to_go({.lambda = 0}, {x, x, x, y}, same(4, x)), positions{0});
}

TEST(r_kv, redundancy_is_a_softmax_of_mean_cosines) {
    stored_table<> states({.states = 3, .recent = 0, .head_dim = 2, .value_dim = 1, .scale = 1}, {.lambda = 0.25f});
    for (int p = 0; p < 4; ++p) states.step(p, p == 3 ? support::vectors{{0, 7}} : support::vectors{{2, 0}}, {{0, 0}});
    states.step(4, y, {{0, 0}});
    EXPECT_EQ(support::forgotten(states.table), positions{0});
    // Means .5 .25 0 0; every state is asked for alike: 1 / 4.
    const double total = std::exp(0.5) + std::exp(0.25) + 2;
    EXPECT_NEAR(states.table.scores()[1], 0.25 / 4 - 0.75 * std::exp(0.25) / total, 1e-6);
    EXPECT_NEAR(states.table.scores()[2], 0.25 / 4 - 0.75 / total, 1e-6);
    EXPECT_NEAR(states.table.scores()[3], 0.25 / 4 - 0.75 / total, 1e-6);
}

/// Cosines: .8 of the first two, .6 of the second and third, 0 of the first and third.
TEST(r_kv, the_threshold_decides) {
    const std::vector<support::vectors> keys = {{{1, 0}}, {{0.8f, 0.6f}}, {{0, 1}}};
    // Spared: of row 0 the second, of row 1 the third, of row 2 the second; left .8 0 0.
    EXPECT_EQ(first_to_go({.lambda = 0}, keys, same(3, x)), positions{0});
    // Spared: of row 0 the second, of row 1 the first; left 0 .6 .6.
    EXPECT_EQ(first_to_go({.lambda = 0, .threshold = 0.7f}, keys, same(3, x)), positions{1});
    EXPECT_EQ(first_to_go({.lambda = 0, .threshold = 1}, keys, same(3, x)), positions{1});  // .8 1.4 .6
}

TEST(r_kv, opposite_keys_are_not_redundant) {
    EXPECT_EQ(first_to_go({.lambda = 0}, {x, {{-1, 0}}, y}, same(3, x)), positions{2});  // -1 -1 0, of three
}

TEST(r_kv, zero_keys_and_equal_keys) {
    const support::vectors zero = {{0, 0}};
    EXPECT_EQ(first_to_go({.lambda = 0}, {x, zero, x, x}, same(4, x)), positions{0});
    EXPECT_EQ(first_to_go({}, {zero, zero, zero}, same(3, x)), positions{0});
    EXPECT_EQ(first_to_go({}, {x, x}, same(2, y)), positions{0});
    stored_table<> states({.states = 2, .head_dim = 2, .value_dim = 1, .scale = 1}, {});
    for (int p = 0; p < 4; ++p) states.step(p, zero, zero);
    for (const float score : states.table.scores()) EXPECT_FALSE(std::isnan(score));
}

// Importance alone: lambda = 1. Nine keys of one dimension, of which a query of size 5 may want the first or the last.

std::vector<support::vectors> nine_keys() {
    std::vector<support::vectors> keys(9, {{0}});
    keys.front() = {{1}};
    keys.back() = {{-1}};
    return keys;
}
const support::vectors wants_first = {{5}}, wants_last = {{-5}};

TEST(r_kv, three_neighbors_on_either_side_share_the_greatest_importance) {
    // The first four are near the wanted one; of the five others all have what a key of 0 is given.
    EXPECT_EQ(first_to_go({.lambda = 1}, nine_keys(), same(9, wants_first)), positions{4});
    // The last four are; of the others the oldest goes.
    EXPECT_EQ(first_to_go({.lambda = 1}, nine_keys(), same(9, wants_last)), positions{0});
}

TEST(r_kv, the_last_queries_ask) {
    std::vector<support::vectors> queries(9, wants_last);
    queries[7] = wants_first;
    EXPECT_EQ(first_to_go({.lambda = 1, .window = 1}, nine_keys(), queries), positions{0});
    EXPECT_EQ(first_to_go({.lambda = 1, .window = 2}, nine_keys(), queries), positions{4});  // one each
    queries[7] = wants_last;
    queries[0] = wants_first;  // the ninth last
    EXPECT_EQ(first_to_go({.lambda = 1}, nine_keys(), queries), positions{0});
    EXPECT_EQ(first_to_go({.lambda = 1, .window = 9}, nine_keys(), queries), positions{4});
}

TEST(r_kv, a_group_asks_with_its_greatest_logit) {
    EXPECT_EQ(first_to_go({.lambda = 1}, nine_keys(), same(9, {{5}, {-5}})), positions{4});
    EXPECT_EQ(first_to_go({.lambda = 1}, nine_keys(), same(9, {{-5}, {-5}})), positions{0});
    stored_table<> states({.states = 1, .recent = 0, .heads = 2, .head_dim = 1, .value_dim = 1, .scale = 0.5f},
                          {.lambda = 1});
    states.step(0, {{2}}, {{1}, {-3}});
    states.step(1, {{0}}, {{1}, {-3}});
    states.step(2, {{0}}, {{0}, {0}});
    EXPECT_NEAR(states.table.scores()[1], std::exp(1.0) / (std::exp(1.0) + 1), 1e-6);  // max(1, -3) against 0, pooled
}

TEST(r_kv, guarded_states_take_no_importance) {
    stored_table<> states({.states = 2, .recent = 1, .head_dim = 1, .value_dim = 1, .scale = 1}, {.lambda = 1});
    for (int p = 0; p < 3; ++p) states.step(p, {{p == 2 ? 100.0f : 0.0f}}, {{1}});
    states.step(3, {{0}}, {{0}});
    EXPECT_EQ(support::forgotten(states.table), positions{0});
    EXPECT_FLOAT_EQ(states.table.scores()[1], 0.5f);
    EXPECT_FLOAT_EQ(states.table.scores()[2], 0.0f);
}

TEST(r_kv, certain_queries) { EXPECT_EQ(first_to_go({.lambda = 1}, nine_keys(), same(9, {{1000}})), positions{4}); }

/// The first five are wanted, and as each other; the last is far from them.
TEST(r_kv, lambda_weighs) {
    const std::vector<support::vectors> keys = {y, y, y, y, y, x, x, x, x}, wants_y = same(9, {{0, 5}});
    EXPECT_EQ(first_to_go({.lambda = 0}, keys, wants_y), positions{0});
    EXPECT_EQ(first_to_go({.lambda = 1}, keys, wants_y), positions{8});
}

TEST(r_kv, guards_the_newest_8_as_far_as_half_of_the_states_allows) {
    for (const std::size_t states : {1u, 2u, 3u, 15u, 16u, 500u}) {
        EXPECT_EQ(ms::r_kv::default_guards(states).recent, std::min<std::size_t>(8, states / 2));
    }
}

/// The first KV head holds three equal keys, the second (1, 0), (0, 1) and (-1, 0).
TEST(r_kv, a_layer_sums_over_its_kv_heads) {
    using layer = ms::composed<ms::r_kv, ms::per_layer>;
    const ms::table_shape s{
        .states = 2, .recent = 0, .heads = 2, .kv_heads = 2, .head_dim = 2, .value_dim = 1, .scale = 1};
    stored_table<layer> states(s, {{.lambda = 0}, {}});
    states.step(0, {{1, 0}, {1, 0}}, {{0, 0}, {0, 0}});
    states.step(1, {{1, 0}, {0, 1}}, {{0, 0}, {0, 0}});
    states.step(2, {{1, 0}, {-1, 0}}, {{0, 0}, {0, 0}});
    states.step(3, {{0, 0}, {0, 0}}, {{0, 0}, {0, 0}});
    // Mean cosines: first 2/3 1/3 0; second -1/3 0 -1/3.
    EXPECT_EQ(support::forgotten(states.table), positions{0});
    const double first = std::exp(2.0 / 3) + std::exp(1.0 / 3) + 1, second = 2 * std::exp(-1.0 / 3) + 1;
    EXPECT_NEAR(states.table.scores()[1], -std::exp(1.0 / 3) / first - 1 / second, 1e-6);
    EXPECT_NEAR(states.table.scores()[2], -1 / first - std::exp(-1.0 / 3) / second, 1e-6);
}

TEST(r_kv, one_state) {
    stored_table<> states({.states = 1, .head_dim = 2, .value_dim = 1, .scale = 1}, {});
    states.step(0, x, x);
    states.step(1, y, x);
    EXPECT_EQ(states.forget(), positions{0});  // two states are neighbors, and as redundant as each other
}

TEST(r_kv, a_copy_continues_alike) {
    stored_table<> states({.states = 8, .recent = 0, .head_dim = 1, .value_dim = 1, .scale = 1},
                          {.lambda = 1, .window = 2});
    const auto keys = nine_keys();
    for (int p = 0; p < 8; ++p) states.step(p, keys[static_cast<std::size_t>(p)], wants_first);
    auto copy = states;
    for (auto* one : {&states, &copy}) {
        one->step(8, keys[8], wants_last);  // two queries: the first and the last
        EXPECT_EQ(one->forget(), positions{4});
    }
}

TEST(r_kv, clear_forgets_the_queries) {
    stored_table<> states({.states = 8, .recent = 0, .head_dim = 1, .value_dim = 1, .scale = 1}, {.lambda = 1});
    states.step(0, {{0}}, wants_first);
    states.table.clear();
    const auto keys = nine_keys();
    for (int p = 0; p < 8; ++p) states.step(p, keys[static_cast<std::size_t>(p)], {{0}});
    states.step(8, keys[8], wants_last);
    EXPECT_EQ(states.forget(), positions{0});
}

// What is kept up from decision to decision, against a table that sees the same states for the first time.

/// A part that writes no row, but might.
struct may_write {
    static void merge(const ms::editor&, std::span<const std::uint32_t>, ms::view) noexcept {}
};
/// A part that turns the key of the newest state that stays.
struct turns_a_key {
    static void merge(const ms::editor& stored, std::span<const std::uint32_t> gone, ms::view states) noexcept {
        const std::uint32_t row = states.by_position.back();
        std::vector<float> key(stored.head_dim);
        stored.key(0, row, key);
        std::ranges::reverse(key);
        if (row != gone.front()) stored.set_key(0, row, key);
    }
};

/// A table in use: random keys near one of a few directions, so that states are similar to some others.
template <class Policy>
class used {
  public:
    static constexpr std::size_t d = 6, group = 2, kv_heads = 2;

    explicit used(const ms::table_shape& s, const Policy& policy = {}) : now(s, policy) {}

    static ms::table_shape shape(std::size_t states, std::size_t slack = 0) {
        return {.states = states,
                .block = 40,
                .slack = slack,
                .heads = group * kv_heads,
                .kv_heads = kv_heads,
                .head_dim = d,
                .value_dim = 1,
                .scale = 0.7f};
    }
    void step() { append(1); }
    void append(std::size_t tokens) {
        const auto first = static_cast<int>(now.table.next_position());
        if (tokens == 1 && (!now.table.is_due() || now.table.size() == now.table.states() + 1)) {
            now.stored.place(now.table, first, random_keys(), support::vectors(kv_heads, {0.0f}));
        } else {
            if (now.table.is_due()) now.stored.forget(now.table);
            EXPECT_TRUE(now.table.append(first, tokens, now.stored.edit()).empty());
            for (std::size_t row = now.table.size() - tokens; row < now.table.size(); ++row) {
                const auto keys = random_keys();
                for (std::size_t h = 0; h < kv_heads; ++h) std::ranges::copy(keys[h], now.stored.key(h, row));
            }
        }
        for (std::size_t i = 0; i < tokens; ++i) {
            queries.push_back(random.floats(group * kv_heads * d, 2));
            ask(now.table, queries.back(), now.table.size() - tokens + i + 1);
        }
    }
    void clear() {
        now.table.clear();
        queries.clear();
    }
    void rebudget(std::size_t states) {
        const auto moved = now.table.rebudget(states, now.stored.edit());
        for (const auto [from, to] : moved) {
            for (std::size_t h = 0; h < kv_heads; ++h) std::copy_n(now.stored.key(h, from), d, now.stored.key(h, to));
        }
    }
    /// Scores in the order of the text, as the next decision would find them.
    static std::vector<float> scores(const ms::table<Policy>& table, support::stored_floats stored) {
        const auto scores = table.scores_at(table.states(), stored.edit());
        std::vector<std::pair<ms::position, float>> order;
        for (std::size_t row = 0; row < scores.size(); ++row) order.emplace_back(table.positions()[row], scores[row]);
        std::ranges::sort(order);
        std::vector<float> result;
        for (const auto& one : order) result.push_back(one.second);
        return result;
    }
    std::vector<float> scores() const { return scores(now.table, now.stored); }
    /// Those of a table in which the same states arrived just now.
    std::vector<float> fresh_scores() const {
        std::vector<std::size_t> rows(now.table.size());
        for (std::size_t row = 0; row < rows.size(); ++row) rows[row] = row;
        std::ranges::sort(rows, {}, [&](std::size_t row) { return now.table.positions()[row]; });
        ms::table_shape s = now.table.shape();
        s.slack = rows.size();
        stored_table<Policy> fresh(s, now.table.policy());
        const std::size_t asked = std::min<std::size_t>(queries.size(), 8);
        for (std::size_t i = 0; i < rows.size(); ++i) {
            EXPECT_TRUE(fresh.table.append(static_cast<int>(i), 1, fresh.stored.edit()).empty());
            for (std::size_t h = 0; h < kv_heads; ++h) {
                std::copy_n(const_cast<support::stored_floats&>(now.stored).key(h, rows[i]), d, fresh.stored.key(h, i));
            }
            const bool counts = i + asked >= rows.size();
            if (counts || queries.size() >= 8) {
                ask(fresh.table, counts ? queries[queries.size() - (rows.size() - i)] : queries.back(), i + 1);
            }
        }
        return scores(fresh.table, fresh.stored);
    }
    void expect_as_fresh(const std::string& when) const {
        const auto found = scores(), expected = fresh_scores();
        ASSERT_EQ(found.size(), expected.size());
        for (std::size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 2e-6) << when << ", " << i;
    }

    stored_table<Policy> now;
    std::vector<std::vector<float>> queries;
    support::random_numbers random{11};

  private:
    support::vectors random_keys() {
        support::vectors keys;
        for (std::size_t h = 0; h < kv_heads; ++h) {
            keys.push_back(random.floats(d, 0.6f));
            keys.back()[random.below(d)] += 1;
        }
        return keys;
    }
    static void ask(ms::table<Policy>& table, const std::vector<float>& queries, std::size_t width) {
        table.observe_queries({queries.data(), group * kv_heads, d, d}, width);
    }
};
using layer = ms::composed<ms::r_kv, ms::per_layer>;

TEST(r_kv, what_is_kept_up_equals_what_is_computed_afresh) {
    for (const std::size_t slack : {0u, 5u}) {
        ms::table_shape s = used<layer>::shape(30, slack);
        if (slack == 0) s.recent = 2;  // fewer than there are queries
        used<layer> run(s);
        run.append(3);
        run.append(40);  // a prompt
        for (int t = 0; t < 3000; ++t) {
            run.step();
            if (t % 97 == 96) run.append(2 + static_cast<std::size_t>(t) % 9);
            if (t == 700) run.rebudget(20);
            if (t == 1300) run.rebudget(40);
            if (t == 1900) run.clear();
            if (t == 2500) {
                used<layer> copy = run;
                std::swap(run, copy);
                for (int i = 0; i < 20; ++i) copy.step();  // must not matter to the other
            }
            if (t % 7 != 0) continue;
            ASSERT_NO_FATAL_FAILURE(run.expect_as_fresh("after " + std::to_string(t)));
        }
    }
}

TEST(r_kv, a_part_that_may_write_keys_changes_no_decision) {
    using free_to_write = ms::composed<ms::r_kv, ms::per_layer, may_write>;
    used<layer> run(used<layer>::shape(30));
    used<free_to_write> afresh(used<free_to_write>::shape(30));
    for (int t = 0; t < 500; ++t) {
        run.step();
        afresh.step();
        ASSERT_EQ(support::forgotten(run.now.table), support::forgotten(afresh.now.table)) << t;
    }
}

TEST(r_kv, keys_that_a_part_writes_are_read_again) {
    used<ms::composed<ms::r_kv, ms::per_layer, turns_a_key>> run(used<layer>::shape(30));
    for (int t = 0; t < 300; ++t) {
        run.step();
        if (t < 40) continue;
        ASSERT_NO_FATAL_FAILURE(run.expect_as_fresh("after " + std::to_string(t)));
    }
}

}  // namespace r_kv_test

namespace reference::r_kv {

/// R-KV's importance of the states of one KV head that are not guarded as recent; 0 for those.
numbers importance(const evidence& e, std::size_t h, std::size_t older) {
    const auto& states = e.held[h];
    const auto window = e.newest(8);
    numbers mean(states.size());
    for (const token& t : window) {
        numbers exponentials;
        for (std::size_t j = 0; j < older; ++j) {
            double most = -std::numeric_limits<double>::infinity();
            for (std::size_t i = h * e.shape.group(); i < (h + 1) * e.shape.group(); ++i) {
                most = std::max(most, e.shape.scale * dot(t.queries[i], states[j].key));
            }
            exponentials.push_back(most);
        }
        const double greatest = *std::max_element(exponentials.begin(), exponentials.end());
        for (double& x : exponentials) x = std::exp(x - greatest);
        const double total = std::accumulate(exponentials.begin(), exponentials.end(), 0.0);
        for (std::size_t j = 0; j < older; ++j) {
            mean[j] += exponentials[j] / total / static_cast<double>(window.size());
        }
    }
    numbers pooled(states.size());
    for (std::size_t j = 0; j < older; ++j) {
        for (std::size_t i = j - std::min<std::size_t>(j, 3); i < std::min(older, j + 4); ++i) {
            pooled[j] = std::max(pooled[j], mean[i]);
        }
    }
    return pooled;
}

/// R-KV's redundancy of the states of one KV head.
numbers redundancy(const evidence& e, std::size_t h) {
    const auto& states = e.held[h];
    const std::size_t n = states.size();
    numbers mean(n);
    for (std::size_t i = 0; i < n; ++i) {
        numbers row;
        for (std::size_t j = 0; j < n; ++j) {
            const double norms = std::sqrt(dot(states[i].key, states[i].key) * dot(states[j].key, states[j].key));
            row.push_back(i != j && norms > 0 ? dot(states[i].key, states[j].key) / norms : 0);
        }
        for (std::size_t j = n; j-- > 0;) {
            e.compare(row[j], 0.5);
            if (row[j] <= 0.5) continue;
            row[j] = 0;
            break;
        }
        for (std::size_t j = 0; j < n; ++j) mean[j] += row[j] / static_cast<double>(n);
    }
    double total = 0;
    for (double& x : mean) total += x = std::exp(x);
    for (double& x : mean) x /= total;
    return mean;
}

numbers important_less_redundant(const evidence& e) {
    const std::size_t recent = e.shape.recent.value_or(at_most<8, 2>(e.shape.states));
    numbers scores(e.states().size());
    for (std::size_t h = e.first_kv_head; h < e.first_kv_head + e.kv_heads; ++h) {
        const numbers important = importance(e, h, scores.size() - recent), redundant = redundancy(e, h);
        for (std::size_t j = 0; j < scores.size(); ++j) scores[j] += 0.1 * important[j] - 0.9 * redundant[j];
    }
    return scores;
}

// Two states are as redundant as each other.
const registered rule{
    {.name = "r_kv", .score = important_less_redundant, .recent = at_most<8, 2>, .ties_are_exact = true}};

}  // namespace reference::r_kv
