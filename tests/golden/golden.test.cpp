// What each policy forgets when, on fixed random input, as text: one file for each policy, one for compositions, one
// for budgets. A change of the files is a change of decisions, and a reviewer sees it as one. After a change that is
// wanted:
//
//     MULTISTATE_WRITE_GOLDEN=1 build/release/tests/multistate_golden
//
// A line is one KV head, or all heads of a layer where they forget together: `@12` is the number of arrivals before the
// first that forgot, then come the positions that each arrival forgot, `-` for none. `~` marks a near-tie: a tiny
// change of the input decides otherwise, so another target may, too, and what follows such a difference is not
// compared.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/budgets/budgets.hpp>
#include <multistate/multistate.hpp>

#include "support/any_policy.hpp"
#include "support/stream.hpp"

namespace golden_test {

namespace ms = multistate;

constexpr std::size_t tokens = 60;
constexpr int shaken_runs = 8;

/// How a layer's tokens arrive.
struct way {
    std::string_view name;
    std::size_t block = 1;
    ms::prefill_mode mode = ms::prefill_mode::exact;
};
constexpr way steps{"step"}, exact{"exact prefill of 7", 7}, block{"block prefill of 16", 16, ms::prefill_mode::block};

ms::shape shape_of(std::size_t kv_heads, const way& how) {
    return {.layers = 1, .heads = 4, .kv_heads = kv_heads, .head_dim = 8, .states = 20, .block = how.block};
}

/// Decisions of one KV head: what each arrival forgot, as text.
using line = std::vector<std::string>;

template <class Cache>
std::string forgotten_by(const Cache& cache, std::size_t layer, std::size_t kv_head) {
    std::string result;
    for (const ms::forgotten_state& f : cache.layer(layer).forgotten(kv_head)) {
        result.append(result.empty() ? "" : ",").append(std::to_string(f.position));
    }
    return result.empty() ? "-" : result;
}

/// Feeds all tokens to all layers; one line for each layer, or KV head where they decide for themselves.
template <class Cache>
std::vector<line> decisions(Cache& cache, const support::stream& input, const way& how, bool by_head) {
    ms::workspace scratch(cache.shape());
    const ms::shape& s = cache.shape();
    const std::size_t heads = by_head ? s.kv_heads : 1;
    std::vector<line> result(s.layers * heads);
    for (std::size_t first = cache.layer(0).next_position(); first < input.size; first += how.block) {
        const std::size_t n = std::min(how.block, input.size - first);
        std::vector<float> out(n * input.out_width);
        for (std::size_t layer = 0; layer < s.layers; ++layer) {
            EXPECT_TRUE(ms::prefill(cache.layer(layer), static_cast<ms::position>(first),
                                    {input.q(first, n), input.k(first, n), input.v(first, n)}, out, scratch, how.mode));
            for (std::size_t h = 0; h < heads; ++h) result[layer * heads + h].push_back(forgotten_by(cache, layer, h));
        }
    }
    return result;
}

/// The same tokens, each number changed by a share of up to `noise`.
support::stream shaken(support::stream input, std::uint64_t seed, float noise) {
    support::random_numbers random(seed);
    for (auto* numbers : {&input.queries, &input.keys, &input.values}) {
        for (float& x : *numbers) x *= 1 + random.within(noise);
    }
    return input;
}

/// What a file holds under one heading.
struct section {
    std::string heading;
    std::vector<line> lines;
};

/// Marks the arrival at which a shaken run first decides otherwise.
void mark_near_ties(std::vector<line>& lines, const std::vector<line>& other) {
    for (std::size_t l = 0; l < lines.size(); ++l) {
        for (std::size_t i = 0; i < lines[l].size(); ++i) {
            std::string& mine = lines[l][i];
            if (mine.substr(0, mine.find('~')) == other[l][i]) continue;
            if (!mine.ends_with('~')) mine += '~';
            break;
        }
    }
}

bool writes() { return std::getenv("MULTISTATE_WRITE_GOLDEN") != nullptr; }

/// Runs `decide(stream)`; where files are written, near-ties are marked.
template <class Decide>
section run(std::string heading, const ms::shape& shape, float noise, Decide&& decide) {
    const support::stream input(shape, tokens, 1);
    section result{std::move(heading), decide(input)};
    for (std::uint64_t seed = 1; writes() && seed <= shaken_runs; ++seed) {
        mark_near_ties(result.lines, decide(shaken(input, seed, noise)));
    }
    return result;
}

std::string text_of(const line& arrivals) {
    std::size_t first = 0;
    while (first < arrivals.size() && arrivals[first] == "-") ++first;
    std::string result = "@" + std::to_string(first);
    for (; first < arrivals.size(); ++first) result.append(" ").append(arrivals[first]);
    return result;
}
std::string text_of(const section& s) {
    std::string result = s.heading + "\n";
    for (const line& l : s.lines) result.append("    ").append(text_of(l)).append("\n");
    return result;
}

/// One line of a file against what was decided now: equal up to the end, or to a near-tie decided otherwise.
void compare(const std::string& heading, const std::string& golden, const std::string& now) {
    std::istringstream expected(golden), found(now);
    std::string e, f;
    while (expected >> e) {
        const bool near_tie = e.ends_with('~');
        if (near_tie) e.pop_back();
        ASSERT_TRUE(found >> f) << heading;
        if (near_tie && e != f) return;
        ASSERT_EQ(e, f) << heading << "\ngolden" << golden << "\nnow   " << now;
    }
    ASSERT_FALSE(found >> f) << heading;
}

void compare_or_write(const std::string& name, const std::vector<section>& sections) {
    const std::filesystem::path path = std::filesystem::path(MULTISTATE_GOLDEN_FOLDER) / (name + ".txt");
    std::string now;
    for (const section& s : sections) now += text_of(s);
    if (writes()) {
        std::ofstream(path) << now;
        return;
    }
    std::ifstream file(path);
    ASSERT_TRUE(file) << "no file " << path << ": MULTISTATE_WRITE_GOLDEN=1 build/release/tests/multistate_golden "
                      << "--gtest_filter='*/" << name << "' writes it";
    std::istringstream current(now);
    std::string expected, found, heading;
    while (std::getline(file, expected)) {
        ASSERT_TRUE(std::getline(current, found)) << path << " has more lines than there are decisions";
        if (!expected.starts_with(' ')) {
            heading = path.filename().string() + ": " + expected;
            ASSERT_EQ(expected, found);
        } else {
            ASSERT_NO_FATAL_FAILURE(compare(heading, expected, found));
        }
    }
    ASSERT_FALSE(std::getline(current, found)) << path << " has fewer lines than there are decisions";
}

/// What a change of the input by rounding is: that of float32 kernels, or of the codec.
template <class Codec>
constexpr float noise = 1e-5f;
template <>
constexpr float noise<ms::bf16> = 1e-2f;  // its dot instruction rounds queries and weights to bf16
template <>
constexpr float noise<ms::int8> = 1e-3f;
template <>
constexpr float noise<ms::int4> = 1e-3f;

template <class Codec>
section with_codec(const ms::any_policy& policy, const ms::shape& shape, const way& how, const std::string& more = "") {
    const std::string heading = std::to_string(shape.heads) + " heads on " + std::to_string(shape.kv_heads) + ", " +
                                std::string(Codec::name) + ", " + std::string(how.name) + more;
    return run(heading, shape, noise<Codec>, [&](const support::stream& input) {
        ms::cache<ms::any_policy, Codec> cache(shape, policy);
        return decisions(cache, input, how, policy.forgets() == ms::per::head);
    });
}

class golden : public testing::TestWithParam<std::string_view> {};

TEST_P(golden, decisions) {
    const auto policy = ms::any_policy::named(GetParam());
    std::vector<section> all;
    for (const std::size_t kv_heads : {4u, 2u, 1u}) {
        all.push_back(with_codec<ms::f32>(policy, shape_of(kv_heads, steps), steps));
    }
    for (const way& how : {exact, block}) all.push_back(with_codec<ms::f32>(policy, shape_of(2, how), how));
    ms::shape waiting = shape_of(2, steps);
    waiting.slack = 5;
    all.push_back(with_codec<ms::f32>(policy, waiting, steps, ", slack 5"));
    ms::shape guarded = shape_of(2, steps);
    guarded.sinks = 2;
    guarded.recent = 3;
    all.push_back(with_codec<ms::f32>(policy, guarded, steps, ", sinks 2, recent 3"));
    all.push_back(with_codec<ms::f16>(policy, shape_of(2, steps), steps));
    all.push_back(with_codec<ms::bf16>(policy, shape_of(2, steps), steps));
    all.push_back(with_codec<ms::int8>(policy, shape_of(2, steps), steps));
    all.push_back(with_codec<ms::int4>(policy, shape_of(2, steps), steps));
    compare_or_write(std::string(GetParam()), all);
}

std::vector<std::string_view> policies_that_forget() {
    std::vector<std::string_view> result;
    for (const std::string_view name : ms::any_policy::names) {
        if (ms::any_policy::named(name).forgets() != ms::per::never) result.push_back(name);
    }
    return result;
}
INSTANTIATE_TEST_SUITE_P(every, golden, testing::ValuesIn(policies_that_forget()),
                         [](const auto& one) { return std::string(one.param); });

// A composition of each kind, under the name that the file gave it first.
#define COMPOSITION(type, text, ...)                   \
    struct type : __VA_ARGS__ {                        \
        static constexpr std::string_view name = text; \
    }
COMPOSITION(pooled, "modified<h2o, pool>", ms::composed<ms::h2o, ms::pool>);
COMPOSITION(valued, "modified<tova_head, value_norm, pool>", ms::composed<ms::tova_head, ms::value_norm, ms::pool>);
COMPOSITION(chunked, "modified<h2o, chunk>", ms::composed<ms::h2o, ms::chunk>);
COMPOSITION(fading, "decayed<keyformer>", ms::composed<ms::keyformer, ms::decayed>);
COMPOSITION(greatest, "max_over_heads<tova>", ms::composed<ms::tova, ms::max_over_heads>);
COMPOSITION(together, "per_layer<knorm>", ms::composed<ms::knorm, ms::per_layer>);
COMPOSITION(apart, "per_head<window>", ms::composed<ms::window, ms::per_head>);
COMPOSITION(nearest, "merging<tova_head, into_nearest>", ms::composed<ms::tova_head, ms::into_nearest>);
COMPOSITION(similar, "merging<h2o, into_similar>", ms::composed<ms::h2o, ms::into_similar>);
COMPOSITION(following, "merging<h2o, into_following>", ms::composed<ms::h2o, ms::into_following>);
COMPOSITION(layered, "per_layer<modified<snapkv, value_norm>>",
            ms::composed<ms::snapkv, ms::value_norm, ms::per_layer>);
COMPOSITION(deep, "decayed<max_over_heads<h2o>>", ms::composed<ms::h2o, ms::max_over_heads, ms::decayed>);
#undef COMPOSITION
using compositions =
    ms::one_of<pooled, valued, chunked, fading, greatest, together, apart, nearest, similar, following, layered, deep>;

TEST(golden_of, compositions) {
    std::vector<section> all;
    for (const std::string_view name : compositions::names) {
        for (const way& how : {steps, exact}) {
            const auto policy = compositions::named(name);
            const ms::shape shape = shape_of(2, how);
            all.push_back(run(std::string(name) + ", " + std::string(how.name), shape, noise<ms::f32>,
                              [&](const support::stream& input) {
                                  ms::cache<compositions> cache(shape, policy);
                                  return decisions(cache, input, how, policy.forgets() == ms::per::head);
                              }));
        }
    }
    compare_or_write("compositions", all);
}

/// Layers or heads with numbers of states of their own, from the start or from a prompt on.
TEST(golden_of, budgets) {
    using cache_type = ms::cache<ms::any_policy>;
    std::vector<section> all;
    const auto add = [&](std::string heading, std::string_view policy, std::size_t layers, const way& how,
                         const std::vector<std::size_t>& budget, auto&& after_prompt) {
        ms::shape shape = shape_of(2, how);
        shape.layers = layers;
        all.push_back(
            run(std::string(policy) + ", " + heading, shape, noise<ms::f32>, [&](const support::stream& input) {
                cache_type cache(shape, ms::any_policy::named(policy), budget);
                const bool by_head = ms::any_policy::named(policy).forgets() == ms::per::head;
                support::stream prompt = input;
                prompt.size = how.block;
                std::vector<line> result = decisions(cache, prompt, how, by_head);
                after_prompt(cache);
                const std::size_t heads = result.size() / layers;
                for (std::size_t i = 0; i < result.size(); ++i) {
                    result[i].push_back(forgotten_by(cache, i / heads, i % heads));
                }
                const std::vector<line> after = decisions(cache, input, steps, by_head);
                for (std::size_t i = 0; i < result.size(); ++i) {
                    result[i].insert(result[i].end(), after[i].begin(), after[i].end());
                }
                return result;
            }));
    };
    const auto nothing = [](cache_type&) {};
    const auto rebudget = [](std::vector<std::size_t> states) {
        return [=](cache_type& cache) { cache.rebudget(states); };
    };
    const way prompt{"", 24, ms::prefill_mode::block};
    add("pyramid_budget", "tova", 3, steps, ms::pyramid_budget(3, 16, 4), nothing);
    add("heads of 12 and 20", "h2o", 1, steps, {12, 20}, nothing);
    for (const std::string_view policy : {"window", "tova", "h2o", "knorm", "roco", "keydiff", "d2o"}) {
        add("16 after 24", policy, 1, prompt, {}, rebudget({16}));
        add("22 after 20", policy, 1, prompt, {}, rebudget({22}));
    }
    for (const std::string_view policy : {"h2o", "snapkv", "vatp", "keydiff"}) {
        add("adaptive_budget", policy, 1, prompt, {},
            [](cache_type& cache) { cache.rebudget(ms::adaptive_budget(cache, 14)); });
    }
    compare_or_write("budgets", all);
}

}  // namespace golden_test
