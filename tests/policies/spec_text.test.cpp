// What users may write for a parameter of each type, what they are told of it, and the names nearest to a mistyped one.
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/spec_text.hpp>
#include <multistate/policies/window.hpp>
#include <multistate/policy/one_of.hpp>

namespace spec_text_test {

namespace ms = multistate;
using ms::did_you_mean;
using ms::edit_distance;
using ms::parameters_of;
using ms::set_parameter;

struct example {
    [[maybe_unused]] static constexpr std::string_view name = "example";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    float decay = 0.95f;
    float bias = -0.5f;
    std::size_t window = 16;
    std::size_t seed = 7;
    bool mean = false;
    static constexpr ms::parameter<example> parameters[] = {
        {"decay", &example::decay, 0.1f, 1.0f},
        {"bias", &example::bias, std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max()},
        {"window", &example::window, 1, 64},
        {"seed", &example::seed, 3, std::numeric_limits<std::size_t>::max()},
        {"mean", &example::mean}};
};

/// Chosen at run time, as the demo does.
using chosen = ms::one_of<ms::window, example>;

std::string value_of(const chosen& policy, std::string_view name) {
    for (const auto& p : parameters_of(policy)) {
        if (p.name == name) return p.value;
    }
    return "none";
}

TEST(spec_text, AreDescribedInTheirOrder) {
    EXPECT_TRUE(parameters_of(chosen(ms::window{})).empty());
    const auto all = parameters_of(chosen(example{}));
    ASSERT_EQ(all.size(), 5U);
    const std::vector<std::vector<std::string>> expected{{"decay", "0.95", "0.1 to 1"},
                                                         {"bias", "-0.5", "any number"},
                                                         {"window", "16", "1 to 64"},
                                                         {"seed", "7", "at least 3"},
                                                         {"mean", "false", "true or false"}};
    for (std::size_t i = 0; i < all.size(); ++i) {
        EXPECT_EQ((std::vector{all[i].name, all[i].value, all[i].range}), expected[i]);
    }
}

TEST(spec_text, GoodValuesAreSetAndNothingElse) {
    const std::vector<std::tuple<std::string, std::string, std::string>> good{
        {"decay", "0.1", "0.1"},  // a bound that no binary number is
        {"decay", "1", "1"},      {"decay", ".5", "0.5"},    {"decay", "5e-1", "0.5"},
        {"bias", "-3", "-3"},     {"bias", "1e-60", "0"},    {"bias", "3e38", "3e+38"},
        {"window", "1", "1"},     {"window", "64", "64"},    {"seed", "18446744073709551615", "18446744073709551615"},
        {"mean", "true", "true"}, {"mean", "false", "false"}};
    for (const auto& [name, text, value] : good) {
        chosen policy = example{};
        EXPECT_EQ(set_parameter(policy, name, text), "") << name << ' ' << text;
        EXPECT_EQ(value_of(policy, name), value);
        for (const auto& other : parameters_of(chosen(example{}))) {
            if (other.name != name) {
                EXPECT_EQ(value_of(policy, other.name), other.value) << name;
            }
        }
    }
}

TEST(spec_text, BadValuesAreRefusedAndNothingIsSet) {
    const std::vector<std::tuple<std::string, std::string, std::string>> bad{
        {"decay", "2", "decay must be from 0.1 to 1, is 2"},
        {"decay", "1.0001", "decay must be from 0.1 to 1, is 1.0001"},
        {"decay", "0.0999", "decay must be from 0.1 to 1, is 0.0999"},
        {"decay", "-1", "decay must be from 0.1 to 1, is -1"},
        {"decay", "x", "decay must be a number from 0.1 to 1, is 'x'"},
        {"decay", "", "decay must be a number from 0.1 to 1, is ''"},
        {"decay", "0.5x", "decay must be a number from 0.1 to 1, is '0.5x'"},
        {"decay", "0,5", "decay must be a number from 0.1 to 1, is '0,5'"},
        {"decay", "nan", "decay must be a number from 0.1 to 1, is 'nan'"},
        {"decay", "1e39", "decay must be a number from 0.1 to 1, is '1e39'"},
        {"bias", "inf", "bias must be a finite number, is 'inf'"},
        {"bias", "1e39", "bias must be a finite number, is '1e39'"},
        {"window", "0", "window must be from 1 to 64, is 0"},
        {"window", "65", "window must be from 1 to 64, is 65"},
        {"window", "-1", "window must be a whole number from 1 to 64, is '-1'"},
        {"window", "2.0", "window must be a whole number from 1 to 64, is '2.0'"},
        {"window", "1e1", "window must be a whole number from 1 to 64, is '1e1'"},
        {"window", "99999999999999999999", "window must be a whole number from 1 to 64, is '99999999999999999999'"},
        {"seed", "2", "seed must be at least 3, is 2"},
        {"seed", "x", "seed must be a whole number of at least 3, is 'x'"},
        {"mean", "yes", "mean must be true or false, is 'yes'"},
        {"mean", "1", "mean must be true or false, is '1'"},
        {"mean", "", "mean must be true or false, is ''"},
        {"nonsense", "1", "no parameter 'nonsense'"}};
    for (const auto& [name, text, problem] : bad) {
        chosen policy = example{};
        EXPECT_EQ(set_parameter(policy, name, text), problem);
        for (const auto& p : parameters_of(chosen(example{}))) EXPECT_EQ(value_of(policy, p.name), p.value) << text;
    }
    chosen none = ms::window{};
    EXPECT_EQ(set_parameter(none, "decay", "1"), "no parameter 'decay'");
}

TEST(spec_text, EditDistance) {
    EXPECT_EQ(edit_distance("", ""), 0U);
    EXPECT_EQ(edit_distance("tova", "tova"), 0U);
    EXPECT_EQ(edit_distance("", "tova"), 4U);
    EXPECT_EQ(edit_distance("tova", ""), 4U);
    EXPECT_EQ(edit_distance("tova", "tovs"), 1U);
    EXPECT_EQ(edit_distance("tova", "tov"), 1U);
    EXPECT_EQ(edit_distance("tova", "ttova"), 1U);
    EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
    EXPECT_EQ(edit_distance("h2o_layer", "h2o"), 6U);
    EXPECT_EQ(edit_distance("ab", "ba"), 2U);  // a swap is two slips
    EXPECT_EQ(edit_distance("sitting", "kitten"), edit_distance("kitten", "sitting"));
}

TEST(spec_text, TheNearestChoice) {
    const std::vector<std::string> choices{"full", "window", "h2o", "h2o_layer", "tova", "tova_head"};
    const auto suggested = [&](const std::string& word) { return did_you_mean(word, choices); };
    EXPECT_EQ(suggested("tovs"), "; did you mean 'tova'?");
    EXPECT_EQ(suggested("h20"), "; did you mean 'h2o'?");
    EXPECT_EQ(suggested("windwo"), "; did you mean 'window'?");
    EXPECT_EQ(suggested("h2olayer"), "; did you mean 'h2o_layer'?");
    EXPECT_EQ(suggested("tova-head"), "; did you mean 'tova_head'?");
    EXPECT_EQ(suggested("ful"), "; did you mean 'full'?");
    EXPECT_EQ(suggested("streaming"), "");
    EXPECT_EQ(suggested(""), "");
    EXPECT_EQ(suggested(std::string(100000, 'x')), "");
}

TEST(spec_text, CaseAndHyphensAreNoSlips) {
    const std::vector<std::string> choices{"snapkv", "h2o", "tova_head"};
    EXPECT_EQ(did_you_mean("SnapKV", choices), "; did you mean 'snapkv'?");
    EXPECT_EQ(did_you_mean("TOVA-Head", choices), "; did you mean 'tova_head'?");
    EXPECT_EQ(did_you_mean("H2O", choices), "; did you mean 'h2o'?");
}

TEST(spec_text, AWordThatBeginsAChoiceOrThatAChoiceBegins) {
    const std::vector<std::string> choices{"streaming_llm", "h2o"};
    EXPECT_EQ(did_you_mean("streaming", choices), "; did you mean 'streaming_llm'?");
    EXPECT_EQ(did_you_mean("str", choices), "; did you mean 'streaming_llm'?");
    EXPECT_EQ(did_you_mean("st", choices), "");
    EXPECT_EQ(did_you_mean("h2o_of_the_layer", choices), "; did you mean 'h2o'?");
    EXPECT_EQ(did_you_mean("ream", choices), "");
}

TEST(spec_text, SeveralWhereSeveralAreNear) {
    const std::vector<std::string> choices{"cake", "bake", "make", "baker", "lake", "window"};
    EXPECT_EQ(did_you_mean("bakes", choices, 3), "; did you mean 'bake', 'baker' or 'cake'?");
    EXPECT_EQ(did_you_mean("bakes", choices, 2), "; did you mean 'bake' or 'baker'?");
    EXPECT_EQ(did_you_mean("bakes", choices), "; did you mean 'bake'?");
    EXPECT_EQ(did_you_mean("windows", choices, 3), "; did you mean 'window'?");
    EXPECT_EQ(did_you_mean("eviction", choices, 3), "");
    // Two slips are near, but not beside a choice that is none away.
    EXPECT_EQ(did_you_mean("Tova", std::vector<std::string>{"nova", "tov", "noxa", "tova"}, 4),
              "; did you mean 'tova', 'nova' or 'tov'?");
}

TEST(spec_text, OfEqualsTheFirst) {
    EXPECT_EQ(did_you_mean("ac", std::vector<std::string>{"aa", "ab"}), "; did you mean 'aa'?");
    EXPECT_EQ(did_you_mean("ab", std::vector<std::string>{}), "");
}

TEST(spec_text, Lists) {
    EXPECT_EQ(ms::listed(std::vector<std::string>{}), "");
    EXPECT_EQ(ms::listed(std::vector<std::string>{"a"}), "a");
    EXPECT_EQ(ms::listed(std::vector<std::string>{"a", "b", "c"}), "a, b, c");
}

}  // namespace spec_text_test
