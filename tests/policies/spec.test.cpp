// Policies as text: what each spec means, and what is said of one that is written wrong.
#include <concepts>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/spec.hpp>

namespace spec_test {

namespace ms = multistate;
using ms::policy_spec;

/// Policies as a program reads them that lists all with --list-policies.
std::vector<policy_spec> parse_policies(const std::string& text) { return ms::parse_policies(text, "--list-policies"); }

policy_spec parse(const std::string& text) {
    const auto specs = parse_policies(text);
    EXPECT_EQ(specs.size(), 1U) << text;
    return specs.front();
}

ms::shape shape_of(const std::string& text, std::size_t states) {
    const ms::shape shape =
        parse(text).applied_to({.layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 1, .states = states});
    EXPECT_EQ(shape.states, states) << text;
    return shape;
}

/// The guards of a spec at k = `states`: sinks, and recent or -1 where the policy's own holds.
std::pair<std::size_t, int> guards(const std::string& text, std::size_t states) {
    const ms::shape shape = shape_of(text, states);
    return {shape.sinks, shape.recent ? static_cast<int>(*shape.recent) : -1};
}

using pair = std::pair<std::size_t, int>;

std::string value_of(const ms::any_composed& policy, const std::string& name) {
    for (const auto& p : ms::parameters_of(policy)) {
        if (p.name == name) return p.value;
    }
    return "none";
}

TEST(policy_spec, EveryPolicyByItsName) {
    for (const std::string_view name : ms::any_policy::names) {
        const policy_spec spec = parse(std::string(name));
        EXPECT_EQ(spec.text, name);
        EXPECT_EQ(spec.policy.name(), name);
        EXPECT_EQ(guards(std::string(name), 64), pair(0, -1)) << name;
        EXPECT_EQ(shape_of(std::string(name), 64).slack, 0U) << name;
    }
    for (const char* name : {"full", "window", "h2o", "h2o_layer", "tova", "tova_head"}) {
        EXPECT_EQ(parse(name).policy.name(), name);
    }
}

TEST(policy_spec, PresetsByTheirNames) {
    EXPECT_EQ(value_of(parse("snapkv").policy, "window"), "32");
    EXPECT_EQ(value_of(parse("snapkv:runs").policy, "window"), "32");
    EXPECT_EQ(value_of(parse("snapkv:class").policy, "window"), "64");
    EXPECT_EQ(value_of(parse("snapkv:class+4(width=9)").policy, "window"), "64");
    EXPECT_EQ(value_of(parse("snapkv:class+4(width=9)").policy, "width"), "9");
    EXPECT_EQ(parse("snapkv:class").text, "snapkv:class");
    EXPECT_EQ(guards("snapkv:class+4(recent=9)", 64), pair(4, 9));
    for (const std::string& name : ms::any_policy::all_names()) EXPECT_EQ(parse(name).text, name);
}

TEST(policy_spec, Sinks) {
    EXPECT_EQ(parse("window+4").policy.name(), "window");
    EXPECT_EQ(parse("window+4").text, "window+4");
    EXPECT_EQ(guards("window+4", 64), pair(4, -1));
    EXPECT_EQ(guards("window+0", 64), pair(0, -1));
    EXPECT_EQ(guards("tova_head+128", 64), pair(128, -1));  // whether it can be is not decided here
    EXPECT_EQ(guards("tova(sinks=3)", 64), pair(3, -1));
    EXPECT_EQ(guards("tova(sinks=0.1)", 64), pair(6, -1));
}

TEST(policy_spec, WholeNumbersAreStatesAndNumbersWithAPointAreShares) {
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

TEST(policy_spec, SlackCountsAsGuardsDo) {
    EXPECT_EQ(shape_of("tova(slack=16)", 64).slack, 16U);
    EXPECT_EQ(shape_of("tova(slack=0)", 64).slack, 0U);
    EXPECT_EQ(shape_of("tova(slack=0.25)", 64).slack, 16U);
    EXPECT_EQ(shape_of("tova(slack=0.25)", 7).slack, 1U);
    EXPECT_EQ(guards("h2o+2(recent=0.25,slack=4)", 64), pair(2, 16));
    EXPECT_EQ(shape_of("h2o+2(recent=0.25,slack=4)", 64).slack, 4U);
    EXPECT_EQ(parse("tova(slack=0.25)").slack_at(64), 16U);
    EXPECT_EQ(parse("tova").slack_at(64), 0U);
}

/// Calls f(name, least, most) for each parameter of the policy, with the bounds in their type.
template <class F>
void for_bounds(std::string_view policy, F&& f) {
    ms::any_policy::named(policy).for_each_parameter(
        [&]<class Value>(std::string_view name, const Value&, const auto& least, const auto& most) {
            f(std::string(name), static_cast<Value>(least), static_cast<Value>(most));
        });
}

/// At both bounds, and no farther.
TEST(policy_spec, EveryParameterOfEveryPolicy) {
    for (const std::string_view policy : ms::any_policy::names) {
        for_bounds(policy, [&]<class Value>(const std::string& name, Value least, Value most) {
            const std::string begin = std::string(policy) + "(" + name + "=";
            for (const Value value : {least, most}) {
                const std::string text = begin + ms::text_of(value) + ",slack=2)";
                EXPECT_EQ(value_of(parse(text).policy, name), ms::text_of(value)) << text;
                EXPECT_EQ(parse(text).slack_at(64), 2U) << text;
            }
            if constexpr (!std::same_as<Value, bool>) {
                if (most >= std::numeric_limits<Value>::max()) return;
                const std::string text =
                    begin + ms::text_of(std::integral<Value> ? most + 1 : std::max<Value>(1, 2 * most)) + ")";
                try {
                    static_cast<void>(parse_policies(text));
                    ADD_FAILURE() << text << " was taken";
                } catch (const std::invalid_argument& problem) {
                    EXPECT_EQ(std::string(problem.what()).find("policy '" + text + "': " + name + " must be from "), 0U)
                        << problem.what();
                }
            }
        });
    }
}

/// Or one of them could not be set.
TEST(policy_spec, NoTwoParametersOfAPolicyShareAName) {
    for (const std::string_view policy : ms::any_policy::names) {
        std::set<std::string> names{"sinks", "recent", "slack"};
        for (const auto& p : ms::parameters_of(ms::any_policy::named(policy))) {
            EXPECT_TRUE(names.insert(p.name).second) << policy << ' ' << p.name;
        }
    }
}

TEST(policy_spec, AllAreThoseThatForget) {
    std::vector<std::string> names;
    for (const std::string_view name : ms::any_policy::names) {
        if (name != "full") names.emplace_back(name);
    }
    const auto texts = [](const std::string& text) {
        std::vector<std::string> result;
        for (const policy_spec& spec : parse_policies(text)) {
            EXPECT_EQ(spec.text.find(spec.policy.name()), 0U) << spec.text;
            result.push_back(spec.text);
        }
        return result;
    };
    EXPECT_EQ(texts("all"), names);
    const auto with = [&](const std::string& rest) {
        std::vector<std::string> result = names;
        for (std::string& name : result) name += rest;
        return result;
    };
    EXPECT_EQ(texts("all+4"), with("+4"));
    EXPECT_EQ(texts("all( slack = 8 )"), with("(slack=8)"));
    std::vector<std::string> more = names;
    more.insert(more.begin(), "full");
    more.emplace_back("tova+4");
    EXPECT_EQ(texts("full,all,tova+4"), more);
}

TEST(policy_spec, SpacesMeanNothing) {
    EXPECT_EQ(parse(" h2o ( recent = 0.25 , sinks = 2 ) ").text, "h2o(recent=0.25,sinks=2)");
    EXPECT_EQ(guards(" h2o ( recent = 0.25 , sinks = 2 ) ", 64), pair(2, 16));
    EXPECT_EQ(guards("window + 4", 64), pair(4, -1));
    for (const char* divided : {"to va", "h2o(recent=1 6)", "window+1 6", "h2o(rec ent=4)", "tova h2o"}) {
        EXPECT_THROW(parse(divided), std::invalid_argument) << divided;
    }
}

TEST(policy_spec, SeveralByCommasOutsideParentheses) {
    const auto specs = parse_policies("full, window+4,h2o(recent=0.25,sinks=2),tova");
    ASSERT_EQ(specs.size(), 4U);
    EXPECT_EQ(specs[0].text, "full");
    EXPECT_EQ(specs[1].text, "window+4");
    EXPECT_EQ(specs[2].text, "h2o(recent=0.25,sinks=2)");
    EXPECT_EQ(specs[3].text, "tova");
}

TEST(policy_spec, WhatIsWrongIsSaid) {
    struct wrong {
        std::string text;
        std::vector<std::string> parts;
    };
    for (const wrong& w :
         std::vector<wrong>{{"tovs", {"no policy 'tovs'", "did you mean 'tova'", "--list-policies", "window+4"}},
                            {"h20+4", {"no policy 'h20'", "did you mean 'h2o'"}},
                            {"", {"no policy ''", "--list-policies"}},
                            {"tova,", {"no policy ''"}},
                            {",tova", {"no policy ''"}},
                            {"+4", {"no policy ''"}},
                            {"(recent=4)", {"no policy ''"}},
                            {"window+", {"'window+'", "number of sinks", "window+4"}},
                            {"window+x", {"'window+x'", "number of sinks"}},
                            {"window+-4", {"'window+-4'", "number of sinks"}},
                            {"window+0.5", {"'window+0.5'", "number of sinks"}},
                            {"window+4+4", {"number of sinks"}},
                            {"snapkv:clas", {"no policy 'snapkv:clas'", "did you mean 'snapkv:class'"}},
                            {"snapkv:", {"no policy 'snapkv:'", "'snapkv'"}},
                            {"tova:class", {"no policy 'tova:class'"}},
                            {"window+99999999999999999999", {"number of sinks"}},
                            {"h2o(recent=16", {"parenthesis is not closed"}},
                            {"h2o(recent=16)x", {"parenthesis is not closed"}},
                            {"h2o(", {"parenthesis is not closed"}},
                            {"h2o)", {"no policy 'h2o)'", "did you mean 'h2o'"}},
                            {"h2o()", {"no parameter ''", "known: sinks, recent, slack)"}},
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
                            {"h2o(slak=4)", {"no parameter 'slak'", "did you mean 'slack'?"}},
                            {"h2o(slack)", {"'slack' needs a value", "slack=16"}},
                            {"h2o(slack=x)", {"'x'", "neither"}},
                            {"h2o(slack=1.0)", {"'1.0'", "neither"}},
                            {"h2o(slack=-1)", {"'-1'", "neither"}},
                            {"h2o(recent=4,recent=5)", {"policy 'h2o(recent=4,recent=5)'", "recent is given twice"}},
                            {"h2o+4(sinks=4)", {"sinks is given twice"}},
                            {"h2o(slack=1,sinks=1,slack=1)", {"slack is given twice"}},
                            {"alll", {"no policy 'alll'"}},
                            {"all+x", {"+x'", "number of sinks"}},
                            {"all(nonsense=1)", {"no parameter 'nonsense'"}},
                            {"full(slack=4)", {"'full(slack=4)'", "forgets nothing"}},
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

/// Of every policy: the parameters that it has are named, and each says what it wants.
TEST(policy_spec, WhatIsWrongWithAParameterIsSaid) {
    const auto problem_of = [](const std::string& text) {
        try {
            static_cast<void>(parse_policies(text));
        } catch (const std::invalid_argument& problem) {
            return std::string(problem.what());
        }
        return "nothing is wrong with " + text;
    };
    for (const std::string_view policy : ms::any_policy::names) {
        if (policy == "full") continue;
        const std::string name(policy);
        std::string known;
        for (const auto& p : ms::parameters_of(ms::any_policy::named(policy))) {
            known += p.name + ", ";
            EXPECT_EQ(problem_of(name + "(" + p.name + ")"), "policy '" + name + "(" + p.name + ")': '" + p.name +
                                                                 "' needs a value, as in " + p.name + "=" + p.value);
            EXPECT_EQ(problem_of(name + "(" + p.name + "=?)")
                          .find("policy '" + name + "(" + p.name + "=?)': " + p.name + " must be "),
                      0U);
            const std::string setting = p.name + "=" + p.value;
            EXPECT_NE(problem_of(name + "(" + setting + "," + setting + ")").find(p.name + " is given twice"),
                      std::string::npos);
        }
        EXPECT_EQ(problem_of(name + "(0123456789=1)"),
                  "policy '" + name + "(0123456789=1)': no parameter '0123456789' (known: " + known +
                      "sinks, recent, slack)");
    }
}

TEST(policy_spec, NearPoliciesAreThreeAtMostAndTheOthersAreNotNamed) {
    for (const std::string_view policy : ms::any_policy::names) {
        try {
            static_cast<void>(parse_policies(std::string(policy) + "?"));
            ADD_FAILURE() << policy << "? was taken";
        } catch (const std::invalid_argument& problem) {
            const std::string message = problem.what();
            const std::string named = message.substr(0, message.find(" (--list-policies"));
            EXPECT_LT(named.size(), message.size()) << message;
            EXPECT_NE(named.find("'" + std::string(policy) + "'"), std::string::npos) << message;
            EXPECT_LE(std::ranges::count(named, '\''), 8) << message;  // what was written and three more
        }
    }
}

std::vector<std::string> parts_of(const ms::policy_spec& spec) {
    std::vector<std::string> names;
    spec.policy.get<ms::part_list>().for_each([&](const auto& part) { names.emplace_back(part.name); });
    return names;
}

TEST(policy_spec, PartsFollowBars) {
    using strings = std::vector<std::string>;
    const policy_spec spec = parse("h2o(recent=64) | value_norm | pool(width=7, greatest=true) | into_nearest");
    EXPECT_EQ(spec.text, "h2o(recent=64)|value_norm|pool(width=7,greatest=true)|into_nearest");
    EXPECT_EQ(parts_of(spec), (strings{"value_norm", "pool", "into_nearest"}));
    EXPECT_EQ(value_of(spec.policy, "width"), "7");
    EXPECT_EQ(value_of(spec.policy, "greatest"), "true");
    EXPECT_TRUE(spec.own.empty());
    EXPECT_EQ(guards(spec.text, 512), pair(0, 64));
    for (const std::string_view part : ms::part_list::names) {
        const std::string policy = part == "per_head" ? "tova" : "h2o";
        EXPECT_EQ(parts_of(parse(policy + "|" + std::string(part))), strings{std::string(part)});
    }
    EXPECT_EQ(parse("tova|per_head").policy.forgets(), ms::per::head);
    EXPECT_EQ(parse("snapkv(width=9)|pool(width=3)").text, "snapkv(width=9)|pool(width=3)");
}

TEST(policy_spec, NamesMayBeWrittenAsPapersWriteThem) {
    EXPECT_EQ(parse("TOVA").text, "tova");
    EXPECT_EQ(parse("Expected-Attention(future=8)").text, "expected_attention(future=8)");
    EXPECT_EQ(parse("H2O|Value-Norm").text, "h2o|value_norm");
    EXPECT_EQ(parse("SnapKV:class").text, "snapkv:class");
    EXPECT_EQ(parse("StreamingLLM").text, "window+4");
    EXPECT_EQ(guards("StreamingLLM(recent=3)", 64), pair(4, 3));
    for (const ms::detail::policy_alias& alias : ms::detail::policy_aliases) {
        if (alias.spec.empty() || alias.spec.find('|') != std::string_view::npos) continue;
        EXPECT_EQ(parse(std::string(alias.name)).text, alias.spec);
    }
    EXPECT_EQ(parse_policies("ALL").size(), ms::any_policy::names.size() - 1);
}

std::string problem_with(const std::string& text) {
    try {
        static_cast<void>(ms::parse_policies(text));
    } catch (const std::invalid_argument& problem) {
        return problem.what();
    }
    return "nothing is wrong with " + text;
}

TEST(policy_spec, WhatIsWrongWithAPartIsSaid) {
    const std::string parts = ms::listed(ms::part_list::names), known = " (known: " + parts + ")";
    EXPECT_NE(parts.find("into_similar"), std::string::npos) << parts;
    EXPECT_EQ(problem_with("h2o|poool"), "policy 'h2o|poool': there is no part 'poool'; did you mean 'pool'?" + known);
    EXPECT_EQ(problem_with("h2o|"), "policy 'h2o|': a part must follow |, one of " + parts);
    EXPECT_EQ(problem_with("pool(width=7)"), "there is no policy 'pool': it is a part, as in h2o|pool");
    EXPECT_EQ(problem_with("h2o|pool(widht=7)"),
              "policy 'h2o|pool(widht=7)': no parameter 'widht'; did you mean 'width'? (known: width, greatest, "
              "zero_padded)");
    EXPECT_EQ(problem_with("h2o|value_norm(x=7)"), "policy 'h2o|value_norm(x=7)': no parameter 'x'");
    EXPECT_EQ(problem_with("h2o|pool(width=0)"), "policy 'h2o|pool(width=0)': width must be from 1 to 1024, is 0");
    EXPECT_EQ(problem_with("h2o|pool(width=7"), "policy 'h2o|pool(width=7': the parenthesis is not closed");
    EXPECT_EQ(problem_with("h2o|pool(width=7,width=8)"), "policy 'h2o|pool(width=7,width=8)': width is given twice");
    EXPECT_EQ(problem_with("h2o|chunk|chunk|chunk|chunk|chunk|chunk|chunk"),
              "policy 'h2o|chunk|chunk|chunk|chunk|chunk|chunk|chunk': more than 6 parts");
    EXPECT_EQ(problem_with("window|decayed"),
              "policy 'window|decayed': decayed has no effect: window reads no attention");
    EXPECT_EQ(problem_with("window|pool"), "policy 'window|pool': pool has no effect: window does not score states");
    EXPECT_EQ(problem_with("given|value_norm"),
              "policy 'given|value_norm': value_norm has no effect: given does not score states");
    EXPECT_EQ(problem_with("snapkv|decayed"),
              "policy 'snapkv|decayed': decayed has no effect: the scores of snapkv are not sums of attention");
    EXPECT_EQ(problem_with("tova|decayed"),
              "policy 'tova|decayed': decayed has no effect: tova looks at the attention of one token alone");
    EXPECT_EQ(problem_with("tova|per_layer"),
              "policy 'tova|per_layer': per_layer has no effect: tova forgets for each layer already");
    EXPECT_EQ(problem_with("h2o|per_layer|per_head"),
              "policy 'h2o|per_layer|per_head': per_head contradicts the scope before it");
    EXPECT_EQ(problem_with("h2o|pool|pool(width=3)"), "policy 'h2o|pool|pool(width=3)': pool is given twice");
    EXPECT_EQ(problem_with("cam|into_nearest"),
              "policy 'cam|into_nearest': into_nearest has no place: the policy merges already");
    EXPECT_EQ(problem_with("h2o|into_nearest|into_similar"),
              "policy 'h2o|into_nearest|into_similar': into_similar has no place: a part merges already");
    EXPECT_NE(problem_with("full|pool").find("it forgets nothing"), std::string::npos);
    EXPECT_EQ(problem_with("AdaKV"),
              "there is no policy 'AdaKV': it is snapkv|adaptive, with a budget of budgets/any_budget.hpp");
    EXPECT_NE(problem_with("HeadKV").find("budgets/head.hpp"), std::string::npos);
    EXPECT_NE(problem_with("h2o|pyramid").find("there is no part 'pyramid'"), std::string::npos);
}

}  // namespace spec_test
