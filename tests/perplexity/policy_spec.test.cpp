// How a policy is written on the command line, and what is said of one that is written wrong.
#include "policy_spec.hpp"

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace {

using demo::parse_policies;
using demo::policy_spec;
namespace ms = multistate;

policy_spec parse(const std::string& text) {
    const auto specs = parse_policies(text);
    EXPECT_EQ(specs.size(), 1U) << text;
    return specs.front();
}

/// The guards of a spec at k = `states`: sinks, and recent or -1 where the policy's own holds.
std::pair<std::size_t, int> guards(const std::string& text, std::size_t states) {
    const ms::shape shape =
        parse(text).guarded({.layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 1, .states = states});
    EXPECT_EQ(shape.states, states) << text;
    return {shape.sinks, shape.recent ? static_cast<int>(*shape.recent) : -1};
}

using pair = std::pair<std::size_t, int>;

TEST(PolicySpec, EveryPolicyByItsName) {
    for (const std::string_view name : ms::any_policy::names) {
        const policy_spec spec = parse(std::string(name));
        EXPECT_EQ(spec.text, name);
        EXPECT_EQ(spec.policy.name(), name);
        EXPECT_EQ(guards(std::string(name), 64), pair(0, -1)) << name;
    }
    for (const char* name : {"full", "window", "h2o", "h2o_layer", "tova", "tova_head"}) {
        EXPECT_EQ(parse(name).policy.name(), name);
    }
}

TEST(PolicySpec, Sinks) {
    EXPECT_EQ(parse("window+4").policy.name(), "window");
    EXPECT_EQ(parse("window+4").text, "window+4");
    EXPECT_EQ(guards("window+4", 64), pair(4, -1));
    EXPECT_EQ(guards("window+0", 64), pair(0, -1));
    EXPECT_EQ(guards("tova_head+128", 64), pair(128, -1));  // whether it can be is not decided here
    EXPECT_EQ(guards("tova(sinks=3)", 64), pair(3, -1));
    EXPECT_EQ(guards("tova(sinks=0.1)", 64), pair(6, -1));
}

TEST(PolicySpec, WholeNumbersAreStatesAndNumbersWithAPointAreShares) {
    EXPECT_EQ(guards("h2o(recent=16)", 64), pair(0, 16));
    EXPECT_EQ(guards("h2o(recent=16)", 4), pair(0, 16));
    EXPECT_EQ(guards("h2o(recent=0)", 64), pair(0, 0));
    EXPECT_EQ(guards("h2o(recent=0.25)", 64), pair(0, 16));
    EXPECT_EQ(guards("h2o(recent=0.25)", 7), pair(0, 1));
    EXPECT_EQ(guards("h2o(recent=.5)", 7), pair(0, 3));
    EXPECT_EQ(guards("h2o(recent=0.0)", 7), pair(0, 0));
    EXPECT_EQ(guards("h2o(recent=0.25,sinks=2)", 64), pair(2, 16));
    EXPECT_EQ(guards("h2o(sinks=2,recent=0.25)", 64), pair(2, 16));
    EXPECT_EQ(guards("h2o+2(recent=0.25)", 64), pair(2, 16));
}

TEST(PolicySpec, SpacesMeanNothing) {
    EXPECT_EQ(parse(" h2o ( recent = 0.25 , sinks = 2 ) ").text, "h2o(recent=0.25,sinks=2)");
    EXPECT_EQ(guards(" h2o ( recent = 0.25 , sinks = 2 ) ", 64), pair(2, 16));
    EXPECT_EQ(guards("window + 4", 64), pair(4, -1));
}

TEST(PolicySpec, SeveralByCommasOutsideParentheses) {
    const auto specs = parse_policies("full, window+4,h2o(recent=0.25,sinks=2),tova");
    ASSERT_EQ(specs.size(), 4U);
    EXPECT_EQ(specs[0].text, "full");
    EXPECT_EQ(specs[1].text, "window+4");
    EXPECT_EQ(specs[2].text, "h2o(recent=0.25,sinks=2)");
    EXPECT_EQ(specs[3].text, "tova");
}

TEST(PolicySpec, WhatIsWrongIsSaid) {
    struct wrong {
        std::string text;
        std::vector<std::string> parts;
    };
    for (const wrong& w :
         std::vector<wrong>{{"tovs", {"no policy 'tovs'", "did you mean 'tova'?", "full, window, h2o", "window+4"}},
                            {"TOVA", {"no policy 'TOVA'"}},
                            {"h20+4", {"no policy 'h20'", "did you mean 'h2o'?"}},
                            {"", {"no policy ''", "known: "}},
                            {"tova,", {"no policy ''"}},
                            {",tova", {"no policy ''"}},
                            {"+4", {"no policy ''"}},
                            {"(recent=4)", {"no policy ''"}},
                            {"window+", {"'window+'", "number of sinks", "window+4"}},
                            {"window+x", {"'window+x'", "number of sinks"}},
                            {"window+-4", {"'window+-4'", "number of sinks"}},
                            {"window+0.5", {"'window+0.5'", "number of sinks"}},
                            {"window+4+4", {"number of sinks"}},
                            {"window+99999999999999999999", {"number of sinks"}},
                            {"h2o(recent=16", {"parenthesis is not closed"}},
                            {"h2o(recent=16)x", {"parenthesis is not closed"}},
                            {"h2o(", {"parenthesis is not closed"}},
                            {"h2o)", {"no policy 'h2o)'", "did you mean 'h2o'?"}},
                            {"h2o()", {"no parameter ''", "sinks, recent"}},
                            {"h2o(recent)", {"'recent' needs a value", "recent=16"}},
                            {"h2o(recent=)", {"''", "neither a number of states nor a share of k"}},
                            {"h2o(resent=4)", {"no parameter 'resent'", "did you mean 'recent'?"}},
                            {"h2o(recent=4,sink=2)", {"no parameter 'sink'", "did you mean 'sinks'?"}},
                            {"h2o(16)", {"no parameter '16'"}},
                            {"h2o(recent=-4)", {"'-4'", "neither"}},
                            {"h2o(recent=-0.5)", {"'-0.5'", "neither"}},
                            {"h2o(recent=1.0)", {"'1.0'", "neither"}},
                            {"h2o(recent=1.5)", {"'1.5'", "neither"}},
                            {"h2o(recent=16x)", {"'16x'", "neither"}},
                            {"h2o(recent=0.5.5)", {"'0.5.5'", "neither"}},
                            {"h2o(recent=nan.)", {"neither"}},
                            {"h2o(recent=99999999999999999999)", {"neither"}},
                            {"h2o((recent=4))", {"no parameter '(recent'"}},
                            {"full+4", {"'full+4'", "forgets nothing"}},
                            {"full(recent=4)", {"forgets nothing"}},
                            {"tova,h2o,nonsense", {"no policy 'nonsense'"}}}) {
        try {
            static_cast<void>(parse_policies(w.text));
            ADD_FAILURE() << w.text << " was taken";
        } catch (const std::invalid_argument& problem) {
            const std::string message = problem.what();
            for (const auto& part : w.parts) EXPECT_NE(message.find(part), std::string::npos) << message;
            EXPECT_EQ(message.find('\n'), std::string::npos) << message;
        }
    }
}

}  // namespace
