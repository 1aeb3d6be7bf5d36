// composed: the order of parts, their memory, their parameters, and what reaches the policy.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/chunk.hpp>
#include <multistate/modifiers/decayed.hpp>
#include <multistate/modifiers/max_over_heads.hpp>
#include <multistate/modifiers/pool.hpp>
#include <multistate/modifiers/scope.hpp>
#include <multistate/modifiers/value_norm.hpp>
#include <multistate/policies/h2o.hpp>
#include <multistate/policies/observed_attention.hpp>
#include <multistate/policies/random.hpp>
#include <multistate/policies/scissorhands.hpp>
#include <multistate/policies/tova_head.hpp>
#include <multistate/policy/composed.hpp>
#include <multistate/table/table.hpp>

#include "support/micro.hpp"
#include "support/stored.hpp"

namespace composed_test {

namespace ms = multistate;
using positions = std::vector<int>;

/// Positions 0, 1, … with values of one float each, in one block.
template <class P>
ms::table<P> holding(std::vector<float> values, P policy) {
    ms::table<P> table({.states = values.size() - 1, .block = values.size(), .recent = 0}, policy);
    static_cast<void>(table.append(0, values.size()));
    for (std::size_t row = 0; row < values.size(); ++row) table.observe_arrival(row, {}, {&values[row], 1, 1, 1});
    return table;
}

/// Attention .5 .25 .125 .125 to values of size 1 1 1 8.
TEST(composed, applies_its_modifiers_from_left_to_right) {
    const ms::pool three{.width = 3};
    auto first_norm = holding({1, 1, 1, 8}, ms::composed{ms::tova_head{}, ms::value_norm{}, three});
    support::observe(first_norm, {{0.5f, 0.25f, 0.125f, 0.125f}});
    static_cast<void>(first_norm.forget());  // .5 .25 .125 1: pooled .375 .292 .458 .563
    EXPECT_EQ(support::forgotten(first_norm), positions{1});
    EXPECT_EQ(first_norm.scores()[0], 0.375f);

    auto first_pool = holding({1, 1, 1, 8}, ms::composed{ms::tova_head{}, three, ms::value_norm{}});
    support::observe(first_pool, {{0.5f, 0.25f, 0.125f, 0.125f}});
    static_cast<void>(first_pool.forget());  // pooled .375 .292 .167 .125: the last times 8
    EXPECT_EQ(support::forgotten(first_pool), positions{2});
    EXPECT_EQ(first_pool.scores()[2], 1.0f) << "the last state, moved down into the hole";
}

TEST(composed, reaches_policy_and_parts_by_their_type) {
    ms::composed policy{ms::composed{ms::h2o{}, ms::pool{.width = 3}}, ms::chunk{.length = 2}, ms::per_layer{}};
    static_assert(
        std::is_same_v<decltype(policy), ms::composed<ms::composed<ms::h2o, ms::pool>, ms::chunk, ms::per_layer>>);
    EXPECT_EQ(policy.get<ms::chunk>().length, 2u);
    EXPECT_EQ(policy.get<ms::pool>().width, 3u) << "of the composition inside";
    policy.get<ms::pool>().width = 9;
    policy.get<ms::h2o>().recent_at_most = 1;
    EXPECT_EQ(std::as_const(policy).get<ms::pool>().width, 9u);
    EXPECT_EQ(policy.default_guards(100).recent, 1u);
    EXPECT_EQ(policy.forgets(), ms::per::layer);
    static_assert(sizeof(ms::composed<ms::random, ms::per_layer, ms::value_norm>) == sizeof(ms::random));
}

TEST(composed, leaves_the_scores_of_the_policy_as_they_are) {
    ms::table table({.states = 2, .recent = 0},
                    ms::composed{ms::h2o{}, ms::decayed{0.5f}, ms::chunk{.length = 2}, ms::pool{.width = 3}});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.5f, 0.5f}});
    EXPECT_NE(table.place(2), ms::no_row);
    support::observe(table, {{0.25f, 0.25f, 0.5f}});
    EXPECT_EQ(table.place(3), 2u);  // .75 .5 .5: in chunks .625 .625 .5, pooled .625 .583 .5625
    EXPECT_EQ(table.scores()[0], 0.625f);
    support::observe(table, {{0.0f, 0.5f, 0.5f}});
    static_cast<void>(table.forget());  // .375 .75 .5: in chunks .5625 .5625 .5, pooled .5625 .542 .531
    EXPECT_EQ(support::forgotten(table), positions{3});
    EXPECT_EQ(table.scores()[0], 0.5625f);
}

TEST(composed, by_nothing_is_the_policy) {
    ms::table table({.states = 3}, ms::composed{ms::observed_attention{}, ms::pool{.width = 1}});
    ms::table<ms::observed_attention> plain({.states = 3});
    support::fill(table, 6, 1);
    support::fill(plain, 6, 1);
    EXPECT_TRUE(std::ranges::equal(table.positions(), plain.positions()));
    static_cast<void>(table.forget());
    static_cast<void>(plain.forget());
    EXPECT_TRUE(std::ranges::equal(table.scores(), plain.scores()));
}

TEST(composed, passes_on_what_the_policy_says) {
    using smooth = ms::composed<ms::h2o, ms::decayed, ms::pool>;
    using weighed = ms::composed<ms::h2o, ms::decayed, ms::pool, ms::value_norm>;
    static_assert(ms::hooks_of<smooth> == (ms::hooks_of<ms::h2o> | ms::hook::on_forget));
    static_assert(ms::hooks_of<weighed> == (ms::hooks_of<smooth> | ms::hook::on_insert));
    EXPECT_EQ(ms::reads_of(smooth{}), (ms::reads{.attention = true, .order = true}));
    EXPECT_EQ(ms::reads_of(weighed{}), (ms::reads{.attention = true, .arrivals = true, .order = true}));
    EXPECT_EQ(smooth{}.forgets(), ms::per::head);
    EXPECT_EQ(smooth{}.default_guards(9).recent, 4u);
    using layered = ms::composed<ms::scissorhands, ms::pool>;
    EXPECT_EQ(ms::detail::size_of_memory(layered{}, {.states = 1}, 1).per_table, sizeof(std::uint64_t));
    EXPECT_EQ(ms::detail::size_of_memory(layered{}, {.states = 1}, 1).per_state, 60 + 2 * sizeof(float));
}

/// A policy that scores at insertion writes its own scores, too.
TEST(composed, a_policy_may_score_when_a_state_comes) {
    ms::table table({.states = 3}, ms::composed{ms::random{.seed = 3}, ms::chunk{.length = 2}});
    for (int p = 0; p < 4; ++p) EXPECT_NE(table.place(p), ms::no_row);
    static_cast<void>(table.forget());
    float draws[4];
    for (int p = 0; p < 4; ++p) draws[p] = ms::uniform(ms::random_bits(3, 0, 0, p));
    const bool older = draws[0] + draws[1] <= draws[2] + draws[3];
    EXPECT_EQ(support::forgotten(table), positions{older ? 0 : 2});
    EXPECT_FLOAT_EQ(table.scores()[older ? 1 : 0], ((draws[0] + draws[1]) / 2));
}

TEST(composed, shows_the_parameters_of_all_in_order) {
    ms::composed<ms::h2o, ms::decayed, ms::pool, ms::value_norm, ms::chunk> policy;
    std::vector<std::string_view> names;
    ms::for_each_parameter(policy, [&](std::string_view name, auto& value, const auto& least, const auto&) {
        names.push_back(name);
        value = least;
    });
    EXPECT_EQ(names, (std::vector<std::string_view>{"decay", "width", "greatest", "zero_padded", "length"}));
    EXPECT_EQ(policy.get<ms::decayed>().decay, 0.0f);
    EXPECT_EQ(policy.get<ms::pool>().width, 1u);
    EXPECT_EQ(policy.get<ms::chunk>().length, 1u);
    const auto& same = policy;
    std::size_t count = 0;
    ms::for_each_parameter(same, [&](std::string_view, const auto&, const auto&, const auto&) { ++count; });
    EXPECT_EQ(count, 5u);
    policy.get<ms::decayed>().decay = 1.5f;
    EXPECT_THROW(ms::table<decltype(policy)>({.states = 2}, policy), std::invalid_argument);
    policy.get<ms::decayed>().decay = 1;
    policy.get<ms::chunk>().length = 5000;
    EXPECT_THROW(ms::table<decltype(policy)>({.states = 2}, policy), std::invalid_argument);
}

/// Writes a mark of its own for each plane and position when a state comes, and looks for it at each decision.
template <int mark, std::size_t planes>
struct marker {
    mutable bool intact = true;

    struct memory {
        ms::per_state_array<float> marks;
    };
    static void lay_out(memory& m, ms::layout& l) noexcept { l(m.marks, planes); }
    static float expected(std::size_t plane, int position) noexcept {
        return static_cast<float>(1000 * position + 10 * mark + static_cast<int>(plane));
    }
    void on_insert(ms::rows, ms::rows, ms::view states, std::size_t row) const noexcept {
        const auto marks = states.memory(*this).marks;
        for (std::size_t i = 0; i < planes; ++i) marks[i][row] = expected(i, states.position[row]);
    }
    void modify(ms::view states) const noexcept {
        const auto marks = states.memory(*this).marks;
        for (std::size_t i = 0; i < planes; ++i) {
            for (std::size_t j = 0; j < states.size(); ++j) {
                intact = intact && marks[i][j] == expected(i, states.position[j]);
            }
        }
        for (float& s : states.score) s += 1;  // a score is not memory
    }
};
struct marked_policy : marker<1, 3> {
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    struct memory {
        ms::per_state_array<float> marks;
        ms::per_table<std::uint64_t> tokens;
    };
    void lay_out(memory& m, ms::layout& l) const noexcept {
        l.part(static_cast<const marker<1, 3>&>(*this));
        l(m.tokens);
    }
    void on_attention(ms::rows probabilities, ms::view states) const noexcept {
        ms::add(probabilities, states.score);
        ++states.memory(*this).tokens[0];
    }
    void on_forget(ms::view states) const noexcept {
        const std::vector<float> before(states.score.begin(), states.score.end());
        modify(states);
        std::ranges::copy(before, states.score.begin());
    }
};

TEST(composed, planes_of_memory_do_not_overlap_and_move_with_their_states) {
    using all = ms::composed<marked_policy, marker<2, 1>, ms::pool, marker<3, 2>, ms::value_norm, marker<4, 1>>;
    ms::table<all> table({.states = 6, .block = 5, .slack = 2});
    EXPECT_EQ(ms::detail::size_of_memory(table.policy(), table.shape(), 1).per_state, 10 * sizeof(float));
    const float value = 1;
    int next = 0;
    for (const std::size_t count : {5u, 4u, 1u, 1u, 5u, 3u, 1u, 1u, 1u, 5u, 5u}) {
        static_cast<void>(table.append(next, count));
        for (std::size_t row = table.size() - count; row < table.size(); ++row) {
            table.observe_arrival(row, {}, {&value, 1, 1, 1});
        }
        next += static_cast<int>(count);
        std::vector<float> seen(table.size());
        for (std::size_t j = 0; j < seen.size(); ++j) {
            seen[j] = static_cast<float>(table.positions()[j] * 7 % 5);  // so that states of all ages go
        }
        support::observe(table, {seen});
    }
    static_cast<void>(table.forget());
    const all& policy = table.policy();
    EXPECT_TRUE(policy.get<marked_policy>().intact);
    EXPECT_TRUE((policy.get<marker<2, 1>>().intact));
    EXPECT_TRUE((policy.get<marker<3, 2>>().intact));
    EXPECT_TRUE((policy.get<marker<4, 1>>().intact));
    EXPECT_NE(support::held(table), (positions{next - 6, next - 5, next - 4, next - 3, next - 2, next - 1}));
}

/// Has every hook, and notes which were called.
struct every_hook {
    static constexpr ms::per forgets() noexcept { return ms::per::layer; }
    int queries = 0, merges = 0, prompts = 0, decisions = 0;

    void on_query(ms::rows, ms::view) noexcept { ++queries; }
    void on_forget(const ms::reader& stored, ms::view states) noexcept {
        ++decisions;
        for (std::size_t j = 0; j < states.size(); ++j) {
            states.score[j] = static_cast<float>(stored.layer) - static_cast<float>(states.position[j]);
        }
    }
    void merge(const ms::editor&, std::span<const std::uint32_t> gone, ms::view) noexcept {
        merges += static_cast<int>(gone.size());
    }
    void finish_prompt(const ms::reader&, ms::view) noexcept { ++prompts; }
};

/// A score of its own is what each hook sees; the modifiers change what decides.
TEST(composed, passes_on_every_hook) {
    using lifted = ms::composed<every_hook, ms::pool>;
    static_assert(ms::has_on_forget<lifted> && ms::has_merge<lifted> && ms::has_finish_prompt<lifted>);
    ms::table<lifted> table({.states = 2, .head_dim = 1, .value_dim = 1}, {{}, ms::pool{.width = 2}});
    support::stored_floats rows(table.shape());
    const float query = 0;
    for (int p = 0; p < 3; ++p) {
        EXPECT_NE(table.place(p, {}, {}, rows.edit()), ms::no_row);
        table.observe_queries({&query, 1, 1, 1}, table.size());
    }
    table.finish_prompt();
    ms::editor stored = rows.edit();
    stored.layer = 4;
    static_cast<void>(table.forget(stored));  // 4 3 2: pooled 4 3.5 2.5
    EXPECT_EQ(support::forgotten(table), positions{2});
    EXPECT_EQ(table.scores()[1], 3.5f);
    const every_hook& base = table.policy().get<every_hook>();
    EXPECT_EQ(base.queries, 3);
    EXPECT_EQ(base.merges, 1);
    EXPECT_EQ(base.prompts, 1);
    EXPECT_EQ(base.decisions, 1);
}

/// What is not finite does not reach sums through modifiers either.
TEST(composed, bad_probabilities_are_not_summed) {
    ms::table<ms::composed<ms::h2o, ms::max_over_heads, ms::decayed>> table({.states = 2, .recent = 0, .heads = 2});
    ms::table pooled({.states = 2, .recent = 0, .heads = 2},
                     ms::composed{ms::h2o{}, ms::pool{.width = 3}, ms::chunk{.length = 1}, ms::value_norm{}});
    const std::vector<float> value{1, -1}, bad{1, std::nanf("")};
    for (int p = 0; p < 3; ++p) {
        static_cast<void>(table.place(p));
        static_cast<void>(pooled.place(p, {}, {p == 1 ? bad.data() : value.data(), 1, 2, 2}));
        const std::vector<float> even(table.size(), 0.5f), nan(table.size(), std::nanf(""));
        support::observe(table, {even, p == 1 ? nan : even});
        support::observe(pooled, {even, p == 1 ? nan : even});
    }
    for (const float score : table.scores()) EXPECT_TRUE(std::isfinite(score));
    static_cast<void>(pooled.forget());
    EXPECT_EQ(support::held(pooled), (std::vector<int>{0, 2})) << "the spoiled state went first";
    for (const float score : pooled.scores()) EXPECT_TRUE(std::isfinite(score));
}

}  // namespace composed_test
