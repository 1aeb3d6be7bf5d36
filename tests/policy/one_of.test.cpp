// A policy chosen at run time is a policy.
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/multistate.hpp>

namespace one_of_test {

namespace ms = multistate;

struct parameterized {
    static constexpr std::string_view name = "parameterized";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    float factor = 2;
    std::size_t extra = 3;
    ms::guards default_guards(std::size_t states) const noexcept { return {.sinks = states / 4, .recent = 1}; }
    struct memory {
        ms::per_state_array<float> of_state;
        ms::per_table<float> of_table;
    };
    void lay_out(memory& m, ms::layout& l) const noexcept {
        l(m.of_state, extra * l.shape().kv_heads);
        l(m.of_table, l.shape().head_dim);
    }
    static constexpr std::string_view paper = "arXiv 1234.56789";
    static constexpr ms::parameter<parameterized> parameters[] = {{"factor", &parameterized::factor, -4.0f, 4.0f},
                                                                  {"extra", &parameterized::extra, 1, 7}};
    void on_attention(ms::rows probabilities, ms::view states) const noexcept {
        for (std::size_t j = 0; j < states.size(); ++j) states.score[j] = factor * probabilities[0][j];
    }
};
struct reads_rows {
    static constexpr std::string_view name = "reads_rows";
    static constexpr ms::per forgets() noexcept { return ms::per::layer; }
    void on_forget(const ms::reader&, ms::view) const noexcept {}
};
struct reads_queries {
    static constexpr std::string_view name = "reads_queries";
    static constexpr ms::per forgets() noexcept { return ms::per::layer; }
    void on_query(ms::rows, ms::view) const noexcept {}
    void on_forget(ms::view) const noexcept {}
};
struct merges_rows {
    static constexpr std::string_view name = "merges_rows";
    static constexpr ms::per forgets() noexcept { return ms::per::layer; }
    void on_insert(ms::rows, ms::rows, ms::view, std::size_t) const noexcept {}
    void merge(const ms::editor&, std::span<const std::uint32_t>, ms::view) const noexcept {}
};
using choice = ms::one_of<ms::window, parameterized, reads_rows, ms::full>;
using wide_choice = ms::one_of<ms::window, reads_rows, reads_queries, merges_rows>;
constexpr ms::table_shape shape{.states = 8, .heads = 2, .kv_heads = 2, .head_dim = 6, .value_dim = 6};

static_assert(ms::policy<choice> && ms::policy<ms::any_policy>);
static_assert(ms::hooks_of<choice> == (ms::hook::default_guards | ms::hook::on_attention | ms::hook::on_forget));
static_assert(ms::hooks_of<wide_choice> ==
              (ms::hook::on_insert | ms::hook::on_query | ms::hook::on_forget | ms::hook::merge));
static_assert(!ms::has_on_attention<ms::one_of<ms::window, ms::full>>, "no choice looks, so none pays");
static_assert(std::is_constructible_v<choice, parameterized> && !std::is_constructible_v<choice, ms::tova>);
static_assert(std::is_convertible_v<ms::window, choice> && !std::is_convertible_v<int, choice>);

ms::detail::memory_size remembered(const choice& chosen) { return ms::detail::size_of_memory(chosen, shape, 1); }

TEST(one_of, answers_for_its_choice) {
    const choice chosen(parameterized{.factor = 1, .extra = 5});
    EXPECT_EQ(chosen.name(), "parameterized");
    EXPECT_EQ(chosen.forgets(), ms::per::head);
    EXPECT_EQ(remembered(chosen).per_state, 10u * sizeof(float));
    EXPECT_EQ(remembered(chosen).per_table, 6u * sizeof(float));
    EXPECT_EQ(chosen.paper(), "arXiv 1234.56789");
    EXPECT_EQ(chosen.default_guards(8).sinks, 2u);
    EXPECT_TRUE(ms::reads_of(chosen).attention);
    EXPECT_FALSE(ms::reads_of(chosen).stored);
    const choice other(reads_rows{});
    EXPECT_FALSE(ms::reads_of(other).attention);
    EXPECT_TRUE(ms::reads_of(other).stored);
    EXPECT_EQ(remembered(other).states + remembered(other).table, 0u);
    EXPECT_EQ(other.paper(), "");
    EXPECT_EQ(other.default_guards(8).recent, 0u);
    EXPECT_EQ(choice(ms::full{}).forgets(), ms::per::never);
    EXPECT_EQ(choice().name(), "window") << "the first choice is the default";
}

/// A hook that only another choice has costs nothing: what is read is asked of the object.
TEST(one_of, says_what_its_choice_reads) {
    EXPECT_EQ(wide_choice(merges_rows{}).name(), "merges_rows");
    EXPECT_EQ(ms::reads_of(wide_choice(ms::window{})), (ms::reads{}));
    EXPECT_EQ(ms::reads_of(wide_choice(reads_rows{})), (ms::reads{.stored = true, .order = true}));
    EXPECT_EQ(ms::reads_of(wide_choice(reads_queries{})), (ms::reads{.queries = true, .order = true}));
    EXPECT_EQ(ms::reads_of(wide_choice(merges_rows{})),
              (ms::reads{.arrivals = true, .stored = true, .order = true, .writes = true}));
}

/// What a table refuses when one parameter is set.
template <class T>
std::string refusal(std::string_view parameter, T given) {
    choice chosen(parameterized{});
    chosen.for_each_parameter([&]<class V>(std::string_view name, V& value, V, V) {
        if constexpr (std::is_same_v<T, V>) {
            if (name == parameter) value = given;
        }
    });
    try {
        ms::table<choice> table(shape, chosen);
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return "nothing was thrown";
}

TEST(one_of, lists_the_parameters_of_its_choice) {
    EXPECT_EQ(refusal("factor", -4.0f), "nothing was thrown");
    EXPECT_EQ(refusal("factor", 4.5f), "policy: factor must be from -4.000000 to 4.000000, is 4.500000");
    EXPECT_EQ(refusal("factor", std::nanf("")), "policy: factor must be from -4.000000 to 4.000000, is nan");
    EXPECT_EQ(refusal("extra", std::size_t{7}), "nothing was thrown");
    EXPECT_EQ(refusal("extra", std::size_t{0}), "policy: extra must be from 1 to 7, is 0");
    std::size_t count = 0;
    const choice none(ms::window{});
    none.for_each_parameter([&](auto&&...) { ++count; });
    EXPECT_EQ(count, 0u);
}

TEST(one_of, finds_policies_by_name) {
    EXPECT_EQ(choice::names, (std::array<std::string_view, 4>{"window", "parameterized", "reads_rows", "full"}));
    for (const std::string_view name : choice::names) EXPECT_EQ(choice::named(name).name(), name);
    for (const std::string_view name : ms::any_policy::names) EXPECT_EQ(ms::any_policy::named(name).name(), name);
    EXPECT_EQ(remembered(choice::named("parameterized")).per_state, 6u * sizeof(float))
        << "with its default parameters";
}

struct with_presets {
    static constexpr std::string_view name = "with_presets";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    float factor = 1;
    static constexpr ms::parameter<with_presets> parameters[] = {{"factor", &with_presets::factor, 0.0f, 9.0f}};
    static constexpr with_presets twice() noexcept { return {2}; }
    static constexpr with_presets thrice() noexcept { return {3}; }
    static constexpr std::array<ms::preset<with_presets>, 2> presets{{{"twice", &twice}, {"thrice", &thrice}}};
};
struct derived : with_presets {
    static constexpr std::string_view name = "derived";
};
static_assert(ms::has_presets<with_presets> && !ms::has_presets<derived> && !ms::has_presets<ms::window>);

TEST(one_of, finds_presets_behind_the_name_of_their_policy) {
    using some = ms::one_of<ms::window, with_presets, derived>;
    EXPECT_EQ(some::all_names(), (std::vector<std::string>{"window", "with_presets", "with_presets:twice",
                                                           "with_presets:thrice", "derived"}));
    EXPECT_EQ(some::names.size(), 3u);
    const auto factor_of = [](const char* name) {
        float factor = 0;
        some::named(name).for_each_parameter(
            [&](auto, const auto& value, auto...) { factor = static_cast<float>(value); });
        return factor;
    };
    EXPECT_EQ(factor_of("with_presets"), 1.0f);
    EXPECT_EQ(factor_of("with_presets:twice"), 2.0f);
    EXPECT_EQ(factor_of("with_presets:thrice"), 3.0f);
    EXPECT_EQ(some::named("with_presets:thrice").name(), "with_presets");
    for (const char* wrong : {"with_presets:", "with_presets:four", "derived:twice", "window:twice", "twice"}) {
        EXPECT_THROW(some::named(wrong), std::invalid_argument) << wrong;
    }
}

/// Two presets, one of a policy that is no choice itself.
struct twice {
    static constexpr std::string_view name = "twice";
    static constexpr std::string_view paper = "none";
    static constexpr with_presets make() noexcept { return {2}; }
};
struct keeps_scores {
    void modify(ms::view) const noexcept {}
};
struct composed_twice {
    static constexpr std::string_view name = "composed_twice";
    static constexpr ms::composed<with_presets, keeps_scores> make() noexcept {
        return {with_presets{2}, keeps_scores{}};
    }
};

TEST(one_of, has_named_presets) {
    using some = ms::one_of<ms::window, with_presets, twice, composed_twice>;
    static_assert(ms::named_preset<twice> && !ms::named_preset<with_presets>);
    static_assert(ms::hooks_of<some> == ms::hook::on_forget, "those of the composition");
    static_assert(std::is_constructible_v<some, ms::composed<with_presets, keeps_scores>>);
    EXPECT_EQ(some::names, (std::array<std::string_view, 4>{"window", "with_presets", "twice", "composed_twice"}));
    for (const std::string_view name : some::names) EXPECT_EQ(some::named(name).name(), name);
    float factor = 0;
    some::named("twice").for_each_parameter([&](std::string_view name, const auto& value, auto...) {
        if (name == "factor") factor = static_cast<float>(value);
    });
    EXPECT_EQ(factor, 2.0f);
    EXPECT_EQ(some::named("twice").paper(), "none");
    (ms::one_of<twice, ms::window>()).for_each_parameter([&](std::string_view name, const auto& value, auto...) {
        if (name == "factor") factor = static_cast<float>(value) + 1;
    });
    EXPECT_EQ(factor, 3.0f) << "the default is the first choice with its parameters";
    EXPECT_EQ(some(with_presets{2}).name(), "with_presets") << "by its type it is the policy";
    EXPECT_EQ(some(composed_twice::make()).name(), "composed_twice");
    EXPECT_TRUE(ms::reads_of(some(composed_twice::make())).order);
}

TEST(one_of, an_unknown_name_is_told_the_known_ones) {
    try {
        choice::named("tovaa");
        ADD_FAILURE() << "an unknown name was accepted";
    } catch (const std::invalid_argument& error) {
        EXPECT_EQ(std::string(error.what()),
                  "one_of: name must be one of window, parameterized, reads_rows, full, is 'tovaa'");
    }
}

TEST(one_of, may_be_a_choice_of_one) {
    using only = ms::one_of<ms::tova>;
    static_assert(ms::policy<only>);
    EXPECT_EQ(only().name(), "tova");
    EXPECT_TRUE(ms::reads_of(only()).attention);
}

/// The policy given, with its parameters, is what a table asks.
TEST(one_of, keeps_the_parameters_of_its_choice) {
    ms::table<choice> table({.states = 8, .head_dim = 1}, parameterized{.factor = -1});
    const float probabilities[] = {0.5f};
    EXPECT_NE(table.place(0), ms::no_row);
    table.observe({probabilities, 1, 1, 1});
    EXPECT_EQ(table.scores()[0], -0.5f);
}

}  // namespace one_of_test
