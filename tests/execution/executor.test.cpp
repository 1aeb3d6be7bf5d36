// Work handed to threads gives the same bits, and layers and caches do not meet.
#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/multistate.hpp>

#include "support/layer_run.hpp"
#include "support/stream.hpp"
#include "support/threads.hpp"

namespace executor_test {

namespace ms = multistate;
using support::cache;
using support::run_layer;
using support::trace;

constexpr const ms::shape& shape = support::small_shape;
constexpr std::size_t length = support::run_length;

class executors : public testing::TestWithParam<std::string_view> {
  protected:
    static cache make() { return cache(shape, ms::any_policy::named(GetParam())); }
};

TEST_P(executors, threads_give_the_bits_of_serial) {
    const support::stream tokens(shape, length, 1);
    cache alone = make();
    ms::workspace scratch(shape);
    const trace expected = run_layer(alone, 2, tokens, scratch);
    cache shared = make();
    EXPECT_EQ(run_layer(shared, 2, tokens, scratch, support::threads{}), expected);
    cache reversed = make();
    EXPECT_EQ(run_layer(reversed, 2, tokens, scratch, support::backwards), expected);
}

/// One task after the other: counts what more than one of a run has written of the scratch.
struct watching {
    std::span<float> scratch;
    std::size_t& shared;

    void run(std::size_t n, auto&& task) const {
        constexpr float untouched = 1234.5f;
        std::vector<bool> written(scratch.size());
        for (std::size_t t = 0; t < n; ++t) {
            std::ranges::fill(scratch, untouched);
            task(t);
            for (std::size_t i = 0; i < scratch.size(); ++i) {
                if (scratch[i] == untouched) continue;
                if (written[i]) ++shared;
                written[i] = true;
            }
        }
    }
};

/// Threads that share scratch need not meet in it while a test looks on; two cores rarely miss it, one mostly does.
TEST_P(executors, tasks_have_scratch_of_their_own) {
    const support::stream tokens(shape, length, 1);
    cache watched = make();
    ms::workspace own(shape);
    const std::size_t tasks = shape.kv_heads * own.tasks_per_kv_head();
    std::size_t shared = 0;
    run_layer(watched, 2, tokens, own, watching{{own.products(0), own.products(tasks)}, shared});
    EXPECT_EQ(shared, 0u);
    EXPECT_NE(own.products(0)[0], 0.0f);
}

TEST_P(executors, layers_of_one_cache_run_concurrently_with_a_workspace_each) {
    std::vector<support::stream> tokens;
    for (std::size_t layer = 0; layer < shape.layers; ++layer) tokens.emplace_back(shape, length, layer);
    cache one_by_one = make();
    ms::workspace scratch(shape);
    std::vector<trace> expected, found(shape.layers);
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
        expected.push_back(run_layer(one_by_one, layer, tokens[layer], scratch));
    }
    cache together = make();
    {
        std::vector<std::jthread> team;
        for (std::size_t layer = 0; layer < shape.layers; ++layer) {
            team.emplace_back([&, layer] {
                ms::workspace own(shape);
                found[layer] = run_layer(together, layer, tokens[layer], own);
            });
        }
    }
    EXPECT_EQ(found, expected);
}

TEST_P(executors, caches_run_concurrently) {
    const support::stream tokens(shape, length, 3);
    cache alone = make();
    ms::workspace scratch(shape);
    const trace expected = run_layer(alone, 0, tokens, scratch);
    std::vector<trace> found(4);
    {
        std::vector<std::jthread> team;
        for (trace& one : found) {
            team.emplace_back([&] {
                cache own = make();
                ms::workspace own_scratch(shape);
                one = run_layer(own, 0, tokens, own_scratch, support::threads{});
            });
        }
    }
    for (const trace& one : found) EXPECT_EQ(one, expected);
}

INSTANTIATE_TEST_SUITE_P(executor, executors, testing::ValuesIn(ms::any_policy::names), support::policy_name);

struct counting {
    std::size_t tasks = 0;
    void run(std::size_t n, auto&& task) {
        for (std::size_t i = 0; i < n; ++i, ++tasks) task(i);
    }
};

TEST(executor, an_object_with_state_may_be_lent) {
    counting mine;
    const support::stream tokens(shape, 1, 1);
    cache c(shape);
    ms::workspace scratch(c.shape());
    std::vector<float> out(tokens.out_width);
    EXPECT_TRUE(ms::step(c.layer(0), 0, {tokens.q(0), tokens.k(0), tokens.v(0)}, out, scratch, mine));
    EXPECT_EQ(mine.tasks, shape.kv_heads) << "work is cut by shape: one task per KV head";
}

}  // namespace executor_test
