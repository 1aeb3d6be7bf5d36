// What a cache stores and where.
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/attention/step.hpp>
#include <multistate/cache/cache.hpp>
#include <multistate/codecs/bf16.hpp>
#include <multistate/codecs/f16.hpp>
#include <multistate/codecs/int8.hpp>
#include <multistate/policies/list.hpp>

#include "support/stream.hpp"

namespace cache_test {

namespace ms = multistate;

constexpr ms::shape small{
    .layers = 3, .heads = 4, .kv_heads = 2, .head_dim = 5, .value_dim = 3, .states = 6, .block = 4};

/// What the test itself remembers of every token, to compare with what the cache's rows hold.
template <class Cache>
void check_rows(const Cache& cache, const std::vector<support::stream>& layers) {
    const ms::shape& s = cache.shape();
    for (std::size_t layer = 0; layer < s.layers; ++layer) {
        for (std::size_t h = 0; h < s.kv_heads; ++h) {
            for (std::size_t j = 0; j < cache.layer(layer).size(h); ++j) {
                const auto token = static_cast<std::size_t>(cache.layer(layer).positions(h)[j]);
                std::vector<float> key(s.head_dim), value(s.value_dim);
                cache.layer(layer).keys(h).read(j, key.data());
                cache.layer(layer).values(h).read(j, value.data());
                const auto k = layers[layer].k(token).subspan(h * s.head_dim, s.head_dim);
                const auto v = layers[layer].v(token).subspan(h * s.value_dim, s.value_dim);
                ASSERT_TRUE(std::ranges::equal(key, k)) << "layer " << layer << " head " << h << " row " << j;
                ASSERT_TRUE(std::ranges::equal(value, v)) << "layer " << layer << " head " << h << " row " << j;
            }
        }
    }
}

template <class P>
void follow(P policy) {
    ms::cache<P> cache(small, policy);
    std::vector<support::stream> layers;
    for (std::size_t layer = 0; layer < 3; ++layer) layers.emplace_back(small, 80, layer);
    support::random_numbers random(3);
    for (std::size_t first = 0; first + 4 < 80;) {
        const std::size_t n = 1 + random.below(4);
        for (std::size_t layer = 0; layer < 3; ++layer) {
            const support::stream& tokens = layers[layer];
            ASSERT_TRUE(cache.layer(layer).append(static_cast<int>(first), tokens.k(first, n), tokens.v(first, n)));
            EXPECT_LE(cache.layer(layer).size(), 6 + n);
            const std::vector<float> probabilities = random.floats(4 * cache.layer(layer).size(), 1);
            cache.layer(layer).observe(probabilities);
            if (random.below(5) == 0) cache.layer(layer).forget();
        }
        check_rows(cache, layers);
        first += n;
    }
}

TEST(cache, each_row_holds_the_token_whose_position_it_names) {
    follow(ms::tova{});
    follow(ms::h2o{});
    follow(ms::any_policy::named("tova_head"));
    follow(ms::any_policy(ms::window{}));
}

TEST(cache, layers_and_heads_do_not_disturb_each_other) {
    ms::cache<ms::tova_head> cache(small);
    const support::stream tokens(small, 20, 1);
    for (std::size_t t = 0; t < 20; ++t) {
        EXPECT_TRUE(cache.layer(1).append(static_cast<int>(t), tokens.k(t), tokens.v(t)));
        // the first head pair looks at the oldest, the second at the newest
        const std::size_t n = cache.layer(1).size();
        std::vector<float> probabilities(4 * n, 0.01f);
        for (std::size_t h = 0; h < 4; ++h) {
            const auto looks = [&](std::size_t j) { return static_cast<float>(cache.layer(1).positions(h / 2)[j]); };
            for (std::size_t j = 0; j < n; ++j) probabilities[h * n + j] = h < 2 ? 100 - looks(j) : looks(j);
        }
        cache.layer(1).observe(probabilities);
    }
    cache.layer(1).forget();
    std::vector<int> first(cache.layer(1).positions(0).begin(), cache.layer(1).positions(0).end());
    std::vector<int> second(cache.layer(1).positions(1).begin(), cache.layer(1).positions(1).end());
    std::ranges::sort(first);
    std::ranges::sort(second);
    EXPECT_EQ(first, (std::vector<int>{0, 1, 2, 3, 4, 5}));
    EXPECT_EQ(second, (std::vector<int>{14, 15, 16, 17, 18, 19}));
    EXPECT_EQ(cache.layer(0).size(), 0u);
    EXPECT_EQ(cache.layer(2).size(), 0u);
    EXPECT_EQ(cache.layer(0).next_position(), 0);
    EXPECT_EQ(cache.layer(1).next_position(), 20);
}

/// The layout is public: [layer][kv_head][row][dimension], rows padded to 16 elements with zeros.
TEST(cache, lays_rows_out_as_documented) {
    ms::cache<ms::window> cache(small);
    const support::stream tokens(small, 4, 2);
    for (std::size_t layer = 0; layer < 3; ++layer)
        EXPECT_TRUE(cache.layer(layer).append(0, tokens.k(0, 4), tokens.v(0, 4)));
    const float* first = cache.layer(0).keys(0).data;
    const std::size_t plane = 10 * 16;  // states + block rows
    for (std::size_t layer = 0; layer < 3; ++layer) {
        for (std::size_t h = 0; h < 2; ++h) {
            EXPECT_EQ(cache.layer(layer).keys(h).data, first + (layer * 2 + h) * plane);
            EXPECT_EQ(cache.layer(layer).keys(h).stride, 16u);
            EXPECT_EQ(cache.layer(layer).keys(h).dimension, 5u);
            EXPECT_EQ(cache.layer(layer).values(h).dimension, 3u);
            for (std::size_t j = 0; j < 4; ++j) {
                const float* row = cache.layer(layer).keys(h).data + j * 16;
                EXPECT_TRUE(std::equal(row, row + 5, tokens.k(j).data() + h * 5));
                EXPECT_EQ(std::count(row + 5, row + 16, 0.0f), 11);
            }
        }
    }
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first) % 64, 0u);
}

TEST(cache, keys_and_values_may_use_different_codecs) {
    ms::cache<ms::tova, ms::f16, ms::int8> cache(small);
    const std::vector<float> k{1, 2, 3, 4, 5, -1, -2, -3, -4, -5};
    const std::vector<float> v{127, 0, -127, 254, 2, -254};
    EXPECT_TRUE(cache.layer(0).append(0, k, v));
    std::vector<float> key(5), value(3);
    cache.layer(0).keys(1).read(0, key.data());
    cache.layer(0).values(1).read(0, value.data());
    EXPECT_EQ(key, (std::vector<float>{-1, -2, -3, -4, -5}));
    EXPECT_EQ(value, (std::vector<float>{254, 2, -254}));
    static_assert(sizeof *cache.layer(0).keys(0).data == 2 && sizeof *cache.layer(0).values(0).data == 1);
    EXPECT_EQ(cache.layer(0).keys(0).scales, nullptr);
    EXPECT_EQ(cache.layer(0).values(0).scale(0), 1.0f);
}

TEST(cache, narrow_codecs_need_less_memory) {
    const ms::shape wide{.layers = 2, .heads = 8, .kv_heads = 8, .head_dim = 128, .states = 256};
    // keys and values; in all codecs, a cache line follows that kernels may read
    const std::size_t elements = 2 * (2 * 8 * 257 * 128);
    const ms::cache<ms::window> full(wide);
    const ms::cache<ms::window, ms::bf16> narrow(wide);
    const ms::cache<ms::window, ms::int8> narrowest(wide);
    EXPECT_EQ(full.memory_bytes() - narrow.memory_bytes(), elements * 2);
    EXPECT_EQ(narrow.memory_bytes() - narrowest.memory_bytes(), elements - 2 * 2 * 8 * 257 * sizeof(float));
}

TEST(cache, takes_spans_of_vectors_and_arrays) {
    ms::cache<ms::tova> cache({.layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 2, .states = 2});
    ms::workspace scratch(cache.shape());
    const std::array<float, 2> q{1, 0}, k{1, 1}, v{3, 4};
    std::array<float, 2> out{};
    EXPECT_TRUE(ms::step(cache.layer(0), 0, {q, k, v}, out, scratch));
    EXPECT_EQ(out, v);
    std::vector<float> query{1, 0}, key{1, 1}, value{5, 6}, result(2);
    EXPECT_TRUE(cache.layer(0).append(1, key, value));
    const ms::rows probabilities = ms::attend(cache.layer(0), query, result, scratch);
    EXPECT_EQ(probabilities.count, 1u);
    EXPECT_EQ(probabilities.width, 2u);
    EXPECT_EQ(probabilities[0][0], 0.5f);
    cache.layer(0).observe(probabilities);
    EXPECT_TRUE(cache.layer(0).append(2, key, value));
    const std::array<float, 3> given{0.5f, 0.3f, 0.2f};
    cache.layer(0).observe(given);
    EXPECT_TRUE(std::ranges::equal(cache.layer(0).scores(), given));
}

/// An engine may keep its probabilities in rows longer than the table.
TEST(cache, observes_rows_with_a_stride) {
    ms::cache<ms::tova_head> cache({.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 1, .states = 2});
    const std::vector<float> one{1, 1};
    for (int p = 0; p < 3; ++p) {
        EXPECT_TRUE(cache.layer(0).append(p, one, one));
        std::vector<float> strided(4 * 7, 99.0f);
        for (std::size_t h = 0; h < 4; ++h) {
            for (std::size_t j = 0; j < cache.layer(0).size(); ++j) strided[h * 7 + j] = static_cast<float>(10 * h + j);
        }
        cache.layer(0).observe(strided);
    }
    EXPECT_TRUE(std::ranges::equal(cache.layer(0).scores(0), std::vector<float>{10, 12, 14}));
    EXPECT_TRUE(std::ranges::equal(cache.layer(0).scores(1), std::vector<float>{50, 52, 54}));
}

TEST(cache, moves_without_copying) {
    ms::cache<ms::h2o> cache(small);
    const support::stream tokens(small, 4, 1);
    EXPECT_TRUE(cache.layer(0).append(0, tokens.k(0, 4), tokens.v(0, 4)));
    const float* memory = cache.layer(0).keys(0).data;
    ms::cache<ms::h2o> moved(std::move(cache));
    EXPECT_EQ(moved.layer(0).keys(0).data, memory);
    EXPECT_EQ(moved.layer(0).size(), 4u);
    ms::cache<ms::h2o> assigned(small);
    assigned = std::move(moved);
    EXPECT_EQ(assigned.layer(0).keys(0).data, memory);
    EXPECT_NE(assigned.clone().layer(0).keys(0).data, memory);
}

TEST(cache, knows_its_defaults) {
    const ms::cache<ms::window> cache({.layers = 1, .heads = 2, .kv_heads = 2, .head_dim = 16, .states = 3});
    EXPECT_EQ(cache.shape().value_dim, 16u);
    EXPECT_EQ(cache.shape().scale, 0.25f);
    EXPECT_EQ(cache.shape().group(), 1u);
}

}  // namespace cache_test
