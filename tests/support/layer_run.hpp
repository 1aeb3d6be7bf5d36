#pragma once

// One layer under every policy and one executor, by all the ways that take an executor: what tests of executors
// compare.
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/multistate.hpp>

#include "support/stream.hpp"

namespace support {

using cache = multistate::cache<multistate::any_policy>;

inline constexpr std::size_t run_length = 50;
inline constexpr multistate::shape small_shape{
    .layers = 4, .heads = 8, .kv_heads = 4, .head_dim = 20, .states = 10, .block = run_length};

/// All that a run leaves behind in a layer.
struct trace {
    std::vector<float> out;
    std::vector<std::vector<int>> positions;
    std::vector<std::vector<float>> scores;
    bool operator==(const trace&) const = default;
};

enum class way { step, attend, exact, block };

/// Steps, exact blocks, blocks that shrink once: `run_length` tokens in all.
template <class Executor = multistate::serial>
trace run_layer(cache& c, std::size_t index, const stream& tokens, multistate::workspace& scratch,
                Executor&& run = {}) {
    namespace ms = multistate;
    struct part {
        std::size_t tokens;
        way by;
    };
    const auto layer = c.layer(index);
    trace result;
    std::size_t first = 0;
    for (const auto [n, by] : {part{1, way::step}, part{13, way::exact}, part{1, way::step}, part{1, way::attend},
                               part{17, way::block}, part{1, way::attend}, part{16, way::exact}}) {
        std::vector<float> out(n * tokens.out_width);
        const auto position = static_cast<ms::position>(first);
        const auto q = tokens.q(first, n), k = tokens.k(first, n), v = tokens.v(first, n);
        if (by == way::step) {
            EXPECT_TRUE(ms::step(layer, position, {q, k, v}, out, scratch, run));
        } else if (by == way::attend) {
            EXPECT_TRUE(layer.append(position, k, v));
            layer.observe_queries(q);
            layer.observe(ms::attend(layer, q, out, scratch, run));
        } else {
            const auto mode = by == way::exact ? ms::prefill_mode::exact : ms::prefill_mode::block;
            EXPECT_TRUE(ms::prefill(layer, position, {q, k, v}, out, scratch, mode, run));
        }
        result.out.insert(result.out.end(), out.begin(), out.end());
        first += n;
    }
    EXPECT_EQ(first, run_length);
    for (std::size_t h = 0; h < c.shape().kv_heads; ++h) {
        result.positions.emplace_back(layer.positions(h).begin(), layer.positions(h).end());
        result.scores.emplace_back(layer.scores(h).begin(), layer.scores(h).end());
    }
    return result;
}

/// The test that an executor must pass: the same bits as serial, under the policy of this name.
template <class Executor>
void expect_the_bits_of_serial(std::string_view policy, Executor&& run) {
    const stream tokens(small_shape, run_length, 1);
    cache alone(small_shape, multistate::any_policy::named(policy));
    multistate::workspace scratch(small_shape);
    const trace expected = run_layer(alone, 2, tokens, scratch);
    for (int again = 0; again < 10; ++again) {  // threads do not meet in the same order each time
        cache shared(small_shape, multistate::any_policy::named(policy));
        EXPECT_EQ(run_layer(shared, 2, tokens, scratch, run), expected);
    }
}

inline std::string policy_name(const testing::TestParamInfo<std::string_view>& parameter) {
    return std::string(parameter.param);
}

}  // namespace support
