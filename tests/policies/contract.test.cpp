// What every policy of THE list keeps to, by its type and by its name through any_policy.
#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/multistate.hpp>

#include "support/alternatives.hpp"
#include "support/stream.hpp"

namespace {

namespace ms = multistate;

constexpr std::size_t length = 90;

ms::shape small(std::size_t states, std::size_t block, std::size_t sinks = 0) {
    return {.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 12, .states = states, .block = block, .sinks = sinks};
}

/// Tables of a layer: as many as may decide differently.
template <class Cache>
std::vector<std::vector<int>> held(const Cache& cache) {
    std::vector<std::vector<int>> result;
    for (std::size_t layer = 0; layer < cache.shape().layers; ++layer) {
        for (std::size_t h = 0; h < cache.shape().kv_heads; ++h) {
            const auto positions = cache.positions(layer, h);
            result.emplace_back(positions.begin(), positions.end());
            std::ranges::sort(result.back());
        }
    }
    return result;
}

/// The recent states in force: what the policy names.
template <class P>
std::size_t recent_of(const P& policy, std::size_t states) {
    return ms::default_guards(policy, states).recent;
}

template <class Cache>
void check_guards(const Cache& cache, std::size_t seen, std::size_t recent) {
    const std::size_t sinks = cache.shape().sinks;
    for (const auto& positions : held(cache)) {
        for (std::size_t p = 0; p < std::min(sinks, seen); ++p) {
            EXPECT_TRUE(std::ranges::binary_search(positions, static_cast<int>(p))) << "sink " << p;
        }
        for (std::size_t p = seen - std::min(recent, seen); p < seen; ++p) {
            EXPECT_TRUE(std::ranges::binary_search(positions, static_cast<int>(p))) << "recent " << p;
        }
    }
}

template <class Cache>
void check_positions(const Cache& cache, std::size_t seen, std::size_t most) {
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
    std::vector<float> all;
    const std::size_t block = how == way::steps ? 1 : cache.shape().block;
    for (std::size_t first = begin; first < end; first += block) {
        const std::size_t n = std::min(block, end - first);
        std::vector<float> out(n * tokens.out_width);
        for (std::size_t layer = 0; layer < cache.shape().layers; ++layer) {
            const auto position = static_cast<int>(first);
            const auto mode = how == way::block ? ms::prefill_mode::block : ms::prefill_mode::exact;
            EXPECT_TRUE(ms::prefill(cache, layer, position, tokens.q(first, n), tokens.k(first, n), tokens.v(first, n),
                                    out, mode));
            all.insert(all.end(), out.begin(), out.end());
        }
        check(first + n);
    }
    return all;
}

template <class P>
class contract : public testing::Test {
  protected:
    using plain_cache = ms::cache<P>;
    using chosen_cache = ms::cache<ms::any_policy>;

    static bool never_forgets() { return P{}.forgets() == ms::per::never; }
    /// full has rows for all of the text, the others for a block of 13.
    static ms::shape shape(std::size_t states, std::size_t sinks = 0) {
        return small(states, never_forgets() ? length : 13, sinks);
    }
};

TYPED_TEST_SUITE(contract, support::every_policy, support::policy_names);

TYPED_TEST(contract, never_holds_more_than_states_and_a_block) {
    for (const std::size_t states : {1u, 2u, 7u, 20u}) {
        for (const way how : every_way) {
            typename TestFixture::plain_cache cache(this->shape(states));
            const support::stream tokens(cache.shape(), length, states);
            const std::size_t block = how == way::steps ? 1 : cache.shape().block;
            const std::size_t most = this->never_forgets() ? length : states + (how == way::block ? block : 1);
            feed(cache, tokens, how, 0, length, [&](std::size_t seen) { check_positions(cache, seen, most); });
            for (std::size_t layer = 0; layer < 2; ++layer) cache.forget(layer);
            check_positions(cache, length, this->never_forgets() ? length : states);
        }
    }
}

TYPED_TEST(contract, guards_are_never_forgotten) {
    if constexpr (!std::is_same_v<TypeParam, ms::full>) {
        for (const std::size_t sinks : {0u, 1u, 3u}) {
            for (const way how : every_way) {
                typename TestFixture::plain_cache cache(this->shape(9, sinks));
                const std::size_t recent = recent_of(TypeParam{}, 9);
                const support::stream tokens(cache.shape(), length, sinks);
                feed(cache, tokens, how, 0, length, [&](std::size_t seen) {
                    check_guards(cache, seen, recent);
                    cache.forget(0);
                    check_guards(cache, seen, recent);
                });
            }
        }
    }
}

TYPED_TEST(contract, recent_given_by_the_user_replaces_the_policy_s_own) {
    if constexpr (!std::is_same_v<TypeParam, ms::full>) {
        for (const std::size_t recent : {0u, 1u, 6u}) {
            ms::shape shape = this->shape(9, 2);
            shape.recent = recent;
            typename TestFixture::plain_cache cache(shape);
            const support::stream tokens(shape, length, recent);
            feed(cache, tokens, way::steps, 0, length, [&](std::size_t seen) {
                for (std::size_t layer = 0; layer < 2; ++layer) cache.forget(layer);
                check_guards(cache, seen, recent);
            });
        }
    }
}

TYPED_TEST(contract, a_clone_continues_alike_and_apart) {
    for (const way how : every_way) {
        typename TestFixture::plain_cache original(this->shape(8, 1));
        const support::stream tokens(original.shape(), length, 5);
        feed(original, tokens, how, 0, 52);
        auto clone = original.clone();
        EXPECT_EQ(clone.memory_bytes(), original.memory_bytes());
        const auto before = held(original);
        const auto expected = feed(clone, tokens, how, 52, length);
        EXPECT_EQ(held(original), before) << "the clone shares memory";
        EXPECT_EQ(feed(original, tokens, how, 52, length), expected);
        EXPECT_EQ(held(original), held(clone));
        auto moved = std::move(clone);
        EXPECT_EQ(held(moved), held(original));
    }
}

TYPED_TEST(contract, clear_starts_anew) {
    for (const way how : every_way) {
        typename TestFixture::plain_cache cache(this->shape(8, 1));
        const support::stream tokens(cache.shape(), length, 6);
        const auto expected = feed(cache, tokens, how, 0, length);
        const auto kept = held(cache);
        cache.clear();
        for (std::size_t layer = 0; layer < 2; ++layer) {
            EXPECT_EQ(cache.size(layer), 0u);
            EXPECT_EQ(cache.next_position(layer), 0);
            EXPECT_TRUE(cache.forgotten(layer).empty());
        }
        EXPECT_EQ(feed(cache, tokens, how, 0, length), expected);
        EXPECT_EQ(held(cache), kept);
    }
}

TYPED_TEST(contract, one_of_equals_the_plain_policy_bit_for_bit) {
    for (const way how : every_way) {
        typename TestFixture::plain_cache plain(this->shape(8, 1));
        typename TestFixture::chosen_cache named(plain.shape(), ms::any_policy::named(TypeParam::name));
        typename TestFixture::chosen_cache constructed(plain.shape(), TypeParam{});
        const support::stream tokens(plain.shape(), length, 7);
        const auto expected = feed(plain, tokens, how, 0, length);
        EXPECT_EQ(feed(named, tokens, how, 0, length), expected);
        EXPECT_EQ(feed(constructed, tokens, how, 0, length), expected);
        for (std::size_t layer = 0; layer < 2; ++layer) {
            for (std::size_t h = 0; h < 2; ++h) {
                EXPECT_TRUE(std::ranges::equal(plain.positions(layer, h), named.positions(layer, h)));
                EXPECT_TRUE(std::ranges::equal(plain.scores(layer, h), named.scores(layer, h)));
            }
        }
    }
}

TYPED_TEST(contract, next_position_follows_the_newest_and_not_the_size) {
    typename TestFixture::plain_cache cache(this->shape(3));
    const support::stream tokens(cache.shape(), length, 8);
    EXPECT_EQ(cache.next_position(), 0);
    feed(cache, tokens, way::steps, 0, 20,
         [&](std::size_t seen) { EXPECT_EQ(cache.next_position(1), static_cast<int>(seen)); });
    feed(cache, tokens, way::block, 20, 33);
    cache.forget(0);
    EXPECT_EQ(cache.next_position(0), 33);
    EXPECT_EQ(cache.next_position(1), 33);
}

TYPED_TEST(contract, a_layer_that_decides_once_holds_the_same_in_all_heads) {
    typename TestFixture::plain_cache cache(this->shape(30));  // H2O keeps the first in every head
    const support::stream tokens(cache.shape(), length, 9);
    bool always = true;
    feed(cache, tokens, way::steps, 0, length,
         [&](std::size_t) { always = always && std::ranges::equal(cache.positions(0, 0), cache.positions(0, 1)); });
    EXPECT_EQ(always, TypeParam{}.forgets() != ms::per::head);
}

TYPED_TEST(contract, the_list_finds_it_by_name) {
    const ms::any_policy chosen = ms::any_policy::named(TypeParam::name);
    EXPECT_EQ(chosen.name(), TypeParam::name);
    EXPECT_EQ(chosen.forgets(), TypeParam{}.forgets());
    EXPECT_EQ(chosen.reads_attention(), ms::observes_attention<TypeParam>);
    EXPECT_EQ(chosen.floats_per_state(), ms::floats_per_state(TypeParam{}));
    for (const std::size_t states : {1u, 2u, 9u, 512u}) {
        EXPECT_EQ(chosen.default_guards(states).recent, recent_of(TypeParam{}, states));
    }
}

}  // namespace
