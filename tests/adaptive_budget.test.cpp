// AdaKV's budgets, by hand.
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/adaptive_budget.hpp>
#include <multistate/modifiers/pool.hpp>
#include <multistate/one_of.hpp>
#include <multistate/policies/given.hpp>
#include <multistate/policies/h2o.hpp>
#include <multistate/policies/tova.hpp>

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
    cache.append(0, 0, rows, rows);
    for (std::size_t h = 0; h < heads.size(); ++h) std::ranges::copy(heads[h], cache.scores(0, h).begin());
    return cache;
}

const std::vector<scores> one_matters{{9, 8, 7, 6, 5, 4, 3, 2}, {1, 1, 1, 1, 1, 1, 1, 1}};

TEST(adaptive_budget, pools_the_scores_of_a_layer) {
    const auto cache = holding(shape(2), one_matters);
    // all 8 of the first are among the 8 greatest: 8 * 0.8 + 0.2 * 4 and 0.2 * 4, of which the second gets at least 1
    EXPECT_EQ(ms::adaptive_budget(cache, 4), (budget{7, 1}));
    EXPECT_EQ(ms::adaptive_budget(cache, 4, 1), (budget{4, 4}));
    EXPECT_EQ(ms::adaptive_budget(cache, 4, 0), (budget{7, 1}));
    EXPECT_EQ(ms::adaptive_budget(cache, 4, 0.5f), (budget{6, 2}));
    EXPECT_EQ(ms::adaptive_budget(cache, 5, 0), (budget{8, 2})) << "8 and 2 of the 10 greatest";
}

TEST(adaptive_budget, is_uniform_where_nothing_is_to_be_forgotten) {
    EXPECT_EQ(ms::adaptive_budget(holding(shape(2), one_matters), 8), (budget{8, 8}));
    EXPECT_EQ(ms::adaptive_budget(holding(shape(2), one_matters), 12), (budget{12, 12}));
    EXPECT_EQ(ms::adaptive_budget(ms::cache<ms::given>(shape(2)), 3), (budget{3, 3})) << "nothing held at all";
}

/// Sinks 1 and recent 2 are held by each head, and their scores are no one's merit.
TEST(adaptive_budget, leaves_guards_out) {
    ms::shape s = shape(2);
    s.sinks = 1;
    s.recent = 2;
    const auto cache = holding(s, {{99, 1, 1, 5, 6, 1, 99, 99}, {0, 2, 3, 4, 1, 1, 0, 0}});
    // free 2 of 5; the 4 greatest are 6 5 4 3
    EXPECT_EQ(ms::adaptive_budget(cache, 5, 0), (budget{5, 5}));
    // free 1 of 4; the 2 greatest are 6 5; the second keeps its guards and one more
    EXPECT_EQ(ms::adaptive_budget(cache, 4, 0), (budget{4, 4}));
    const auto other = holding(s, {{99, 7, 8, 5, 6, 1, 99, 99}, {0, 2, 3, 4, 1, 1, 0, 0}});
    EXPECT_EQ(ms::adaptive_budget(other, 5, 0), (budget{6, 4})) << "4 and 0, of which the second gets 1";
}

TEST(adaptive_budget, knows_the_guards_that_a_policy_names) {
    ms::shape s = shape(2);
    s.block = 8;
    ms::cache<ms::h2o> cache(s);
    const std::vector<float> rows(2 * 8);
    cache.append(0, 0, rows, rows);
    std::ranges::copy(scores{4, 3, 2, 9, 9, 9, 9, 9}, cache.scores(0, 0).begin());
    std::ranges::copy(scores{1, 1, 1, 1, 1, 1, 1, 5}, cache.scores(0, 1).begin());
    // recent 3 of 6, free 3: the 6 greatest of the first five of each are 9 9 4 3 2 1
    EXPECT_EQ(ms::adaptive_budget(cache, 6, 0), (budget{8, 4}));
}

TEST(adaptive_budget, counts_nan_last_and_of_equals_the_newest) {
    EXPECT_EQ(ms::adaptive_budget(holding(shape(2), {{nan, nan, nan, nan}, {-1, -2, -3, -4}}), 2, 0), (budget{1, 3}));
    EXPECT_EQ(ms::adaptive_budget(holding(shape(2), {{-1, -2, -3, -4}, {nan, nan, nan, nan}}), 2, 0), (budget{3, 1}));
    // the newest four of all that are worth 1 are position 5 and 4 of the first head, and 3 of both
    EXPECT_EQ(ms::adaptive_budget(holding(shape(2), {{0, 0, 1, 1, 1, 1}, {1, 1, 1, 1, 0, 0}}), 2, 0), (budget{3, 1}));
    // the newest two of each
    EXPECT_EQ(ms::adaptive_budget(holding(shape(2), {{1, 1, 1, 1}, {1, 1, 1, 1}}), 2, 0), (budget{2, 2}));
    // of 5 places the last goes to one of two equals: the first head's
    EXPECT_EQ(ms::adaptive_budget(holding(shape(3), {{1, 1, 1}, {1, 1, 1}, {9, 8, 0}}), 2, 0), (budget{2, 2, 2}));
    EXPECT_EQ(ms::adaptive_budget(holding(shape(3), {{1, 0, 1}, {1, 0, 1}, {9, 8, 7}}), 2, 0), (budget{2, 1, 3}));
}

TEST(adaptive_budget, is_for_each_layer_by_itself_and_holds_after_rebudget) {
    ms::shape s = shape(2);
    s.layers = 2;
    s.block = 8;
    ms::cache<ms::given> cache(s);
    const std::vector<float> rows(2 * 8);
    for (std::size_t layer = 0; layer < 2; ++layer) {
        cache.append(layer, 0, rows, rows);
        for (std::size_t h = 0; h < 2; ++h) std::ranges::copy(one_matters[layer ^ h], cache.scores(layer, h).begin());
    }
    const std::size_t before = cache.memory_bytes();
    const budget given = ms::adaptive_budget(cache, 4);
    EXPECT_EQ(given, (budget{7, 1, 1, 7}));
    cache.rebudget(given);
    EXPECT_EQ(cache.size(0, 0), 7u);
    EXPECT_EQ(cache.size(0, 1), 1u);
    EXPECT_EQ(cache.size(1, 0), 1u);
    EXPECT_EQ(cache.size(1, 1), 7u);
    EXPECT_LT(cache.memory_bytes(), before);
    EXPECT_EQ(ms::adaptive_budget(cache, 10, 0), (budget{10, 10, 10, 10}));
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
    cache.append(0, 0, rows, rows);
    EXPECT_EQ(ms::adaptive_budget(cache, 4), (budget{7, 1}));
    EXPECT_EQ(ms::adaptive_budget(cache, 4, 0.5f), (budget{6, 2}));
    EXPECT_EQ(cache.size(0, 0), 8u) << "the cache itself has forgotten nothing";
    EXPECT_EQ(cache.scores(0, 0)[0], 0.0f) << "nor decided";
}

TEST(adaptive_budget, asks_policies_that_score_at_a_decision) {
    judged_on_a_copy(decides_late{});
    judged_on_a_copy(ms::modified<decides_late, ms::pool>{.base = {}, .modifiers = {ms::pool{.width = 1}}});
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
              "adaptive_budget: policy must forget for each KV head, forgets otherwise");
    ms::shape guarded = shape(2);
    guarded.sinks = 4;
    EXPECT_EQ(what(ms::cache<ms::given>(guarded), 4, 0.2f), "table: sinks must be at most states - 1 = 3, is 4");
}

}  // namespace adaptive_budget_test
