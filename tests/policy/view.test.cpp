// What a policy reads and writes of stored keys and values, through a cache: every codec, odd dimensions, several
// heads.
#include <cmath>
#include <functional>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/cache/cache.hpp>

#include "support/codecs.hpp"
#include "support/stream.hpp"

namespace view_test {

namespace ms = multistate;

/// Hands what it is given at a decision to a test.
struct visitor {
    [[maybe_unused]] static constexpr std::string_view name = "visitor";
    ms::per unit = ms::per::head;
    std::function<void(const ms::editor&, ms::view)>* visit = nullptr;
    ms::per forgets() const noexcept { return unit; }

    void merge(const ms::editor& stored, std::span<const std::uint32_t>, ms::view states) const noexcept {
        (*visit)(stored, states);
    }
};
static_assert(ms::has_merge<visitor>);

constexpr std::size_t length = 9;

ms::shape shape_of(std::size_t head_dim, std::size_t value_dim) {
    return {.layers = 2,
            .heads = 4,
            .kv_heads = 2,
            .head_dim = head_dim,
            .value_dim = value_dim,
            .states = 6,
            .block = length};
}

template <class Codec>
class view_of : public testing::Test {
  protected:
    /// Stores a block of tokens and calls `check(cache, stored, states)` at the decision that follows, for each table
    /// of layer 1.
    static void at_a_decision(const ms::shape& shape, ms::per unit, auto check) {
        using cache = ms::cache<visitor, Codec>;
        cache* current = nullptr;
        std::size_t calls = 0;
        std::function<void(const ms::editor&, ms::view)> visit = [&](const ms::editor& stored, ms::view states) {
            ++calls;
            check(*current, stored, states);
        };
        cache c(shape, visitor{.unit = unit, .visit = &visit});
        current = &c;
        const support::stream tokens(shape, length, 3);
        EXPECT_TRUE(c.layer(1).append(0, tokens.k(0, length), tokens.v(0, length)));
        c.layer(1).forget();
        EXPECT_EQ(calls, unit == ms::per::layer ? 1u : shape.kv_heads);
    }
};

TYPED_TEST_SUITE(view_of, support::every_codec, support::type_names);

double dot(const std::vector<float>& x, const std::vector<float>& y) {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
    return sum;
}

/// Bounds: 80 products of magnitude below 7 each, summed in float32.
constexpr double tolerance = 1e-4;

TYPED_TEST(view_of, products_are_those_of_the_rows_read_one_by_one) {
    for (const auto& [head_dim, value_dim] : {std::pair{16, 16}, {1, 7}, {33, 5}, {80, 64}, {20, 47}}) {
        const ms::shape shape = shape_of(static_cast<std::size_t>(head_dim), static_cast<std::size_t>(value_dim));
        for (const ms::per unit : {ms::per::layer, ms::per::head}) {
            this->at_a_decision(shape, unit, [&](const auto&, const ms::editor& stored, ms::view states) {
                support::random_numbers random(5);
                ASSERT_EQ(stored.head_dim, shape.head_dim);
                ASSERT_EQ(stored.kv_heads, states.shape.kv_heads);
                for (std::size_t h = 0; h < stored.kv_heads; ++h) {
                    const auto x = random.floats(shape.head_dim, 1);
                    const auto y = random.floats(shape.value_dim, 1);
                    const auto weights = random.floats(states.size(), 1);
                    std::vector<float> keys(states.size()), values(states.size()), sum(shape.value_dim);
                    stored.dot_keys(h, x, keys);
                    stored.dot_values(h, y, values);
                    stored.sum_values(h, weights, sum);
                    std::vector<double> expected(shape.value_dim);
                    for (std::size_t j = 0; j < states.size(); ++j) {
                        std::vector<float> key(shape.head_dim), value(shape.value_dim);
                        stored.key(h, j, key);
                        stored.value(h, j, value);
                        EXPECT_NEAR(keys[j], dot(x, key), tolerance);
                        EXPECT_NEAR(values[j], dot(y, value), tolerance);
                        for (std::size_t c = 0; c < value.size(); ++c) {
                            expected[c] += static_cast<double>(weights[j]) * static_cast<double>(value[c]);
                        }
                    }
                    for (std::size_t c = 0; c < sum.size(); ++c) EXPECT_NEAR(sum[c], expected[c], tolerance);
                }
            });
        }
    }
}

/// Four at a time and what is left, into planes that are longer than what they hold.
TYPED_TEST(view_of, several_vectors_at_once_give_the_products_of_each) {
    const ms::shape shape = shape_of(36, 20);
    this->at_a_decision(shape, ms::per::head, [&](const auto&, const ms::editor& stored, ms::view states) {
        support::random_numbers random(6);
        for (std::size_t count = 1; count <= 9; ++count) {
            const std::size_t n = states.size(), stride = n + 3;
            const auto x = random.floats(count * 40, 1);
            std::vector<float> out(count * stride, 99.0f), one(n);
            const ms::rows vectors{x.data(), count, 36, 40};
            stored.dot_keys(0, vectors, std::span(out).first(n), stride);
            for (std::size_t i = 0; i < count; ++i) {
                stored.dot_keys(0, vectors[i], one);
                for (std::size_t j = 0; j < n; ++j) EXPECT_NEAR(out[i * stride + j], one[j], tolerance) << count;
                for (std::size_t j = n; j < stride; ++j) EXPECT_EQ(out[i * stride + j], 99.0f) << "not its memory";
            }
        }
    });
}

TYPED_TEST(view_of, rows_are_those_of_the_table_s_own_heads) {
    const ms::shape shape = shape_of(12, 12);
    for (const ms::per unit : {ms::per::layer, ms::per::head}) {
        this->at_a_decision(shape, unit, [&](const auto& cache, const ms::editor& stored, ms::view states) {
            for (std::size_t h = 0; h < stored.kv_heads; ++h) {
                std::vector<float> key(12), same(12);
                stored.key(h, 3, key);
                cache.layer(1).keys(states.shape.kv_head + h).read(3, same.data());
                EXPECT_EQ(key, same);
                stored.value(h, 3, key);
                cache.layer(1).values(states.shape.kv_head + h).read(3, same.data());
                EXPECT_EQ(key, same);
            }
        });
    }
}

TYPED_TEST(view_of, what_is_set_is_read_and_nothing_else_changes) {
    const ms::shape shape = shape_of(20, 7);
    this->at_a_decision(shape, ms::per::layer, [&](const auto&, const ms::editor& stored, ms::view) {
        std::vector<float> key(20, 0.5f), value(7, -0.25f), read_key(20), read_value(7), before(20), neighbor(20);
        stored.key(1, 4, before);
        stored.set_value(1, 4, value);
        stored.key(1, 4, read_key);
        EXPECT_EQ(read_key, before) << "the key of a row whose value was set";
        stored.key(0, 4, neighbor);
        stored.set_key(1, 4, key);
        stored.key(1, 4, read_key);
        stored.value(1, 4, read_value);
        for (const float x : read_key) EXPECT_NEAR(x, 0.5f, 1e-2f);
        for (const float x : read_value) EXPECT_NEAR(x, -0.25f, 1e-2f);
        stored.key(0, 4, read_key);
        EXPECT_EQ(read_key, neighbor) << "another KV head";
    });
}

}  // namespace view_test
