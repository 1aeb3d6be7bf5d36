// The bound holds in bytes: memory is what memory_bytes() says, and after construction nothing is allocated.
#include <algorithm>
#include <array>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/budgets/budgets.hpp>
#include <multistate/multistate.hpp>

#include "allocation/counting.hpp"
#include "support/alternatives.hpp"
#include "support/stream.hpp"

namespace {

namespace ms = multistate;

constexpr std::size_t length = 200;

/// A policy with memory of its own, which reads everything.
struct hungry {
    static constexpr std::string_view name = "hungry";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    struct memory {
        ms::per_state_array<std::uint16_t> marks;
        ms::per_state<float> sum;
        ms::per_table<float> query;
        ms::per_table_array<double> means;
    };
    static void lay_out(memory& m, ms::layout& l) noexcept {
        l(m.marks, 2);
        l(m.sum);
        l(m.query);
        l(m.means, l.shape().heads, l.shape().head_dim);
    }
    void on_query(ms::rows queries, ms::view states) const noexcept { states.memory(*this).query[0] += queries[0][0]; }
    void on_attention(ms::rows probabilities, ms::view states) const noexcept {
        ms::add(probabilities, states.memory(*this).sum);
    }
    void on_forget(const ms::reader& stored, ms::view states) const noexcept {
        const auto sum = states.memory(*this).sum;
        float key[16];
        for (std::size_t j = 0; j < states.size(); ++j) {
            stored.key(0, j, std::span(key).first(stored.head_dim));
            states.score[j] = key[0] + sum[j];
        }
    }
    void merge(const ms::editor& stored, std::span<const std::uint32_t> gone, ms::view states) const noexcept {
        float value[20];
        stored.value(0, gone[0], std::span(value).first(stored.value_dim));
        stored.set_value(0, states.by_position.back(), std::span(value).first(stored.value_dim));
    }
    void finish_prompt(const ms::reader&, ms::view) const noexcept {}
};
static_assert(ms::has_merge<hungry> && ms::has_on_query<hungry> && ms::has_memory<hungry>);
using every = support::alternatives<ms::any_policy>::with<hungry>;

template <class K, class V>
using cache = ms::cache<every, K, V>;

constexpr ms::shape shape_of(std::size_t states, std::size_t block, std::size_t slack = 0) {
    return {.layers = 3,
            .heads = 4,
            .kv_heads = 2,
            .head_dim = 12,
            .value_dim = 20,
            .states = states,
            .block = block,
            .slack = slack};
}

template <class K, class V>
void check_bytes(const every& policy, const ms::shape& shape) {
    const std::size_t before = counting::live_bytes();
    const cache<K, V> one(shape, policy);
    const std::size_t held = counting::live_bytes() - before;
    EXPECT_EQ(one.memory_bytes(), held) << policy.name();
    const cache<K, V> clone = one.clone();
    EXPECT_EQ(counting::live_bytes() - before, 2 * held);
    EXPECT_EQ(clone.memory_bytes(), held);
}

/// Exactly: every byte is asked for in the constructor, in sizes that memory_bytes() adds up.
TEST(allocation, memory_bytes_is_what_was_handed_out) {
    for (const std::string_view name : every::names) {
        for (const std::size_t states : {1u, 7u, 512u}) {
            for (const std::size_t block : {1u, 13u, 100u}) {
                check_bytes<ms::f32, ms::f32>(every::named(name), shape_of(states, block));
                check_bytes<ms::f16, ms::int8>(every::named(name), shape_of(states, block, 4));
            }
        }
    }
}

TEST(allocation, a_table_and_a_workspace_say_what_they_take) {
    for (const std::string_view name : every::names) {
        const every policy = every::named(name);
        const std::size_t before = counting::live_bytes();
        const ms::table<every> table(
            {.states = 64, .block = 9, .slack = 3, .sinks = 1, .recent = 5, .head_dim = 8, .value_dim = 8}, policy);
        EXPECT_EQ(counting::live_bytes() - before, table.memory_bytes()) << name;
    }
    const std::size_t before = counting::live_bytes();
    const ms::workspace scratch(shape_of(64, 9));
    EXPECT_EQ(counting::live_bytes() - before, scratch.memory_bytes());
}

TEST(allocation, memory_bytes_is_right_after_a_new_budget) {
    constexpr std::size_t budgets[][3] = {{20, 25, 30}, {50, 20, 21}, {50, 60, 70}};
    const support::stream tokens(shape_of(1, 1), 30, 1);
    std::vector<float> out(10 * tokens.out_width);
    for (const std::string_view name : every::names) {
        ms::workspace scratch(shape_of(70, 10));
        const std::size_t before = counting::live_bytes();
        cache<ms::f32, ms::f32> one(shape_of(40, 10), every::named(name));
        for (std::size_t t = 0; t < 30; t += 10) {
            for (std::size_t layer = 0; layer < 3; ++layer) {
                EXPECT_TRUE(ms::prefill(one.layer(layer), static_cast<ms::position>(t),
                                        {tokens.q(t, 10), tokens.k(t, 10), tokens.v(t, 10)}, out, scratch));
            }
        }
        for (const std::size_t(&budget)[3] : budgets) {
            one.rebudget(budget);
            EXPECT_EQ(counting::live_bytes() - before, one.memory_bytes()) << name;
        }
    }
}

/// All bytes are given back.
TEST(allocation, nothing_leaks) {
    const std::size_t before = counting::live_bytes();
    {
        cache<ms::bf16, ms::bf16> one(shape_of(9, 4), every::named("h2o"));
        auto other = one.clone();
        one = std::move(other);
    }
    EXPECT_EQ(counting::live_bytes(), before);
}

/// How many allocations the whole life of a cache after its construction makes.
template <class K, class V>
std::size_t allocations_of_a_life(const every& policy, std::size_t states, std::size_t block, std::size_t slack) {
    const bool never = policy.forgets() == ms::per::never;
    cache<K, V> c(shape_of(never ? 6 * length : states, block, slack), policy);
    ms::workspace scratch(c.shape());
    const support::stream tokens(c.shape(), length, 1);
    std::vector<float> out(block * tokens.out_width);
    const std::span<float> one = std::span(out).first(tokens.out_width);
    bool done = true;

    const std::size_t before = counting::allocations();
    for (std::size_t layer = 0; layer < c.shape().layers; ++layer) {
        ms::position p = 0;
        std::size_t t = 0;
        for (int round = 0; round < 3; ++round) {
            for (const auto mode : {ms::prefill_mode::exact, ms::prefill_mode::block}) {
                for (const std::size_t n : {block, (block + 1) / 2}) {
                    done &= ms::prefill(c.layer(layer), p, {tokens.q(t, n), tokens.k(t, n), tokens.v(t, n)},
                                        std::span(out).first(n * tokens.out_width), scratch, mode);
                    p += static_cast<ms::position>(n);
                    t = (t + n) % (length - block);
                }
            }
            done &= ms::step(c.layer(layer), p++, {tokens.q(0), tokens.k(0), tokens.v(0)}, one, scratch);
            done &= c.layer(layer).append(p++, tokens.k(1), tokens.v(1));
            c.layer(layer).observe_queries(tokens.q(1));
            c.layer(layer).observe(ms::attend(c.layer(layer), tokens.q(1), one, scratch));
            c.layer(layer).finish_prompt();
            c.layer(layer).forget();
            done &= c.memory_bytes() > 0 && c.layer(layer).forgotten().size() <= 2 + slack;
        }
    }
    c.clear();
    done &= ms::step(c.layer(0), 0, {tokens.q(0), tokens.k(0), tokens.v(0)}, one, scratch);
    const std::size_t result = counting::allocations() - before;
    EXPECT_TRUE(done);
    return result;
}

TEST(allocation, nothing_is_allocated_after_construction) {
    for (const std::string_view name : every::names) {
        for (const std::size_t states : {1u, 8u, 50u}) {
            for (const std::size_t block : {1u, 30u, 100u}) {
                EXPECT_EQ((allocations_of_a_life<ms::f32, ms::f32>(every::named(name), states, block, 0)), 0u) << name;
            }
        }
        EXPECT_EQ((allocations_of_a_life<ms::f16, ms::int8>(every::named(name), 8, 30, 5)), 0u) << name;
    }
}

/// Tables whose rows an engine stores: loaded and stored by two functions.
std::size_t allocations_of_tables(const every& policy, std::size_t slack) {
    const ms::shape shape = shape_of(policy.forgets() == ms::per::never ? length : 8, 10, slack);
    ms::tables<every> tables(shape, policy);
    const support::stream tokens(tables.shape(), length, 3);
    std::vector<float> numbers(100), attention(shape.heads * tables.layer(1).rows(), 0.1f);
    ms::reading stored(
        tables.shape(),
        [&](std::size_t, std::size_t, std::size_t row, std::span<float> key, std::span<float> value) {
            std::ranges::fill(key, numbers[row]);
            std::ranges::fill(value, numbers[row]);
        },
        [&](std::size_t, std::size_t, std::size_t row, std::span<const float>, std::span<const float> value) {
            if (!value.empty()) numbers[row % numbers.size()] = value[0];
        });
    const auto write = [&](std::size_t, std::size_t row, std::span<const ms::relocation>) { numbers[row % 100] = 1; };
    bool done = true;
    const std::size_t before = counting::allocations();
    for (std::size_t first = 0; first < length; first += 10) {
        const auto p = static_cast<ms::position>(first);
        done &= tables.layer(1).append({p, 9, tokens.k(first, 9), tokens.v(first, 9)}, stored, write);
        for (std::size_t i = 0; i < 9; ++i) {
            tables.layer(1).observe_queries(tokens.q(first + i));
            const std::size_t width = tables.layer(1).size() - (8 - i);
            tables.layer(1).observe(ms::rows{attention.data(), shape.heads, width, width});
        }
        tables.layer(1).forget(stored, [](std::size_t, std::span<const ms::relocation>) {});
        done &= tables.layer(1).append({p + 9, 1, tokens.k(first + 9), tokens.v(first + 9)}, stored, write);
        tables.layer(1).observe_queries(tokens.q(first + 9));
        tables.layer(1).observe(
            ms::rows{attention.data(), shape.heads, tables.layer(1).size(), tables.layer(1).size()});
        tables.layer(1).finish_prompt(stored);
    }
    const std::size_t result = counting::allocations() - before;
    EXPECT_TRUE(done);
    return result;
}

TEST(allocation, tables_allocate_nothing_after_construction) {
    for (const std::string_view name : every::names) {
        for (const std::size_t slack : {0u, 3u}) {
            EXPECT_EQ(allocations_of_tables(every::named(name), slack), 0u) << name;
        }
    }
}

/// New memory is full of NaN in this program: of a clone, only the rows that hold states are written before use.
template <class K, class V>
void expect_clone_to_continue_identically() {
    SCOPED_TRACE(std::string(K::name));
    const ms::shape shape{
        .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 36, .value_dim = 20, .states = 21, .block = 30};
    const support::stream tokens(shape, 80, 1);
    ms::workspace scratch(shape);
    std::vector<float> a(30 * tokens.out_width), b(a.size());
    const auto feed = [&](ms::cache<ms::h2o, K, V>& c, std::size_t first, std::size_t n, std::vector<float>& out) {
        for (std::size_t layer = 0; layer < 2; ++layer) {
            ASSERT_TRUE(ms::prefill(c.layer(layer), static_cast<ms::position>(first),
                                    {tokens.q(first, n), tokens.k(first, n), tokens.v(first, n)},
                                    std::span(out).first(n * tokens.out_width), scratch));
        }
    };
    for (const std::size_t held : {1u, 6u, 21u, 30u}) {
        ms::cache<ms::h2o, K, V> one(shape);
        feed(one, 0, held, a);
        ms::cache<ms::h2o, K, V> clone = one.clone();
        for (std::size_t first = held; first + 30 < 80; first += first % 2 == 0 ? 1 : 30) {
            const std::size_t n = first % 2 == 0 ? 1 : 30;
            feed(one, first, n, a);
            feed(clone, first, n, b);
            ASSERT_TRUE(
                std::ranges::equal(std::span(a).first(n * tokens.out_width), std::span(b).first(n * tokens.out_width)))
                << held << ' ' << first;
        }
    }
}

TEST(allocation, a_clone_reads_only_what_it_copied) {
    expect_clone_to_continue_identically<ms::f32, ms::f32>();
    expect_clone_to_continue_identically<ms::f16, ms::f16>();
    expect_clone_to_continue_identically<ms::bf16, ms::bf16>();
    expect_clone_to_continue_identically<ms::int8, ms::int4>();
    expect_clone_to_continue_identically<ms::int4, ms::int8>();
}

/// Calls f again and again, with its first allocation failing, then its second, until none fails; after each failure
/// `check`, and nothing may have leaked. Returns how many failed.
template <class F, class Check>
std::size_t fail_every_allocation(F f, Check check) {
    for (std::size_t n = 0;; ++n) {
        const std::size_t before = counting::live_bytes();
        counting::fail_after(n);
        try {
            f();
            counting::never_fail();
            return n;
        } catch (const std::bad_alloc&) {
        }
        EXPECT_EQ(counting::live_bytes(), before) << "allocation " << n;
        check(n);
        if (testing::Test::HasFailure()) return n;
    }
}

/// One that decides from memory, one with much memory per table, two that merge, one that is modified, one that never
/// forgets, one with all hooks.
constexpr std::array<std::string_view, 7> policies_that_meet_failures{"h2o",    "q_filters", "d2o",   "cam",
                                                                      "snapkv", "full",      "hungry"};

using small_cache = cache<ms::f32, ms::int8>;

void feed(small_cache& c, const support::stream& tokens, std::size_t first, std::size_t count) {
    ms::workspace scratch(c.shape());
    std::vector<float> out(tokens.out_width);
    for (std::size_t t = first; t < first + count; ++t) {
        for (std::size_t layer = 0; layer < c.shape().layers; ++layer) {
            EXPECT_TRUE(ms::step(c.layer(layer), static_cast<ms::position>(t), {tokens.q(t), tokens.k(t), tokens.v(t)},
                                 out, scratch));
        }
    }
}

void expect_equal(const small_cache& a, const small_cache& b, std::size_t failed) {
    EXPECT_EQ(a.memory_bytes(), b.memory_bytes()) << "allocation " << failed;
    for (std::size_t layer = 0; layer < a.shape().layers; ++layer) {
        for (std::size_t h = 0; h < a.shape().kv_heads; ++h) {
            EXPECT_EQ(a.layer(layer).states(h), b.layer(layer).states(h)) << "allocation " << failed;
            ASSERT_TRUE(std::ranges::equal(a.layer(layer).positions(h), b.layer(layer).positions(h)))
                << "allocation " << failed;
            ASSERT_TRUE(std::ranges::equal(a.layer(layer).scores(h), b.layer(layer).scores(h)))
                << "allocation " << failed;
            std::vector<float> x(20), y(20);
            for (std::size_t row = 0; row < a.layer(layer).size(h); ++row) {
                a.layer(layer).values(h).read(row, x.data());
                b.layer(layer).values(h).read(row, y.data());
                ASSERT_EQ(x, y) << "allocation " << failed << " merged";
            }
        }
    }
}

TEST(allocation, that_fails_leaves_a_cache_as_it_was) {
    constexpr std::size_t budgets[][3] = {{12, 9, 10}, {30, 31, 10}};
    ms::shape shape = shape_of(20, 3);
    const support::stream tokens(shape, 40, 1);
    for (const std::string_view name : policies_that_meet_failures) {
        SCOPED_TRACE(std::string(name));
        const every policy = every::named(name);
        const auto nothing = [](std::size_t) {};
        EXPECT_GT(fail_every_allocation([&] { small_cache(shape, policy); }, nothing), 20u);
        small_cache one(shape, policy);
        feed(one, tokens, 0, name == "full" ? 8 : 25);
        std::optional<small_cache> clone;
        EXPECT_GT(fail_every_allocation([&] { clone.emplace(one.clone()); }, nothing), 20u);
        small_cache expected = std::move(*clone);
        clone.reset();
        for (const std::size_t(&budget)[3] : budgets) {
            fail_every_allocation([&] { one.rebudget(budget); },
                                  [&](std::size_t n) {
                                      expect_equal(one, expected, n);
                                      small_cache a = one.clone(), b = expected.clone();
                                      feed(a, tokens, 25, 3);
                                      feed(b, tokens, 25, 3);
                                      expect_equal(a, b, n);
                                  });
            expected.rebudget(budget);
            expect_equal(one, expected, 0);
        }
        feed(one, tokens, 25, 4);
        feed(expected, tokens, 25, 4);
        expect_equal(one, expected, 0);
    }
}

TEST(allocation, that_fails_leaves_a_table_as_it_was) {
    constexpr ms::table_shape shape{.states = 24, .block = 4, .slack = 2, .sinks = 1, .head_dim = 4, .value_dim = 4};
    std::vector<float> even(64, 0.05f);
    constexpr float numbers[] = {1, 2, 3, 4};
    const ms::rows vector{numbers, 1, 4, 4};
    const auto live = [&](ms::table<every>& t, int from, int count) {
        std::vector<int> gone;
        for (int p = from; p < from + count; ++p) {
            if (t.is_due()) static_cast<void>(t.forget());
            static_cast<void>(t.place(p, vector, vector));
            even[static_cast<std::size_t>(p * 7 % 20)] += 0.01f;
            t.observe({even.data(), 1, t.size(), even.size()});
            for (const auto& f : t.forgotten()) gone.push_back(f.position);
        }
        return gone;
    };
    for (const std::string_view name : {"h2o", "morphkv", "vatp", "window"}) {
        const every policy = every::named(name);
        EXPECT_GE(fail_every_allocation([&] { ms::table<every>(shape, policy); }, [](std::size_t) {}), 6u);
        for (const std::size_t states : {9u, 24u, 50u}) {
            ms::table<every> table(shape, policy);
            live(table, 0, 40);
            const ms::table<every> before = table;
            const auto failures = fail_every_allocation(
                [&] { static_cast<void>(table.rebudget(states)); },
                [&](std::size_t n) {
                    EXPECT_EQ(table.states(), 24u);
                    EXPECT_EQ(table.memory_bytes(), before.memory_bytes()) << "allocation " << n;
                    EXPECT_TRUE(std::ranges::equal(table.positions(), before.positions())) << "allocation " << n;
                    EXPECT_TRUE(std::ranges::equal(table.scores(), before.scores())) << "allocation " << n;
                    ms::table<every> a = table, b = before;
                    const auto kept = even;
                    const auto expected = live(b, 40, 20);
                    even = kept;
                    EXPECT_EQ(live(a, 40, 20), expected) << "allocation " << n;
                });
            EXPECT_GE(failures, 12u);
            EXPECT_EQ(table.states(), states);
            EXPECT_LE(table.size(), std::max<std::size_t>(states, before.size()));
        }
    }
}

TEST(allocation, this_program_really_counts) {
    const std::size_t calls = counting::allocations();
    const std::size_t bytes = counting::live_bytes();
    const auto plain = std::make_unique<int>(1);
    const ms::aligned_array<float> aligned(100);
    EXPECT_EQ(counting::allocations() - calls, 2u);
    EXPECT_EQ(counting::live_bytes() - bytes, sizeof(int) + 400);
}

}  // namespace
