// Budgets as text: what each says, what it does to a cache, and what is said of one that is written wrong.
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/budgets/any_budget.hpp>
#include <multistate/multistate.hpp>
#include <multistate/policies/spec.hpp>

#include "support/any_policy.hpp"
#include "support/stream.hpp"
#include "support/thrown.hpp"

namespace any_budget_test {

namespace ms = multistate;
using budget = std::vector<std::size_t>;
using cache = ms::cache<ms::any_composed>;
using spec = ms::spec_with<ms::any_budget>;

constexpr ms::shape shape{.layers = 4, .heads = 4, .kv_heads = 2, .head_dim = 8, .states = 20, .block = 40};

spec parse(const std::string& text) { return spec::parse(text); }
std::string problem_with(const std::string& text) {
    return support::what_is_thrown([&] { static_cast<void>(parse(text)); });
}

/// The states of all tables, in order.
budget states_of(const cache& c) {
    budget result;
    for (std::size_t i = 0; i < c.shape().layers; ++i) {
        for (const auto& table : c.layer(i).tables()) result.push_back(table.states());
    }
    return result;
}
std::size_t sum(const budget& b) { return std::accumulate(b.begin(), b.end(), std::size_t{0}); }

void feed(cache& c, const support::stream& tokens, std::size_t first, std::size_t count) {
    ms::workspace scratch(c.shape());
    std::vector<float> out(count * tokens.out_width);
    for (std::size_t i = 0; i < c.shape().layers; ++i) {
        EXPECT_TRUE(ms::prefill(c.layer(i), static_cast<ms::position>(first),
                                {.q = tokens.q(first, count), .k = tokens.k(first, count), .v = tokens.v(first, count)},
                                out, scratch, ms::prefill_mode::block));
    }
}

TEST(any_budget, stands_after_the_parts) {
    EXPECT_EQ(parse("SnapKV | Pyramid( beta = 4 )").text, "snapkv|pyramid(beta=4)");
    EXPECT_EQ(parse("h2o(recent=4)|pool(width=7)|adaptive").text, "h2o(recent=4)|pool(width=7)|adaptive");
    EXPECT_EQ(parse("snapkv|pyramid").budget.name(), "pyramid");
    EXPECT_EQ(parse("snapkv|pool").budget.name(), "");
    EXPECT_FALSE(parse("snapkv").budget);
    EXPECT_FALSE(parse("snapkv|pyramid").budget.needs_prompt());
    EXPECT_TRUE(parse("snapkv|adaptive").budget.needs_prompt());
    EXPECT_EQ(ms::parameters_of(parse("snapkv|adaptive(alpha=0.5)").budget).front().value, "0.5");
    EXPECT_EQ(ms::parameters_of(parse("snapkv|pyramid").budget).front().value, "20");
    EXPECT_EQ(parse("cake").budget.name(), "") << "a policy, where a policy stands";
    EXPECT_EQ(ms::parse_policies<spec>("tova, all|pyramid").size(), ms::any_policy::names.size());
}

TEST(any_budget, knows_what_papers_call_their_methods) {
    EXPECT_EQ(parse("AdaKV").text, "snapkv|adaptive");
    EXPECT_EQ(parse("Ada-SnapKV").text, "snapkv|adaptive");
    EXPECT_EQ(parse("PyramidKV").text, "snapkv|pyramid");
    EXPECT_EQ(parse("PyramidKV+4(window=8)|value_norm").text, "snapkv+4(window=8)|value_norm|pyramid");
    EXPECT_NE(problem_with("HeadKV").find("needs a score for each KV head"), std::string::npos);
}

/// Free states 20 - 8 = 12: least 12 / 3 = 4, most 20, and the guards, in steps of 16 / 3.
TEST(any_budget, pyramid_takes_effect_before_the_prompt_and_keeps_guards_and_sum) {
    const spec s = parse("snapkv(window=8)|pyramid(beta=3)");
    cache c(s.applied_to(shape), s.policy);
    s.budget.before_prompt(c);
    const budget expected = ms::pyramid_budget(4, 20, 3, 8);
    EXPECT_EQ(expected.front(), 28u);
    EXPECT_EQ(states_of(c), (budget{expected[0], expected[0], expected[1], expected[1], expected[2], expected[2],
                                    expected[3], expected[3]}));
    EXPECT_EQ(sum(states_of(c)), 4 * 2 * 20u);
    const support::stream tokens(shape, 60, 1);
    feed(c, tokens, 0, 40);
    s.budget.after_prompt(c);  // nothing is left to do
    for (std::size_t t = 40; t < 60; ++t) feed(c, tokens, t, 1);
    for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_EQ(c.layer(i).size(), expected[i] + 1);
        for (int newest = 52; newest < 60; ++newest) {  // half of 12 states would be 6
            EXPECT_EQ(std::ranges::count(c.layer(i).positions(0), newest), 1) << i << ' ' << newest;
        }
    }
    c.clear();
    EXPECT_EQ(states_of(c)[0], expected[0]) << "for the next sequence, too";
}

/// Default guards depend on the number of states; a budget keeps those of the mean in every table.
TEST(any_budget, guards_are_those_of_the_mean) {
    for (const char* text : {"h2o|pyramid", "vatp|pyramid", "d2o|pyramid", "window+4|pyramid"}) {
        const spec s = parse(text);
        cache c(s.applied_to(shape), s.policy);
        const ms::guards before = ms::guards_in_force(c.layer(0).tables().front().shape(), s.policy);
        s.budget.before_prompt(c);
        for (std::size_t i = 0; i < 4; ++i) {
            const ms::guards after = ms::guards_in_force(c.layer(i).tables().front().shape(), s.policy);
            EXPECT_EQ(after.sinks, before.sinks) << text;
            EXPECT_EQ(after.recent, before.recent) << text;
        }
        EXPECT_EQ(sum(states_of(c)), c.layer(0).table_count() * 4 * 20u) << text;
    }
}

TEST(any_budget, adaptive_takes_effect_after_the_prompt) {
    const spec s = parse("h2o(recent=4)|adaptive(alpha=0.1)");
    cache c(s.applied_to(shape), s.policy);
    s.budget.before_prompt(c);
    EXPECT_EQ(states_of(c), budget(8, 20));
    feed(c, support::stream(shape, 40, 2), 0, 40);
    const budget expected = ms::adaptive_budget(c, 20, 0.1f).states;
    EXPECT_NE(expected, budget(8, 20));
    s.budget.after_prompt(c);
    EXPECT_EQ(states_of(c), expected);
    EXPECT_EQ(sum(states_of(c)), 4 * 2 * 20u);
    for (std::size_t h = 0; h < 2; ++h) EXPECT_EQ(c.layer(0).size(h), expected[h]);
}

TEST(any_budget, none_changes_nothing) {
    const spec s = parse("h2o");
    cache c(s.applied_to(shape), s.policy);
    s.budget.before_prompt(c);
    s.budget.after_prompt(c);
    EXPECT_EQ(states_of(c), budget(8, 20));
    EXPECT_TRUE(s.budget.by_layer(4, 20, {}).empty());
}

TEST(any_budget, says_what_is_wrong) {
    const std::string known = "(known: " + ms::listed(ms::part_list::names) + "; budgets: pyramid, adaptive)";
    EXPECT_EQ(problem_with("snapkv|pyramd"),
              "policy 'snapkv|pyramd': there is no part 'pyramd'; did you mean 'pyramid'? " + known);
    EXPECT_EQ(problem_with("snapkv|pyramid|pool"),
              "policy 'snapkv|pyramid|pool': pyramid is a budget, which stands last and only once");
    EXPECT_EQ(problem_with("adakv|pyramid"),
              "policy 'snapkv|pyramid|adaptive': pyramid is a budget, which stands last and only once");
    EXPECT_EQ(problem_with("pyramid"), "there is no policy 'pyramid': it is a budget, as in snapkv|pyramid");
    EXPECT_EQ(problem_with("snapkv|pyramid(bta=2)"),
              "policy 'snapkv|pyramid(bta=2)': no parameter 'bta'; did you mean 'beta'? (known: beta)");
    EXPECT_EQ(problem_with("snapkv|pyramid(beta=0.5)"),
              "policy 'snapkv|pyramid(beta=0.5)': beta must be at least 1, is 0.5");
    EXPECT_EQ(problem_with("snapkv|adaptive(alpha=2)"),
              "policy 'snapkv|adaptive(alpha=2)': alpha must be from 0 to 1, is 2");
    EXPECT_EQ(problem_with("snapkv|adaptive(sinks=2)"),
              "policy 'snapkv|adaptive(sinks=2)': no parameter 'sinks' (known: alpha)");
    EXPECT_EQ(problem_with("snapkv|pyramid(beta=2,beta=3)"),
              "policy 'snapkv|pyramid(beta=2,beta=3)': beta is given twice");
    EXPECT_NE(problem_with("full|pyramid").find("it forgets nothing"), std::string::npos);
    EXPECT_NE(problem_with("tova|adaptive").find("the part per_head changes that"), std::string::npos);
    EXPECT_EQ(problem_with("tova|per_head|adaptive"), "nothing");
    EXPECT_NE(problem_with("knorm|adaptive").find("compares the scores of KV heads"), std::string::npos);
    for (const char* name : {"cake", "lazy_layers", "head", "duo"}) {
        const std::string text = "snapkv|" + std::string(name);
        EXPECT_EQ(problem_with(text).find("policy '" + text + "': the budget " + name +
                                          " cannot be given as text, as it needs "),
                  0u)
            << problem_with(text);
    }
}

}  // namespace any_budget_test
