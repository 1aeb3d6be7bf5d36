// A policy chosen at run time is a policy.
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>
#include <multistate/multistate.hpp>

namespace {

namespace ms = multistate;

struct parameterized {
    static constexpr std::string_view name = "parameterized";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    float factor = 2;
    std::size_t extra = 3;
    ms::guards default_guards(std::size_t states) const noexcept { return {.sinks = states / 4, .recent = 1}; }
    std::size_t floats_per_state() const noexcept { return extra; }
    void on_attention(ms::rows probabilities, ms::view states) const noexcept {
        for (std::size_t j = 0; j < states.size(); ++j) states.score[j] = factor * probabilities[0][j];
    }
};
struct reads_rows {
    static constexpr std::string_view name = "reads_rows";
    static constexpr ms::per forgets() noexcept { return ms::per::layer; }
    void on_forget(const ms::reader&, ms::view) const noexcept {}
};
using choice = ms::one_of<ms::window, parameterized, reads_rows, ms::full>;

static_assert(ms::policy<choice> && ms::policy<ms::any_policy>);
static_assert(ms::names_guards<choice> && ms::keeps_memory<choice>);
static_assert(ms::observes_attention<choice> && ms::observes_decision<choice>);
static_assert(!ms::observes_insertion<choice> && !ms::observes_prompt_end<choice>);
static_assert(!ms::observes_attention<ms::one_of<ms::window, ms::full>>, "no choice looks, so none pays");
static_assert(std::is_constructible_v<choice, parameterized> && !std::is_constructible_v<choice, ms::tova>);
static_assert(std::is_convertible_v<ms::window, choice> && !std::is_convertible_v<int, choice>);

TEST(one_of, answers_for_its_choice) {
    const choice chosen(parameterized{.factor = 1, .extra = 5});
    EXPECT_EQ(chosen.name(), "parameterized");
    EXPECT_EQ(chosen.forgets(), ms::per::head);
    EXPECT_EQ(chosen.floats_per_state(), 5u);
    EXPECT_EQ(chosen.default_guards(8).sinks, 2u);
    EXPECT_TRUE(chosen.reads_attention());
    EXPECT_FALSE(chosen.reads_stored());
    const choice other(reads_rows{});
    EXPECT_FALSE(ms::reads_attention(other));
    EXPECT_TRUE(ms::reads_stored(other));
    EXPECT_EQ(other.floats_per_state(), 0u);
    EXPECT_EQ(other.default_guards(8).recent, 0u);
    EXPECT_EQ(choice(ms::full{}).forgets(), ms::per::never);
    EXPECT_EQ(choice().name(), "window") << "the first choice is the default";
}

TEST(one_of, finds_policies_by_name) {
    EXPECT_EQ(choice::names, (std::array<std::string_view, 4>{"window", "parameterized", "reads_rows", "full"}));
    for (const std::string_view name : choice::names) EXPECT_EQ(choice::named(name).name(), name);
    for (const std::string_view name : ms::any_policy::names) EXPECT_EQ(ms::any_policy::named(name).name(), name);
    EXPECT_EQ(choice::named("parameterized").floats_per_state(), 3u) << "with its default parameters";
}

TEST(one_of, an_unknown_name_is_told_the_known_ones) {
    try {
        choice::named("tovaa");
        ADD_FAILURE() << "an unknown name was accepted";
    } catch (const std::invalid_argument& error) {
        EXPECT_EQ(std::string(error.what()),
                  "one_of: no policy is named 'tovaa'; known are window, parameterized, reads_rows, full");
    }
}

TEST(one_of, may_be_a_choice_of_one) {
    using only = ms::one_of<ms::tova>;
    static_assert(ms::policy<only>);
    EXPECT_EQ(only().name(), "tova");
    EXPECT_TRUE(only().reads_attention());
}

/// The policy given, with its parameters, is what a table asks.
TEST(one_of, keeps_the_parameters_of_its_choice) {
    ms::table<choice> table({.states = 8}, parameterized{.factor = -1});
    const float probabilities[] = {0.5f};
    table.place(0);
    table.observe({probabilities, 1, 1, 1});
    EXPECT_EQ(table.scores()[0], -0.5f);
}

}  // namespace
