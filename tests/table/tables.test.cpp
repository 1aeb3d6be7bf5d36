// All tables of a model, with keys and values that someone else stores: the decisions are those of the cache.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/multistate.hpp>

#include "support/any_policy.hpp"
#include "support/layer_run.hpp"
#include "support/random.hpp"
#include "support/stream.hpp"

namespace tables_test {

namespace ms = multistate;
using support::cache;

constexpr std::size_t length = 120;
constexpr ms::shape small{
    .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 20, .value_dim = 7, .states = 12, .block = 6, .slack = 0};

/// An engine's own storage: plain floats, [layer][kv_head][row].
class engine {
  public:
    explicit engine(const ms::tables<ms::any_policy>& tables) : shape_(tables.shape()) {
        for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
            for (std::size_t h = 0; h < shape_.kv_heads; ++h) {
                keys_.emplace_back(tables.layer(layer).rows(h) * shape_.head_dim);
                values_.emplace_back(tables.layer(layer).rows(h) * shape_.value_dim);
            }
        }
    }

    std::span<float> key(std::size_t layer, std::size_t kv_head, std::size_t row) {
        return std::span(keys_[layer * shape_.kv_heads + kv_head]).subspan(row * shape_.head_dim, shape_.head_dim);
    }
    std::span<float> value(std::size_t layer, std::size_t kv_head, std::size_t row) {
        return std::span(values_[layer * shape_.kv_heads + kv_head]).subspan(row * shape_.value_dim, shape_.value_dim);
    }
    void copy(std::size_t layer, std::size_t kv_head, ms::relocation m) {
        std::ranges::copy(key(layer, kv_head, m.from), key(layer, kv_head, m.to).begin());
        std::ranges::copy(value(layer, kv_head, m.from), value(layer, kv_head, m.to).begin());
    }

  private:
    ms::shape shape_;
    std::vector<std::vector<float>> keys_, values_;
};

/// A cache, and tables with an engine, which are told the same.
class both {
  public:
    both(const ms::shape& shape, const ms::any_policy& policy, std::span<const std::size_t> budget = {})
        : cache_(shape, policy, budget),
          tables_(shape, policy, budget),
          engine_(tables_),
          tokens_(tables_.shape(), length, 5) {}

    void run(std::size_t layer) {
        ms::reading stored(
            tables_.shape(),
            [&](std::size_t l, std::size_t h, std::size_t row, std::span<float> key, std::span<float> value) {
                std::copy_n(engine_.key(l, h, row).begin(), key.size(), key.begin());
                std::copy_n(engine_.value(l, h, row).begin(), value.size(), value.begin());
            },
            [&](std::size_t l, std::size_t h, std::size_t row, std::span<const float> key,
                std::span<const float> value) {
                std::ranges::copy(key, engine_.key(l, h, row).begin());
                std::ranges::copy(value, engine_.value(l, h, row).begin());
            });
        for (std::size_t first = 0; first < length;) {
            const std::size_t n = first % 5 == 3 ? std::min<std::size_t>(6, length - first) : 1;
            if (first > 60 && first % 7 == 0) forget(layer, stored);
            append(layer, first, n, stored);
            if (testing::Test::HasFailure()) return;
            first += n;
            if (first == 30) {
                cache_.layer(layer).finish_prompt();
                tables_.layer(layer).finish_prompt(stored);
            }
        }
    }

  private:
    void append(std::size_t layer, std::size_t first, std::size_t n, auto& stored) {
        const auto k = tokens_.k(first, n), v = tokens_.v(first, n);
        const ms::shape& s = tables_.shape();
        const auto p = static_cast<ms::position>(first);
        EXPECT_TRUE(cache_.layer(layer).append(p, k, v));
        EXPECT_TRUE(tables_.layer(layer).append(
            {.first = p, .tokens = n, .k = k, .v = v}, stored,
            [&](std::size_t kv_head, std::size_t row, std::span<const ms::relocation> moves) {
                for (const ms::relocation m : moves) engine_.copy(layer, kv_head, m);
                for (std::size_t i = 0; i < n; ++i) {
                    const std::size_t head = i * s.kv_heads + kv_head;
                    std::ranges::copy(k.subspan(head * s.head_dim, s.head_dim),
                                      engine_.key(layer, kv_head, row + i).begin());
                    std::ranges::copy(v.subspan(head * s.value_dim, s.value_dim),
                                      engine_.value(layer, kv_head, row + i).begin());
                }
            }));
        compare(layer);
        for (std::size_t i = 0; i < n; ++i) {
            cache_.layer(layer).observe_queries(tokens_.q(first + i));
            tables_.layer(layer).observe_queries(tokens_.q(first + i));
            observe(layer, n - 1 - i);
        }
    }

    /// Attention made up, over all rows but the last `unseen`.
    void observe(std::size_t layer, std::size_t unseen) {
        const ms::shape& s = tables_.shape();
        const std::size_t width = std::max(tables_.layer(layer).size(0), tables_.layer(layer).size(1)) - unseen;
        std::vector<float> probabilities = random_.floats(s.heads * width, 2);
        for (std::size_t head = 0; head < s.heads; ++head) {
            const std::size_t size = tables_.layer(layer).size(head / tables_.shape().group()) - unseen;
            ms::softmax(std::span(probabilities).subspan(head * width, size));
        }
        const ms::rows shown{probabilities.data(), s.heads, width, width};
        cache_.layer(layer).observe(shown);
        tables_.layer(layer).observe(shown);
    }

    void forget(std::size_t layer, auto& stored) {
        cache_.layer(layer).forget();
        tables_.layer(layer).forget(stored, [&](std::size_t kv_head, std::span<const ms::relocation> moves) {
            for (const ms::relocation m : moves) engine_.copy(layer, kv_head, m);
        });
        compare(layer);
    }

    void compare(std::size_t layer) {
        const ms::shape& s = tables_.shape();
        std::vector<float> key(s.head_dim), value(s.value_dim);
        EXPECT_EQ(tables_.layer(layer).next_position(), cache_.layer(layer).next_position());
        for (std::size_t h = 0; h < s.kv_heads; ++h) {
            ASSERT_TRUE(std::ranges::equal(tables_.layer(layer).positions(h), cache_.layer(layer).positions(h)));
            EXPECT_EQ(tables_.layer(layer).forgotten(h).size(), cache_.layer(layer).forgotten(h).size());
            for (std::size_t row = 0; row < tables_.layer(layer).size(h); ++row) {
                cache_.layer(layer).keys(h).read(row, key.data());
                cache_.layer(layer).values(h).read(row, value.data());
                // Sums of up to 14 values within 1, which mergers add up in another order.
                for (std::size_t c = 0; c < key.size(); ++c) EXPECT_NEAR(engine_.key(layer, h, row)[c], key[c], 1e-5);
                for (std::size_t c = 0; c < value.size(); ++c) {
                    EXPECT_NEAR(engine_.value(layer, h, row)[c], value[c], 1e-5);
                }
            }
        }
    }

    cache cache_;
    ms::tables<ms::any_policy> tables_;
    engine engine_;
    support::stream tokens_;
    support::random_numbers random_{9};
};

class tables : public testing::TestWithParam<std::string_view> {};

TEST_P(tables, decide_as_the_cache_does) {
    const auto policy = ms::any_policy::named(GetParam());
    ms::shape shape = small;
    if (policy.forgets() == ms::per::never) shape.states = length;
    both(shape, policy).run(1);
    shape.slack = 3;
    both(shape, policy).run(0);
}

TEST_P(tables, of_a_budget_decide_as_the_cache_does) {
    const auto policy = ms::any_policy::named(GetParam());
    if (policy.forgets() == ms::per::never) {
        EXPECT_THROW(ms::tables<ms::any_policy>(small, policy, std::vector<std::size_t>(3)), std::invalid_argument);
        return;
    }
    const std::vector<std::size_t> layers{12, 17}, heads{12, 11, 19, 14};
    both(small, policy, policy.forgets() == ms::per::head ? heads : layers).run(1);
}

INSTANTIATE_TEST_SUITE_P(policies, tables, testing::ValuesIn(ms::any_policy::names), support::policy_name);

/// Without keys and values, for policies that read none: what an engine on a device does.
TEST(tables, of_a_policy_that_reads_attention_alone_need_no_keys) {
    ms::tables<ms::tova_head> tables({.layers = 1, .heads = 2, .kv_heads = 2, .head_dim = 4, .states = 2});
    std::vector<std::size_t> rows(2);
    for (ms::position p = 0; p < 4; ++p) {
        EXPECT_TRUE(
            tables.layer(0).append({.first = p}, ms::nothing_stored,
                                   [&](std::size_t kv_head, std::size_t row, std::span<const ms::relocation> moves) {
                                       rows[kv_head] = row;
                                       EXPECT_TRUE(moves.empty());
                                   }));
        // KV head 0 looks away from row 1, KV head 1 from row 0.
        const std::vector<float> attention =
            p < 2 ? std::vector<float>{0.5f, 0.5f, 0.5f, 0.5f} : std::vector<float>{0.4f, 0.1f, 0.5f, 0.1f, 0.4f, 0.5f};
        if (p > 0) tables.layer(0).observe(attention);
        if (p == 0) tables.layer(0).observe(std::vector<float>{1, 1});
    }
    EXPECT_EQ(rows, (std::vector<std::size_t>{1, 0}));
    EXPECT_EQ(tables.layer(0).forgotten(0)[0].position, 1);
    EXPECT_EQ(tables.layer(0).forgotten(1)[0].position, 0);
}

TEST(tables, misuse_is_met_at_the_border) {
    const auto nowhere = [](std::size_t, std::size_t, std::span<const ms::relocation>) {};
    const auto load = [](std::size_t, std::size_t, std::size_t, std::span<float>, std::span<float>) {};
    const std::vector<float> k(8), v(8);
    ms::tables<ms::d2o> tables({.layers = 2, .heads = 2, .kv_heads = 2, .head_dim = 4, .states = 2, .block = 2});
    ms::reading stored(tables.shape(), load);
    ms::reading shorter(ms::shape{.layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 3}, load,
                        [](std::size_t, std::size_t, std::size_t, std::span<const float>, std::span<const float>) {});
    const auto append = [&](std::size_t layer, const ms::arrival& a, auto&& lent) {
        static_cast<void>(tables.layer(layer).append(a, lent, nowhere));
    };
    EXPECT_DEATH(append(2, {0, 1, k, v}, stored), "layer: index must be less than layers = 2, is 2");
    EXPECT_DEATH(append(0, {0, 3, k, v}, stored), "append: tokens must be from 1 to block = 2, is 3");
    EXPECT_DEATH(append(0, {0, 2, k, v}, stored), "append: k must be .*head_dim.* 16, is 8");
    EXPECT_DEATH(append(0, {0, 1, k, std::span(v).first(7)}, stored), "append: v must be .*value_dim.* 8, is 7");
    EXPECT_DEATH(append(0, {0, 1, k, v}, stored), "stored must be lent with a function that stores");
    EXPECT_DEATH(append(0, {0, 1, k, v}, ms::nothing_stored), "stored must be lent with a function that stores");
    EXPECT_DEATH(append(0, {0, 1, k, v}, shorter), "stored.head_dim must be that of the table, 4, is 3");
    ms::tables<ms::keydiff> reader(tables.shape());
    EXPECT_DEATH(static_cast<void>(reader.layer(0).append({0, 1, k, v}, ms::nothing_stored, nowhere)),
                 "stored must be given at every call");
}

/// A row that is shorter than the one before must not see what that left behind.
TEST(reading, products_read_no_further_than_a_row) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    ms::reading stored(ms::shape{.layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 9, .value_dim = 2},
                       [&](std::size_t, std::size_t, std::size_t row, std::span<float> key, std::span<float> value) {
                           std::ranges::fill(key, nan);
                           std::ranges::fill(value, static_cast<float>(row + 1));
                       });
    const ms::editor lent = stored.lend({.states = 3, .head_dim = 9, .value_dim = 2});
    std::vector<float> products(3), sum(2);
    lent.dot_keys(0, std::vector<float>(9, 1.0f), products);
    EXPECT_TRUE(std::isnan(products[2]));
    lent.dot_values(0, std::vector<float>{1, 10}, products);
    EXPECT_EQ(products, (std::vector<float>{11, 22, 33}));
    lent.sum_values(0, std::vector<float>{1, 10, 100}, sum);
    EXPECT_EQ(sum, (std::vector<float>{321, 321}));
}

}  // namespace tables_test
