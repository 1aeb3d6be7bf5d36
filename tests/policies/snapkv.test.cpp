// snapkv: hand-checked decisions.
#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/attention/prefill.hpp>
#include <multistate/cache/cache.hpp>
#include <multistate/policies/list.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"
#include "support/stream.hpp"

namespace snapkv_test {

namespace ms = multistate;
using positions = std::vector<int>;

ms::snapkv with(std::size_t window, std::size_t width, bool greatest = false, bool zero_padded = false) {
    ms::snapkv policy;
    policy.get<ms::morphkv>().window = window;
    policy.get<ms::pool>() = {.width = width, .greatest = greatest, .zero_padded = zero_padded};
    return policy;
}

/// Six states of which the newest token gives .5 0 .25 0 0 .25; means of five: .25 .1875 .15 .1 .125 .083;
/// where that token is guarded, of the others .25 .1875 .15 .0625 .083.
positions first_to_go(const ms::snapkv& policy, std::size_t recent) {
    ms::table<ms::snapkv> table({.states = 5, .recent = recent}, policy);
    support::fill(table, 5, 1);
    EXPECT_NE(table.place(5), ms::no_row);
    support::observe(table, {{0.5f, 0.0f, 0.25f, 0.0f, 0.0f, 0.25f}});
    static_cast<void>(table.forget());
    return support::forgotten(table);
}

TEST(snapkv, neighbors_share_their_attention) {
    EXPECT_EQ(first_to_go(with(1, 5), 0), positions{5});
    EXPECT_EQ(first_to_go(with(1, 5), 1), positions{3});
    EXPECT_EQ(first_to_go(with(1, 1), 0), positions{1});
    EXPECT_EQ(first_to_go(with(1, 3, true), 1), positions{4});  // maxima .5 .5 .25 .25 0
    EXPECT_EQ(first_to_go(with(1, 3, true, true), 1), positions{4})
        << "of zeros beyond the ends a maximum knows nothing";
}

TEST(snapkv, has_the_numbers_of_the_published_runs_and_of_the_authors_class) {
    const auto numbers_of = [](const ms::any_policy& policy) {
        std::string text;
        policy.for_each_parameter([&](auto name, auto value, auto...) {
            text.append(name).append(" ").append(std::to_string(value)).append(" ");
        });
        return text;
    };
    const std::string runs = "window 32 maximum 0 width 7 greatest 1 zero_padded 0 ";
    EXPECT_EQ(numbers_of(ms::snapkv()), runs);
    EXPECT_EQ(numbers_of(ms::snapkv::published_runs()), runs);
    EXPECT_EQ(numbers_of(ms::any_policy::named("snapkv:runs")), runs);
    const std::string authors_class = "window 64 maximum 0 width 5 greatest 0 zero_padded 1 ";
    EXPECT_EQ(numbers_of(ms::snapkv::authors_class()), authors_class);
    EXPECT_EQ(numbers_of(ms::any_policy::named("snapkv:class")), authors_class);
    EXPECT_EQ(ms::any_policy::named("snapkv:class").name(), "snapkv");
}

/// Eight tokens in one block; the last two gave .5 .25 .5 .25 0 .125 .25 .125 together, the others all to themselves.
positions kept_of_a_prompt(const ms::snapkv& policy) {
    ms::table<ms::snapkv> table({.states = 4, .block = 8}, policy);
    static_cast<void>(table.append(0, 8));
    for (std::size_t n = 1; n <= 6; ++n) {
        std::vector<float> itself(n, 0.0f);
        itself.back() = 1;
        table.observe({itself.data(), 1, n, n});
    }
    const float seventh[] = {0.5f, 0.0f, 0.0f, 0.25f, 0.0f, 0.125f, 0.125f};
    const float eighth[] = {0.0f, 0.25f, 0.5f, 0.0f, 0.0f, 0.0f, 0.125f, 0.125f};
    table.observe({seventh, 1, 7, 7});
    table.observe({eighth, 1, 8, 8});
    static_cast<void>(table.forget());
    return support::held(table);
}

TEST(snapkv, keeps_of_a_prompt_what_its_end_attends_to) {
    EXPECT_EQ(kept_of_a_prompt(with(2, 1)), (positions{0, 2, 6, 7}));
    EXPECT_EQ(kept_of_a_prompt(with(2, 3)), (positions{0, 1, 6, 7}));  // means .375 .417 .333 .25 .125 .063
    EXPECT_EQ(kept_of_a_prompt(with(8, 1)), (positions{0, 2, 6, 7}));  // 1.5 1.25 1.5 1.25 1 1.125
    EXPECT_EQ(kept_of_a_prompt(with(1, 1)), (positions{1, 2, 6, 7}));  // 0 .25 .5 0 0 0 .125, one guarded
}

TEST(snapkv, guards_its_window_as_far_as_half_of_the_states_allows) {
    for (const std::size_t states : {1u, 2u, 3u, 63u, 64u, 500u}) {
        EXPECT_EQ(ms::snapkv().default_guards(states).recent, std::min<std::size_t>(32, states / 2));
    }
}

TEST(snapkv, every_number_can_be_set) {
    std::string names;
    const ms::snapkv policy;
    ms::for_each_parameter(policy, [&](auto name, auto...) { names.append(name).append(" "); });
    EXPECT_EQ(names, "window maximum width greatest zero_padded ");
}

TEST(snapkv, one_state_and_certain_attention) {
    ms::table<ms::snapkv> table({.states = 1});
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.0f, 1.0f}});
    static_cast<void>(table.place(2));
    EXPECT_EQ(support::forgotten(table), positions{0});  // two states have the same maximum
}

TEST(snapkv, a_copy_continues_alike) {
    ms::table<ms::snapkv> table({.states = 3}, with(2, 3));
    support::fill(table, 3, 1);
    auto copy = table;
    for (auto* one : {&table, &copy}) {
        EXPECT_NE(one->place(3), ms::no_row);
        support::observe(*one, {{0.125f, 0.5f, 0.125f, 0.25f}});
        static_cast<void>(one->forget());
    }
    EXPECT_EQ(support::forgotten(copy), support::forgotten(table));
    for (std::size_t j = 0; j < 3; ++j) EXPECT_EQ(copy.scores()[j], table.scores()[j]);
}

/// As the header says: the prompt in one block, one decision, and on.
TEST(snapkv, a_prompt_and_then_steps_in_a_cache) {
    const ms::shape shape{.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 8, .states = 10, .block = 40};
    const support::stream tokens(shape, 41, 1);
    ms::cache<ms::snapkv> cache(shape);
    ms::workspace scratch(cache.shape());
    std::vector<float> out(40 * tokens.out_width);
    ASSERT_TRUE(ms::prefill(cache.layer(0), 0, {tokens.q(0, 40), tokens.k(0, 40), tokens.v(0, 40)}, out, scratch,
                            ms::prefill_mode::block));
    EXPECT_EQ(cache.layer(0).size(), 40u);
    cache.layer(0).forget();
    EXPECT_EQ(cache.layer(0).size(), 10u);
    for (int newest = 35; newest < 40; ++newest) {
        EXPECT_NE(std::ranges::find(cache.layer(0).positions(1), newest), cache.layer(0).positions(1).end());
    }
    out.resize(tokens.out_width);
    ASSERT_TRUE(ms::step(cache.layer(0), 40, {tokens.q(40), tokens.k(40), tokens.v(40)}, out, scratch));
    EXPECT_EQ(cache.layer(0).size(), 11u);
}

}  // namespace snapkv_test

namespace reference::snapkv {

numbers scores(const evidence& e) {
    return pooled(e, sum_over(e, e.newest(32)), 3, [](double, double, double greatest) { return greatest; });
}

// Two states may have the same greatest neighbor.
const registered rule{{.name = "snapkv", .score = scores, .recent = at_most<32, 2>, .ties_are_exact = true}};

}  // namespace reference::snapkv
