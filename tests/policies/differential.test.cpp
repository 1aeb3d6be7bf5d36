// Every policy against the naive double-precision model: the same states at every step, close outputs.
#include <algorithm>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies.hpp>

#include "reference/scenario.hpp"

namespace {

namespace ms = multistate;
using reference::operation;
using reference::rule;

/// Shapes that differ in what a kernel or a table could get wrong; the second layer is the one in use.
std::vector<ms::shape> shapes() {
    return {
        {.layers = 2, .heads = 4, .kv_heads = 4, .head_dim = 16},                                     // no groups
        {.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 32},                                     // groups of 2
        {.layers = 2, .heads = 8, .kv_heads = 2, .head_dim = 20, .value_dim = 7},                     // groups of 4
        {.layers = 2, .heads = 8, .kv_heads = 1, .head_dim = 33},                                     // MQA
        {.layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 4, .value_dim = 33},                     // one query head
        {.layers = 2, .heads = 6, .kv_heads = 2, .head_dim = 16, .softcap = 3},                       // groups of 3
        {.layers = 3, .heads = 2, .kv_heads = 1, .head_dim = 8, .scale = 0.25f},                      // another scale
        {.layers = 1, .heads = 5, .kv_heads = 1, .head_dim = 64, .scale = -0.125f, .softcap = 20.0f}  // both
    };
}

std::vector<operation> steps(std::size_t n) { return std::vector<operation>(n); }

class every_size : public testing::TestWithParam<std::tuple<rule, std::size_t>> {};

TEST_P(every_size, single_steps_equal_the_naive_model) {
    const auto [forgets_by, states] = GetParam();
    const std::size_t length = std::min<std::size_t>(120, 3 * states + 40);
    for (ms::shape shape : shapes()) {
        shape.states = states;
        if (forgets_by == rule::full) shape.block = length;
        reference::run({forgets_by, shape, steps(length), 7 * states});
    }
}

std::string case_name(const testing::TestParamInfo<std::tuple<rule, std::size_t>>& parameter) {
    return std::string(reference::name(std::get<0>(parameter.param))) + "_" +
           std::to_string(std::get<1>(parameter.param));
}

// 200 is more than the length: nothing may be forgotten.
INSTANTIATE_TEST_SUITE_P(differential, every_size,
                         testing::Combine(testing::ValuesIn(reference::every_rule),
                                          testing::Values<std::size_t>(1, 2, 3, 5, 16, 33, 64, 200)),
                         case_name);

class every_rule : public testing::TestWithParam<rule> {};

TEST_P(every_rule, a_single_token_is_its_own_value) {
    for (ms::shape shape : shapes()) {
        shape.states = 4;
        reference::run({GetParam(), shape, steps(1)});
    }
}

TEST_P(every_rule, sinks_and_recent_equal_the_naive_model) {
    for (const std::size_t sinks : {0u, 1u, 4u}) {
        for (const std::size_t recent : {0u, 1u, 3u, 7u, 11u}) {
            if (sinks + recent > 11) continue;
            reference::run({GetParam(),
                            {.layers = 1,
                             .heads = 4,
                             .kv_heads = 2,
                             .head_dim = 16,
                             .states = 12,
                             .block = 80,
                             .sinks = sinks,
                             .recent = recent},
                            steps(80),
                            sinks * 100 + recent});
        }
    }
}

TEST_P(every_rule, sinks_join_the_policy_s_own_guards) {
    reference::run({GetParam(),
                    {.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 16, .states = 9, .block = 80, .sinks = 4},
                    steps(80)});
}

TEST_P(every_rule, positions_may_have_gaps) {
    std::vector<operation> operations;
    for (std::size_t i = 0; i < 60; ++i) {
        operations.push_back({operation::step});
        if (i % 7 == 3) operations.push_back({operation::skip, i});
    }
    reference::run(
        {GetParam(), {.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 16, .states = 9, .block = 80}, operations});
}

TEST_P(every_rule, forgetting_early_and_clearing_equal_the_naive_model) {
    std::vector<operation> operations;
    for (std::size_t i = 0; i < 100; ++i) {
        operations.push_back({operation::step});
        if (i % 5 == 2) operations.push_back({operation::forget});
        if (i % 9 == 2) operations.push_back({operation::clone});
        if (i % 37 == 30) operations.push_back({operation::clear});
    }
    reference::run(
        {GetParam(), {.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 16, .states = 10, .block = 80}, operations});
}

std::string rule_name(const testing::TestParamInfo<rule>& parameter) { return reference::name(parameter.param); }

INSTANTIATE_TEST_SUITE_P(differential, every_rule, testing::ValuesIn(reference::every_rule), rule_name);

TEST(differential, the_naive_model_knows_every_policy_of_the_list) {
    std::vector<std::string_view> known;
    for (const rule r : reference::every_rule) known.push_back(reference::name(r));
    for (const std::string_view name : ms::any_policy::names) EXPECT_EQ(std::ranges::count(known, name), 1) << name;
    EXPECT_EQ(known.size(), ms::any_policy::names.size());
}

}  // namespace
