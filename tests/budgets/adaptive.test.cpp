// AdaKV's budgets, by hand.
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/budgets/adaptive.hpp>
#include <multistate/mergers/into_nearest.hpp>
#include <multistate/multistate.hpp>

#include "support/any_policy.hpp"
#include "support/micro.hpp"
#include "support/stored.hpp"
#include "support/stream.hpp"

namespace adaptive_budget_test {

namespace ms = multistate;
using budget = std::vector<std::size_t>;
using scores = std::vector<float>;
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

ms::shape shape(std::size_t kv_heads, std::size_t states = 20) {
    return {.layers = 1, .heads = kv_heads, .kv_heads = kv_heads, .head_dim = 1, .states = states};
}

/// One layer whose KV heads hold one state for each score.
ms::cache<ms::given> holding(ms::shape s, const std::vector<scores>& heads) {
    s.block = heads[0].size();
    ms::cache<ms::given> cache(s);
    const std::vector<float> rows(s.kv_heads * s.block);
    EXPECT_TRUE(cache.layer(0).append(0, rows, rows));
    for (std::size_t h = 0; h < heads.size(); ++h) std::ranges::copy(heads[h], cache.layer(0).scores(h).begin());
    return cache;
}

budget states_of(const auto& cache, std::size_t states, float alpha = 0.2f) {
    return ms::adaptive_budget(cache, states, alpha).states;
}

const std::vector<scores> one_matters{{9, 8, 7, 6, 5, 4, 3, 2}, {1, 1, 1, 1, 1, 1, 1, 1}};

TEST(adaptive_budget, pools_the_scores_of_a_layer) {
    const auto cache = holding(shape(2), one_matters);
    // all 8 of the first are among the 8 greatest: 8 * 0.8 + 0.2 * 4 and 0.2 * 4, of which the second gets at least 1
    EXPECT_EQ(states_of(cache, 4), (budget{7, 1}));
    EXPECT_EQ(states_of(cache, 4, 1), (budget{4, 4}));
    EXPECT_EQ(states_of(cache, 4, 0), (budget{7, 1}));
    EXPECT_EQ(states_of(cache, 4, 0.5f), (budget{6, 2}));
    EXPECT_EQ(states_of(cache, 5, 0), (budget{8, 2})) << "8 and 2 of the 10 greatest";
}

TEST(adaptive_budget, is_uniform_where_nothing_is_to_be_forgotten) {
    EXPECT_EQ(states_of(holding(shape(2), one_matters), 8), (budget{8, 8}));
    EXPECT_EQ(states_of(holding(shape(2), one_matters), 12), (budget{12, 12}));
    EXPECT_EQ(states_of(ms::cache<ms::given>(shape(2)), 3), (budget{3, 3})) << "nothing held at all";
}

/// Sinks 1 and recent 2 are held by each head, and their scores are no one's merit.
TEST(adaptive_budget, leaves_guards_out) {
    ms::shape s = shape(2);
    s.sinks = 1;
    s.recent = 2;
    const auto cache = holding(s, {{99, 1, 1, 5, 6, 1, 99, 99}, {0, 2, 3, 4, 1, 1, 0, 0}});
    // free 2 of 5; the 4 greatest are 6 5 4 3
    EXPECT_EQ(states_of(cache, 5, 0), (budget{5, 5}));
    // free 1 of 4; the 2 greatest are 6 5; the second keeps its guards and one more
    EXPECT_EQ(states_of(cache, 4, 0), (budget{4, 4}));
    const auto other = holding(s, {{99, 7, 8, 5, 6, 1, 99, 99}, {0, 2, 3, 4, 1, 1, 0, 0}});
    EXPECT_EQ(states_of(other, 5, 0), (budget{6, 4})) << "4 and 0, of which the second gets 1";
}

TEST(adaptive_budget, knows_the_guards_that_a_policy_names) {
    ms::shape s = shape(2);
    s.block = 8;
    ms::cache<ms::h2o> cache(s);
    const std::vector<float> rows(2 * 8);
    EXPECT_TRUE(cache.layer(0).append(0, rows, rows));
    cache.layer(0).observe(std::vector<float>(2 * 8, 0.125f));
    std::ranges::copy(scores{4, 3, 2, 9, 9, 9, 9, 9}, cache.layer(0).scores(0).begin());
    std::ranges::copy(scores{1, 1, 1, 1, 1, 1, 1, 5}, cache.layer(0).scores(1).begin());
    // recent 3 of 6, free 3: the 6 greatest of the first five of each are 9 9 4 3 2 1
    EXPECT_EQ(states_of(cache, 6, 0), (budget{8, 4}));
}

TEST(adaptive_budget, counts_nan_last_and_of_equals_the_newest) {
    EXPECT_EQ(states_of(holding(shape(2), {{nan, nan, nan, nan}, {-1, -2, -3, -4}}), 2, 0), (budget{1, 3}));
    EXPECT_EQ(states_of(holding(shape(2), {{-1, -2, -3, -4}, {nan, nan, nan, nan}}), 2, 0), (budget{3, 1}));
    // the newest four of all that are worth 1 are position 5 and 4 of the first head, and 3 of both
    EXPECT_EQ(states_of(holding(shape(2), {{0, 0, 1, 1, 1, 1}, {1, 1, 1, 1, 0, 0}}), 2, 0), (budget{3, 1}));
    // the newest two of each
    EXPECT_EQ(states_of(holding(shape(2), {{1, 1, 1, 1}, {1, 1, 1, 1}}), 2, 0), (budget{2, 2}));
    // of 5 places the last goes to one of two equals: the first head's
    EXPECT_EQ(states_of(holding(shape(3), {{1, 1, 1}, {1, 1, 1}, {9, 8, 0}}), 2, 0), (budget{2, 2, 2}));
    EXPECT_EQ(states_of(holding(shape(3), {{1, 0, 1}, {1, 0, 1}, {9, 8, 7}}), 2, 0), (budget{2, 1, 3}));
}

TEST(adaptive_budget, is_for_each_layer_by_itself_and_holds_after_rebudget) {
    ms::shape s = shape(2);
    s.layers = 2;
    s.block = 8;
    ms::cache<ms::given> cache(s);
    const std::vector<float> rows(2 * 8);
    for (std::size_t layer = 0; layer < 2; ++layer) {
        EXPECT_TRUE(cache.layer(layer).append(0, rows, rows));
        for (std::size_t h = 0; h < 2; ++h)
            std::ranges::copy(one_matters[layer ^ h], cache.layer(layer).scores(h).begin());
    }
    const std::size_t before = cache.memory_bytes();
    const ms::guarded_budget given = ms::adaptive_budget(cache, 4);
    EXPECT_EQ(given.states, (budget{7, 1, 1, 7}));
    cache.rebudget(given);
    EXPECT_EQ(cache.layer(0).size(0), 7u);
    EXPECT_EQ(cache.layer(0).size(1), 1u);
    EXPECT_EQ(cache.layer(1).size(0), 1u);
    EXPECT_EQ(cache.layer(1).size(1), 7u);
    EXPECT_LT(cache.memory_bytes(), before);
    EXPECT_EQ(states_of(cache, 10, 0), (budget{10, 10, 10, 10}));
}

/// Scores only when a decision is due.
struct decides_late {
    static constexpr std::string_view name = "decides_late";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    void on_forget(ms::view states) const noexcept {
        for (std::size_t j = 0; j < states.size(); ++j) {
            states.score[j] = one_matters[states.shape.kv_head][static_cast<std::size_t>(states.position[j])];
        }
    }
};

template <class P>
void judged_on_a_copy(const P& policy) {
    ms::shape s = shape(2);
    s.block = 8;
    ms::cache<P> cache(s, policy);
    const std::vector<float> rows(2 * 8);
    EXPECT_TRUE(cache.layer(0).append(0, rows, rows));
    EXPECT_EQ(states_of(cache, 4), (budget{7, 1}));
    EXPECT_EQ(states_of(cache, 4, 0.5f), (budget{6, 2}));
    EXPECT_EQ(cache.layer(0).size(0), 8u) << "the cache itself has forgotten nothing";
    EXPECT_EQ(cache.layer(0).scores(0)[0], 0.0f) << "nor decided";
}

TEST(adaptive_budget, asks_policies_that_score_at_a_decision) {
    judged_on_a_copy(decides_late{});
    judged_on_a_copy(ms::composed{decides_late{}, ms::pool{.width = 1}});
    judged_on_a_copy(ms::one_of<ms::tova, decides_late>::named(decides_late::name));
}

TEST(adaptive_budget, names_what_it_refuses) {
    const auto what = [](const auto& cache, std::size_t states, float alpha) -> std::string {
        try {
            ms::adaptive_budget(cache, states, alpha);
        } catch (const std::invalid_argument& e) {
            return e.what();
        }
        return "nothing";
    };
    const auto cache = holding(shape(2), one_matters);
    EXPECT_EQ(what(cache, 0, 0.2f), "table: states must be from 1 to 1073741823, is 0");
    EXPECT_EQ(what(cache, 4, 1.5f), "adaptive_budget: alpha must be from 0 to 1, is 1.500000");
    EXPECT_EQ(what(cache, 4, nan), "adaptive_budget: alpha must be from 0 to 1, is nan");
    EXPECT_EQ(what(ms::cache<ms::tova>(shape(2)), 4, 0.2f),
              "adaptive_budget: policy must be one that forgets for each KV head, is one that forgets otherwise");
    EXPECT_EQ(
        what(ms::cache<ms::knorm>(shape(2)), 4, 0.2f),
        "adaptive_budget: policy must be one that scores all KV heads on one scale, is one with a scale for each");
    ms::shape guarded = shape(2);
    guarded.sinks = 4;
    EXPECT_EQ(what(ms::cache<ms::given>(guarded), 4, 0.2f), "table: sinks must be at most states - 1 = 3, is 4");
}

/// A prompt in one block, of which nothing is forgotten yet.
ms::cache<ms::any_policy> after_a_prompt(const ms::shape& s, const support::stream& tokens,
                                         const ms::any_policy& policy) {
    ms::cache<ms::any_policy> cache(s, policy);
    ms::workspace scratch(cache.shape());
    std::vector<float> out(s.block * tokens.out_width);
    EXPECT_TRUE(ms::prefill(cache.layer(0), 0, {tokens.q(0, s.block), tokens.k(0, s.block), tokens.v(0, s.block)}, out,
                            scratch, ms::prefill_mode::block));
    return cache;
}

/// What lifts criticalkv's first stage above its second is on each head's own scale, and gave one head most of a layer.
TEST(adaptive_budget, compares_heads_under_criticalkv_by_snapkv_s_score) {
    const ms::shape s{.layers = 1, .heads = 8, .kv_heads = 4, .head_dim = 16, .states = 64, .block = 256};
    support::stream tokens(s, s.block, 1);
    for (std::size_t i = 0; i < tokens.values.size(); ++i) {
        tokens.values[i] *= i / 16 % 4 == 2 ? 8.0f : 1.0f;  // the values of one head are long
    }
    const ms::criticalkv critical;
    ms::snapkv snap;
    snap.get<ms::pool>() = critical.get<ms::pool>();
    const budget expected = states_of(after_a_prompt(s, tokens, snap), 64);
    EXPECT_EQ(states_of(after_a_prompt(s, tokens, critical), 64), expected);
    EXPECT_LT(*std::ranges::max_element(expected), 110u);
}

/// Wrappers hand on how heads are compared: here by what a table alone says, with its four states' values of different
/// lengths.
template <class P>
scores compared_by(const P& policy) {
    ms::table<P> table({.states = 3, .recent = 0, .head_dim = 1, .value_dim = 1}, policy);
    support::stored_floats stored(table.shape());
    for (int p = 0; p < 4; ++p) {
        const float value = static_cast<float>(p + 1);
        stored.place(table, p, {{value}}, {{value}});
        support::observe(table, {scores(table.size(), 1 / static_cast<float>(table.size()))});
    }
    return table.scores_at(2, stored.edit());
}

TEST(adaptive_budget, wrappers_hand_on_how_heads_are_compared) {
    const scores expected = compared_by(static_cast<const ms::composed<ms::morphkv, ms::pool>&>(ms::criticalkv()));
    EXPECT_NE(expected[0], expected[3]);
    EXPECT_EQ(compared_by(ms::criticalkv()), expected);
    EXPECT_EQ(compared_by(ms::composed<ms::criticalkv, ms::into_nearest>()), expected);
    EXPECT_EQ(compared_by(ms::composed<ms::criticalkv, ms::per_layer>()), expected);
    EXPECT_EQ(compared_by(ms::one_of<ms::tova, ms::criticalkv>(ms::criticalkv())), expected);
    EXPECT_EQ(compared_by(ms::composed{ms::criticalkv{}, ms::chunk{.length = 1}}), expected);
    EXPECT_FALSE(ms::scores_are_comparable(ms::composed<ms::knorm, ms::pool>()));
    EXPECT_FALSE(ms::scores_are_comparable(ms::composed<ms::knorm, ms::into_nearest>()));
    EXPECT_FALSE(ms::scores_are_comparable(ms::any_policy::named("knorm")));
    EXPECT_TRUE(ms::scores_are_comparable(ms::any_policy::named("h2o")));
    EXPECT_TRUE(ms::scores_are_comparable(decides_late{})) << "a policy that does not say";
}

/// Each head spares 0.3 of its states, whatever they are worth: here all that may stay.
TEST(adaptive_budget, compares_heads_under_roco_by_mean_attention) {
    const ms::shape s{.layers = 1, .heads = 2, .kv_heads = 2, .head_dim = 4, .states = 8, .block = 80, .recent = 0};
    support::stream tokens(s, s.block, 1);
    for (std::size_t i = 0; i < tokens.keys.size(); ++i) {
        tokens.keys[i] *= i / 4 % 2 == 0 ? 8.0f : 0.125f;  // the first head looks at few states, the second at all
    }
    EXPECT_EQ(states_of(after_a_prompt(s, tokens, ms::roco()), 8),
              states_of(after_a_prompt(s, tokens, ms::observed_attention()), 8));
}

/// The second head's keys are 4 times as long as the first's, its queries a quarter: both attend alike, and a policy
/// whose scores are comparable gives neither more.
TEST(adaptive_budget, of_every_policy_either_treats_equal_heads_alike_or_is_refused) {
    const ms::shape s{.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 16, .states = 24, .block = 96};
    support::stream tokens(s, s.block, 5);
    for (std::size_t t = 0; t < s.block; ++t) {
        for (std::size_t c = 0; c < 16; ++c) {
            float* k = &tokens.keys[t * 32];
            float* v = &tokens.values[t * 32];
            float* q = &tokens.queries[t * 64];
            k[16 + c] = 4 * k[c];
            v[16 + c] = v[c];
            q[32 + c] = q[c] / 4;
            q[48 + c] = q[16 + c] / 4;
        }
    }
    const std::vector<std::string_view> refused{"knorm", "compactor", "q_filters", "triattention"};
    std::vector<std::string_view> found;
    for (const std::string_view name : ms::any_policy::names) {
        const auto policy = ms::any_policy::named(name);
        if (policy.forgets() != ms::per::head) continue;
        if (!ms::scores_are_comparable(policy)) {
            found.push_back(name);
            EXPECT_THROW(states_of(ms::cache<ms::any_policy>(s, policy), 24), std::invalid_argument) << name;
            continue;
        }
        const budget states = states_of(after_a_prompt(s, tokens, policy), 24);
        const std::size_t apart = name == "random" || name == "keyformer" ? 12 : 2;  // noise is drawn for each head
        EXPECT_LE(std::max(states[0], states[1]) - std::min(states[0], states[1]), apart) << name;
    }
    std::ranges::sort(found, {}, [&](std::string_view name) { return std::ranges::find(refused, name); });
    EXPECT_EQ(found, refused);
}

/// The window of 32 is whole in every head, as Ada-KV keeps it, although half of a small head's states would be less.
TEST(adaptive_budget, keeps_the_guards_of_the_mean_in_every_head) {
    const ms::shape s{.layers = 1, .heads = 4, .kv_heads = 4, .head_dim = 16, .states = 64, .block = 256};
    support::stream tokens(s, s.block + 40, 1);
    for (std::size_t i = 0; i < tokens.keys.size(); ++i) tokens.keys[i] *= i / 16 % 4 == 0 ? 12.0f : 0.1f;
    auto cache = after_a_prompt(s, tokens, ms::snapkv());
    const ms::guarded_budget given = ms::adaptive_budget(cache, 64);
    EXPECT_EQ(given.guarded.recent, 32u);
    EXPECT_LT(*std::ranges::min_element(given.states), 64u) << "or nothing would be shown";
    cache.rebudget(given);
    const auto window_is_whole = [&](int newest) {
        for (std::size_t h = 0; h < 4; ++h) {
            for (int p = newest - 31; p <= newest; ++p) {
                EXPECT_NE(std::ranges::find(cache.layer(0).positions(h), p), cache.layer(0).positions(h).end())
                    << "position " << p << " in KV head " << h << " of " << cache.layer(0).states(h);
            }
        }
    };
    window_is_whole(255);
    std::vector<float> out(tokens.out_width);
    ms::workspace scratch(cache.shape());
    for (std::size_t t = 256; t < 296; ++t) {
        ASSERT_TRUE(
            ms::step(cache.layer(0), static_cast<int>(t), {tokens.q(t), tokens.k(t), tokens.v(t)}, out, scratch));
    }
    cache.layer(0).forget();
    window_is_whole(295);
    const auto copy = cache.clone();
    EXPECT_EQ(copy.layer(0).size(1), cache.layer(0).states(1));
    cache.rebudget(given.states);  // a plain list: each head has the guards of its own states again
    const std::size_t least = *std::ranges::min_element(given.states);
    cache.rebudget(budget{least, least, least, least});
    EXPECT_EQ(cache.layer(0).size(0), least);
}

}  // namespace adaptive_budget_test
