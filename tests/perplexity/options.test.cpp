// The command line: what it means, and one sentence for each way to get it wrong.
#include "options.hpp"

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include <gtest/gtest.h>
#include <multistate/codecs/list.hpp>
#include <multistate/policies/spec_text.hpp>

namespace options_test {

std::optional<demo::options> parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "perplexity");
    return demo::parse_options(static_cast<int>(arguments.size()), arguments.data());
}

std::vector<std::string> policies(const demo::options& o) {
    std::vector<std::string> texts;
    for (const auto& policy : o.policies) texts.push_back(policy.text);
    return texts;
}

using words = std::vector<std::string>;
using counts = std::vector<demo::state_count>;

TEST(Options, NoArgumentsMeasureTheBundledModelOnTheNovella) {
    const auto o = parse({});
    ASSERT_TRUE(o);
    EXPECT_FALSE(o->model || o->text);
    EXPECT_EQ(demo::model_name(*o), "books-5m-f16.gguf");
    EXPECT_EQ(demo::text_name(*o), "bell-at-sallow-ferry.txt");
    EXPECT_FALSE(o->tokens);
    EXPECT_EQ(policies(*o), (words{"window", "window+4", "h2o", "tova"}));
    EXPECT_EQ(o->states, (counts{{1, 8}, {1, 4}, {1, 2}}));
    EXPECT_FALSE(o->context);
    EXPECT_FALSE(o->limit);
    EXPECT_EQ(o->codecs, words{"f32"});
    EXPECT_EQ(o->prefill, "exact");
    EXPECT_EQ(o->feeding(), demo::feeding::exact);
    EXPECT_GE(o->threads, 1U);
    EXPECT_FALSE(o->json || o->nll || o->trace || o->resume || o->shared_states || o->print_tokens || o->quiet);
    EXPECT_TRUE(o->compare.empty() && o->sort.empty());
    EXPECT_EQ(o->format, demo::table_format::text);
    EXPECT_EQ(o->columns, words{"summary"});
}

TEST(Options, AProfileHasItsOwn) {
    EXPECT_FALSE(parse({})->profile);
    const auto o = parse({"--profile"});
    ASSERT_TRUE(o && o->profile);
    EXPECT_EQ(o->profile->near, 32U);
    EXPECT_EQ(o->profile->own, multistate::own_token::counted);
    const auto other = parse({"--profile", "--near", "7", "--without-own-token", "--json", "j", "--threads", "3"});
    ASSERT_TRUE(other && other->profile);
    EXPECT_EQ(other->profile->near, 7U);
    EXPECT_EQ(other->profile->own, multistate::own_token::left_out);
}

TEST(Options, AllOfThem) {
    const auto o = parse(
        {"--model", "m.gguf", "--text",  "t.txt", "--policy",  "h2o(recent=16)", "--states", "64", "--context", "512",
         "--limit", "1000",   "--codec", "int8",  "--prefill", "once",           "--block",  "32", "--threads", "3",
         "--json",  "j",      "--nll",   "n",     "--trace",   "trace",          "--quiet"});
    ASSERT_TRUE(o);
    EXPECT_EQ(o->model, "m.gguf");
    EXPECT_EQ(o->text, "t.txt");
    EXPECT_EQ(policies(*o), words{"h2o(recent=16)"});
    EXPECT_EQ(o->states, counts{{64}});
    EXPECT_EQ(o->context, 512U);
    EXPECT_EQ(o->limit, 1000U);
    EXPECT_EQ(o->codecs, words{"int8"});
    EXPECT_EQ(o->feeding(), demo::feeding::once);
    EXPECT_EQ(o->block, 32U);
    EXPECT_EQ(o->threads, 3U);
    EXPECT_EQ(o->json, "j");
    EXPECT_EQ(o->nll, "n");
    EXPECT_EQ(o->trace, "trace");
    EXPECT_TRUE(o->quiet);
    EXPECT_FALSE(o->print_tokens);
    EXPECT_TRUE(
        parse({"--print-tokens", "--model", "m", "--text", "t", "--context", "8", "--limit", "9"})->print_tokens);
    EXPECT_EQ(parse({"--tokens", "ids.txt"})->tokens, "ids.txt");
    EXPECT_EQ(parse({"--prefill", "block"})->feeding(), demo::feeding::block);
    EXPECT_EQ(parse({"--model=m.gguf"})->model, "m.gguf");
}

TEST(Options, SeveralPoliciesByCommasOrByRepeating) {
    EXPECT_EQ(policies(*parse({"--policy", "tova,window+4"})), (words{"tova", "window+4"}));
    EXPECT_EQ(policies(*parse({"--policy", "tova", "--policy", "window+4, full"})),
              (words{"tova", "window+4", "full"}));
    EXPECT_EQ(policies(*parse({"--policy", "h2o(recent=0.25,sinks=2),tova", "--policy", "tova"})),
              (words{"h2o(recent=0.25,sinks=2)", "tova", "tova"}));
    EXPECT_EQ(policies(*parse({"--policy=tova,h2o"})), (words{"tova", "h2o"}));
}

TEST(Options, SeveralStates) {
    EXPECT_EQ(parse({"--states", "64,256,16"})->states, (counts{{64}, {256}, {16}}));  // in the order given
    EXPECT_EQ(parse({"--states", "64", "--states", "1"})->states, (counts{{64}, {1}}));
}

TEST(Options, StatesAreSharesOfTheContext) {
    const auto states = parse({"--states", "1/8,3/4,100,1/1000"})->states;
    EXPECT_EQ(states, (counts{{1, 8}, {3, 4}, {100}, {1, 1000}}));
    EXPECT_EQ(states[0].at(1000), 125U);
    EXPECT_EQ(states[1].at(1023), 767U);  // rounded down
    EXPECT_EQ(states[2].at(1000), 100U);
    EXPECT_EQ(states[3].at(50), 1U);  // at least one
}

TEST(Options, TheTable) {
    const auto o = parse({"--format", "markdown", "--columns", "quality,memory", "--sort", "kl", "--shared-states",
                          "--codec", "f32,int8", "--codec", "int4"});
    EXPECT_EQ(o->format, demo::table_format::markdown);
    EXPECT_EQ(o->columns, (words{"quality", "memory"}));
    EXPECT_EQ(o->sort, "kl");
    EXPECT_TRUE(o->shared_states);
    EXPECT_EQ(o->codecs, (words{"f32", "int8", "int4"}));
    EXPECT_EQ(parse({"--format", "csv"})->format, demo::table_format::csv);
}

TEST(Options, ResultsThatAreThere) {
    EXPECT_EQ(parse({"--resume", "r.json"})->resume, "r.json");
    EXPECT_EQ(parse({"--compare", "a.json", "-"})->compare, (std::vector<std::filesystem::path>{"a.json", "-"}));
}

TEST(Options, HelpAndVersionArePrinted) {
    testing::internal::CaptureStdout();
    EXPECT_FALSE(parse({"--version"}));
    EXPECT_EQ(testing::internal::GetCapturedStdout(), "multistate " MULTISTATE_VERSION "\n");
    testing::internal::CaptureStdout();
    EXPECT_FALSE(parse({"--help"}));
    EXPECT_NE(testing::internal::GetCapturedStdout().find("--policy"), std::string::npos);
}

TEST(Options, AllPolicies) {
    const auto o = parse({"--policy", "all", "--policy", "full"});
    ASSERT_EQ(o->policies.size(), multistate::any_policy::names.size());  // full is not among all
    EXPECT_EQ(o->policies.back().text, "full");
    EXPECT_EQ(o->policies.front().text, "window");
}

/// Whatever else is asked for: who looks for a name may have written a wrong one.
TEST(Options, TheListOfPoliciesIsPrinted) {
    for (const auto& arguments : std::vector<std::vector<const char*>>{
             {"--list-policies"}, {"--list-policies", "--policy", "tovs"}, {"--policy", "tovs", "--list-policies"}}) {
        testing::internal::CaptureStdout();
        EXPECT_FALSE(parse(arguments));
        const std::string text = testing::internal::GetCapturedStdout();
        for (const std::string_view name : multistate::any_policy::names) {
            EXPECT_NE(text.find('\n' + std::string(name) + ' '), std::string::npos) << name;
        }
    }
}

TEST(Options, WhatIsWrongIsSaid) {
    struct wrong {
        std::vector<const char*> arguments;
        std::vector<std::string> parts;
    };
    const std::vector<wrong> all{
        {{"--polcy", "tova"}, {"'--polcy'", "did you mean '--policy'?", "--help"}},
        {{"--stats=64"}, {"'--stats'", "did you mean '--states'?"}},
        {{"--thread", "2"}, {"'--thread'", "did you mean '--threads'?"}},
        {{"--print_tokens"}, {"'--print_tokens'", "did you mean '--print-tokens'?"}},
        {{"--nonsense"}, {"'--nonsense'", "--help"}},
        {{"stray"}, {"'stray'"}},
        {{"-x"}, {"'-x'"}},
        {{"--states", "4", "8"}, {"'8'"}},
        {{"--policy", "tova", "h2o"}, {"'h2o'"}},
        {{"--policy", "tovs"}, {"'tovs'", "did you mean 'tova'"}},
        {{"--policy", "tova(slak=4)"}, {"'slak'", "did you mean 'slack'?"}},
        {{"--list-policy"}, {"'--list-policy'", "did you mean '--list-policies'?"}},
        {{"--list-policies", "stray"}, {"'stray'"}},
        {{"--nll", "n", "--policy", "all", "--states", "4"}, {"--nll", "one --policy and one --states"}},
        {{"--policy", "full+4"}, {"full+4"}},
        {{"--policy", ""}, {"--policy", "''"}},
        {{"--limit", ""}, {"--limit needs a value", "''"}},
        {{"--block="}, {"--block"}},
        {{"--states", ""}, {"--states", "''"}},
        {{"--model", ""}, {"--model needs a value"}},
        {{"--policy"}, {"--policy"}},
        {{"--states", "0"}, {"--states", "'0'", "whole number from 1"}},
        {{"--states", "-4"}, {"--states", "'-4'"}},
        {{"--states", "4.5"}, {"--states", "'4.5'"}},
        {{"--states", "4k"}, {"--states", "'4k'"}},
        {{"--states", "64,x"}, {"--states", "'x'"}},
        {{"--states", "99999999999999999999"}, {"--states", "99999999999999999999"}},
        {{"--states"}, {"--states"}},
        {{"--states", "64,,128"}, {"--states", "''"}},
        {{"--states", ",64"}, {"--states", "''"}},
        {{"--states", "64,"}, {"--states", "''"}},
        {{"--states", "64,128,64"}, {"--states", "64 twice"}},
        {{"--states", "64", "--states", "064"}, {"--states", "64 twice"}},
        {{"--threads", "1025"}, {"--threads", "'1025'", "1 to 1024"}},
        {{"--tokens", "t", "--context", "8"}, {"--context has no effect with --tokens"}},
        {{"--model", "-"}, {"--model", "'-'"}},
        {{"--print-tokens", "--json", "j"}, {"--json has no effect with --print-tokens"}},
        {{"--print-tokens", "--nll", "n"}, {"--nll has no effect"}},
        {{"--print-tokens", "--trace", "t"}, {"--trace has no effect"}},
        {{"--print-tokens", "--policy", "tova"}, {"--policy has no effect"}},
        {{"--print-tokens", "--states", "8"}, {"--states has no effect"}},
        {{"--print-tokens", "--codec", "f32"}, {"--codec has no effect"}},
        {{"--print-tokens", "--prefill", "exact"}, {"--prefill has no effect"}},
        {{"--print-tokens", "--block", "8"}, {"--block has no effect"}},
        {{"--print-tokens", "--threads", "1"}, {"--threads has no effect"}},
        {{"--print-tokens", "--quiet"}, {"--quiet has no effect"}},
        {{"--profile", "--policy", "tova"}, {"--policy has no effect with --profile, which measures no policy"}},
        {{"--profile", "--nll", "n"}, {"--nll has no effect with --profile"}},
        {{"--profile", "--print-tokens"}, {"--profile has no effect with --print-tokens"}},
        {{"--near", "8"}, {"--near has no effect without --profile"}},
        {{"--without-own-token"}, {"--without-own-token has no effect without --profile"}},
        {{"--profile", "--near", "0"}, {"--near", "'0'", "from 1"}},
        {{"--print-tokens", "--resume", "r"}, {"--resume has no effect"}},
        {{"--compare", "a"}, {"--compare"}},
        {{"--compare", "a", "b", "--policy", "tova"}, {"--policy has no effect with --compare"}},
        {{"--compare", "-", "-"}, {"--compare", "standard input", "once"}},
        {{"--resume", "-", "--text", "-"}, {"--text and --resume", "standard input"}},
        {{"--resume", "r", "--nll", "n", "--policy", "tova", "--states", "8"}, {"--nll", "--resume"}},
        {{"--quiet", "--sort", "kl"}, {"--sort has no effect with --quiet"}},
        {{"--quiet", "--columns", "memory"}, {"--columns has no effect with --quiet"}},
        {{"--format", "markdwn"}, {"--format", "text, markdown, csv", "did you mean 'markdown'?"}},
        {{"--format", "csv", "--columns", "memory"}, {"--columns has no effect with --format csv"}},
        {{"--columns", "memroy"}, {"--columns", "did you mean 'memory'?"}},
        {{"--columns", "memory,memory"}, {"--columns", "memory twice"}},
        {{"--sort", "size"}, {"--sort", "'size'", "perplexity"}},
        {{"--codec", "int8,int8"}, {"--codec", "int8 twice"}},
        {{"--nll", "n", "--policy", "tova", "--states", "8", "--codec", "f32,int8"}, {"--nll", "one --codec"}},
        {{"--states", "9/8"}, {"--states", "at most 1", "'9/8'"}},
        {{"--states", "1/0"}, {"--states", "'0'"}},
        {{"--states", "/8"}, {"--states", "''"}},
        {{"--states", "1/8,1/8"}, {"--states", "1/8 twice"}},
        {{"--context", "1"}, {"--context", "'1'", "from 2"}},
        {{"--context", "many"}, {"--context", "'many'"}},
        {{"--limit", "0"}, {"--limit", "'0'"}},
        {{"--limit", "1e3"}, {"--limit", "'1e3'"}},
        {{"--block", "0"}, {"--block", "'0'"}},
        {{"--threads", "0"}, {"--threads", "'0'"}},
        {{"--threads", "-1"}, {"--threads", "'-1'"}},
        {{"--codec", "int7"},
         {"--codec", "'int7'", multistate::listed(multistate::codecs::names), "did you mean 'int8'?"}},
        {{"--codec", "F16"}, {"--codec", "'F16'", "did you mean 'f16'?"}},
        {{"--codec", ""}, {"--codec", "''"}},
        {{"--prefill", "blocks"}, {"--prefill", "'blocks'", "exact, block, once", "did you mean 'block'?"}},
        {{"--prefill", "everything"}, {"--prefill", "'everything'", "exact, block, once"}},
        {{"--text", "a", "--tokens", "b"}, {"--text", "--tokens"}},
        {{"--model"}, {"--model"}},
        {{"--model", "a", "--model", "b"}, {"--model"}},
        {{"--nll", "n"}, {"--nll", "one --policy and one --states"}},
        {{"--nll", "n", "--policy", "tova"}, {"--nll", "one --policy and one --states"}},
        {{"--nll", "n", "--states", "4"}, {"--nll", "one --policy and one --states"}},
        {{"--nll", "n", "--policy", "tova,h2o", "--states", "4"}, {"--nll", "one --policy and one --states"}},
        {{"--trace", "t", "--policy", "tova", "--states", "4,8"}, {"--trace", "one --policy and one --states"}}};
    for (const wrong& w : all) {
        std::string line;
        for (const char* argument : w.arguments) line += std::string(argument) + ' ';
        SCOPED_TRACE(line);
        try {
            static_cast<void>(parse(w.arguments));
            ADD_FAILURE() << "it was taken";
        } catch (const std::invalid_argument& problem) {
            const std::string message = problem.what();
            for (const auto& part : w.parts) EXPECT_NE(message.find(part), std::string::npos) << message;
            EXPECT_EQ(message.find('\n'), std::string::npos) << message;
        }
    }
}

}  // namespace options_test
