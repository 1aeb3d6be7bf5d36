// Where heads look, by hand and from a cache.
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/attention/step.hpp>
#include <multistate/budgets/attention_profile.hpp>
#include <multistate/budgets/duo.hpp>
#include <multistate/budgets/lazy_layers.hpp>
#include <multistate/cache/cache.hpp>
#include <multistate/policies/full.hpp>

#include "support/stream.hpp"

namespace attention_profile_test {

namespace ms = multistate;
using numbers = std::vector<float>;

/// One query head over rows whose positions are `positions`.
void show(ms::attention_profile& profile, std::size_t layer, std::size_t kv_head, const numbers& probabilities,
          const std::vector<ms::position>& positions) {
    const std::size_t n = positions.size();
    profile.observe({layer, kv_head}, {probabilities.data(), probabilities.size() / n, n, n}, positions);
}

TEST(attention_profile, is_the_share_between_sinks_and_recent) {
    ms::attention_profile profile({1, 1, 1}, {.sinks = 1, .recent = 2});
    show(profile, 0, 0, {0.1f, 0.2f, 0.3f, 0.15f, 0.25f}, {0, 1, 2, 3, 4});
    EXPECT_FLOAT_EQ(profile.retrieval()[0], 0.5f) << "positions 1 and 2";
    EXPECT_FLOAT_EQ(profile.laziness()[0], 0.5f);
}

TEST(attention_profile, goes_by_positions_not_by_rows) {
    ms::attention_profile profile({1, 1, 1}, {.sinks = 1, .recent = 2});
    show(profile, 0, 0, {0.25f, 0.3f, 0.1f, 0.15f, 0.2f}, {4, 2, 0, 3, 1});
    EXPECT_FLOAT_EQ(profile.retrieval()[0], 0.5f);
}

TEST(attention_profile, is_the_mean_over_tokens_and_heads) {
    ms::attention_profile profile({2, 4, 2}, {.sinks = 0, .recent = 1});  // two query heads for each KV head
    show(profile, 1, 0, {0.75f, 0.25f, 0.75f, 0.25f}, {0, 1});
    show(profile, 1, 0, {0.25f, 0.0f, 0.75f, 0.0f, 0.25f, 0.75f}, {0, 1, 2});
    show(profile, 1, 1, {0.5f, 0.5f, 1.0f, 0.0f}, {0, 1});
    EXPECT_EQ(profile.retrieval(), (numbers{1, 1, 0.5f, 0.75f})) << "of layer 0 nothing is known";
    EXPECT_EQ(profile.laziness(), (numbers{0, 0.375f}));
}

/// The token itself and one before it are near; without it, the two before it, of what is left.
TEST(attention_profile, counts_the_token_itself_or_leaves_it_out) {
    const numbers a{0.05f, 0.15f, 0.125f, 0.175f, 0.5f};
    ms::attention_profile counted({1, 1, 1}, {.sinks = 0, .recent = 2});
    show(counted, 0, 0, a, {0, 1, 2, 3, 4});
    EXPECT_FLOAT_EQ(counted.recency()[0], 0.675f);
    ms::attention_profile left_out({1, 1, 1}, {.sinks = 0, .recent = 2}, ms::own_token::left_out);
    show(left_out, 0, 0, a, {0, 1, 2, 3, 4});
    EXPECT_FLOAT_EQ(left_out.recency()[0], 0.6f);
    show(left_out, 0, 0, {0.25f, 0.25f, 0.5f}, {0, 1, 2});
    EXPECT_FLOAT_EQ(left_out.recency()[0], 0.6f) << "nothing is far";
    show(left_out, 0, 0, {0.5f, 0, 0, 0.5f}, {0, 1, 2, 3});
    EXPECT_FLOAT_EQ(left_out.recency()[0], 0.3f) << "the attention of both tokens is added, then divided";
}

TEST(attention_profile, ranks_query_heads) {
    ms::attention_profile profile({2, 2, 1}, {.sinks = 0, .recent = 1});
    EXPECT_EQ(profile.recency(), (numbers{0, 0, 0, 0})) << "nothing is known";
    show(profile, 0, 0, {0.75f, 0.25f, 0.25f, 0.75f}, {0, 1});
    show(profile, 1, 0, {0.5f, 0.5f, 0.25f, 0.75f}, {0, 1});
    EXPECT_EQ(profile.recency(), (numbers{0.25f, 0.75f, 0.5f, 0.75f}));
    std::string order;
    for (const auto& each : profile.ranked()) {
        order += std::to_string(each.layer) + '.' + std::to_string(each.head) + ' ';
        EXPECT_EQ(each.recency, profile.recency()[each.layer * 2 + each.head]);
    }
    EXPECT_EQ(order, "0.1 1.1 1.0 0.0 ");
}

/// Such a token looks at nothing else, whatever the head is like.
TEST(attention_profile, leaves_out_tokens_that_have_nothing_far) {
    ms::attention_profile profile({1, 1, 1}, {.sinks = 1, .recent = 2});
    show(profile, 0, 0, {0.5f, 0.25f, 0.25f}, {0, 1, 2});
    EXPECT_EQ(profile.retrieval(), numbers{1});
    show(profile, 0, 0, {0.25f, 0.25f, 0.25f, 0.25f}, {0, 1, 2, 3});
    EXPECT_EQ(profile.retrieval(), numbers{0.25f});
}

/// Whole layers of a cache: heads that look at the newest, everywhere, or at the first.
TEST(attention_profile, tells_heads_of_a_cache_apart) {
    const ms::shape s{.layers = 2, .heads = 6, .kv_heads = 3, .head_dim = 2, .states = 40, .scale = 1.0f};
    ms::cache<ms::full> cache(s);
    ms::workspace scratch(cache.shape());
    ms::attention_profile profile({2, 6, 3}, {.sinks = 4, .recent = 8});
    const numbers v(6, 1.0f);
    numbers out(12);
    for (int t = 0; t < 40; ++t) {
        const float x = static_cast<float>(t);
        const numbers k{x, 0, x, 0, x, 0};
        const numbers q{5, 0, 5, 0, 0, 0, 0, 0, -5, 0, -5, 0};
        EXPECT_TRUE(cache.layer(1).append(t, k, v));
        profile.observe(cache.layer(1), ms::attend(cache.layer(1), q, out, scratch));
    }
    const auto scores = profile.retrieval();
    EXPECT_LT(scores[3], 1e-6f);
    double far = 0;  // of n states that are all alike, n - 12
    for (int n = 13; n <= 40; ++n) far += (n - 12.0) / n / 28;
    EXPECT_NEAR(scores[4], far, 1e-6);
    EXPECT_LT(scores[5], 1e-6f);
    EXPECT_EQ(ms::duo_budget(std::span(scores).last(3), ms::retrieval_threshold(std::span(scores).last(3), 1.0f / 3),
                             40, {.sinks = 4, .recent = 8}),
              (std::vector<std::size_t>{12, 40, 12}));
    EXPECT_EQ(ms::lazy_layers_budget(profile.laziness(), 40, 0.8f, {.sinks = 4, .recent = 8}),
              (std::vector<std::size_t>{40, 12}));
}

TEST(attention_profile, names_what_it_refuses) {
    const auto what = [](ms::profile_shape shape, ms::guards near) -> std::string {
        try {
            static_cast<void>(ms::attention_profile(shape, near));
        } catch (const std::invalid_argument& e) {
            return e.what();
        }
        return "nothing";
    };
    EXPECT_EQ(what({0, 1, 1}, {1, 1}), "attention_profile: layers must be at least 1, is 0");
    EXPECT_EQ(what({1, 1, 0}, {1, 1}), "attention_profile: kv_heads must be at least 1, is 0");
    EXPECT_EQ(what({1, 3, 2}, {1, 1}), "attention_profile: heads must be a multiple of kv_heads = 2, is 3");
    EXPECT_EQ(what({1, 0, 2}, {1, 1}), "attention_profile: heads must be a multiple of kv_heads = 2, is 0");
    EXPECT_EQ(what({1, 1, 1}, {}), "attention_profile: sinks + recent must be from 1 to 1073741823, is 0");
}

TEST(attention_profile, a_token_that_is_not_finite_does_not_count) {
    ms::attention_profile profile({1, 1, 1}, {.sinks = 1, .recent = 1});
    const std::vector<float> good{0.25f, 0.5f, 0.25f}, bad(3, std::nanf(""));
    const std::vector<ms::position> positions{0, 1, 2};
    profile.observe({0, 0}, {good.data(), 1, 3, 3}, positions);
    profile.observe({0, 0}, {bad.data(), 1, 3, 3}, positions);
    EXPECT_EQ(profile.retrieval(), std::vector<float>{0.5f});
}

}  // namespace attention_profile_test
