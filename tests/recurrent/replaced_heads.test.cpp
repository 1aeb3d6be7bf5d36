// A layer whose heads are partly replaced is its parts: the cell alone, and caches that never knew the replaced heads.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/codecs/list.hpp>
#include <multistate/execution/thread_pool.hpp>
#include <multistate/multistate.hpp>
#include <multistate/recurrent/replaced_heads.hpp>

#include "support/any_policy.hpp"
#include "support/random.hpp"
#include "support/thrown.hpp"

namespace replaced_heads_test {

namespace ms = multistate;

/// One type for all: each costs a compilation of the kernels.
using layer_type = ms::replaced_heads<ms::any_policy>;
using floats = std::vector<float>;
using numbers = std::vector<std::size_t>;

constexpr std::size_t inputs = 10, length = 60;

/// 8 query heads on 4 KV heads.
ms::shape shape_of(std::size_t states, std::size_t block = 1) {
    return {.layers = 1, .heads = 8, .kv_heads = 4, .head_dim = 12, .value_dim = 5, .states = states, .block = block};
}

/// A cell and its parameters.
struct owned_cell {
    explicit owned_cell(std::size_t heads, bool minimal = false) {
        support::random_numbers random(heads + 100);
        if (minimal) {
            const ms::min_gru_shape shape{.inputs = inputs, .units = heads * 5};
            parameters = random.floats(ms::min_gru::parameter_count(shape), 0.5f);
            cell = ms::min_gru(shape, parameters);
        } else {
            const ms::selective_shape shape{.inputs = inputs, .units = 17, .outputs = heads * 5, .unit_states = 3};
            parameters = random.floats(ms::selective::parameter_count(shape), 0.5f);
            cell = ms::selective(shape, parameters);
        }
    }
    owned_cell(const owned_cell&) = delete;

    floats parameters;
    std::optional<ms::replacing_cell> cell;
};

/// Inputs of all heads, and what is left of them when heads are replaced.
struct text {
    explicit text(const ms::shape& given) : s(ms::detail::checked(given)) {
        support::random_numbers random(7);
        x = random.floats(length * inputs, 1);
        q = random.floats(length * s.heads * s.head_dim, 2.5f);
        k = random.floats(length * s.kv_heads * s.head_dim, 2.5f);
        v = random.floats(length * s.kv_heads * s.value_dim, 1);
    }

    /// Some heads of [tokens, heads, width].
    static floats part(const floats& all, std::size_t heads, std::size_t width, const numbers& kept) {
        floats result;
        for (std::size_t t = 0; t < all.size() / heads / width; ++t) {
            for (const std::size_t head : kept) {
                const auto at = all.begin() + static_cast<std::ptrdiff_t>((t * heads + head) * width);
                result.insert(result.end(), at, at + static_cast<std::ptrdiff_t>(width));
            }
        }
        return result;
    }
    text of(const numbers& heads, const numbers& kv_heads) const {
        text result = *this;
        result.q = part(q, s.heads, s.head_dim, heads);
        result.k = part(k, s.kv_heads, s.head_dim, kv_heads);
        result.v = part(v, s.kv_heads, s.value_dim, kv_heads);
        result.s.heads = heads.size();
        result.s.kv_heads = kv_heads.size();
        return result;
    }
    /// Tokens [first, first + n) of rows of `width`.
    static std::span<const float> some(const floats& all, std::size_t width, std::size_t first, std::size_t n) {
        return std::span(all).subspan(first * width, n * width);
    }
    ms::qkv at(std::size_t first, std::size_t n) const {
        return {some(q, s.heads * s.head_dim, first, n), some(k, s.kv_heads * s.head_dim, first, n),
                some(v, s.kv_heads * s.value_dim, first, n)};
    }

    ms::shape s;
    floats x, q, k, v;
};

/// Heads that are left, and KV heads that one of them reads.
numbers without(const numbers& heads, std::size_t count) {
    numbers kept;
    for (std::size_t i = 0; i < count; ++i) {
        if (!std::ranges::binary_search(heads, i)) kept.push_back(i);
    }
    return kept;
}
numbers kv_heads_of(const numbers& kept) {
    numbers result;
    for (const std::size_t head : kept) {
        if (result.empty() || result.back() != head / 2) result.push_back(head / 2);
    }
    return result;
}

/// Feeds tokens [first, end), block by block; out [tokens, heads, value_dim].
template <class Layer>
floats feed(Layer& layer, const text& kept, std::size_t first, std::size_t end,
            ms::prefill_mode mode = ms::prefill_mode::exact) {
    ms::replaced_heads_workspace scratch(layer);
    const std::size_t each = layer.shape().heads * layer.shape().value_dim;
    floats out((end - first) * each, NAN);
    for (std::size_t t = first; t < end; t += layer.shape().block) {
        const std::size_t n = std::min(layer.shape().block, end - t);
        const ms::qkv heads = kept.at(t, n);
        const auto x = layer.cell() ? text::some(kept.x, inputs, t, n) : std::span<const float>{};
        EXPECT_TRUE(layer.prefill(static_cast<int>(t), {.x = x, .q = heads.q, .k = heads.k, .v = heads.v},
                                  std::span(out).subspan((t - first) * each, n * each), scratch, mode));
    }
    return out;
}

/// The same by a cache that never knew other heads.
template <class Cache>
floats feed_cache(Cache& cache, const text& kept, ms::prefill_mode mode) {
    ms::workspace scratch(cache.shape());
    const std::size_t each = kept.s.heads * kept.s.value_dim;
    floats out(length * each);
    for (std::size_t t = 0; t < length; t += cache.shape().block) {
        const std::size_t n = std::min(cache.shape().block, length - t);
        EXPECT_TRUE(ms::prefill(cache.layer(0), static_cast<int>(t), kept.at(t, n),
                                std::span(out).subspan(t * each, n * each), scratch, mode));
    }
    return out;
}

floats cell_alone(const ms::replacing_cell& cell, const floats& x, std::size_t block) {
    return std::visit(
        [&](const auto& c) {
            floats state(c.state_size()), out(length * c.output_size());
            ms::cell_workspace scratch(c, {1, block});
            for (std::size_t t = 0; t < length; t += block) {
                const std::size_t n = std::min(block, length - t);
                c.scan({.x = text::some(x, inputs, t, n),
                        .state = state,
                        .out = std::span(out).subspan(t * c.output_size(), n * c.output_size())},
                       scratch);
            }
            return out;
        },
        cell);
}

/// Runs a layer without `heads` and compares each of its columns. `parts` lists, for each cache, its query heads.
template <class P, class Codec>
void check_parts(const ms::shape& given, const numbers& heads, const std::vector<numbers>& parts, const P& policy,
                 ms::prefill_mode mode, bool minimal = false) {
    const text all(given);
    const owned_cell owned(heads.size(), minimal);
    ms::replaced_heads<P, Codec> layer(given, {.heads = heads, .cell = owned.cell}, policy);
    const numbers kept = without(heads, 8);
    const floats out = feed(layer, all.of(kept, kv_heads_of(kept)), 0, length, mode);
    EXPECT_EQ(text::part(out, 8, 5, heads), cell_alone(*owned.cell, all.x, given.block));
    ASSERT_EQ(layer.parts().size(), parts.size());
    std::size_t bytes = layer.cell_state().size_bytes();
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const text own = all.of(parts[i], kv_heads_of(parts[i]));
        ms::cache<P, Codec> cache(own.s, policy);
        EXPECT_EQ(text::part(out, 8, 5, parts[i]), feed_cache(cache, own, mode)) << "part " << i;
        bytes += cache.memory_bytes();
        for (std::size_t h = 0; h < own.s.kv_heads; ++h) {
            const auto a = cache.layer(0).positions(h), b = layer.parts()[i].cache.layer(0).positions(h);
            EXPECT_TRUE(std::ranges::equal(a, b));
        }
    }
    EXPECT_EQ(layer.memory_bytes(), bytes);
    EXPECT_EQ((ms::replaced_heads<P, Codec>::bytes_for(given, {.heads = heads, .cell = owned.cell}, policy)), bytes);
}

/// Group 0 goes, group 2 keeps one of two heads, the others keep both.
const numbers some_heads{0, 1, 5};
const std::vector<numbers> two_parts{{2, 3, 6, 7}, {4}};

TEST(replaced_heads, equal_a_cell_and_a_cache_of_the_others) {
    for (const std::size_t block : {1u, 7u}) {
        for (const bool minimal : {false, true}) {
            const auto exact = ms::prefill_mode::exact;
            check_parts<ms::any_policy, ms::f32>(shape_of(length, block), some_heads, two_parts, ms::full{}, exact,
                                                 minimal);
            check_parts<ms::any_policy, ms::f32>(shape_of(9, block), {2, 3}, {{0, 1, 4, 5, 6, 7}}, ms::tova{}, exact,
                                                 minimal);
            check_parts<ms::any_policy, ms::f32>(shape_of(9, block), {1, 2, 4, 7}, {{0, 3, 5, 6}}, ms::h2o{}, exact,
                                                 minimal);
        }
    }
}

class replaced_heads_by_policy : public testing::TestWithParam<std::string_view> {};

TEST_P(replaced_heads_by_policy, policies_see_the_kept_heads_only) {
    const ms::any_policy policy = ms::any_policy::named(GetParam());
    ms::shape s = shape_of(policy.forgets() == ms::per::never ? length : 13, 7);
    const ms::guards own = policy.default_guards(s.states);
    if (own.sinks + own.recent >= s.states) s.recent = s.states - 1 - own.sinks;
    for (const auto mode : {ms::prefill_mode::exact, ms::prefill_mode::block}) {
        check_parts<ms::any_policy, ms::f32>(s, some_heads, two_parts, policy, mode);
    }
}
INSTANTIATE_TEST_SUITE_P(policies, replaced_heads_by_policy, testing::ValuesIn(ms::any_policy::names),
                         [](const auto& name) { return std::string(name.param); });

TEST(replaced_heads, all_codecs_serve_the_kept_heads) {
    ms::codecs::for_each([]<class Codec>() {
        check_parts<ms::window, Codec>(shape_of(9, 4), some_heads, two_parts, {}, ms::prefill_mode::exact);
    });
}

/// Attention written down.
TEST(replaced_heads, full_attention_is_that_of_the_formula) {
    const text all(shape_of(length));
    const owned_cell owned(3);
    layer_type layer(all.s, {.heads = some_heads, .cell = owned.cell}, ms::full{});
    const numbers kept = without(some_heads, 8);
    const floats out = feed(layer, all.of(kept, {1, 2, 3}), 0, length);
    for (const std::size_t head : kept) {
        std::vector<double> weights(length);
        double sum = 0;
        for (std::size_t t = 0; t < length; ++t) {
            double logit = 0;
            for (std::size_t c = 0; c < 12; ++c) {
                logit +=
                    static_cast<double>(all.q[((length - 1) * 8 + head) * 12 + c]) * all.k[(t * 4 + head / 2) * 12 + c];
            }
            sum += weights[t] = std::exp(logit / std::sqrt(12.0));
        }
        for (std::size_t c = 0; c < 5; ++c) {
            double wanted = 0;
            for (std::size_t t = 0; t < length; ++t) wanted += weights[t] / sum * all.v[(t * 4 + head / 2) * 5 + c];
            EXPECT_NEAR(out[((length - 1) * 8 + head) * 5 + c], wanted, 1e-5);
        }
    }
}

TEST(replaced_heads, none_is_a_cache_and_all_is_a_cell) {
    const text all(shape_of(9, 4));
    layer_type whole(all.s, {}, ms::tova{});
    ms::cache<ms::any_policy> cache(all.s, ms::tova{});
    EXPECT_EQ(feed(whole, all, 0, length), feed_cache(cache, all, ms::prefill_mode::exact));
    EXPECT_EQ(whole.memory_bytes(), cache.memory_bytes());

    const numbers heads{0, 1, 2, 3, 4, 5, 6, 7};
    const owned_cell owned(8);
    layer_type none(all.s, {.heads = heads, .cell = owned.cell}, ms::tova{});
    EXPECT_TRUE(none.parts().empty());
    EXPECT_EQ(none.memory_bytes(), none.cell_state().size_bytes());
    EXPECT_EQ(feed(none, all.of({}, {}), 0, length), cell_alone(*owned.cell, all.x, 4));
}

TEST(replaced_heads, clones_and_saved_states_continue_and_clear_begins_anew) {
    const text all(shape_of(9, 5));
    const owned_cell owned(3);
    const text kept = all.of(without(some_heads, 8), {1, 2, 3});
    layer_type layer(all.s, {.heads = some_heads, .cell = owned.cell}, ms::h2o{});
    const floats first = feed(layer, kept, 0, 30);
    layer_type copy = layer.clone();
    const floats saved(layer.cell_state().begin(), layer.cell_state().end());
    const floats rest = feed(layer, kept, 30, length);
    EXPECT_EQ(feed(copy, kept, 30, length), rest);
    EXPECT_EQ(copy.memory_bytes(), layer.memory_bytes());
    EXPECT_FALSE(std::ranges::equal(saved, layer.cell_state()));

    layer.clear();
    EXPECT_TRUE(std::ranges::all_of(layer.cell_state(), [](float each) { return each == 0; }));
    EXPECT_EQ(feed(layer, kept, 0, 30), first);
    EXPECT_TRUE(std::ranges::equal(saved, layer.cell_state()));
    std::ranges::fill(layer.cell_state(), 3.0f);
    std::ranges::copy(saved, layer.cell_state().begin());
    EXPECT_EQ(feed(layer, kept, 30, length), rest);
}

TEST(replaced_heads, a_full_cache_refuses_and_nothing_changes) {
    const text all(shape_of(8));
    const owned_cell owned(3);
    const text kept = all.of(without(some_heads, 8), {1, 2, 3});
    layer_type layer(all.s, {.heads = some_heads, .cell = owned.cell}, ms::full{});
    const std::size_t room = layer.shape().states + layer.shape().block;
    feed(layer, kept, 0, room);
    const floats before(layer.cell_state().begin(), layer.cell_state().end());
    ms::replaced_heads_workspace scratch(layer);
    floats out(40);
    const ms::qkv in = kept.at(room, 1);
    const auto x = text::some(kept.x, inputs, room, 1);
    EXPECT_FALSE(layer.step(static_cast<int>(room), {.x = x, .q = in.q, .k = in.k, .v = in.v}, out, scratch));
    EXPECT_TRUE(std::ranges::equal(before, layer.cell_state()));
    EXPECT_EQ(layer.parts()[0].cache.layer(0).size(), room);
}

TEST(replaced_heads, executors_agree) {
    const text all(shape_of(9, 30));
    const owned_cell owned(3);
    const text kept = all.of(without(some_heads, 8), {1, 2, 3});
    ms::replaced_heads<ms::window> alone(all.s, {.heads = some_heads, .cell = owned.cell}), shared = alone.clone();
    ms::replaced_heads_workspace scratch(alone);
    ms::thread_pool pool(3);
    floats a(30 * 40), b(30 * 40);
    const ms::qkv in = kept.at(0, 30);
    const ms::replaced_heads_input tokens{text::some(kept.x, inputs, 0, 30), in.q, in.k, in.v};
    EXPECT_TRUE(alone.prefill(0, tokens, a, scratch));
    EXPECT_TRUE(shared.prefill(0, tokens, b, scratch, ms::prefill_mode::exact, pool));
    EXPECT_EQ(a, b);
}

/// What the caches save is decided by KV heads: nothing until a group has lost all its query heads.
TEST(replaced_heads, part_of_a_group_saves_nothing) {
    const ms::shape s = shape_of(100);
    const auto cache_bytes = [&](const numbers& heads) {
        const owned_cell owned(heads.size());
        const layer_type layer(s, {.heads = heads, .cell = owned.cell}, ms::full{});
        std::size_t rows = 0;
        for (const auto& part : layer.parts()) rows += part.cache.shape().kv_heads;
        EXPECT_EQ(rows, layer.kept_kv_heads());
        EXPECT_EQ(rows, ms::kept_kv_heads(s, heads));
        return layer.memory_bytes() - layer.cell_state().size_bytes();
    };
    const ms::cache<ms::any_policy> whole(s, ms::full{});
    const auto near = [](std::size_t a, std::size_t b) { return static_cast<double>(a) / static_cast<double>(b); };
    EXPECT_NEAR(near(cache_bytes({0, 2, 4, 6}), whole.memory_bytes()), 1, 0.02);
    EXPECT_NEAR(near(cache_bytes({0, 1, 2, 3}), whole.memory_bytes()), 0.5, 0.02);
}

TEST(head_selection, takes_whole_groups_first) {
    const ms::shape s{.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 8};
    // sums of groups: 0.9, 1.0, 1.5, 0.4
    const std::vector<float> recency{0.9f, 0.0f, 0.5f, 0.5f, 0.8f, 0.7f, 0.3f, 0.1f};
    EXPECT_EQ(ms::heads_to_replace(s, recency, {.count = 0}), numbers{});
    EXPECT_EQ(ms::heads_to_replace(s, recency, {.count = 1}), numbers{0});
    EXPECT_EQ(ms::heads_to_replace(s, recency, {.count = 1, .whole_groups = true}), numbers{});
    EXPECT_EQ(ms::heads_to_replace(s, recency, {.count = 2}), (numbers{4, 5}));
    EXPECT_EQ(ms::heads_to_replace(s, recency, {.count = 3}), (numbers{0, 4, 5}));
    EXPECT_EQ(ms::heads_to_replace(s, recency, {.count = 5}), (numbers{0, 2, 3, 4, 5}));
    EXPECT_EQ(ms::heads_to_replace(s, recency, {.count = 5, .whole_groups = true}), (numbers{2, 3, 4, 5}));
    EXPECT_EQ(ms::heads_to_replace(s, recency, {.count = 8}).size(), 8);
    EXPECT_EQ(ms::kept_kv_heads(s, numbers{0, 2, 3, 4, 5}), 2);
    // without groups, the heads with the greatest ratios
    EXPECT_EQ(ms::heads_to_replace({.layers = 2, .heads = 4, .kv_heads = 4, .head_dim = 8}, recency, {.count = 3}),
              (numbers{0, 4, 5}));
}

TEST(head_selection, refuses_what_does_not_fit) {
    const ms::shape s{.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 8};
    using support::what_is_thrown;
    EXPECT_EQ(what_is_thrown([&] { (void)ms::heads_to_replace(s, std::vector<float>(7), {.count = 1}); }),
              "heads_to_replace: recency must be one number for each query head, 8, is 7");
    EXPECT_EQ(what_is_thrown([&] { (void)ms::heads_to_replace(s, std::vector<float>(8), {.count = 9}); }),
              "heads_to_replace: count must be at most the query heads, 8, is 9");
    EXPECT_EQ(what_is_thrown([&] { (void)ms::heads_to_replace(s, std::vector<float>(8, NAN), {.count = 1}); }),
              "heads_to_replace: recency must be numbers, is nan");
    EXPECT_EQ(what_is_thrown([&] { (void)ms::kept_kv_heads(s, numbers{8}); }),
              "kept_kv_heads: heads must be less than the number of query heads, 8, is 8");
    EXPECT_EQ(what_is_thrown(
                  [&] { (void)ms::kept_kv_heads({.layers = 1, .heads = 3, .kv_heads = 2, .head_dim = 8}, numbers{}); }),
              "kept_kv_heads: heads must be a multiple of kv_heads = 2, is 3");
}

TEST(replaced_heads, refuse_what_does_not_fit) {
    const owned_cell two(2), three(3);
    const auto message = [](const ms::shape& s, const numbers& heads, const std::optional<ms::replacing_cell>& cell) {
        return support::what_is_thrown([&] { layer_type(s, {.heads = heads, .cell = cell}, ms::tova{}); });
    };
    EXPECT_EQ(message(shape_of(9), {0, 8}, two.cell),
              "replaced_heads: heads must be less than the number of query heads, 8, is 8");
    EXPECT_EQ(message(shape_of(9), {3, 3}, two.cell), "replaced_heads: heads must be rising, each once, is 3 after 3");
    EXPECT_EQ(message(shape_of(9), {0, 1, 2}, two.cell),
              "replaced_heads: output_size() of the cell must be value_dim for each replaced head, 15, is 10");
    EXPECT_EQ(message(shape_of(9), {0, 1}, {}),
              "replaced_heads: cell must be given if and only if heads are replaced, whose number, is 2");
    EXPECT_EQ(message(shape_of(9), {}, two.cell),
              "replaced_heads: cell must be given if and only if heads are replaced, whose number, is 0");
    ms::shape s = shape_of(9);
    s.layers = 2;
    EXPECT_EQ(message(s, {0, 1}, two.cell), "replaced_heads: layers must be 1, is 2");
    EXPECT_EQ(message(shape_of(0), {0, 1}, two.cell).substr(0, 6), "table:");
}

TEST(replaced_heads, the_cell_alone_writes_what_a_step_writes) {
    const text all(shape_of(9, 2));
    const owned_cell owned(3);
    const text kept = all.of(without(some_heads, 8), {1, 2, 3});
    layer_type whole(all.s, {.heads = some_heads, .cell = owned.cell}, ms::tova{});
    layer_type alone(all.s, {.heads = some_heads, .cell = owned.cell}, ms::tova{});
    ms::replaced_heads_workspace scratch(whole);
    floats out(40), columns(40);
    const std::size_t width = out.size() / 8;
    for (std::size_t t = 0; t < 3; ++t) {
        const ms::qkv in = kept.at(t, 1);
        const std::span<const float> x = text::some(kept.x, inputs, t, 1);
        ASSERT_TRUE(whole.step(static_cast<ms::position>(t), {.x = x, .q = in.q, .k = in.k, .v = in.v}, out, scratch));
        alone.advance_cell(x, 1, columns, scratch);
        for (const std::size_t head : some_heads) {
            for (std::size_t i = head * width; i < (head + 1) * width; ++i)
                EXPECT_EQ(columns[i], out[i]) << t << ' ' << i;
        }
    }
}

TEST(replaced_heads_death, misuse_is_reported) {
    const text all(shape_of(9, 2));
    const owned_cell owned(3);
    const text kept = all.of(without(some_heads, 8), {1, 2, 3});
    layer_type layer(all.s, {.heads = some_heads, .cell = owned.cell}, ms::tova{});
    ms::replaced_heads_workspace scratch(layer), empty;
    floats out(40);
    const ms::qkv in = kept.at(0, 1);
    const std::span<const float> x = text::some(kept.x, inputs, 0, 1);
    const auto step = [&](ms::replaced_heads_input tokens, std::span<float> to, ms::replaced_heads_workspace& with,
                          ms::position p = 0) { return layer.step(p, tokens, to, with); };
    EXPECT_DEATH((void)step({x, all.at(0, 1).q, in.k, in.v}, out, scratch), "kept query heads");
    EXPECT_DEATH((void)step({x, in.q, all.at(0, 1).k, in.v}, out, scratch), "kept KV heads");
    EXPECT_DEATH((void)step({{}, in.q, in.k, in.v}, out, scratch), "x must be");
    EXPECT_DEATH((void)step({x, in.q, in.k, in.v}, std::span(out).first(39), scratch), "out must be");
    EXPECT_DEATH((void)step({x, in.q, in.k, in.v}, out, empty), "workspace must be reserved for this layer");
    EXPECT_DEATH(layer.advance_cell(x, 1, std::span(out).first(39), scratch), "out must be");
    EXPECT_TRUE(step({x, in.q, in.k, in.v}, out, scratch, 5));
    EXPECT_DEATH((void)step({x, in.q, in.k, in.v}, out, scratch, 5), "position must be");
}

}  // namespace replaced_heads_test
