// Policies that merge: their composition, and whole caches beside a model that is written down in double precision.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/attention/prefill.hpp>
#include <multistate/cache/cache.hpp>
#include <multistate/codecs/int8.hpp>
#include <multistate/math/random.hpp>
#include <multistate/modifiers/pool.hpp>
#include <multistate/policies/cam.hpp>
#include <multistate/policies/d2o.hpp>
#include <multistate/policies/tova_head.hpp>
#include <multistate/policies/value_merge.hpp>
#include <multistate/policy/one_of.hpp>

#include "support/by_hand.hpp"
#include "support/erasing_head.hpp"
#include "support/stored.hpp"
#include "support/stream.hpp"

namespace merging_test {

namespace ms = multistate;
using states_of = support::erasing_head::states_of;
using some_merging = ms::one_of<ms::cam, ms::d2o, ms::value_merge>;

// The rules, as the papers' codes have them: all states in the order of the text, and which of them go.

double dot(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (std::size_t c = 0; c < a.size(); ++c) sum += a[c] * b[c];
    return sum;
}
double cosine(const std::vector<double>& a, const std::vector<double>& b) {
    return dot(a, b) / std::sqrt(dot(a, a) * dot(b, b));
}
/// The state that stays with the most similar key.
std::size_t nearest(const states_of& held, const std::vector<bool>& goes, std::size_t i) {
    std::size_t best = held.size();
    for (std::size_t j = 0; j < held.size(); ++j) {
        if (goes[j]) continue;
        if (best == held.size() || cosine(held[i].key, held[j].key) > cosine(held[i].key, held[best].key)) best = j;
    }
    return best;
}
/// x[j] = (x[j] + sum of w[i] x[i]) / (1 + sum of w[i]) over all i with target[i] == j, for one member of a state.
void blend(states_of& held, const std::vector<std::size_t>& target, const std::vector<double>& weight, auto member) {
    for (std::size_t j = 0; j < held.size(); ++j) {
        double total = 1;
        std::vector<double> sum = held[j].*member;
        for (std::size_t i = 0; i < held.size(); ++i) {
            if (target[i] != j || weight[i] <= 0) continue;
            total += weight[i];
            for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += weight[i] * (held[i].*member)[c];
        }
        if (total == 1) continue;
        for (double& x : sum) x /= total;
        held[j].*member = sum;
    }
}

struct cam_rule {
    std::size_t survivors;
    std::size_t seed, layer, kv_head;

    void operator()(states_of& held, const std::vector<bool>& goes) const {
        const states_of before = held;
        for (std::size_t i = 0; i < held.size(); ++i) {
            if (!goes[i]) continue;
            std::vector<std::size_t> targets;
            double sum = 0;
            for (std::size_t j = i + 1; j < held.size() && targets.size() < survivors; ++j) {
                if (goes[j]) continue;
                targets.push_back(j);
                sum += before[j].score;
            }
            if (targets.empty()) continue;
            const auto n = static_cast<double>(targets.size());
            const double drawn = ms::uniform(ms::random_bits(seed, layer, kv_head, before[i].position));
            if (drawn >= before[i].score / (sum / n)) continue;
            for (const std::size_t j : targets) {
                for (std::size_t c = 0; c < held[j].value.size(); ++c) held[j].value[c] += before[i].value[c] / n;
            }
        }
    }
};

struct d2o_rule {
    bool keys;
    double threshold = -9;

    void operator()(states_of& held, const std::vector<bool>& goes) {
        std::vector<std::size_t> target(held.size(), held.size());
        std::vector<double> weight(held.size());
        double sum = 0;
        double count = 0;
        for (std::size_t i = 0; i < held.size(); ++i) {
            if (!goes[i]) continue;
            target[i] = nearest(held, goes, i);
            weight[i] = cosine(held[i].key, held[target[i]].key);
            sum += weight[i];
            ++count;
        }
        const bool first = threshold == -9;
        threshold = first ? sum / count : 0.5 * threshold + 0.5 * sum / count;
        for (std::size_t i = 0; i < held.size(); ++i) {
            // of a single one at first the mean is the cosine itself, and rounding has no say
            if (goes[i] && !(first && count == 1) && weight[i] < threshold) weight[i] = 0;
        }
        const states_of before = held;
        blend(held, target, weight, &support::erasing_head::state::value);
        if (keys) blend(held, target, weight, &support::erasing_head::state::key);
    }
};

void value_merge_rule(states_of& held, const std::vector<bool>& goes) {
    std::vector<std::size_t> target(held.size(), held.size());
    std::vector<double> weight(held.size());
    for (std::size_t i = 0; i < held.size(); ++i) {
        if (!goes[i]) continue;
        target[i] = nearest(held, goes, i);
        const double length = std::sqrt(dot(held[i].value, held[i].value));
        const double other = std::sqrt(dot(held[target[i]].value, held[target[i]].value));
        weight[i] = std::max(cosine(held[i].key, held[target[i]].key), 0.0) * length / (length + other);
    }
    blend(held, target, weight, &support::erasing_head::state::value);
}

/// What a codec makes of a row.
template <class C>
std::vector<double> as_stored(const std::vector<double>& row) {
    ms::storage<C> one(1, 1, row.size());
    const std::vector<float> given(row.begin(), row.end());
    std::vector<float> read(row.size());
    one.write(0, 0, given.data());
    one.plane(0).read(0, read.data());
    return {read.begin(), read.end()};
}

constexpr ms::shape shape{
    .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 12, .value_dim = 20, .states = 17, .block = 40};
constexpr std::size_t layer = 1;

struct bounds {
    double most;
    double mean;
};

/// 120 tokens, `size` at a time, beside two heads that erase.
template <class C>
void equals_the_model(const some_merging& policy, std::size_t size, ms::prefill_mode mode, bounds error) {
    ms::cache<some_merging, C> cache(shape, policy);
    ms::workspace scratch(cache.shape());
    const support::stream tokens(shape, 120, 4);
    std::vector<support::erasing_head> heads;
    for (std::size_t h = 0; h < 2; ++h) {
        support::erasing_head head{.group = 2, .states = 17, .recent = 8, .scale = 1 / std::sqrt(12.0)};
        std::function<void(states_of&, const std::vector<bool>&)> rule = value_merge_rule;
        if (policy.name() == "cam") rule = cam_rule{.survivors = 5, .seed = 3, .layer = layer, .kv_head = h};
        if (policy.name() == "d2o") {
            head.sinks = 4;
            bool keys = false;
            ms::for_each_parameter(policy, [&](std::string_view name, auto value, auto...) {
                if (name == "keys") keys = value != 0;
            });
            rule = d2o_rule{.keys = keys};
        }
        head.merge = [rule](states_of& held, const std::vector<bool>& goes) mutable {
            const states_of before = held;
            rule(held, goes);
            for (std::size_t j = 0; j < held.size(); ++j) {  // stored again only where something changed
                if (held[j].value != before[j].value) held[j].value = as_stored<C>(held[j].value);
                if (held[j].key != before[j].key) held[j].key = as_stored<C>(held[j].key);
            }
        };
        heads.push_back(head);
    }
    double sum = 0;
    for (std::size_t first = 0; first < 120; first += size) {
        std::vector<float> out(size * tokens.out_width);
        ASSERT_TRUE(ms::prefill(cache.layer(layer), static_cast<int>(first),
                                {tokens.q(first, size), tokens.k(first, size), tokens.v(first, size)}, out, scratch,
                                mode));
        for (std::size_t h = 0; h < 2; ++h) {
            const auto own = [&](auto all) { return all.subspan(h * all.size() / 2, all.size() / 2); };
            const auto place = [&](std::size_t t) {
                const auto key = own(tokens.k(t)), value = own(tokens.v(t));
                heads[h].held.push_back({static_cast<int>(t), as_stored<C>({key.begin(), key.end()}),
                                         as_stored<C>({value.begin(), value.end()})});
            };
            const bool once = mode == ms::prefill_mode::block;
            if (once) heads[h].forget();
            for (std::size_t t = first; once && t < first + size; ++t) place(t);
            for (std::size_t t = first; t < first + size; ++t) {
                if (!once) heads[h].forget();
                if (!once) place(t);
                const auto expected = heads[h].attend(static_cast<int>(t), own(tokens.q(t)));
                const auto given = own(std::span(out).subspan((t - first) * tokens.out_width, tokens.out_width));
                for (std::size_t i = 0; i < given.size(); ++i) {
                    const double off = std::abs(static_cast<double>(given[i]) - expected[i]);
                    ASSERT_LE(off, error.most) << policy.name() << " token " << t;
                    sum += off;
                }
            }
            ASSERT_GT(heads[h].margin, 1e-5) << "too close to call: another seed is needed";
            std::vector<int> held(cache.layer(layer).positions(h).begin(), cache.layer(layer).positions(h).end());
            std::ranges::sort(held);
            ASSERT_EQ(held, heads[h].positions()) << policy.name() << " after " << first + size;
        }
    }
    EXPECT_LE(sum / static_cast<double>(120 * tokens.out_width), error.mean) << policy.name();
}

std::vector<some_merging> policies() {
    ms::cam cam;
    cam.get<ms::into_following>().survivors = 5;
    cam.get<ms::into_following>().seed = 3;
    ms::d2o keys;
    keys.get<ms::into_similar>().keys = true;
    return {cam, ms::d2o{}, keys, ms::value_merge{}};
}

/// In float32 merging loses no more than attention does.
TEST(merging, caches_equal_the_model) {
    for (const some_merging& policy : policies()) {
        equals_the_model<ms::f32>(policy, 1, ms::prefill_mode::exact, {1e-5, 3e-7});
        equals_the_model<ms::f32>(policy, 40, ms::prefill_mode::exact, {1e-5, 3e-7});
        equals_the_model<ms::f32>(policy, 24, ms::prefill_mode::block, {1e-5, 3e-7});
        if (HasFatalFailure()) return;
    }
}

/// A number between two steps of int8 may be rounded to the other in float32: a step of 1/127 of its row's peak, now
/// and then. All else is as exact as codec.hpp says.
TEST(merging, caches_of_narrow_codecs_equal_the_model) {
    for (const some_merging& policy : policies()) {
        equals_the_model<ms::int8>(policy, 1, ms::prefill_mode::exact, {0.02, 4e-5});
        equals_the_model<ms::int8>(policy, 24, ms::prefill_mode::block, {0.02, 4e-5});
        if (HasFatalFailure()) return;
    }
}

TEST(merging, copies_go_on_alike) {
    for (const some_merging& policy : policies()) {
        ms::cache<some_merging> cache(shape, policy);
        const support::stream tokens(shape, 80, 4);
        std::vector<float> out(tokens.out_width), other(tokens.out_width);
        const auto step = [&](auto& c, std::size_t t, std::vector<float>& to) {
            ms::workspace scratch(c.shape());
            EXPECT_TRUE(
                ms::step(c.layer(0), static_cast<int>(t), {tokens.q(t), tokens.k(t), tokens.v(t)}, to, scratch));
        };
        for (std::size_t t = 0; t < 50; ++t) step(cache, t, out);
        auto copy = cache.clone();
        for (std::size_t t = 50; t < 80; ++t) {
            step(cache, t, out);
            step(copy, t, other);
            ASSERT_EQ(out, other) << policy.name();
        }
    }
}

/// Memory of a policy's own that a merger must leave alone, and a merger that says what it was given.
struct counts : support::by_hand {
    std::size_t planes = 2;
    static constexpr ms::parameter<counts> parameters[] = {{"planes", &counts::planes, 1, 3}};
    struct memory {
        ms::per_state_array<float> marks;
        ms::per_table<float> count;
    };
    void lay_out(memory& m, ms::layout& l) const noexcept {
        l(m.marks, planes);
        l(m.count, 3);
    }
    void on_attention(ms::rows probabilities, ms::view states) const noexcept {
        support::by_hand::on_attention(probabilities, states);
        const auto [marks, count] = states.memory(*this);
        for (std::size_t i = 0; i < planes; ++i) {
            for (const float x : marks[i]) EXPECT_TRUE(x == count[2] || x == 0) << x;
        }
        count[2] += 1;
        for (std::size_t i = 0; i < planes; ++i) std::ranges::fill(marks[i], count[2]);
    }
};
struct writes {
    bool loud = true;
    static constexpr ms::parameter<writes> parameters[] = {{"loud", &writes::loud}};
    struct memory {
        ms::per_state<float> mark;
        ms::per_table<float> value;
    };
    static void lay_out(memory& m, ms::layout& l) noexcept {
        l(m.mark);
        l(m.value, l.shape().value_dim);
    }
    void merge(const ms::editor& stored, std::span<const std::uint32_t> gone, ms::view states) const noexcept {
        const auto [mark, value] = states.memory(*this);
        EXPECT_EQ(value.size(), stored.value_dim);
        EXPECT_EQ(gone.size(), 1u);
        value[0] += 100;
        std::ranges::fill(mark, value[0]);
        stored.set_value(0, states.by_position.back(), value);
    }
};
using both = ms::composed<counts, writes>;
static_assert(ms::policy<both> && ms::has_merge<both> && ms::has_on_attention<both> && ms::has_memory<both> &&
              !ms::has_default_guards<both> && ms::reads_of(both{}).stored && ms::reads_of(both{}).order);
static_assert(ms::has_default_guards<ms::cam> && !ms::has_on_forget<ms::cam>);

TEST(merging, keeps_the_memory_of_policy_and_merger_apart) {
    const ms::table_shape s{.states = 2, .head_dim = 1, .value_dim = 2};
    EXPECT_EQ(ms::detail::size_of_memory(both{}, s, 1).per_state, 3 * sizeof(float));
    EXPECT_EQ(ms::detail::size_of_memory(both{}, s, 1).per_table, 5 * sizeof(float));
    ms::table<both> table(s);
    support::stored_floats stored(s);
    for (int p = 0; p < 5; ++p) {
        stored.place(table, p, {{0}}, {{1, 1}});
        support::score(table, std::vector<float>(table.size(), 1.0f));
        // what the policy counts is what it was shown, whatever the merger writes
        if (p < 3) continue;
        const std::size_t newest = table.positions()[0] == p ? 0 : table.positions()[1] == p ? 1 : 2;
        EXPECT_EQ(*stored.value(0, newest), 1);
    }
    stored.forget(table);
    bool found = false;
    for (std::size_t row = 0; row < 2; ++row) found |= *stored.value(0, row) == 300;
    EXPECT_TRUE(found) << "the third decision, into the newest";
}

TEST(merging, has_the_parameters_of_both) {
    std::string names;
    both p;
    ms::for_each_parameter(p, [&]<class T>(std::string_view name, T& value, T least, T most) {
        names.append(name).append(" ");
        value = least;
        EXPECT_LT(least, most);
    });
    EXPECT_EQ(names, "planes loud ");
    EXPECT_EQ(p.get<counts>().planes, 1u);
    EXPECT_FALSE(p.get<writes>().loud);
    EXPECT_EQ(ms::detail::size_of_memory(p, {.states = 1}, 1).per_state, 2 * sizeof(float));
    p.get<counts>().planes = 4;
    EXPECT_THROW(ms::check_parameters(p), std::invalid_argument);
    ms::cam cam;
    cam.get<ms::into_following>().survivors = 0;
    EXPECT_THROW(ms::table<ms::cam>({.states = 3, .head_dim = 1, .value_dim = 1}, cam), std::invalid_argument);
    EXPECT_THROW(ms::table<ms::cam>({.states = 3}), std::invalid_argument) << "needs dimensions";
}

/// Modifiers and mergers go together. Inside, the merger sees the scores of the policy; outside, those that decide.
struct inside : ms::composed<ms::cam, ms::pool> {
    static constexpr std::string_view name = "inside";
};
struct outside : ms::composed<ms::h2o, ms::pool, ms::into_following> {
    static constexpr std::string_view name = "outside";
};
static_assert(ms::has_merge<inside> && ms::has_merge<outside> && ms::has_on_forget<outside>);

TEST(merging, works_with_modifiers) {
    const auto run = [](std::string_view name) {
        using either = ms::one_of<inside, outside>;
        ms::cache<either> cache(shape, either::named(name));
        ms::workspace scratch(cache.shape());
        const support::stream tokens(shape, 60, 8);
        std::vector<float> out(tokens.out_width);
        for (std::size_t t = 0; t < 60; ++t) {
            EXPECT_TRUE(
                ms::step(cache.layer(0), static_cast<int>(t), {tokens.q(t), tokens.k(t), tokens.v(t)}, out, scratch));
        }
        return std::vector<int>(cache.layer(0).positions(1).begin(), cache.layer(0).positions(1).end());
    };
    EXPECT_EQ(run(inside::name), run(outside::name)) << "values do not decide";
}

}  // namespace merging_test
