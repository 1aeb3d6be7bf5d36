// Every policy against the naive double-precision model: the same states at every step, close outputs.
#include <algorithm>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/list.hpp>

#include "reference/scenario.hpp"

namespace differential_test {

namespace ms = multistate;
using reference::operation;
using reference::rule;

/// Shapes that differ in what a kernel or a table could get wrong; the last layer is the one in use.
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
/// Groups of 1, 2, 4 and 8.
constexpr std::size_t shapes_of_groups = 4;

std::vector<operation> steps(std::size_t n) { return std::vector<operation>(n); }
std::vector<operation> pieces(decltype(operation::what) kind, std::size_t total, std::size_t size) {
    std::vector<operation> result;
    for (std::size_t done = 0; done < total; done += size) result.push_back({kind, std::min(size, total - done)});
    return result;
}

class every_size : public testing::TestWithParam<std::tuple<rule, std::size_t>> {
  protected:
    const rule& forgets_by() const { return std::get<0>(GetParam()); }
    std::size_t states() const { return std::get<1>(GetParam()); }
    std::size_t length() const { return std::min<std::size_t>(120, 3 * states() + 40); }

    void run(ms::shape shape, std::size_t slack, const std::vector<operation>& operations) const {
        shape.states = states();
        shape.slack = slack;
        for (const operation& o : operations) shape.block = std::max(shape.block, o.tokens);
        if (forgets_by().forgets == reference::unit::never) shape.block = length();
        reference::run({forgets_by(), shape, operations, 7 * states()});
    }
};

TEST_P(every_size, single_steps_equal_the_naive_model) {
    const auto all = shapes();
    for (std::size_t i = 0; i < (reference::is_first(forgets_by()) ? all.size() : shapes_of_groups); ++i) {
        run(all[i], 0, steps(length()));
        if (i % 2 == 0) run(all[i], 5, steps(length()));
    }
}

TEST_P(every_size, prefill_equals_the_naive_model) {
    const auto all = shapes();
    for (std::size_t i = 0; i < shapes_of_groups; ++i) {
        const std::size_t slack = i % 2 == 0 ? 5 : 0;
        run(all[i], slack, pieces(operation::exact, length(), i < 2 ? 11 : length()));
        run(all[i], 5 - slack, pieces(operation::block, length(), i < 2 ? length() / 2 : 9));
    }
}

std::string case_name(const testing::TestParamInfo<std::tuple<rule, std::size_t>>& parameter) {
    return std::string(std::get<0>(parameter.param).name) + "_" + std::to_string(std::get<1>(parameter.param));
}

// 200 is more than the length: nothing may be forgotten.
INSTANTIATE_TEST_SUITE_P(first, every_size,
                         testing::Combine(testing::ValuesIn(reference::first_rules()),
                                          testing::Values<std::size_t>(1, 2, 3, 5, 16, 33, 64, 200)),
                         case_name);
INSTANTIATE_TEST_SUITE_P(further, every_size,
                         testing::Combine(testing::ValuesIn(reference::further_rules()),
                                          testing::Values<std::size_t>(1, 2, 5, 16, 33)),
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
            const ms::shape guarded{.layers = 1,
                                    .heads = 4,
                                    .kv_heads = 2,
                                    .head_dim = 16,
                                    .states = 12,
                                    .block = 80,
                                    .slack = recent == 3 ? 4u : 0u,
                                    .sinks = sinks,
                                    .recent = recent};
            if (!reference::guards_fit(GetParam(), guarded)) continue;
            reference::run({GetParam(), guarded, steps(80), sinks * 100 + recent});
        }
    }
}

TEST_P(every_rule, sinks_join_the_policy_s_own_guards) {
    ms::shape guarded{.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 16, .states = 9, .block = 80};
    for (guarded.sinks = 4; !reference::guards_fit(GetParam(), guarded);) --guarded.sinks;
    reference::run({GetParam(), guarded, steps(80)});
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
    for (const std::size_t slack : {0u, 6u}) {
        reference::run(
            {GetParam(),
             {.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 16, .states = 10, .block = 80, .slack = slack},
             operations});
    }
}

INSTANTIATE_TEST_SUITE_P(differential, every_rule, testing::ValuesIn(reference::every_rule()), reference::rule_name);

/// What merges changes what is stored, and has a model of its own: see tests/merging.
template <class... P>
std::vector<std::string_view> names_without_merging(const ms::one_of<P...>&) {
    std::vector<std::string_view> result;
    ((ms::has_merge<P> ? void() : result.push_back(P::name)), ...);
    return result;
}

TEST(differential, every_policy_of_the_list_has_a_reference_and_the_reverse) {
    std::vector<std::string_view> known;
    for (const rule& r : reference::every_rule()) known.push_back(r.name);
    const auto listed = names_without_merging(ms::any_policy{});
    for (const std::string_view name : listed) {
        EXPECT_EQ(std::ranges::count(known, name), 1)
            << "references of " << name << " in tests/policies/" << name << ".test.cpp";
    }
    for (const std::string_view name : known) {
        EXPECT_EQ(std::ranges::count(listed, name), 1) << "policies of the list named " << name;
    }
}

}  // namespace differential_test
