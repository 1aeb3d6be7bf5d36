// What every policy of THE list keeps to, by its name through any_policy. For what needs its type, see plain.test.cpp.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/multistate.hpp>

#include "support/stream.hpp"

namespace contract_test {

namespace ms = multistate;

constexpr std::size_t length = 90;

/// A policy, and what its decisions look like from inside. A score that is not a number would be the first to go, and
/// leave no trace.
template <class P>
struct watching : P {
    watching(P p = {}) : P(p) {}

    static inline std::size_t not_numbers = 0;
    /// The least relative distance of two different scores at a decision.
    static inline float margin = 1;
    /// At the last decision: the positions that the policy was told may go, and how many states in guarded rows are no
    /// first arrivals, of a text from position 0 on.
    static inline std::vector<int> unguarded;
    static inline std::size_t wrong_sinks = 0;
    ms::reads what_is_read() const noexcept {
        return ms::reads_of(static_cast<const P&>(*this)) | ms::reads{.order = true};
    }

    void on_attention(ms::rows probabilities, ms::view states) noexcept {
        if constexpr (ms::has_on_attention<P>) P::on_attention(probabilities, states);
        look(states);
    }
    void on_forget(const ms::reader& stored, ms::view states) noexcept {
        if constexpr (ms::has_on_forget<P>) P::on_forget(stored, states);
        look(states);
        unguarded.clear();
        for (const std::uint32_t row : states.unguarded()) unguarded.push_back(states.position[row]);
        for (std::size_t row = 0; row < states.guarded.sinks; ++row) {
            wrong_sinks += states.position[row] != static_cast<int>(row);
        }
        std::vector<float> scores(states.score.begin(), states.score.end());
        std::ranges::sort(scores);
        for (std::size_t i = 1; i < scores.size(); ++i) {
            const float size = std::max(std::abs(scores[i]), std::abs(scores[i - 1]));
            if (scores[i] > scores[i - 1]) margin = std::min(margin, (scores[i] - scores[i - 1]) / size);
        }
    }

  private:
    static void look(ms::view states) noexcept {
        not_numbers += static_cast<std::size_t>(std::ranges::count_if(states.score, [](float s) { return s != s; }));
    }
};
using watched = watching<ms::any_policy>;
using watched_cache = ms::cache<watched>;

std::vector<int> sorted(std::span<const ms::position> positions) {
    std::vector<int> result(positions.begin(), positions.end());
    std::ranges::sort(result);
    return result;
}

/// Of every layer and KV head.
template <class Cache>
std::vector<std::vector<int>> held(const Cache& cache) {
    std::vector<std::vector<int>> result;
    for (std::size_t layer = 0; layer < cache.shape().layers; ++layer) {
        for (std::size_t h = 0; h < cache.shape().kv_heads; ++h)
            result.push_back(sorted(cache.layer(layer).positions(h)));
    }
    return result;
}
template <class Cache>
std::vector<std::vector<float>> scores(const Cache& cache) {
    std::vector<std::vector<float>> result;
    for (std::size_t layer = 0; layer < cache.shape().layers; ++layer) {
        for (std::size_t h = 0; h < cache.shape().kv_heads; ++h) {
            result.emplace_back(cache.layer(layer).scores(h).begin(), cache.layer(layer).scores(h).end());
        }
    }
    return result;
}

void check_guards(const watched_cache& cache, std::size_t seen, const ms::guards& in_force) {
    for (const auto& positions : held(cache)) {
        for (std::size_t p = 0; p < std::min(in_force.sinks, seen); ++p) {
            EXPECT_TRUE(std::ranges::binary_search(positions, static_cast<int>(p))) << "sink " << p;
        }
        for (std::size_t p = seen - std::min(in_force.recent, seen); p < seen; ++p) {
            EXPECT_TRUE(std::ranges::binary_search(positions, static_cast<int>(p))) << "recent " << p;
        }
    }
}

void check_positions(const watched_cache& cache, std::size_t seen, std::size_t most) {
    for (const auto& positions : held(cache)) {
        EXPECT_EQ(std::set<int>(positions.begin(), positions.end()).size(), positions.size()) << "unique";
        EXPECT_LE(positions.size(), most);
        EXPECT_TRUE(positions.empty() || (positions.front() >= 0 && positions.back() < static_cast<int>(seen)));
        // until something must go, all is there
        EXPECT_GE(positions.size(), std::min(seen, cache.shape().states));
    }
}

enum class way { steps, exact, block };
constexpr way every_way[] = {way::steps, way::exact, way::block};

/// Feeds tokens [begin, end) to every layer and returns the outputs, `check(seen)` after each call.
template <class Cache>
std::vector<float> feed(
    Cache& cache, const support::stream& tokens, way how, std::size_t begin, std::size_t end,
    const std::function<void(std::size_t)>& check = [](std::size_t) {}) {
    ms::workspace scratch(cache.shape());
    std::vector<float> all;
    const std::size_t block = how == way::steps ? 1 : cache.shape().block;
    for (std::size_t first = begin; first < end; first += block) {
        const std::size_t n = std::min(block, end - first);
        std::vector<float> out(n * tokens.out_width);
        for (std::size_t layer = 0; layer < cache.shape().layers; ++layer) {
            const auto position = static_cast<int>(first);
            const auto mode = how == way::block ? ms::prefill_mode::block : ms::prefill_mode::exact;
            EXPECT_TRUE(ms::prefill(cache.layer(layer), position,
                                    {tokens.q(first, n), tokens.k(first, n), tokens.v(first, n)}, out, scratch, mode));
            all.insert(all.end(), out.begin(), out.end());
        }
        check(first + n);
    }
    return all;
}

class contract : public testing::TestWithParam<std::string_view> {
  protected:
    static watched policy() { return ms::any_policy::named(GetParam()); }
    static bool never_forgets() { return policy().forgets() == ms::per::never; }

    /// full has rows for all of the text, the others for a block of 13. Where the policy's own guards leave no
    /// candidate beside these sinks, the user names other recent states.
    static ms::shape shape(std::size_t states, std::size_t sinks = 0) {
        ms::shape s{.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 12, .states = states, .block = 13};
        if (never_forgets()) s.block = length;
        const ms::guards own = policy().default_guards(states);
        s.sinks = std::min(sinks, states - 1 - own.sinks);
        if (own.sinks + s.sinks + own.recent >= states) s.recent = states - 1 - own.sinks - s.sinks;
        return s;
    }
    static ms::guards in_force(const ms::shape& s) {
        const ms::guards own = policy().default_guards(s.states);
        return {.sinks = s.sinks + own.sinks, .recent = s.recent.value_or(own.recent)};
    }
};

/// For the policies that ever forget.
class contract_of_the_forgetful : public contract {};

TEST_P(contract, never_holds_more_than_states_and_slack_and_a_block) {
    for (const std::size_t slack : {0u, 5u}) {
        for (const std::size_t states : {1u, 2u, 7u, 20u}) {
            for (const way how : every_way) {
                ms::shape s = shape(states);
                s.slack = slack;
                watched_cache cache(s, policy());
                const support::stream tokens(s, length, states);
                const std::size_t most = never_forgets() ? length : states + slack + (how == way::block ? s.block : 1);
                feed(cache, tokens, how, 0, length, [&](std::size_t seen) { check_positions(cache, seen, most); });
                for (std::size_t layer = 0; layer < 2; ++layer) cache.layer(layer).forget();
                check_positions(cache, length, never_forgets() ? length : states);
            }
        }
    }
}

TEST_P(contract, with_slack_a_decision_falls_every_slack_and_one_steps) {
    for (const std::size_t slack : {0u, 1u, 6u}) {
        ms::shape s = shape(9);
        s.slack = slack;
        watched_cache cache(s, policy());
        const support::stream tokens(s, length, slack);
        feed(cache, tokens, way::steps, 0, length, [&](std::size_t seen) {
            const std::size_t first = 9 + slack + 2;  // the token before was the first too many
            const bool decides = !never_forgets() && seen >= first && (seen - first) % (slack + 1) == 0;
            for (std::size_t h = 0; h < 2; ++h)
                EXPECT_EQ(cache.layer(1).forgotten(h).size(), decides ? slack + 1 : 0) << seen;
        });
    }
}

TEST_P(contract_of_the_forgetful, guards_are_never_forgotten) {
    for (const std::size_t sinks : {0u, 1u, 3u}) {
        for (const way how : every_way) {
            const ms::shape s = shape(9, sinks);
            watched_cache cache(s, policy());
            const support::stream tokens(s, length, sinks);
            feed(cache, tokens, how, 0, length, [&](std::size_t seen) {
                check_guards(cache, seen, in_force(s));
                cache.layer(0).forget();
                check_guards(cache, seen, in_force(s));
            });
        }
    }
}

TEST_P(contract_of_the_forgetful, recent_given_by_the_user_replaces_the_policy_s_own) {
    for (const std::size_t recent : {0u, 1u, 6u}) {
        ms::shape s = shape(12, 2);
        s.recent = recent;
        if (in_force(s).sinks + recent >= s.states) continue;
        watched_cache cache(s, policy());
        const support::stream tokens(s, length, recent);
        feed(cache, tokens, way::steps, 0, length, [&](std::size_t seen) {
            for (std::size_t layer = 0; layer < 2; ++layer) cache.layer(layer).forget();
            check_guards(cache, seen, in_force(s));
        });
    }
}

TEST_P(contract, two_runs_give_equal_bits) {
    for (const way how : every_way) {
        watched_cache first(shape(8), policy());
        const support::stream tokens(first.shape(), length, 5);
        const auto expected = feed(first, tokens, how, 0, length);
        const std::vector<float> rubbish(100000,
                                         std::numeric_limits<float>::quiet_NaN());  // other memory for the second
        watched_cache second(shape(8), policy());
        EXPECT_EQ(feed(second, tokens, how, 0, length), expected);
        EXPECT_EQ(held(second), held(first));
        EXPECT_EQ(scores(second), scores(first));
    }
}

TEST_P(contract, a_clone_continues_alike_and_apart) {
    for (const way how : every_way) {
        watched_cache original(shape(8, 1), policy());
        const support::stream tokens(original.shape(), length, 5);
        feed(original, tokens, how, 0, 52);
        auto clone = original.clone();
        EXPECT_EQ(clone.memory_bytes(), original.memory_bytes());
        const auto before = held(original);
        const auto expected = feed(clone, tokens, how, 52, length);
        EXPECT_EQ(held(original), before) << "the clone shares memory";
        EXPECT_EQ(feed(original, tokens, how, 52, length), expected);
        EXPECT_EQ(held(original), held(clone));
        EXPECT_EQ(scores(original), scores(clone));
        auto moved = std::move(clone);
        EXPECT_EQ(held(moved), held(original));
    }
}

TEST_P(contract, clear_starts_anew) {
    for (const way how : every_way) {
        watched_cache cache(shape(8, 1), policy());
        const support::stream tokens(cache.shape(), length, 6);
        const auto expected = feed(cache, tokens, how, 0, length);
        const auto kept = held(cache);
        cache.clear();
        for (std::size_t layer = 0; layer < 2; ++layer) {
            EXPECT_EQ(cache.layer(layer).size(), 0u);
            EXPECT_EQ(cache.layer(layer).next_position(), 0);
            EXPECT_TRUE(cache.layer(layer).forgotten().empty());
        }
        EXPECT_EQ(feed(cache, tokens, how, 0, length), expected);
        EXPECT_EQ(held(cache), kept);
    }
}

/// Where a decision is nearly a tie, the two may round otherwise and both be right: such input is drawn again.
TEST_P(contract, exact_prefill_equals_single_steps) {
    for (const std::size_t slack : {0u, 4u}) {
        ms::shape s = shape(8);
        s.slack = slack;
        for (std::uint64_t seed = 1;; ++seed) {
            const support::stream tokens(s, length, seed);
            watched_cache steps(s, policy());
            watched::margin = 1;
            feed(steps, tokens, way::steps, 0, length);
            if (watched::margin < 1e-5f && seed < 50) continue;
            ASSERT_LT(seed, 50u) << "no tie-free input found";
            watched_cache exact(s, policy());
            feed(exact, tokens, way::exact, 0, length);
            EXPECT_EQ(held(exact), held(steps)) << "slack " << slack << " seed " << seed;
            break;
        }
    }
}

/// Inputs that spoil a norm, a distance or an average.
struct nasty {
    const char* name;
    void (*spoil)(support::stream& tokens);
};
void fill(std::vector<float>& all, float x) { std::ranges::fill(all, x); }
/// Signs stay, sizes become one.
void level(std::vector<float>& all, float size) {
    for (float& x : all) x = std::copysign(size, x);
}
/// All tokens get the first one's.
void repeat(std::vector<float>& all, std::size_t width) {
    for (std::size_t i = width; i < all.size(); ++i) all[i] = all[i - width];
}
const nasty every_nasty[] = {{"zero keys", [](support::stream& t) { fill(t.keys, 0); }},
                             {"zero values", [](support::stream& t) { fill(t.values, 0); }},
                             {"zero queries", [](support::stream& t) { fill(t.queries, 0); }},
                             {"nothing but zeros",
                              [](support::stream& t) {
                                  for (auto* all : {&t.queries, &t.keys, &t.values}) fill(*all, 0);
                              }},
                             {"equal keys", [](support::stream& t) { repeat(t.keys, t.key_width); }},
                             {"equal tokens",
                              [](support::stream& t) {
                                  repeat(t.queries, t.query_width);
                                  repeat(t.keys, t.key_width);
                                  repeat(t.values, t.value_width);
                              }},
                             {"constant values", [](support::stream& t) { fill(t.values, 1); }},
                             // a probability is 1, the others are 0: 200 = 12 * size^2 / sqrt(12)
                             {"logits of 200 and -200",
                              [](support::stream& t) {
                                  const float size = std::sqrt(200 / std::sqrt(12.0f));
                                  fill(t.queries, size);
                                  level(t.keys, size);
                                  for (std::size_t i = 0; i < t.keys.size(); ++i) t.keys[i] = t.keys[i - i % 12];
                              }},
                             {"the greatest of f16",
                              [](support::stream& t) {
                                  level(t.keys, 65504);
                                  level(t.values, 65504);
                              }},
                             {"the least of float32", [](support::stream& t) {
                                  for (auto* all : {&t.queries, &t.keys, &t.values})
                                      level(*all, std::numeric_limits<float>::denorm_min());
                              }}};

TEST_P(contract, scores_are_numbers) {
    for (const nasty& input : every_nasty) {
        for (const std::size_t kv_heads : {8u, 4u, 2u, 1u}) {
            for (const std::size_t states : {1u, 6u}) {
                for (const way how : every_way) {
                    ms::shape s = shape(states);
                    s.layers = 1;
                    s.heads = 8;
                    s.kv_heads = kv_heads;
                    support::stream tokens(s, 40, kv_heads);
                    input.spoil(tokens);
                    watched_cache cache(s, policy());
                    watched::not_numbers = 0;
                    const auto out = feed(cache, tokens, how, 0, 40);
                    cache.layer(0).forget();
                    cache.layer(0).finish_prompt();
                    for (const auto& head : scores(cache)) {
                        EXPECT_TRUE(std::ranges::none_of(head, [](float x) { return std::isnan(x); }));
                    }
                    EXPECT_TRUE(std::ranges::all_of(out, [](float x) { return std::isfinite(x); }));
                    ASSERT_EQ(watched::not_numbers, 0u)
                        << input.name << ", groups of " << 8 / kv_heads << ", states " << states;
                }
            }
        }
    }
}

/// The policy with its parameter i set by `set(value, least, most)`; says how many parameters there are.
template <class F>
std::size_t set_parameter(watched& policy, std::size_t i, F set) {
    std::size_t count = 0;
    policy.for_each_parameter([&](std::string_view, auto& value, const auto& least, const auto& most) {
        if (count++ == i) value = set(least, most);
    });
    return count;
}

TEST_P(contract, every_parameter_may_be_at_its_bounds) {
    watched counted = policy();
    const std::size_t count = set_parameter(counted, static_cast<std::size_t>(-1), [](auto a, auto) { return a; });
    for (std::size_t i = 0; i < count; ++i) {
        for (const bool greatest : {false, true}) {
            watched changed = policy();
            set_parameter(changed, i, [&](auto least, auto most) { return greatest ? most : least; });
            for (const way how : every_way) {
                watched_cache cache(shape(20), changed);
                const support::stream tokens(cache.shape(), length, i);
                watched::not_numbers = 0;
                feed(cache, tokens, how, 0, length);
                EXPECT_EQ(watched::not_numbers, 0u) << "parameter " << i;
                check_positions(cache, length, never_forgets() ? length : 20 + cache.shape().block);
            }
        }
    }
}

/// The message of the error when parameter i is set to one value beyond its bounds; "" where there is none such.
template <class F>
std::string refusal(watched policy, std::size_t i, F beyond, std::string& expected) {
    bool possible = true;
    std::size_t at = 0;
    policy.for_each_parameter([&]<class T>(std::string_view name, T& value, const T& least, const T& most) {
        if (at++ != i) return;
        possible = beyond(value, least, most);
        expected = "policy: " + std::string(name) + " must be from " + std::to_string(least) + " to " +
                   std::to_string(most) + ", is " + std::to_string(value);
    });
    if (!possible) return expected = "";
    try {
        ms::table<ms::any_policy> table({.states = 20, .head_dim = 12, .value_dim = 12, .scale = 1}, policy);
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return "nothing was thrown";
}

TEST_P(contract, parameters_beyond_their_bounds_are_refused) {
    const auto below = []<class T>(T& value, const T& least, const T&) {
        if (least == std::numeric_limits<T>::lowest()) return false;
        value = std::is_integral_v<T> ? static_cast<T>(least - 1)
                                      : static_cast<T>(std::nextafter(least, std::numeric_limits<T>::lowest()));
        return true;
    };
    const auto above = []<class T>(T& value, const T&, const T& most) {
        if (most == std::numeric_limits<T>::max()) return false;
        value = std::is_integral_v<T> ? static_cast<T>(most + 1)
                                      : static_cast<T>(std::nextafter(most, std::numeric_limits<T>::max()));
        return true;
    };
    const auto not_a_number = []<class T>(T& value, const T&, const T&) {
        value = std::numeric_limits<T>::quiet_NaN();
        return !std::is_integral_v<T>;
    };
    watched counted = policy();
    const std::size_t count = set_parameter(counted, static_cast<std::size_t>(-1), [](auto a, auto) { return a; });
    for (std::size_t i = 0; i < count; ++i) {
        std::string expected;
        EXPECT_EQ(refusal(policy(), i, below, expected), expected);
        EXPECT_EQ(refusal(policy(), i, above, expected), expected);
        EXPECT_EQ(refusal(policy(), i, not_a_number, expected), expected);
    }
}

TEST_P(contract, next_position_follows_the_newest_and_not_the_size) {
    watched_cache cache(shape(3), policy());
    const support::stream tokens(cache.shape(), length, 8);
    EXPECT_EQ(cache.layer(0).next_position(), 0);
    feed(cache, tokens, way::steps, 0, 20,
         [&](std::size_t seen) { EXPECT_EQ(cache.layer(1).next_position(), static_cast<int>(seen)); });
    feed(cache, tokens, way::block, 20, 33);
    cache.layer(0).forget();
    EXPECT_EQ(cache.layer(0).next_position(), 33);
    EXPECT_EQ(cache.layer(1).next_position(), 33);
}

TEST_P(contract, a_layer_that_decides_once_holds_the_same_in_all_heads) {
    watched_cache cache(shape(30), policy());  // H2O keeps the first in every head
    const support::stream tokens(cache.shape(), length, 9);
    bool always = true;
    feed(cache, tokens, way::steps, 0, length, [&](std::size_t) {
        always = always && std::ranges::equal(cache.layer(0).positions(0), cache.layer(0).positions(1));
    });
    const watched p = policy();
    if (p.forgets() != ms::per::head) {
        EXPECT_TRUE(always);
    } else if (ms::reads_of(p) != ms::reads{.order = true}) {
        EXPECT_FALSE(always) << "what it reads differs from head to head";
    }
}

/// A policy's own sinks depend on `states`; they guard first arrivals, however often that changes.
TEST_P(contract_of_the_forgetful, guards_are_about_arrivals_after_every_rebudget) {
    ms::shape s{.layers = 1, .heads = 2, .kv_heads = 1, .head_dim = 12, .states = 8, .block = 13};
    watched_cache cache(s, policy());
    const support::stream tokens(s, 500, 3);
    watched::wrong_sinks = 0;
    std::size_t seen = 0, decided = 0;
    const auto check = [&] {
        for (const auto& gone : cache.layer(0).forgotten()) {
            ++decided;
            ASSERT_TRUE(std::ranges::count(watched::unguarded, gone.position) == 1)
                << gone.position << " was guarded, " << cache.layer(0).states() << " states, " << seen << " tokens";
        }
        ASSERT_EQ(watched::wrong_sinks, 0u) << cache.layer(0).states() << " states, " << seen << " tokens";
    };
    for (const std::size_t states : {8u, 64u, 24u, 40u, 8u, 9u, 64u}) {
        cache.rebudget(std::vector{states});
        check();
        ms::workspace scratch(cache.shape());  // that of fewer states would not fit
        for (int i = 0; i < 4; ++i, seen += 13) {
            std::vector<float> out(13 * tokens.out_width);
            EXPECT_TRUE(ms::prefill(cache.layer(0), static_cast<int>(seen),
                                    {tokens.q(seen, 13), tokens.k(seen, 13), tokens.v(seen, 13)}, out, scratch,
                                    ms::prefill_mode::block));
            check();
        }
        feed(cache, tokens, way::steps, seen, seen + 18, [&](std::size_t) { check(); });
        seen += 18;
        if (HasFatalFailure()) return;
    }
    EXPECT_GT(decided, 400u);
    // No state lives for ever but the first arrivals: with few states again, all that is guarded is as at the start.
    cache.rebudget(std::vector{std::size_t{8}});
    const auto kept = held(cache)[0];
    const ms::guards own = policy().default_guards(8);
    for (std::size_t i = 0; i < own.sinks && kept[i] == static_cast<int>(i); ++i)
        EXPECT_EQ(kept[i], static_cast<int>(i));
}

/// What a run with one bad token leaves behind.
struct after {
    std::vector<std::vector<int>> held;
    std::size_t bad_held = 0;     ///< KV heads that still hold the bad token
    std::size_t bad_outputs = 0;  ///< tokens whose output is not finite, but the bad one, in the second half
    std::size_t bad_scores = 0;
    std::size_t choices = 0;  ///< decisions of the second half that did not take the oldest that is not guarded
};
enum class part { query, key, value, probabilities, nothing };
constexpr std::size_t bad_token = 30;

/// One layer, token by token; `oldest` is the first position that is no sink.
after run_with_a_bad_token(watched policy, ms::shape s, const support::stream& clean, part where, float bad,
                           int oldest) {
    support::stream tokens = clean;
    const auto spoil = [&](std::vector<float>& all, std::size_t width) {
        for (std::size_t i = bad_token * width; i < (bad_token + 1) * width; i += 5) all[i] = bad;
    };
    if (where == part::query) spoil(tokens.queries, tokens.query_width);
    if (where == part::key) spoil(tokens.keys, tokens.key_width);
    if (where == part::value) spoil(tokens.values, tokens.value_width);
    watched_cache cache(s, policy);
    ms::workspace scratch(cache.shape());
    after result;
    std::vector<float> out(tokens.out_width);
    for (std::size_t t = 0; t < tokens.size; ++t) {
        const auto before = held(cache);
        EXPECT_TRUE(cache.layer(0).append(static_cast<int>(t), tokens.k(t), tokens.v(t)));
        const ms::rows given = ms::attend(cache.layer(0), tokens.q(t), out, scratch);
        cache.layer(0).observe_queries(tokens.q(t));
        if (where == part::probabilities && t == bad_token) {
            const std::vector<float> row(given.count * given.stride, bad);
            cache.layer(0).observe(ms::rows{row.data(), given.count, given.width, given.stride});
        } else {
            cache.layer(0).observe(given);
        }
        if (2 * t < tokens.size) continue;
        result.bad_outputs += !std::ranges::all_of(out, [](float x) { return std::isfinite(x); });
        for (std::size_t h = 0; h < s.kv_heads; ++h) {
            const auto first = std::ranges::lower_bound(before[h], oldest);
            for (const auto& gone : cache.layer(0).forgotten(h)) result.choices += gone.position != *first;
        }
    }
    result.held = held(cache);
    for (const auto& head : result.held) result.bad_held += std::ranges::binary_search(head, int{bad_token});
    for (const auto& head : scores(cache)) {
        result.bad_scores +=
            static_cast<std::size_t>(std::ranges::count_if(head, [](float x) { return !std::isfinite(x); }));
    }
    return result;
}

/// A token whose query, key, value or probabilities are no numbers, or too great to be squared, spoils nothing for
/// long: its state goes, and the policy chooses as much as it would without it.
void expect_no_trace(const watched& policy, const ms::shape& s, const ms::guards& in_force) {
    const int oldest = static_cast<int>(in_force.sinks);
    const support::stream tokens(s, 110, 4);
    const after clean = run_with_a_bad_token(policy, s, tokens, part::nothing, 0, oldest);
    EXPECT_EQ(clean.bad_outputs + clean.bad_scores, 0u);
    constexpr float infinity = std::numeric_limits<float>::infinity();
    for (const part where : {part::query, part::key, part::value, part::probabilities}) {
        for (const float bad : {std::nanf(""), infinity, -infinity, 1e30f}) {
            if (where == part::probabilities && bad == 1e30f) continue;  // none is
            SCOPED_TRACE("part " + std::to_string(static_cast<int>(where)) + ", " + std::to_string(bad));
            const after spoiled = run_with_a_bad_token(policy, s, tokens, where, bad, oldest);
            EXPECT_EQ(spoiled.bad_outputs, 0u);
            EXPECT_EQ(spoiled.bad_scores, 0u);
            if (where == part::key || where == part::value) {
                EXPECT_EQ(spoiled.bad_held, 0u);
            }
            EXPECT_GE(2 * spoiled.choices, clean.choices) << "of " << clean.choices;
            EXPECT_LE(spoiled.choices, clean.choices + clean.choices / 2 + 10);
        }
    }
}

TEST_P(contract_of_the_forgetful, a_bad_token_leaves_no_trace) {
    ms::shape s = shape(16);
    s.layers = 1;
    expect_no_trace(policy(), s, in_force(s));
    s.recent = 5;  // while it is guarded, policies read it with the others
    expect_no_trace(policy(), s, in_force(s));
}

/// In a block, a value that is not finite is met by no token before it, nor by those after its state has gone.
TEST_P(contract_of_the_forgetful, a_bad_token_of_a_block_is_met_by_those_that_see_it) {
    ms::shape s = shape(16);
    s.layers = 1;
    for (const way how : {way::exact, way::block}) {
        support::stream tokens(s, 110, 4);
        for (std::size_t i = 0; i < tokens.value_width; ++i) tokens.values[bad_token * tokens.value_width + i] = NAN;
        watched_cache cache(s, policy());
        const auto out = feed(cache, tokens, how, 0, 110);
        for (std::size_t t = 0; t < 110; ++t) {
            const auto of_token = std::span(out).subspan(t * tokens.out_width, tokens.out_width);
            const bool finite = std::ranges::all_of(of_token, [](float x) { return std::isfinite(x); });
            if (t < bad_token || t > bad_token + 16 + s.block) {
                EXPECT_TRUE(finite) << t;
            } else if (t == bad_token) {
                EXPECT_FALSE(finite) << "the error must show";
            }
        }
    }
}

std::string policy_name(const testing::TestParamInfo<std::string_view>& parameter) {
    return std::string(parameter.param);
}
INSTANTIATE_TEST_SUITE_P(policies, contract, testing::ValuesIn(ms::any_policy::names), policy_name);

std::vector<std::string_view> names_of_the_forgetful() {
    std::vector<std::string_view> result;
    for (const std::string_view name : ms::any_policy::names) {
        if (ms::any_policy::named(name).forgets() != ms::per::never) result.push_back(name);
    }
    return result;
}
INSTANTIATE_TEST_SUITE_P(policies, contract_of_the_forgetful, testing::ValuesIn(names_of_the_forgetful()), policy_name);

/// any_policy is its choice: for one policy that reads nothing, one that decides for each head, one for the layer. See
/// plain.test.cpp for all.
template <class P>
void check_cache() {
    for (const way how : every_way) {
        ms::cache<P> alone({.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 12, .states = 8, .block = 13});
        watched_cache chosen(alone.shape(), ms::any_policy(P{}));
        const support::stream tokens(alone.shape(), length, 7);
        EXPECT_EQ(feed(chosen, tokens, how, 0, length), feed(alone, tokens, how, 0, length));
        EXPECT_EQ(held(chosen), held(alone));
        EXPECT_EQ(scores(chosen), scores(alone));
    }
}
TEST(plain_cache, one_of_equals_window_bit_for_bit) { check_cache<ms::window>(); }
TEST(plain_cache, one_of_equals_h2o_bit_for_bit) { check_cache<ms::h2o>(); }
TEST(plain_cache, one_of_equals_tova_bit_for_bit) { check_cache<ms::tova>(); }

}  // namespace contract_test
