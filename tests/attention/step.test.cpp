// Attention of one token: the vectorized kernel against the reference on Eigen, for every codec.
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/attention/reference.hpp>
#include <multistate/attention/step.hpp>
#include <multistate/policies/tova.hpp>
#include <multistate/policies/tova_head.hpp>
#include <multistate/policies/window.hpp>

#include "support/codecs.hpp"
#include "support/stream.hpp"
#include "support/threads.hpp"

namespace attention_test {

namespace ms = multistate;

template <class Codec>
class attention : public testing::Test {};
TYPED_TEST_SUITE(attention, support::every_codec, support::type_names);

const ms::shape shapes[] = {
    {.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 20, .value_dim = 7, .states = 9},
    {.layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 1, .states = 5},
    {.layers = 1, .heads = 9, .kv_heads = 1, .head_dim = 128, .states = 40, .softcap = 5},
    {.layers = 1, .heads = 6, .kv_heads = 6, .head_dim = 48, .value_dim = 80, .states = 17, .scale = -0.2f},
};

/// Both read the same stored rows and differ in rounding only: float32 sums of at most 128 products in another order,
/// and two exponentials, on values within ±1. Integers meet queries and weights of 16 bits: half a step of 2^-15. int4's
/// weights are rounded twice: when the scale of a group multiplies them, by half a step of 2^-15 again.
template <class Codec>
constexpr float bound = support::greatest_integer<ms::simd::format<Codec>> > 127 ? 2e-4f
                        : Codec::scaled                                          ? 1e-4f
                        : support::rounds_to_bfloat16<Codec>                     ? 1e-2f
                                                                                 : 1e-5f;

/// The last column of the table in codec.hpp: integers, bf16, floats.
template <class Codec>
constexpr double bound_of_squares() {
    if (Codec::scaled) return support::greatest_integer<ms::simd::format<Codec>> > 127 ? 1e-7 : 1e-8;
    if (support::rounds_to_bfloat16<Codec>) return 1e-4;
    return ms::simd::lanes == 1 ? 1e-10 : 1e-11;  // a sum in one piece rounds more
}

/// Against double precision over the same stored rows, logits within about ±8: flat and peaked attention, all groups.
TYPED_TEST(attention, keeps_the_bound_of_its_codec) {
    for (const std::size_t heads : {1u, 2u, 3u, 4u, 7u, 8u, 16u}) {
        for (const float size : {0.1f, 1.0f}) {
            for (const std::size_t d : {64u, 80u, 128u, 256u}) {
                const ms::shape shape{.layers = 1, .heads = heads, .kv_heads = 1, .head_dim = d, .states = 300};
                ms::cache<ms::window, TypeParam> cache(shape);
                ms::workspace scratch(cache.shape());
                const support::stream tokens(shape, 300, d);
                std::vector<float> q(tokens.q(0).begin(), tokens.q(0).end()), out(q.size());
                for (float& v : q) v *= size;
                for (std::size_t t = 0; t < 300; ++t)
                    EXPECT_TRUE(cache.layer(0).append(static_cast<int>(t), tokens.k(t), tokens.v(t)));
                ms::attend(cache.layer(0), q, out, scratch);
                double error = 0, length = 0;
                for (std::size_t h = 0; h < heads; ++h) {
                    std::vector<double> expected(d);
                    std::vector<float> key(d), value(d);
                    double sum = 0;
                    for (std::size_t j = 0; j < 300; ++j) {
                        cache.layer(0).keys(0).read(j, key.data());
                        cache.layer(0).values(0).read(j, value.data());
                        double logit = 0;
                        for (std::size_t c = 0; c < d; ++c) {
                            logit += static_cast<double>(q[h * d + c]) * static_cast<double>(key[c]);
                        }
                        const double weight = std::exp(logit / std::sqrt(static_cast<double>(d)));
                        sum += weight;
                        for (std::size_t c = 0; c < d; ++c) expected[c] += weight * static_cast<double>(value[c]);
                    }
                    for (std::size_t c = 0; c < d; ++c) {
                        const double difference = static_cast<double>(out[h * d + c]) - expected[c] / sum;
                        error += difference * difference;
                        length += expected[c] / sum * expected[c] / sum;
                    }
                }
                EXPECT_LE(error, length * bound_of_squares<TypeParam>()) << heads << " heads of " << d;
            }
        }
    }
}

TYPED_TEST(attention, step_equals_the_reference_over_the_same_rows) {
    for (const ms::shape& shape : shapes) {
        ms::cache<ms::tova_head, TypeParam> cache(shape);
        ms::workspace scratch(cache.shape());
        const support::stream tokens(shape, 60, 3);
        std::vector<float> out(tokens.out_width), expected(tokens.out_width);
        for (std::size_t t = 0; t < 60; ++t) {
            EXPECT_TRUE(cache.layer(0).append(static_cast<int>(t), tokens.k(t), tokens.v(t)));
            const ms::rows p = ms::attend(cache.layer(0), tokens.q(t), out, scratch);
            std::vector<float> probabilities(shape.heads * p.width);
            ms::reference_attention(cache.layer(0), tokens.q(t), expected, probabilities);
            for (std::size_t c = 0; c < out.size(); ++c) ASSERT_NEAR(out[c], expected[c], bound<TypeParam>);
            for (std::size_t h = 0; h < shape.heads; ++h) {
                for (std::size_t j = 0; j < p.width; ++j) {
                    ASSERT_NEAR(p[h][j], probabilities[h * p.width + j], bound<TypeParam>);
                }
            }
            cache.layer(0).observe(p);
        }
    }
}

TEST(step, is_append_attend_and_observe) {
    const ms::shape& shape = shapes[0];
    ms::cache<ms::tova> whole(shape);
    ms::workspace scratch(whole.shape());
    ms::cache<ms::tova> parts(shape);
    const support::stream tokens(shape, 40, 5);
    std::vector<float> out(tokens.out_width), expected(tokens.out_width);
    for (std::size_t t = 0; t < 40; ++t) {
        const auto p = static_cast<int>(t);
        ASSERT_TRUE(ms::step(whole.layer(1), p, {tokens.q(t), tokens.k(t), tokens.v(t)}, out, scratch));
        ASSERT_TRUE(parts.layer(1).append(p, tokens.k(t), tokens.v(t)));
        parts.layer(1).observe(ms::attend(parts.layer(1), tokens.q(t), expected, scratch));
        EXPECT_EQ(out, expected);
        EXPECT_TRUE(std::ranges::equal(whole.layer(1).positions(), parts.layer(1).positions()));
        EXPECT_TRUE(std::ranges::equal(whole.layer(1).scores(), parts.layer(1).scores()));
    }
}

/// An engine that attends by itself hands over plain spans; nothing else may enter a decision.
TEST(attention_of_an_engine, decides_alike) {
    const ms::shape& shape = shapes[0];
    ms::cache<ms::tova> ours(shape);
    ms::workspace scratch(ours.shape());
    ms::cache<ms::tova> theirs(shape);
    const support::stream tokens(shape, 60, 7);
    std::vector<float> out(tokens.out_width);
    for (std::size_t t = 0; t < 60; ++t) {
        const auto p = static_cast<int>(t);
        EXPECT_TRUE(ms::step(ours.layer(0), p, {tokens.q(t), tokens.k(t), tokens.v(t)}, out, scratch));
        EXPECT_TRUE(theirs.layer(0).append(p, tokens.k(t), tokens.v(t)));
        std::vector<float> probabilities(shape.heads * theirs.layer(0).size());
        ms::reference_attention(theirs.layer(0), tokens.q(t), out, probabilities);
        theirs.layer(0).observe(probabilities);
        ASSERT_TRUE(std::ranges::equal(ours.layer(0).positions(), theirs.layer(0).positions()));
    }
}

/// Attention reads: a constant cache will do, and its probabilities lie in the caller's workspace.
TEST(attend, works_on_a_cache_that_is_only_read) {
    const ms::shape& shape = shapes[0];
    ms::cache<ms::tova> cache(shape);
    ms::workspace scratch(shape);
    const support::stream tokens(shape, 3, 5);
    std::vector<float> out(tokens.out_width);
    EXPECT_TRUE(cache.layer(0).append(0, tokens.k(0), tokens.v(0)));
    const ms::rows p = ms::attend(std::as_const(cache).layer(0), tokens.q(0), out, scratch);
    EXPECT_EQ(p.data, scratch.logits(0));
    EXPECT_EQ(p[3][0], 1.0f);
}

using tova_layer = ms::cache_layer<ms::cache<ms::tova>>;
static_assert(noexcept(ms::step(std::declval<tova_layer>(), 0, {}, {}, std::declval<ms::workspace&>())));
static_assert(noexcept(ms::attend(std::declval<tova_layer>(), {}, {}, std::declval<ms::workspace&>())));

/// Few KV heads over many rows: tasks share the rows of one, in any order and on any threads with the same bits.
TEST(attend, shares_the_rows_of_few_kv_heads) {
    for (const std::size_t kv_heads : {1u, 2u, 3u}) {
        const ms::shape shape{
            .layers = 1, .heads = 3 * kv_heads, .kv_heads = kv_heads, .head_dim = 20, .value_dim = 36, .states = 1500};
        ms::cache<ms::tova> cache(shape);
        ms::workspace scratch(cache.shape());
        const support::stream tokens(shape, 1301, 5);
        for (std::size_t t = 0; t <= 1300; ++t) {
            EXPECT_TRUE(cache.layer(0).append(static_cast<int>(t), tokens.k(t), tokens.v(t)));
            const std::vector<float> equal(cache.layer(0).size(), 1.0f);
            cache.layer(0).observe(ms::rows{equal.data(), shape.heads, equal.size(), 0});
            if (t != 1022 && t != 1023 && t != 1024 && t != 1300) continue;
            std::vector<float> out(tokens.out_width), expected(out.size()), again(out.size());
            const ms::rows p = ms::attend(cache.layer(0), tokens.q(t), out, scratch);
            std::vector<float> probabilities(shape.heads * p.width);
            ms::reference_attention(cache.layer(0), tokens.q(t), expected, probabilities);
            for (std::size_t c = 0; c < out.size(); ++c) ASSERT_NEAR(out[c], expected[c], 1e-5f);
            ms::attend(cache.layer(0), tokens.q(t), again, scratch, support::threads{});
            EXPECT_EQ(again, out);
            ms::attend(cache.layer(0), tokens.q(t), again, scratch, support::backwards);
            EXPECT_EQ(again, out);
        }
    }
}

}  // namespace attention_test
