// What is measured is what the naive model, which really forgets, measures: likelihoods and every state forgotten, by
// policy, feeding, codec and threads. Then what stands beside the likelihoods, and several settings at once.
#include "measurement.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include <gtest/gtest.h>

#include "engine/naive_llama.hpp"
#include "engine/synthetic_gguf.hpp"
#include "support/temporary_folder.hpp"

namespace measurement_test {

using demo::feeding;
using demo::gguf;
using demo::measurement;
using demo::naive_forgetting;
using demo::naive_policy;
using demo::sequence;
using demo::setting;
using demo::synthetic_llama;
using demo::tensor_type;
namespace ms = multistate;

// Float32 against double precision, where both make the same decisions; see llama.test.cpp.
constexpr double rounding = 1e-4;

// Decisions are compared on texts in which none is closer than this, relative to the larger score; where one is, other
// random tokens are tried. Float32 scores are good to about 1e-5.
constexpr double least_margin = 1e-4;

sequence random_tokens(std::size_t count, std::size_t vocabulary, demo::random_numbers& random) {
    sequence tokens(count);
    for (auto& each : tokens) each = static_cast<demo::token>(random.below(vocabulary));
    return tokens;
}

/// A synthetic model in a file, opened by the demo and by the naive model.
class twin {
  public:
    explicit twin(const synthetic_llama& options, std::size_t threads = 1)
        : path_(folder_ / "model.gguf"),
          file_((demo::write_synthetic_llama(path_, options), path_)),
          pool_(threads),
          model_(file_, pool_),
          naive_(file_) {}

    demo::llama& model() { return model_; }
    [[nodiscard]] const demo::naive_llama& naive() const { return naive_; }

  private:
    demo::temporary_folder folder_;
    std::filesystem::path path_;
    gguf file_;
    multistate::thread_pool pool_;
    demo::llama model_;
    demo::naive_llama naive_;
};

setting setting_of(const std::string& policy, std::size_t states, feeding f = feeding::exact, std::size_t block = 16) {
    return {.policy = demo::parse_policies(policy).front(), .states = states, .feeding = f, .block = block};
}

std::vector<sequence> some_sequences(std::uint64_t seed = 11) {
    demo::random_numbers random(seed);
    return {random_tokens(70, 512, random), random_tokens(41, 512, random)};
}

/// The lengths of the blocks after which the naive model decides.
std::vector<std::size_t> blocks_of(std::size_t length, feeding f, std::size_t block) {
    if (f == feeding::block) return std::vector<std::size_t>(length / block + 1, block);
    if (f == feeding::once) return {length - length / 4};
    return {};
}

struct naive_measurement {
    std::vector<std::vector<double>> nll;
    std::vector<std::vector<naive_forgetting>> forgotten;  // per sequence
    double margin = std::numeric_limits<double>::infinity();
};

naive_measurement measure_naively(const demo::naive_llama& naive, const std::vector<sequence>& sequences,
                                  const naive_policy& policy, feeding f, std::size_t block) {
    naive_measurement all;
    for (const sequence& tokens : sequences) {
        auto one = naive.run(tokens, policy, blocks_of(tokens.size(), f, block));
        all.nll.push_back(std::move(one.nll));
        all.forgotten.push_back(std::move(one.forgotten));
        all.margin = std::min(all.margin, one.margin);
    }
    return all;
}

double worst_difference(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b) {
    double worst = 0;
    EXPECT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
        EXPECT_EQ(a[i].size(), b[i].size());
        for (std::size_t j = 0; j < std::min(a[i].size(), b[i].size()); ++j) {
            const double difference = std::fabs(a[i][j] - b[i][j]);
            worst = difference <= worst ? worst : difference;  // NaN counts as worst
        }
    }
    return worst;
}

std::vector<std::vector<naive_forgetting>> trace_of(const measurement& m, std::size_t sequences) {
    std::vector<std::vector<naive_forgetting>> trace(sequences);
    for (const demo::forgetting& f : m.forgotten) {
        trace.at(f.sequence)
            .push_back({static_cast<std::size_t>(f.step), f.layer, f.kv_head, static_cast<std::size_t>(f.position)});
    }
    return trace;
}

struct policy_case {
    std::string text;
    std::size_t states;
    naive_policy naive;  // states are filled in
};

/// Measures with the demo and naively: the same likelihoods, the same states forgotten.
void expect_as_naive(twin& both, const policy_case& c, feeding f, std::size_t block,
                     const std::vector<std::size_t>& lengths = {61, 9, 40}) {
    SCOPED_TRACE(c.text + " k " + std::to_string(c.states) + " block " + std::to_string(block));
    naive_policy policy = c.naive;
    policy.states = c.states;
    std::vector<sequence> sequences;
    naive_measurement expected;
    std::uint64_t seed = 0;
    do {
        ASSERT_LT(++seed, 60U) << "no text without close decisions was found";
        demo::random_numbers random(seed);
        sequences.clear();
        for (const std::size_t n : lengths) sequences.push_back(random_tokens(n, both.naive().vocabulary(), random));
        expected = measure_naively(both.naive(), sequences, policy, f, block);
    } while (expected.margin < least_margin);

    const measurement given =
        demo::measure(both.model(), sequences, setting_of(c.text, c.states, f, block), {.forgotten = true});
    EXPECT_LE(worst_difference(given.nll, expected.nll), rounding);
    EXPECT_EQ(trace_of(given, sequences.size()), expected.forgotten);
}

std::vector<policy_case> all_policies() {
    return {{"full", 7, {.name = "full"}},
            {"window", 1, {.name = "window"}},
            {"window", 2, {.name = "window"}},
            {"window", 16, {.name = "window"}},
            {"window+1", 2, {.name = "window", .sinks = 1}},
            {"window+4", 5, {.name = "window", .sinks = 4}},
            {"window+4", 17, {.name = "window", .sinks = 4}},
            {"h2o", 1, {.name = "h2o"}},
            {"h2o", 2, {.name = "h2o"}},
            {"h2o", 3, {.name = "h2o"}},
            {"h2o", 16, {.name = "h2o"}},
            {"h2o(recent=3)", 12, {.name = "h2o", .recent = 3}},
            {"h2o(recent=0)", 12, {.name = "h2o", .recent = 0}},
            {"h2o(recent=0.25,sinks=2)", 15, {.name = "h2o", .sinks = 2, .recent = 3}},
            {"h2o+2", 8, {.name = "h2o", .sinks = 2}},
            {"h2o_layer", 11, {.name = "h2o_layer"}},
            {"h2o_layer(sinks=0.2)", 10, {.name = "h2o_layer", .sinks = 2}},
            {"tova", 1, {.name = "tova"}},
            {"tova", 2, {.name = "tova"}},
            {"tova", 16, {.name = "tova"}},
            {"tova+4", 12, {.name = "tova", .sinks = 4}},
            {"tova(recent=2)", 9, {.name = "tova", .recent = 2}},
            {"tova_head", 1, {.name = "tova_head"}},
            {"tova_head", 13, {.name = "tova_head"}}};
}

TEST(Measurement, EveryPolicyForgetsWhatTheNaiveModelForgets) {
    twin both({});
    for (const policy_case& c : all_policies()) expect_as_naive(both, c, feeding::exact, 16);
}

TEST(Measurement, ExactDoesNotDependOnTheBlock) {
    twin both({});
    for (const policy_case& c : all_policies()) {
        if (c.states < 8) continue;
        for (const std::size_t block : {1U, 5U, 64U}) expect_as_naive(both, c, feeding::exact, block, {50});
    }
}

TEST(Measurement, BlocksDecideOnceAfterEachBlock) {
    twin both({});
    for (const policy_case& c : all_policies()) {
        for (const std::size_t block : {1U, 8U, 23U, 64U}) expect_as_naive(both, c, feeding::block, block, {50, 31});
    }
}

TEST(Measurement, OnceTakesAllButTheLastQuarterAsThePrompt) {
    twin both({});
    for (const policy_case& c : all_policies()) {
        for (const std::size_t block : {4U, 64U}) expect_as_naive(both, c, feeding::once, block, {50, 31, 3});
    }
}

/// Layer 0 loses a group and half of another to a recurrent cell, layer 1 nothing, layer 2 all its heads.
synthetic_llama recurformer(const std::string& cell = "selective") {
    synthetic_llama options{.layers = 3, .heads = 8, .kv_heads = 4, .head_dim = 8};
    options.replaced = {0, 1, 5, 16, 17, 18, 19, 20, 21, 22, 23};
    options.cell = cell;
    return options;
}

TEST(Measurement, RecurformersForgetWhatTheNaiveModelForgets) {
    twin selective(recurformer(), 2);
    twin minimal(recurformer("min_gru"));
    for (const policy_case& c : all_policies()) {
        expect_as_naive(selective, c, feeding::exact, 16, {50, 9});
        if (c.states < 8) continue;
        expect_as_naive(minimal, c, feeding::block, 8, {50});
        expect_as_naive(selective, c, feeding::once, 64, {50, 3});
    }
}

/// Every policy of the list in every codec serves the heads that are left, with and without a budget.
TEST(Measurement, RecurformersRunEveryPolicyCodecAndBudget) {
    twin both(recurformer());
    demo::random_numbers random(17);
    const std::vector<sequence> sequences{random_tokens(60, 512, random)};
    const auto measured = [&](const std::string& policy, std::string_view codec, feeding f) {
        setting s = setting_of(policy, 24, f);
        s.codec = codec;
        const measurement m = demo::measure(both.model(), sequences, s, {.forgotten = true});
        EXPECT_EQ(m.tokens(), 59U) << policy;
        for (const double nll : m.nll[0]) EXPECT_TRUE(std::isfinite(nll)) << policy;
        for (const demo::forgetting& gone : m.forgotten) {
            EXPECT_TRUE(gone.layer < 2 && gone.kv_head < 4) << policy;  // layer 2 has no cache
            EXPECT_FALSE(gone.layer == 0 && gone.kv_head == 0) << policy;
        }
        return m;
    };
    for (const std::string_view name : ms::any_policy::names) {
        std::string policy(name);
        try {
            demo::check(both.model(), setting_of(policy, 24));
        } catch (const std::invalid_argument&) {
            policy += "(recent=4)";  // its own guards do not fit
        }
        EXPECT_EQ(measured(policy, "f32", feeding::exact).forgotten.empty(), name == "full") << name;
    }
    for (const std::string_view codec : ms::codecs::names) measured("tova", codec, feeding::block);
    const measurement pyramid = measured("h2o|pyramid(beta=4)", "f32", feeding::exact);
    ASSERT_EQ(pyramid.budget.size(), 3U);
    EXPECT_GT(pyramid.budget[0].least, pyramid.budget[1].most);
    EXPECT_EQ(pyramid.budget[2].most, 0U);
    const measurement adaptive = measured("h2o|adaptive", "f32", feeding::once);
    EXPECT_NEAR(adaptive.mean_budget, 24, 1e-9);
    EXPECT_GT(adaptive.budget[1].most, adaptive.budget[1].least);
}

/// The caches hold the KV heads that are left; cells cost the same at every length.
TEST(Measurement, ReplacedGroupsCostNoStates) {
    synthetic_llama options = recurformer();
    twin replaced(options);
    options.replaced.clear();
    twin whole(options);
    demo::random_numbers random(3);
    const std::vector<sequence> sequences{random_tokens(300, 512, random)};
    const auto growth = [&](twin& of) {
        const auto bytes = [&](std::size_t states) {
            return demo::measure(of.model(), sequences, setting_of("tova", states), {}).bytes.cache;
        };
        return static_cast<double>(bytes(256) - bytes(64));
    };
    EXPECT_NEAR(growth(replaced) / growth(whole), 7.0 / 12, 0.03);  // of 12 KV heads, 7 are left
}

/// A decision falls only when more than k + slack are held, down to k; at the end too.
TEST(Measurement, SlackPutsDecisionsOff) {
    twin both({});
    for (const policy_case& c : std::vector<policy_case>{
             {"window+4(slack=5)", 17, {.name = "window", .sinks = 4, .slack = 5}},
             {"window(slack=1)", 1, {.name = "window", .slack = 1}},
             {"h2o(slack=6)", 12, {.name = "h2o", .slack = 6}},
             {"h2o(slack=0.5,recent=3)", 12, {.name = "h2o", .recent = 3, .slack = 6}},
             {"h2o_layer(slack=20)", 11, {.name = "h2o_layer", .slack = 20}},
             {"tova(slack=3)", 12, {.name = "tova", .slack = 3}},
             {"tova(slack=40)", 20, {.name = "tova", .slack = 40}},  // more than a block, and one decision at most
             {"tova(slack=0)", 12, {.name = "tova"}},
             {"tova_head+2(slack=7)", 13, {.name = "tova_head", .sinks = 2, .slack = 7}}}) {
        for (const std::size_t block : {1U, 8U, 64U}) {
            for (const feeding f : {feeding::exact, feeding::block, feeding::once}) {
                expect_as_naive(both, c, f, block, {50, 31});
            }
        }
    }
}

/// The slack is memory: rows that the table has, and that may be held.
TEST(Measurement, SlackCostsItsRows) {
    twin both({});
    demo::random_numbers random(3);
    const std::vector<sequence> sequences{random_tokens(200, 512, random)};
    const auto bytes = [&](const char* policy) {
        return demo::measure(both.model(), sequences, setting_of(policy, 32), {}).bytes.cache;
    };
    // 2 layers of 2 heads, keys and values of 16 floats
    EXPECT_GE(bytes("tova(slack=64)"), bytes("tova") + 64 * 2 * 2 * (16 + 16) * sizeof(float));
    EXPECT_EQ(bytes("tova(slack=0)"), bytes("tova"));
    // With room for all nothing waits, and there are no rows for what cannot come.
    EXPECT_LE(bytes("tova(slack=1000000)"), bytes("full") + bytes("full") / 2);
}

/// How many states a table forgets after which step, whatever the policy.
std::map<std::size_t, std::size_t> forgotten_by_step(std::size_t length, std::size_t states, std::size_t slack,
                                                     feeding f, std::size_t block) {
    std::map<std::size_t, std::size_t> counts;
    std::vector<std::size_t> blocks = blocks_of(length, f, block);
    std::size_t held = 0;
    for (std::size_t step = 0, i = 0; step < length; ++i) {
        const std::size_t count = std::min(i < blocks.size() ? blocks[i] : 1, length - step);
        step += count;
        held += count;
        if (held <= states + slack) continue;
        counts[step - 1] = held - states;
        held = states;
    }
    return counts;
}

/// Whatever a policy reads, and whatever guards it wants: every one on THE list can be measured in every way, and the
/// decisions fall when they must.
TEST(Measurement, EveryPolicyOfTheListInEveryFeeding) {
    twin both({});
    demo::random_numbers random(7);
    constexpr std::size_t slack = 5;
    for (const std::string_view name : ms::any_policy::names) {
        if (ms::any_policy::named(name).forgets() == ms::per::never) continue;
        const std::string text = std::string(name) + "(slack=5)";
        SCOPED_TRACE(text);
        std::size_t states = 16;
        const auto refused = [&] {
            try {
                demo::check(both.model(), setting_of(text, states));
                return false;
            } catch (const std::invalid_argument&) {
                return true;
            }
        };
        while (refused()) ASSERT_LE(states *= 2, 4096U);  // its own guards may not fit
        const std::size_t length = states + 22;
        const std::vector<sequence> sequences{random_tokens(length, 512, random), random_tokens(2, 512, random)};
        for (const feeding f : {feeding::exact, feeding::block, feeding::once}) {
            const auto m = demo::measure(both.model(), sequences, setting_of(text, states, f), {.forgotten = true});
            ASSERT_EQ(m.nll.size(), 2U);
            ASSERT_EQ(m.tokens(), length);
            for (const double nll : m.nll[0]) EXPECT_TRUE(std::isfinite(nll));
            std::map<std::pair<std::size_t, std::size_t>, std::map<std::size_t, std::size_t>> counts;
            std::set<std::tuple<std::size_t, std::size_t, ms::position>> once;
            for (const demo::forgetting& gone : m.forgotten) {
                EXPECT_EQ(gone.sequence, 0U);
                EXPECT_LE(gone.position, gone.step);
                EXPECT_TRUE(once.insert({gone.layer, gone.kv_head, gone.position}).second);
                ++counts[{gone.layer, gone.kv_head}][static_cast<std::size_t>(gone.step)];
            }
            ASSERT_EQ(counts.size(), 4U);  // 2 layers of 2 heads
            for (const auto& [table, by_step] : counts) {
                EXPECT_EQ(by_step, forgotten_by_step(length, states, slack, f, 16));
            }
        }
        // Of sequences shorter than k, or than the policy's own guards, nothing is forgotten.
        const std::vector<sequence> few{random_tokens(2, 512, random)};
        const auto m = demo::measure(both.model(), few, setting_of(text, states), {.forgotten = true});
        EXPECT_TRUE(m.forgotten.empty());
        EXPECT_EQ(m.tokens(), 1U);
    }
}

/// Only `once` has a prompt, and says where it ends: keyformer's temperature changes from there on.
TEST(Measurement, OnlyOnceEndsAPrompt) {
    twin both({});
    const auto sequences = some_sequences();
    const auto trace = [&](const std::string& temperature, feeding f) {
        const auto s = setting_of("keyformer(generation=1,last_temperature=" + temperature + ")", 16, f);
        return trace_of(demo::measure(both.model(), sequences, s, {.forgotten = true}), 2);
    };
    EXPECT_NE(trace("1", feeding::once), trace("0.05", feeding::once));
    EXPECT_EQ(trace("1", feeding::exact), trace("0.05", feeding::exact));
    EXPECT_EQ(trace("1", feeding::block), trace("0.05", feeding::block));
}

/// Policies that undo the rotation of keys do as the model did, unless the user says otherwise.
TEST(Measurement, RotationIsTheModels) {
    twin plain({});
    twin other({.rope_base = 50, .rope_scale = 3, .rope_dimensions = 8});
    twin stretched({.rope_freqs = true});
    demo::random_numbers random(13);
    const std::vector<sequence> sequences{random_tokens(90, 512, random)};
    const auto trace = [&](twin& model, const std::string& policy) {
        return trace_of(demo::measure(model.model(), sequences, setting_of(policy, 24), {.forgotten = true}), 1);
    };
    std::size_t policies = 0;
    std::size_t changed = 0;
    for (const std::string_view each : ms::any_policy::names) {
        const std::string name(each);
        std::set<std::string> parameters;
        ms::any_policy::named(name).for_each_parameter(
            [&](std::string_view p, const auto&...) { parameters.emplace(p); });
        if (!parameters.contains("base") || !parameters.contains("stretch")) continue;
        ++policies;
        EXPECT_EQ(trace(plain, name), trace(plain, name + "(base=10000,adjacent=true,rotated=16,stretch=1)"));
        EXPECT_EQ(trace(other, name), trace(other, name + "(base=50,rotated=8,stretch=3)"));
        for (const char* wrong : {"(base=10000)", "(rotated=0)", "(stretch=1)"}) {
            changed += trace(other, name) != trace(other, name + wrong) ? 1 : 0;
        }
        EXPECT_EQ(trace(other, name + "(base=0)"), trace(other, name + "(base=0,stretch=7)"));  // no rotation at all
    }
    EXPECT_GE(changed, policies) << "of 3 changes for each of " << policies;
    EXPECT_EQ(stretched.model().rope().slower.size(), 8U);
    EXPECT_TRUE(plain.model().rope().slower.empty());
}

/// Longer than what is multiplied at once, in blocks that divide it and in others. In long texts some decision is
/// close, unless it falls by position alone.
TEST(Measurement, LongSequences) {
    twin both({});
    const policy_case window{"window+4", 17, {.name = "window", .sinks = 4}};
    for (const std::size_t block : {64U, 150U, 300U}) {
        expect_as_naive(both, window, feeding::exact, block, {310});
        expect_as_naive(both, window, feeding::block, block, {310});
    }
    expect_as_naive(both, {"h2o", 16, {.name = "h2o"}}, feeding::exact, 64, {300});
    expect_as_naive(both, {"tova", 16, {.name = "tova"}}, feeding::exact, 64, {300});
}

/// What the policies read depends on the shape of the heads.
TEST(Measurement, EveryGroupingOfHeads) {
    const std::vector<policy_case> policies{{"h2o", 10, {.name = "h2o"}},
                                            {"h2o_layer", 10, {.name = "h2o_layer"}},
                                            {"tova", 10, {.name = "tova"}},
                                            {"tova_head", 10, {.name = "tova_head"}},
                                            {"window+4", 10, {.name = "window", .sinks = 4}}};
    const std::vector<synthetic_llama> models{
        {.kv_heads = 4},
        {.heads = 8, .kv_heads = 2, .head_dim = 8, .tied = true},
        {.heads = 8, .kv_heads = 4, .head_dim = 20, .value_dim = 12},
        {.kv_heads = 1, .rope_dimensions = 6},
        {.heads = 1, .kv_heads = 1, .head_dim = 33 * 2, .rope_freqs = true},
        {.layers = 3, .heads = 6, .kv_heads = 3, .head_dim = 10, .rope_scale = 3.0F, .biases = true, .version = 2},
        {.width = 256, .heads = 8, .kv_heads = 2, .head_dim = 32, .feed_forward = 256, .matrices = tensor_type::q4_k}};
    for (const synthetic_llama& options : models) {
        SCOPED_TRACE(std::to_string(options.heads) + " heads on " + std::to_string(options.kv_heads));
        twin both(options);
        for (const policy_case& c : policies) expect_as_naive(both, c, feeding::exact, 16, {44, 21});
    }
}

TEST(Measurement, SequencesOfOneAndTwoTokens) {
    twin both({});
    const std::vector<sequence> sequences{{5}, {6, 7}, {8}};
    for (const char* policy : {"full", "tova", "h2o", "window"}) {
        for (const feeding f : {feeding::exact, feeding::block, feeding::once}) {
            const auto m = demo::measure(both.model(), sequences, setting_of(policy, 1, f), {.forgotten = true});
            ASSERT_EQ(m.nll.size(), 3U);
            EXPECT_TRUE(m.nll[0].empty());
            EXPECT_EQ(m.nll[1].size(), 1U);
            EXPECT_TRUE(m.nll[2].empty());
            EXPECT_EQ(m.tokens(), 1U);
            EXPECT_EQ(m.forgotten.size(), std::string(policy) == "full" ? 0U : 4U);  // 2 layers of 2 heads
        }
    }
}

/// A thread alone, two of which each takes a sequence and both the third, five that share all three.
TEST(Measurement, ThreadsDoNotChangeABit) {
    const synthetic_llama options{.heads = 8, .kv_heads = 4, .head_dim = 8, .feed_forward = 300};
    twin alone(options);
    twin pair(options, 2);
    twin crowd(options, 5);
    demo::random_numbers random(17);
    std::vector<sequence> sequences;
    for (const std::size_t length : {70U, 12U, 41U}) sequences.push_back(random_tokens(length, 512, random));
    for (const char* policy : {"full", "window+4", "h2o", "h2o_layer", "tova", "tova_head"}) {
        for (const feeding f : {feeding::exact, feeding::block, feeding::once}) {
            for (const char* codec : {"f32", "int8"}) {
                SCOPED_TRACE(std::string(policy) + ' ' + codec);
                setting s = setting_of(policy, 20, f);
                s.codec = codec;
                const auto one = demo::measure(alone.model(), sequences, s, {.forgotten = true});
                for (twin* more : {&pair, &crowd}) {
                    const auto many = demo::measure(more->model(), sequences, s, {.forgotten = true});
                    EXPECT_EQ(one.nll, many.nll);
                    EXPECT_EQ(trace_of(one, 3), trace_of(many, 3));
                    EXPECT_EQ(one.bytes.cache, many.bytes.cache);
                    EXPECT_TRUE(std::ranges::is_sorted(many.forgotten, {}, &demo::forgetting::sequence));
                }
            }
        }
    }
}

TEST(Measurement, WithRoomForAllEveryPolicyIsFull) {
    twin both({});
    const auto sequences = some_sequences();
    const auto full = demo::measure(both.model(), sequences, setting_of("full", 1), {});
    for (const char* policy : {"window", "window+4", "h2o", "h2o_layer", "tova", "tova+4", "tova_head"}) {
        for (const std::size_t states : {70U, 71U, 1000U, 1U << 30}) {
            const auto m = demo::measure(both.model(), sequences, setting_of(policy, states), {.forgotten = true});
            EXPECT_LE(worst_difference(m.nll, full.nll), rounding) << policy << ' ' << states;
            EXPECT_TRUE(m.forgotten.empty()) << policy << ' ' << states;
            EXPECT_LE(m.bytes.cache, 2 * full.bytes.cache) << policy << ' ' << states;  // no rows for what cannot come
        }
        // One less, and the last token's decision is the only one: it costs nothing, and it is in the trace.
        const auto m = demo::measure(both.model(), sequences, setting_of(policy, 69), {.forgotten = true});
        EXPECT_LE(worst_difference(m.nll, full.nll), rounding) << policy;
        ASSERT_EQ(m.forgotten.size(), 4U) << policy;
        for (const demo::forgetting& f : m.forgotten) {
            EXPECT_EQ(f.sequence, 0U) << policy;
            EXPECT_EQ(f.step, 69) << policy;
        }
    }
}

/// Room for all may be slack; with one row less, the last token's decision is the only one, and forgets down to k.
TEST(Measurement, RoomMayBeSlack) {
    twin both({});
    const auto sequences = some_sequences();
    const auto full = demo::measure(both.model(), sequences, setting_of("full", 1), {});
    for (const char* policy : {"window", "h2o", "tova", "tova_head"}) {
        const auto all = demo::measure(both.model(), sequences, setting_of(std::string(policy) + "(slack=60)", 10),
                                       {.forgotten = true});
        EXPECT_LE(worst_difference(all.nll, full.nll), rounding) << policy;
        EXPECT_TRUE(all.forgotten.empty()) << policy;
        const auto less = demo::measure(both.model(), sequences, setting_of(std::string(policy) + "(slack=59)", 10),
                                        {.forgotten = true});
        EXPECT_LE(worst_difference(less.nll, full.nll), rounding) << policy;
        EXPECT_EQ(less.forgotten.size(), 60U * 4U) << policy;  // 2 layers of 2 heads
        for (const demo::forgetting& f : less.forgotten) EXPECT_EQ(f.step, 69) << policy;
    }
}

TEST(Measurement, CodecsComeClose) {
    twin both({});
    const auto sequences = some_sequences();
    // Bounds on the mean difference of a likelihood, about three times what was seen, which stand to each other as the
    // steps of the codecs do (2^-11, 2^-8, and 1/127 or 1/7 of a row's or group's largest value). Random weights make
    // far more of such a step than a trained model does: see Program.CodecsHardlyMatter.
    const std::map<std::string, double> bounds{{"f32", 0}, {"f16", 3e-3}, {"bf16", 3e-2}, {"int8", 6e-2}, {"int4", 1}};
    for (const char* policy : {"full", "window+4"}) {  // decisions of others may differ between codecs
        const auto exact = demo::measure(both.model(), sequences, setting_of(policy, 20), {});
        for (const auto& [codec, bound] : bounds) {
            setting s = setting_of(policy, 20);
            s.codec = codec;
            const auto m = demo::measure(both.model(), sequences, s, {});
            double sum = 0;
            for (std::size_t i = 0; i < m.nll.size(); ++i) {
                for (std::size_t j = 0; j < m.nll[i].size(); ++j) sum += std::fabs(m.nll[i][j] - exact.nll[i][j]);
            }
            const double mean = sum / static_cast<double>(m.tokens());
            EXPECT_LE(mean, bound) << policy << ' ' << codec;
            if (codec != "f32") {
                EXPECT_GT(mean, 0) << policy << ' ' << codec;
                EXPECT_LT(m.bytes.cache, exact.bytes.cache) << policy << ' ' << codec;
            }
        }
    }
}

TEST(Measurement, ABoundedCacheIsSmaller) {
    twin both({});
    const auto sequences = some_sequences();
    const auto full = demo::measure(both.model(), sequences, setting_of("full", 1), {});
    const auto small = demo::measure(both.model(), sequences, setting_of("tova", 8, feeding::exact, 4), {});
    const auto large = demo::measure(both.model(), sequences, setting_of("tova", 32, feeding::exact, 4), {});
    EXPECT_LT(small.bytes.cache, large.bytes.cache);
    EXPECT_LT(large.bytes.cache, full.bytes.cache);
    EXPECT_GE(small.seconds, 0);
}

/// The time of a policy must not depend on what its predictions are compared with. A large vocabulary makes the
/// comparison the greater part of the elapsed time.
TEST(Measurement, TheComparisonIsNotInTheTime) {
    twin both({.layers = 1, .width = 32, .heads = 2, .kv_heads = 1, .feed_forward = 32, .vocabulary = 4096});
    const std::vector<sequence> sequences(8, sequence(250, 7));
    const auto full = demo::measure(both.model(), sequences, setting_of("full", 1), {.keep_hidden = true});
    const auto start = std::chrono::steady_clock::now();
    const auto m = demo::measure(both.model(), sequences, setting_of("window", 16), {.beside = &full});
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    EXPECT_GT(m.seconds, 0);
    EXPECT_LT(m.seconds, 0.7 * elapsed.count());
}

TEST(Measurement, ProgressCountsEveryToken) {
    for (const std::size_t threads : {1U, 2U, 4U}) {
        twin both({}, threads);
        for (const feeding f : {feeding::exact, feeding::block, feeding::once}) {
            std::atomic<std::size_t> tokens = 0;
            static_cast<void>(demo::measure(both.model(), some_sequences(), setting_of("tova", 8, f),
                                            {.progress = [&](std::size_t n) { tokens += n; }}));
            EXPECT_EQ(tokens, 111U);
        }
    }
}

/// The decision after n tokens is in force from token n on, and the last token predicts nothing.
TEST(Measurement, KnowsWhetherAnythingWasForgottenInTime) {
    twin both({});
    demo::random_numbers random(3);
    const std::vector<sequence> sequences{random_tokens(40, 512, random), random_tokens(20, 512, random)};
    const auto full = demo::measure(both.model(), sequences, setting_of("full", 1), {});
    EXPECT_TRUE(full.forgot_nothing);
    const auto forgot_nothing = [&](const char* policy, std::size_t k, feeding f = feeding::exact, std::size_t b = 16) {
        const auto m = demo::measure(both.model(), sequences, setting_of(policy, k, f, b), {});
        if (m.forgot_nothing) {
            EXPECT_LT(worst_difference(m.nll, full.nll), rounding);
        }
        return m.forgot_nothing;
    };
    for (const char* policy : {"tova", "h2o", "window"}) {
        EXPECT_FALSE(forgot_nothing(policy, 37)) << policy;
        for (const std::size_t k : {38U, 39U, 40U, 41U}) EXPECT_TRUE(forgot_nothing(policy, k)) << policy << k;
    }
    EXPECT_FALSE(forgot_nothing("tova(slack=4)", 33));
    EXPECT_TRUE(forgot_nothing("tova(slack=4)", 34));
    EXPECT_TRUE(forgot_nothing("tova", 8, feeding::block, 64));  // all in one block
    EXPECT_FALSE(forgot_nothing("tova", 8, feeding::block, 16));
    EXPECT_FALSE(forgot_nothing("tova", 8, feeding::once));
}

/// Finite weights, whose products are not.
TEST(Measurement, AResultThatIsNoNumberIsNamed) {
    const demo::temporary_folder folder;
    const auto path = folder / "overflow.gguf";
    demo::write_synthetic_llama(path, {.final_norm = 1e38});
    const gguf file(path);
    for (const std::size_t threads : {1U, 2U}) {
        multistate::thread_pool pool(threads);
        const demo::llama model(file, pool);
        for (const auto& [policy, name] : {std::pair("tova", "tova at k = 8: "), std::pair("full", "full: ")}) {
            try {
                static_cast<void>(demo::measure(model, some_sequences(), setting_of(policy, 8), {}));
                ADD_FAILURE() << "measured";
            } catch (const demo::not_finite& problem) {
                const std::string message = problem.what();
                EXPECT_EQ(message.find(name), 0U) << message;
                EXPECT_NE(message.find("token 1 in sequence 0"), std::string::npos) << message;
            }
        }
    }
}

TEST(Measurement, PoliciesThatAreTheSameHoweverWritten) {
    twin both({});
    const auto meaning = [&](const char* policy, std::size_t k = 16) {
        return demo::resolved(both.model(), setting_of(policy, k));
    };
    for (const char* same : {"tova+0", "tova(slack=0)", "tova(recent=0)", "tova(sinks=0.0)"}) {
        EXPECT_EQ(meaning(same), meaning("tova")) << same;
    }
    EXPECT_EQ(meaning("window+4"), meaning("window(sinks=0.25)"));
    EXPECT_NE(meaning("window+4", 32), meaning("window(sinks=0.25)", 32));
    EXPECT_EQ(meaning("h2o"), meaning("h2o(recent=0.5)"));
    for (const char* other : {"tova+1", "tova(slack=1)", "tova(recent=1)", "window", "tova_head"}) {
        EXPECT_NE(meaning(other), meaning("tova")) << other;
    }
    EXPECT_NE(meaning("random"), meaning("random(seed=2)"));
}

TEST(Measurement, PairsThatCannotBe) {
    twin both({});
    const auto refused = [&](const std::string& policy, std::size_t states) {
        try {
            demo::check(both.model(), setting_of(policy, states));
            return std::string();
        } catch (const std::invalid_argument& problem) {
            return std::string(problem.what());
        }
    };
    EXPECT_EQ(refused("window+4", 5), "");
    EXPECT_EQ(refused("full", 1), "");
    EXPECT_EQ(refused("window", 1), "");
    EXPECT_EQ(refused("h2o", 1), "");
    EXPECT_EQ(refused("h2o+1", 3), "");
    EXPECT_EQ(refused("h2o(recent=0.99)", 100), "");
    EXPECT_EQ(refused("tova(recent=3,sinks=4)", 8), "");
    EXPECT_EQ(refused("tova(slack=8)", 8), "");
    EXPECT_EQ(refused("tova(slack=1073741822)", 8), "");
    EXPECT_EQ(refused("tova", (std::size_t{1} << 30) - 1), "");  // k may be larger than memory: no sequence is
    for (const auto& [policy, states, parts] : std::vector<std::tuple<std::string, std::size_t, std::string>>{
             {"window+4", 4, "sinks must be at most states - 1 = 3, is 4"},
             {"window+4", 1, "sinks must be at most states - 1 = 0, is 4"},
             {"h2o+2", 4, "sinks + recent must be at most states - 1 = 3, is 4"},
             {"h2o(recent=16)", 16, "recent must be at most states - 1 = 15, is 16"},
             {"tova(recent=3,sinks=5)", 8, "sinks + recent must be at most states - 1 = 7, is 8"},
             {"tova+18446744073709551615", 8, "sinks must be at most"},
             {"tova(recent=18446744073709551615)", 8, "recent must be at most"},
             {"tova(slack=1073741823)", 8, "slack must be at most 1073741822, is 1073741823"},
             {"tova(slack=18446744073709551615)", 8, "slack must be at most 1073741822"}}) {
        EXPECT_NE(refused(policy, states).find(parts), std::string::npos)
            << policy << ' ' << states << ": " << refused(policy, states);
    }
}

// What is measured beside the likelihoods.

demo::measurement full_of(twin& both, const std::vector<sequence>& sequences) {
    return demo::measure(both.model(), sequences, setting_of("full", 1), {.keep_hidden = true});
}

/// The divergence is that of the logits of two caches, worked out in the plainest way.
TEST(Fidelity, IsThatOfThePredictions) {
    for (const std::size_t threads : {1U, 2U}) {
        twin both({}, threads);
        const auto sequences = some_sequences();
        const auto full = full_of(both, sequences);
        EXPECT_FALSE(full.fidelity);
        const auto beside = [&](const std::string& policy, std::size_t k) {
            return demo::measure(both.model(), sequences, setting_of(policy, k),
                                 {.keep_hidden = true, .beside = &full});
        };
        const auto m = beside("tova", 12);
        EXPECT_EQ(m.nll, demo::measure(both.model(), sequences, setting_of("tova", 12), {}).nll) << "not a bit differs";
        double kl = 0, change = 0;
        std::size_t same = 0, count = 0;
        std::vector<double> all;
        demo::matrix p, q;
        for (std::size_t s = 0; s < sequences.size(); ++s) {
            const std::size_t n = sequences[s].size() - 1;
            ASSERT_EQ(static_cast<std::size_t>(full.hidden[s].rows()), n);
            both.model().logits(full.hidden[s], 0, n, p);
            both.model().logits(m.hidden[s], 0, n, q);
            for (Eigen::Index i = 0; i < static_cast<Eigen::Index>(n); ++i) {
                const Eigen::ArrayXd a = p.row(i).cast<double>().array(), b = q.row(i).cast<double>().array();
                const Eigen::ArrayXd la = a - std::log(a.exp().sum()), lb = b - std::log(b.exp().sum());
                all.push_back((la.exp() * (la - lb)).sum());
                kl += all.back();
                Eigen::Index top_a = 0, top_b = 0;
                a.maxCoeff(&top_a);
                b.maxCoeff(&top_b);
                same += top_a == top_b ? 1 : 0;
                const auto target = static_cast<Eigen::Index>(sequences[s][static_cast<std::size_t>(i) + 1]);
                change += std::exp(lb[target]) - std::exp(la[target]);
                ++count;
            }
        }
        ASSERT_TRUE(m.fidelity);
        EXPECT_NEAR(m.fidelity->kl.mean, kl / static_cast<double>(count), 1e-5);
        EXPECT_GT(m.fidelity->kl.mean, 1e-3);
        EXPECT_EQ(m.fidelity->same_top, static_cast<double>(same) / static_cast<double>(count));
        EXPECT_NEAR(m.fidelity->probability_change, change / static_cast<double>(count), 1e-6);
        std::ranges::sort(all);
        EXPECT_NEAR(m.fidelity->kl.median, all[(count + 1) / 2 - 1], 1e-5);
        EXPECT_NEAR(m.fidelity->kl.percentile_99, all[(count * 99 + 99) / 100 - 1], 1e-5);

        const auto nothing = beside("tova", 1000);
        EXPECT_NEAR(nothing.fidelity->kl.mean, 0, 1e-6);
        EXPECT_EQ(nothing.fidelity->same_top, 1);
    }
}

TEST(Fidelity, LikelihoodsByPosition) {
    twin both({});
    demo::random_numbers random(19);
    const std::vector<sequence> sequences{random_tokens(65, 512, random), random_tokens(33, 512, random)};
    const auto m = demo::measure(both.model(), sequences, setting_of("tova", 12), {});
    ASSERT_EQ(m.nll_by_position.size(), demo::position_parts);  // of 64 predictions: 4 each
    for (std::size_t part = 0; part < demo::position_parts; ++part) {
        double sum = 0;
        std::size_t count = 0;
        for (const auto& nll : m.nll) {
            for (std::size_t i = 4 * part; i < std::min(nll.size(), 4 * (part + 1)); ++i, ++count) sum += nll[i];
        }
        EXPECT_NEAR(m.nll_by_position[part], sum / static_cast<double>(count), 1e-12);
    }
    ASSERT_EQ(m.sequences.size(), 2U);
    EXPECT_EQ(m.sequences[0].tokens, 64U);
    EXPECT_NEAR(m.sequences[1].nll, std::accumulate(m.nll[1].begin(), m.nll[1].end(), 0.0), 1e-12);
}

/// The states held at the end are all arrivals except the forgotten ones.
TEST(Fidelity, StatesThatPoliciesShare) {
    twin both({});
    const auto sequences = some_sequences();
    const auto measured = [&](const char* policy, std::size_t k) {
        return demo::measure(both.model(), sequences, setting_of(policy, k), {.forgotten = true});
    };
    const auto tova = measured("tova", 12), window = measured("window", 12), full = measured("full", 1);
    for (const auto& m : {tova, window, full}) {
        std::vector<std::vector<bool>> expected;
        for (const sequence& s : sequences) expected.emplace_back(4 * s.size(), true);  // 2 layers of 2 heads
        for (const demo::forgetting& f : m.forgotten) {
            if (f.step + 1 == static_cast<ms::position>(sequences[f.sequence].size())) continue;  // decided at the end
            expected[f.sequence][(f.layer * 2 + f.kv_head) * sequences[f.sequence].size() +
                                 static_cast<std::size_t>(f.position)] = false;
        }
        EXPECT_EQ(m.kept, expected);
    }
    EXPECT_EQ(demo::shared_states(tova, tova, sequences).share(), 1);
    const auto both_kept = demo::shared_states(tova, window, sequences);
    EXPECT_LT(both_kept.share(), 1);
    EXPECT_EQ(both_kept.both() + both_kept.either(), 2U * 2 * 4 * 13);  // 2 policies, 2 sequences, 4 heads, 13 states
    EXPECT_EQ(demo::shared_states(full, window, sequences).both(), 2U * 4 * 13);
}

TEST(Memory, RowsBookkeepingAndStates) {
    twin both({});
    const auto sequences = some_sequences();
    for (const auto& [codec, state] : {std::pair("f32", 128U), {"f16", 64U}, {"bf16", 64U}, {"int8", 40U}}) {
        setting s = setting_of("h2o", 32);  // 2 layers of 2 heads of 16
        s.codec = codec;
        const demo::memory_use m = demo::measure(both.model(), sequences, s, {}).bytes;
        EXPECT_EQ(m.state, state) << codec;
        EXPECT_GE(m.rows, (32 + 16) * 4 * state) << codec;  // k and a block
        EXPECT_LT(m.rows, (32 + 16) * 4 * state + 4 * 1024) << codec;
        EXPECT_GT(m.bookkeeping(), (32 + 16) * 4 * sizeof(float)) << codec;  // h2o has a score for each state
        EXPECT_EQ(m.cache, m.rows + m.bookkeeping());
        EXPECT_GT(m.scratch, 0U);
        EXPECT_LT(m.cache_at_32k, m.cache) << "one token at a time needs no rows for a block";
        EXPECT_GE(m.cache_at_32k, 33 * 4 * state);
    }
    const demo::memory_use full = demo::measure(both.model(), sequences, setting_of("full", 1), {}).bytes;
    EXPECT_GE(full.cache_at_32k, 32768U * 4 * 128);
    EXPECT_LT(full.cache_at_32k, 32768U * 4 * 128 * 11 / 10);
}

/// Each piece is measured as a sequence of its own would be, behind the first token.
TEST(ShorterContext, IsFullOnPieces) {
    twin both({});
    demo::random_numbers random(23);
    const std::vector<sequence> sequences{random_tokens(40, 512, random), random_tokens(7, 512, random), {3}};
    const auto full = full_of(both, sequences);
    for (const std::size_t k : {1U, 6U, 13U, 39U, 100U}) {
        std::vector<sequence> pieces;
        std::vector<std::size_t> unasked;  // predictions of a piece that belong to the one before it
        for (const sequence& s : sequences) {
            for (std::size_t begin = 0, end = 0; begin + 1 < s.size(); begin = end) {
                const bool ahead = begin > 0 && k > 1;
                end = std::min(begin + k - (ahead ? 1 : 0), s.size() - 1);
                sequence& piece = pieces.emplace_back();
                if (ahead) piece.push_back(s.front());
                for (std::size_t i = begin; i <= end; ++i) piece.push_back(s[i]);
                unasked.push_back(ahead ? 1 : 0);
                EXPECT_LE(piece.size(), k + 1);
            }
        }
        std::vector<double> expected, given;
        const auto measured = demo::measure(both.model(), pieces, setting_of("full", 1), {});
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            const auto own = std::span(measured.nll[i]).subspan(unasked[i]);
            expected.insert(expected.end(), own.begin(), own.end());
        }
        std::atomic<std::size_t> progress = 0;
        const auto m = demo::measure(both.model(), sequences, demo::shorter_context(k, 16),
                                     {.beside = &full, .progress = [&](std::size_t n) { progress += n; }});
        for (const auto& nll : m.nll) given.insert(given.end(), nll.begin(), nll.end());
        ASSERT_EQ(given.size(), expected.size()) << k;
        for (std::size_t i = 0; i < given.size(); ++i) EXPECT_NEAR(given[i], expected[i], rounding) << k << ' ' << i;
        EXPECT_EQ(progress, 48U);
        EXPECT_EQ(m.forgot_nothing, k >= 39) << k;
        EXPECT_EQ(demo::name_of(demo::shorter_context(k, 16)), "shorter_context at k = " + std::to_string(k));
        if (k >= 39) {
            EXPECT_NEAR(m.fidelity->kl.mean, 0, 1e-6);
        }
        EXPECT_LE(m.bytes.cache, full.bytes.cache);
    }
}

// Several settings at once.

std::vector<setting> some_settings() {
    return {setting_of("window", 9), setting_of("tova", 12), setting_of("h2o", 20), setting_of("tova", 30)};
}

TEST(Campaign, EverySettingAsIfAloneInOrder) {
    const auto sequences = some_sequences();
    twin alone({});
    for (const std::size_t threads : {1U, 2U, 3U, 16U}) {
        twin both({}, threads);
        const std::vector<setting> settings = some_settings();
        std::vector<demo::measurement> results;
        demo::measure_all(both.model(), sequences, settings, {}, [&](demo::finished f) {
            EXPECT_EQ(f.index, results.size());
            EXPECT_EQ(f.failure, "");
            results.push_back(std::move(f.result).value());
        });
        ASSERT_EQ(results.size(), settings.size()) << threads;
        for (std::size_t i = 0; i < settings.size(); ++i) {
            const auto one = demo::measure(alone.model(), sequences, settings[i], {});
            EXPECT_EQ(one.nll, results[i].nll);
            EXPECT_EQ(one.kept, results[i].kept);
            EXPECT_GT(results[i].seconds, 0);
        }
    }
}

TEST(Campaign, StopsWithWhatIsDone) {
    for (const std::size_t threads : {1U, 2U}) {
        twin both({}, threads);
        const auto sequences = some_sequences();
        std::vector<std::size_t> delivered;
        std::atomic<bool> stop = false;
        demo::measure_all(both.model(), sequences, some_settings(), {.stop = [&] { return stop.load(); }},
                          [&](const demo::finished& f) {
                              delivered.push_back(f.index);
                              stop = f.index == 1;
                          });
        ASSERT_GE(delivered.size(), 2U);
        if (threads == 1) {
            EXPECT_EQ(delivered.size(), 2U) << "only another thread may have been about to finish";
        }
        for (std::size_t i = 0; i < delivered.size(); ++i) EXPECT_EQ(delivered[i], i);
    }
}

/// A setting that fails does not disturb the others; what cannot be written ends all.
TEST(Campaign, Failures) {
    const demo::temporary_folder folder;
    const auto path = folder / "overflow.gguf";
    demo::write_synthetic_llama(path, {.final_norm = 1e38});
    const gguf file(path);
    multistate::thread_pool pool(2);
    const demo::llama model(file, pool);
    std::size_t failures = 0;
    demo::measure_all(model, some_sequences(), some_settings(), {}, [&](const demo::finished& f) {
        EXPECT_FALSE(f.result);
        EXPECT_NE(f.failure.find("token 1 in sequence 0"), std::string::npos) << f.failure;
        ++failures;
    });
    EXPECT_EQ(failures, some_settings().size());

    twin both({}, 2);
    EXPECT_THROW(demo::measure_all(both.model(), some_sequences(), some_settings(), {},
                                   [](const demo::finished&) { throw std::runtime_error("full disk"); }),
                 std::runtime_error);
}

/// The attention of the full cache, recorded apart from the measurement.
ms::attention_record recorded(demo::llama& model, const sequence& tokens) {
    const ms::shape shape = model.cache_shape(tokens.size(), 1);
    ms::attention_record record({.layers = shape.layers, .kv_heads = shape.kv_heads, .tokens = tokens.size()});
    ms::cache<ms::attention_recorder> cache(shape, {&record});
    demo::matrix hidden;
    EXPECT_TRUE(model.prefill(cache, tokens, 0, ms::prefill_mode::exact, hidden));
    record.finish();
    return record;
}

TEST(Oracle, ForgetsTheStateWithTheLeastAttentionStillToCome) {
    twin both({.layers = 2, .heads = 4, .kv_heads = 2});
    demo::random_numbers random(11);
    const std::vector<sequence> texts{random_tokens(40, both.model().config().vocabulary, random)};
    const ms::attention_record record = recorded(both.model(), texts.front());
    const setting s = demo::attention_oracle(8, ms::per::head);
    const measurement m = demo::measure(both.model(), texts, s, {.forgotten = true});
    std::map<std::pair<std::size_t, std::size_t>, std::set<ms::position>> gone;
    std::size_t judged = 0;
    for (const demo::forgetting& f : m.forgotten) {
        auto& missing = gone[{f.layer, f.kv_head}];
        if (f.step + 1 < 40) {  // after the last token nothing comes: all are equal
            const auto later = record.attention_from({f.layer, f.kv_head, f.step + 1});
            for (ms::position j = 0; j <= f.step; ++j) {
                if (missing.contains(j)) continue;
                EXPECT_LE(later[static_cast<std::size_t>(f.position)], later[static_cast<std::size_t>(j)])
                    << f.step << ' ' << f.layer << ' ' << f.kv_head << ' ' << j;
                ++judged;
            }
        }
        missing.insert(f.position);
    }
    EXPECT_GT(judged, 1000U);
}

TEST(Oracle, OfALayerForgetsForAllKvHeads) {
    twin both({.layers = 2, .heads = 4, .kv_heads = 2});
    demo::random_numbers random(12);
    const std::vector<sequence> texts{random_tokens(30, both.model().config().vocabulary, random)};
    const measurement m =
        demo::measure(both.model(), texts, demo::attention_oracle(8, ms::per::layer), {.forgotten = true});
    std::map<std::tuple<std::size_t, ms::position, ms::position>, std::size_t> heads;
    for (const demo::forgetting& f : m.forgotten) ++heads[{f.layer, f.step, f.position}];
    EXPECT_EQ(heads.size(), 2U * 22);
    for (const auto& [where, count] : heads) EXPECT_EQ(count, 2U);
}

}  // namespace measurement_test
