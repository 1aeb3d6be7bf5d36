// Misuse is met at the border, in every build. Compiled as programs of their own: at level 1 with NDEBUG and
// exceptions, and at level 2 without exceptions, where constructors refuse through the failure handler too.
#include <csignal>
#include <cstdlib>
#include <limits>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/budgets/adaptive.hpp>
#include <multistate/budgets/attention_profile.hpp>
#include <multistate/execution/thread_pool.hpp>
#include <multistate/math/rope.hpp>
#include <multistate/multistate.hpp>

#include "support/stored.hpp"

namespace {

namespace ms = multistate;

/// A step that ends the program with this message.
#define EXPECT_ENDS(statement, message) EXPECT_DEATH_IF_SUPPORTED(statement, message)

/// A constructor, or another function that may throw, that refuses its arguments.
#if defined(__cpp_exceptions)
template <class F>
std::string refusal(F f) {
    try {
        f();
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return "nothing";
}
#define EXPECT_REFUSED(statement, message)                                                                \
    EXPECT_PRED2([](const std::string& said,                                                              \
                    const std::string& must) { return testing::internal::RE::PartialMatch(said, must); }, \
                 refusal([&] { statement; }), message)
#else
#define EXPECT_REFUSED(statement, message) EXPECT_DEATH_IF_SUPPORTED(statement, message)
#endif

constexpr std::size_t far = std::size_t{1} << 40;  // as an index, out of any range

std::span<const float> some(std::size_t n) {
    static const std::vector<float> halves(96, 0.5f);
    return std::span(halves).first(n);
}

constexpr ms::shape shape{
    .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 3, .value_dim = 2, .states = 2, .block = 3};

/// A cache fed by hand: k has 6 floats per token, v 4, q 12, out 8.
template <class P>
class of_cache : public testing::Test {
  protected:
    void append(std::size_t tokens = 1) {
        EXPECT_TRUE(cache.layer(0).append(next, some(tokens * 6), some(tokens * 4)));
        next += static_cast<ms::position>(tokens);
    }
    bool step(ms::position p, std::size_t q, std::size_t k, std::size_t v, std::size_t out) {
        return ms::step(cache.layer(0), p, {some(q), some(k), some(v)}, std::span(outputs).first(out), scratch);
    }
    bool prefill(ms::position p, std::size_t q, std::size_t k, std::size_t v, std::size_t out) {
        return ms::prefill(cache.layer(0), p, {some(q), some(k), some(v)}, std::span(outputs).first(out), scratch);
    }

    ms::cache<P> cache{shape};
    ms::workspace scratch{shape};
    ms::position next = 0;
    std::vector<float> outputs = std::vector<float>(96);
};
using with_tova = of_cache<ms::tova>;
using with_h2o = of_cache<ms::h2o>;
using with_window = of_cache<ms::window>;
using with_filters = of_cache<ms::q_filters>;
using chosen = ms::one_of<ms::full, ms::h2o>;
using with_choice = of_cache<chosen>;

// ---- what the policy was promised to see

TEST_F(with_tova, observing_is_not_forgotten) {
    append();
    EXPECT_ENDS(append(),
                "append|place: the newest token must be observed first .observe: the policy reads attention.");
    EXPECT_ENDS(append(2), "newest token must be observed first");
    cache.layer(0).observe(some(4 * cache.layer(0).size()));
    append();
    EXPECT_EQ(cache.layer(0).size(), 2u);
}

TEST_F(with_tova, forgetting_does_not_stand_in_for_observing) {
    append(3);
    EXPECT_ENDS(cache.layer(0).forget(), "forget: the newest token must be observed first");
}

TEST_F(with_tova, a_block_is_observed_to_its_last_token) {
    append(3);
    const std::span<const float> probabilities = some(4 * 3);
    cache.layer(0).observe(ms::rows{probabilities.data(), 4, 1, 3});
    cache.layer(0).observe(ms::rows{probabilities.data(), 4, 2, 3});
    EXPECT_ENDS(append(), "newest token must be observed first");
    cache.layer(0).observe(ms::rows{probabilities.data(), 4, 3, 3});
    append();
    EXPECT_EQ(cache.layer(0).size(), 3u);
}

TEST_F(with_filters, queries_are_not_forgotten) {
    append();
    cache.layer(0).observe(some(4));  // which this policy does not read
    EXPECT_ENDS(append(), "newest token must be observed first .observe_queries");
    cache.layer(0).observe_queries(some(12));
    append();
    EXPECT_EQ(cache.layer(0).size(), 2u);
}

TEST_F(with_window, need_not_observe) {
    for (int i = 0; i < 10; ++i) append();
    append(3);
    append(2);
    EXPECT_EQ(cache.layer(0).size(), 4u);
}

TEST_F(with_choice, is_asked) {
    for (int i = 0; i < 4; ++i) append();  // full, the first of the list
    cache = ms::cache<chosen>(shape, chosen::named("h2o"));
    next = 0;
    append();
    EXPECT_ENDS(append(), "newest token must be observed first");
}

// ---- layers and heads

TEST_F(with_h2o, layers_and_heads_out_of_range_are_caught) {
    EXPECT_ENDS(cache.layer(2), "layer: index must be less than layers = 2, is 2");
    EXPECT_ENDS(cache.layer(far), "layer: index must be less");
    EXPECT_ENDS(std::as_const(cache).layer(2), "layer: index must be less");
    const auto layer = cache.layer(0);
    EXPECT_ENDS(layer.size(2), "size: kv_head must be less than kv_heads = 2, is 2");
    EXPECT_ENDS(layer.rows(2), "rows: kv_head must be less");
    EXPECT_ENDS(layer.states(far), "states: kv_head must be less");
    EXPECT_ENDS(layer.positions(far), "positions: kv_head must be less");
    EXPECT_ENDS(std::as_const(cache).layer(0).scores(2), "scores: kv_head must be less");
    EXPECT_ENDS(layer.scores(2), "scores: kv_head must be less");
    EXPECT_ENDS(layer.forgotten(2), "forgotten: kv_head must be less");
    EXPECT_ENDS(layer.keys(2), "keys: kv_head must be less");
    EXPECT_ENDS(layer.values(far), "values: kv_head must be less");
}

TEST_F(with_h2o, a_handle_that_is_restricted_to_a_table_has_no_other) {
    const auto layer = cache.layer(0);
    EXPECT_ENDS(layer.restricted_to(2), "restricted_to: t must be less than table_count.. = 2, is 2");
    const auto second = layer.restricted_to(1);
    EXPECT_EQ(second.size(1), 0u);
    EXPECT_ENDS(second.size(), "size: kv_head must be that of the table to which the handle is restricted, 1, is 0");
    EXPECT_ENDS(second.keys(0), "keys: kv_head must be that of the table");
    EXPECT_ENDS(second.restricted_to(1), "restricted_to: t must be less than table_count.. = 1, is 1");
    EXPECT_ENDS((void)ms::step(second, 0, {some(12), some(6), some(4)}, std::span(outputs).first(8), scratch),
                "size: kv_head must be that of the table");
}

/// Staged tokens lie behind the rows that are held, of which a cache has states + slack + block.
TEST_F(with_window, no_more_is_staged_than_there_is_room_for) {
    append(3);
    cache.layer(0).stage(some(12), some(8));
    EXPECT_ENDS(cache.layer(0).stage(some(18), some(12)), "stage: tokens must be at most the rows that are left, 2");
    EXPECT_ENDS(cache.layer(0).stage(some(6), some(3)), "stage: v must be");
}

TEST_F(with_tova, heads_are_checked_where_they_share_a_table) {
    EXPECT_ENDS(cache.layer(0).size(2), "size: kv_head must be less than kv_heads = 2, is 2");
    EXPECT_ENDS(cache.layer(0).keys(2), "keys: kv_head must be less");
}

// ---- spans

TEST_F(with_window, spans_of_the_wrong_size_are_caught_by_append) {
    EXPECT_ENDS((void)cache.layer(0).append(0, some(7), some(4)),
                "append: k must be .tokens, kv_heads, head_dim. floats, one or more times 6, is 7");
    EXPECT_ENDS((void)cache.layer(0).append(0, some(5), some(4)), "append: k must be .*one or more times 6, is 5");
    EXPECT_ENDS((void)cache.layer(0).append(0, {}, {}), "append: k must be .*one or more times 6, is 0");
    EXPECT_ENDS((void)cache.layer(0).append(0, some(6), some(6)),
                "append: v must be .tokens, kv_heads, value_dim. floats, 4, is 6");
    EXPECT_ENDS((void)cache.layer(0).append(0, some(24), some(16)), "append: tokens must be at most block = 3, is 4");
}

TEST_F(with_window, spans_of_the_wrong_size_are_caught_by_step) {
    EXPECT_ENDS((void)step(0, 11, 6, 4, 8), "step: q must be .heads, head_dim. floats, 12, is 11");
    EXPECT_ENDS((void)step(0, 24, 12, 8, 16), "step: q must be .heads, head_dim. floats, 12, is 24");
    EXPECT_ENDS((void)step(0, 12, 5, 4, 8), "step: k must be .kv_heads, head_dim. floats, 6, is 5");
    EXPECT_ENDS((void)step(0, 12, 12, 4, 8), "step: k must be .kv_heads, head_dim. floats, 6, is 12");
    EXPECT_ENDS((void)step(0, 12, 6, 3, 8), "step: v must be .kv_heads, value_dim. floats, 4, is 3");
    EXPECT_ENDS((void)step(0, 12, 6, 4, 7), "step: out must be .heads, value_dim. floats, 8, is 7");
    EXPECT_ENDS((void)step(0, 0, 0, 0, 0), "step: q must be");
}

TEST_F(with_h2o, spans_of_the_wrong_size_are_caught_by_step) {
    EXPECT_ENDS((void)step(0, 12, 5, 4, 8), "step: k must be .kv_heads, head_dim. floats, 6, is 5");
    EXPECT_ENDS((void)step(0, 12, 6, 4, 7), "step: out must be .heads, value_dim. floats, 8, is 7");
}

TEST_F(with_window, spans_of_the_wrong_size_are_caught_by_prefill) {
    EXPECT_ENDS((void)prefill(0, 23, 12, 8, 16),
                "prefill: q must be .tokens, heads, head_dim. floats, one or more times 12, is 23");
    EXPECT_ENDS((void)prefill(0, 0, 0, 0, 0), "prefill: q must be");
    EXPECT_ENDS((void)prefill(0, 24, 6, 8, 16), "prefill: k must be .tokens, kv_heads, head_dim. floats, 12, is 6");
    EXPECT_ENDS((void)prefill(0, 24, 12, 7, 16), "prefill: v must be .tokens, kv_heads, value_dim. floats, 8, is 7");
    EXPECT_ENDS((void)prefill(0, 24, 12, 8, 15), "prefill: out must be .tokens, heads, value_dim. floats, 16, is 15");
    EXPECT_ENDS((void)prefill(0, 48, 24, 16, 32), "prefill: tokens must be at most block = 3, is 4");
}

TEST_F(with_window, spans_of_the_wrong_size_are_caught_by_attend) {
    append();
    const std::span<float> out(outputs);
    EXPECT_ENDS(ms::attend(cache.layer(0), some(11), out.first(8), scratch),
                "attend: q must be .heads, head_dim. floats, 12, is 11");
    EXPECT_ENDS(ms::attend(cache.layer(0), some(12), out.first(7), scratch),
                "attend: out must be .heads, value_dim. floats, 8, is 7");
}

TEST_F(with_window, attention_needs_a_token) {
    EXPECT_ENDS(ms::attend(cache.layer(0), some(12), std::span(outputs).first(8), scratch),
                "attend: size.. must be at least 1");
}

TEST_F(with_window, outputs_lie_apart_from_what_is_read) {
    const std::span<float> all(outputs);
    append();
    EXPECT_ENDS(ms::attend(cache.layer(0), all.first(12), all.subspan(4, 8), scratch),
                "attend: q must be memory apart from out");
    EXPECT_ENDS((void)ms::step(cache.layer(0), 1, {all.first(12), some(6), some(4)}, all.first(8), scratch),
                "step: q must be memory");
    EXPECT_ENDS((void)ms::prefill(cache.layer(0), 1, {some(24), all.first(12), some(8)}, all.subspan(8, 16), scratch),
                "prefill: k must be memory apart from out");
    EXPECT_ENDS((void)ms::prefill(cache.layer(0), 1, {some(24), some(12), all.first(8)}, all.subspan(7, 16), scratch),
                "prefill: v must be memory apart from out");
    EXPECT_TRUE(ms::step(cache.layer(0), 1, {all.first(12), some(6), some(4)}, all.subspan(12, 8), scratch));
}

TEST_F(with_tova, probabilities_of_the_wrong_size_are_caught) {
    append(2);
    const float* const p = some(12).data();
    EXPECT_ENDS(cache.layer(0).observe(some(7)),
                "observe: probabilities must be .* for each query head at least 2, is 7");
    EXPECT_ENDS(cache.layer(0).observe(some(9)), "observe: probabilities must be floats in rows of one length");
    EXPECT_ENDS(cache.layer(0).observe(ms::rows{p, 3, 2, 2}), "observe: probabilities must be one row .*: 4, is 3");
    EXPECT_ENDS(cache.layer(0).observe(ms::rows{p, 4, 3, 3}), "observe: width must be at most .* 2, is 3");
    EXPECT_ENDS(cache.layer(0).observe(ms::rows{p, 4, 0, 0}), "observe: width must be more than .* 0, is 0");
    EXPECT_ENDS(cache.layer(0).observe(ms::rows{p, 4, 2, 1}),
                "observe: stride must be 0 .* or at least width = 2, is 1");
    EXPECT_ENDS(cache.layer(0).observe(ms::rows{nullptr, 4, 2, 2}), "observe: probabilities must be .* is empty");
}

TEST_F(with_filters, queries_of_the_wrong_size_are_caught) {
    append();
    EXPECT_ENDS(cache.layer(0).observe_queries(some(11)),
                "observe_queries: q must be .heads, head_dim. floats, 12, is 11");
}

TEST_F(with_h2o, probabilities_reach_the_smallest_head) {
    const std::size_t budget[] = {2, 4, 2, 4};
    ms::cache<ms::h2o> uneven(shape, {}, budget);
    ms::workspace larger(uneven.shape());
    for (ms::position p = 0; p < 6; ++p) {
        EXPECT_TRUE(ms::step(uneven.layer(0), p, {some(12), some(6), some(4)}, std::span(outputs).first(8), larger));
    }
    EXPECT_ENDS(uneven.layer(0).observe(ms::rows{some(8).data(), 4, 2, 2}),
                "observe: width must be more than .*, 2, is 2");
}

// ---- positions

TEST_F(with_window, positions_rise) {
    append();
    next = 0;
    EXPECT_ENDS(append(), "place: position must be at least next_position.* = 1, is 0");
    EXPECT_ENDS(append(2), "append: position must be at least next_position.* = 1, is 0");
    EXPECT_ENDS((void)step(0, 12, 6, 4, 8), "position must be at least next_position.* = 1, is 0");
    EXPECT_ENDS((void)prefill(0, 24, 12, 8, 16), "position must be at least next_position.* = 1, is 0");
    cache.clear();
    append();
    EXPECT_EQ(cache.layer(0).size(), 1u);
    EXPECT_EQ(cache.layer(0).next_position(), 1);
}

TEST_F(with_window, positions_are_not_negative) {
    next = -1;
    EXPECT_ENDS(append(), "position must be at least next_position.* = 0, is -1");
}

TEST_F(with_window, positions_end_before_they_wrap) {
    next = ms::last_position;
    EXPECT_ENDS(append(2), "the last position must be at most last_position = 2147483646, is 2147483647");
    EXPECT_ENDS((void)prefill(next, 24, 12, 8, 16), "the last position must be at most last_position");
    append();
    EXPECT_EQ(cache.layer(0).next_position(), std::numeric_limits<ms::position>::max());
    EXPECT_ENDS(append(), "the last position must be at most last_position = 2147483646, is 2147483647");
}

// ---- what was moved from

TEST_F(with_h2o, a_cache_that_was_moved_from_is_refused) {
    append();
    const auto before = cache.layer(0);
    const ms::cache<ms::h2o> other = std::move(cache);
    EXPECT_ENDS(before.size(), "size: the cache must be one that has layers, is moved from");
    EXPECT_ENDS(before.keys(0), "keys: the cache must be");
    EXPECT_ENDS((void)before.append(1, some(6), some(4)), "append: the cache must be");
    EXPECT_ENDS(before.observe(some(4)), "observe: the cache must be");
    EXPECT_ENDS(before.forget(), "tables: the cache must be");
    EXPECT_ENDS(append(), "layer: the cache must be one that has layers, is moved from");
    EXPECT_ENDS(cache.layer(0).size(), "layer: the cache must be one that has layers, is moved from");
    EXPECT_ENDS(cache.layer(0).keys(0), "layer: the cache must be");
    EXPECT_ENDS(cache.layer(0).observe(some(4)), "layer: the cache must be");
    EXPECT_ENDS((void)step(1, 12, 6, 4, 8), "the cache must be one that has layers, is moved from");
    EXPECT_ENDS((void)cache.clone().layer(0).append(0, some(6), some(4)), "layer: the cache must be");
    const std::size_t budget[] = {3, 3};
    EXPECT_REFUSED(cache.rebudget(budget), "cache: layers must be those of a cache that was not moved from, is 0");
    EXPECT_ENDS((void)ms::adaptive_budget(cache, 2), "the cache must be one that has layers, is moved from");
    cache.clear();
    EXPECT_EQ(other.layer(0).size(), 1u);
}

TEST(of_table, that_was_moved_from_is_refused) {
    ms::table<ms::window> table({.states = 2});
    EXPECT_EQ(table.place(0), 0u);
    const ms::table<ms::window> other = std::move(table);
    const std::string moved = "the table must be one that has rows, is moved from";
    EXPECT_ENDS((void)table.place(1), "place: " + moved);
    EXPECT_ENDS((void)table.append(1, 1), "append: " + moved);
    EXPECT_ENDS(table.positions(), "positions: " + moved);
    EXPECT_ENDS(table.scores(), "scores: " + moved);
    EXPECT_ENDS(table.forgotten(), "forgotten: " + moved);
    EXPECT_ENDS((void)table.forget(), "forget: " + moved);
    EXPECT_ENDS(table.observe({some(1).data(), 1, 1, 1}), "observe: " + moved);
    EXPECT_REFUSED((void)table.rebudget(3), "rows must be those of a table that was not moved from");
    table.clear();
    EXPECT_EQ(other.size(), 1u);
}

TEST_F(with_h2o, workspaces_fit) {
    append();
    ms::shape small = shape;
    small.block = 1;
    ms::workspace too_small(small), right(shape);
    const auto take = [&](ms::workspace& given) {
        return ms::step(cache.layer(0), 1, {some(12), some(6), some(4)}, std::span(outputs).first(8), given);
    };
    EXPECT_ENDS((void)take(too_small), "step: the workspace must be made for caches of this shape, is of another");
    EXPECT_ENDS((void)ms::prefill(cache.layer(0), 1, {some(24), some(12), some(8)}, std::span(outputs).first(16),
                                  too_small, ms::prefill_mode::exact),
                "prefill: the workspace must be");
    EXPECT_ENDS(ms::attend(cache.layer(0), some(12), std::span(outputs).first(8), too_small),
                "attend: the workspace must be");
    const ms::workspace other = std::move(right);
    EXPECT_ENDS((void)take(right),
                "step: the workspace must be made for caches of this shape, is of another, or moved");
}

// ---- tables

TEST(of_table, widths_beyond_the_rows_held_are_caught) {
    ms::table<ms::tova> table({.states = 2});
    const float* const p = some(4).data();
    EXPECT_EQ(table.place(0), 0u);
    EXPECT_ENDS(table.observe({p, 1, 2, 2}), "observe: width must be from 1 to size.. = 1, is 2");
    EXPECT_ENDS(table.observe({p, 1, 0, 0}), "observe: width must be from 1 to size.. = 1, is 0");
    EXPECT_ENDS(table.observe({p, 0, 1, 1}), "observe: probabilities must be one row for each query head, is empty");
    EXPECT_ENDS(table.observe_queries({p, 1, 2, 2}, 2), "observe_queries: width must be from 1 to size.. = 1, is 2");
    table.observe({p, 1, 1, 1});
    table.observe_queries({p, 1, 2, 2}, 1);
}

TEST(of_table, place_decides_about_one_state_only) {
    ms::table<ms::window> table({.states = 2, .block = 2, .slack = 1});
    for (int p = 0; p < 4; ++p) EXPECT_EQ(table.place(p), static_cast<std::size_t>(p));
    EXPECT_ENDS((void)table.place(4),
                "place: size.. must be at most states . 1 .else append or forget first. = 3, is 4");
    EXPECT_TRUE(table.append(4, 2).size() <= 2);
    EXPECT_ENDS((void)table.append(6, 4), "append: count must be at most the rows that are left, 3, is 4");
    EXPECT_ENDS((void)table.append(6, far), "append: .* must be at most");
    EXPECT_ENDS((void)table.append(6, 0), "append: count must be at least 1, is 0");
    EXPECT_FALSE(table.has_room(far) || table.has_room(std::numeric_limits<std::size_t>::max()));
    EXPECT_TRUE(table.append(6, 2).size() <= 2);
    EXPECT_EQ(table.size(), 4u);
}

constexpr ms::table_shape of_keys{.states = 2, .block = 2, .heads = 2, .kv_heads = 1, .head_dim = 3, .value_dim = 2};

/// One key or value.
ms::rows row_of(std::size_t width) { return {some(width).data(), 1, width, width}; }

/// Before any decision is due, and in every call that may decide.
TEST(of_table, stored_rows_are_lent_to_a_policy_that_reads_them) {
    const std::string missing = "stored must be given at every call, as the policy reads stored rows, is missing";
    ms::table<ms::keydiff> table(of_keys);
    EXPECT_ENDS((void)table.place(0, row_of(3), row_of(2)), "place: " + missing);
    EXPECT_ENDS((void)table.append(0, 2), "append: " + missing);
    ms::table<ms::d2o> merging(of_keys);
    EXPECT_ENDS((void)merging.place(0), "place: " + missing);
    ms::table<ms::q_filters> filters(of_keys);
    EXPECT_ENDS((void)filters.place(0, row_of(3), row_of(2)), "place: " + missing);
    ms::table<ms::citrus_probe> probing(of_keys);
    EXPECT_ENDS((void)probing.place(0), "place: " + missing);
    using any = ms::one_of<ms::tova, ms::keydiff>;
    ms::table<any> choice(of_keys, any::named("keydiff"));
    EXPECT_ENDS((void)choice.place(0, row_of(3), row_of(2)), "place: " + missing);

    support::stored_floats rows(of_keys), wider(1, 4, 4, 2);
    EXPECT_ENDS((void)table.place(0, row_of(3), row_of(2), wider.edit()),
                "place: stored.head_dim must be that of the table, 3, is 4");
    for (ms::position p = 0; p < 3; ++p) {
        EXPECT_EQ(table.place(p, row_of(3), row_of(2), rows.edit()), static_cast<std::size_t>(p));
    }
    EXPECT_ENDS((void)table.forget(), "forget: " + missing);
    EXPECT_TRUE(table.forget(rows.edit()).size() <= 1);
}

/// The functions that a policy does not call may be missing; the others may not.
TEST(of_reader, calls_what_there_is) {
    static constexpr ms::storage_access none{};
    ms::editor stored;
    stored.access = &none;
    stored.kv_heads = 1;
    std::vector<float> out(3);
    const std::string missing = ": the stored rows must be lent by whoever called the table, .* is missing";
    EXPECT_ENDS(stored.key(0, 0, out), "key" + missing);
    EXPECT_ENDS(stored.value(0, 0, out), "value" + missing);
    EXPECT_ENDS(stored.dot_keys(0, some(3), out), "dot_keys" + missing);
    EXPECT_ENDS(stored.dot_values(0, some(3), out), "dot_values" + missing);
    EXPECT_ENDS(stored.sum_values(0, some(3), out), "sum_values" + missing);
    EXPECT_ENDS(stored.set_key(0, 0, some(3)), "set_key" + missing);
    EXPECT_ENDS(stored.set_value(0, 0, some(3)), "set_value" + missing);
    EXPECT_ENDS(ms::reader{}.key(0, 0, out), "key" + missing);
}

TEST(of_table, new_keys_and_values_are_given_to_a_policy_that_reads_them) {
    ms::table<ms::knorm> table(of_keys);
    EXPECT_ENDS((void)table.place(0), "knorm: keys must be given for every token, as many as KV heads: 1, is 0");
    EXPECT_ENDS((void)table.place(0, {some(6).data(), 2, 3, 3}), "place: keys must be one for each KV head: 1, is 2");
    EXPECT_ENDS((void)table.place(0, row_of(3), {some(4).data(), 2, 2, 2}), "place: values must be .*: 1, is 2");
    EXPECT_ENDS((void)table.place(0, row_of(2), row_of(2)),
                "place: keys must be as wide as the table was told, 3, is 2");
    EXPECT_ENDS((void)table.place(0, {nullptr, 1, 3, 3}, row_of(2)), "place: keys must be floats, is null");
    EXPECT_TRUE(table.append(0, 2).empty());
    EXPECT_ENDS(table.observe_arrival(2, row_of(3), row_of(2)),
                "observe_arrival: row must be less than size.. = 2, is 2");
    EXPECT_ENDS(table.observe_arrival(0, {}, row_of(2)), "knorm: keys must be given for every token");
    table.observe_arrival(0, row_of(3), row_of(2));
    EXPECT_ENDS((void)table.place(2, row_of(3), row_of(2)),
                "newest token must be shown to the policy first .observe_arrival");
    table.observe_arrival(1, row_of(3), row_of(2));
    EXPECT_EQ(table.place(2, row_of(3)), 2u);  // it looks at no value

    support::stored_floats stored(of_keys);
    ms::table<ms::vatp> of_values(of_keys);
    EXPECT_ENDS((void)of_values.place(0, row_of(3)), "value_norm: values must be given for every token");
    ms::table<ms::cur> of_both(of_keys);
    EXPECT_ENDS((void)of_both.place(0, row_of(3)), "cur: values must be given for every token");
    EXPECT_ENDS((void)of_both.place(0, {}, row_of(2)), "cur: keys must be given for every token");
    ms::table<ms::keydiff> of_rows(of_keys);
    EXPECT_ENDS((void)of_rows.place(0, {}, row_of(2), stored.edit()), "keydiff: keys must be given for every token");
}

TEST(of_table, queries_have_the_size_that_the_policy_has_room_for) {
    support::stored_floats stored(of_keys);
    ms::table<ms::q_filters> table(of_keys);
    EXPECT_EQ(table.place(0, row_of(3), row_of(2), stored.edit()), 0u);
    EXPECT_ENDS(table.observe_queries({some(12).data(), 4, 3, 3}, 1),
                "observe_queries: queries must be one for each query head: 2, is 4");
    EXPECT_ENDS(table.observe_queries({some(12).data(), 2, 4, 4}, 1),
                "observe_queries: queries must be as wide as the table was told, 3, is 4");
    table.observe_queries({some(12).data(), 2, 3, 3}, 1);
}

TEST(of_table, a_row_for_each_query_head_that_it_was_told_of) {
    ms::table<ms::h2o> table({.states = 2, .heads = 4, .kv_heads = 2});
    EXPECT_EQ(table.place(0), 0u);
    EXPECT_ENDS(table.observe({some(3).data(), 3, 1, 1}), "observe: probabilities must be one row .*: 4, is 3");
    table.observe({some(4).data(), 4, 1, 1});
    table.observe({some(4).data(), 4, 1, 0});  // the same row for all
}

/// What a policy remembers of each query head has room for as many as the table was told of.
TEST(of_table, a_row_for_each_query_head_that_the_policy_remembers) {
    ms::table_shape one = of_keys;
    one.heads = 1;
    support::stored_floats stored(one);
    ms::table<ms::caote> table(one);
    EXPECT_EQ(table.place(0, row_of(3), row_of(2), stored.edit()), 0u);
    EXPECT_ENDS(table.observe({some(4).data(), 4, 1, 1}), "observe: probabilities must be one row .*: 1, is 4");
    table.observe({some(1).data(), 1, 1, 1});
    ms::table<ms::tova> any_number(one);
    EXPECT_EQ(any_number.place(0), 0u);
    any_number.observe({some(4).data(), 4, 1, 1});
}

// ---- policies that bring data along

TEST(of_policy, filters_fit_the_table) {
    const auto cache = [](std::size_t floats, std::size_t kv_heads) {
        ms::q_filters policy;
        policy.filters = some(floats);
        policy.kv_heads = kv_heads;
        return ms::cache<ms::q_filters>(shape, policy);
    };
    EXPECT_EQ(cache(12, 2).shape().layers, 2u);
    EXPECT_REFUSED(cache(11, 2), "q_filters: filters must be .layers..kv_heads..head_dim., 6 floats .*, is 11");
    EXPECT_REFUSED(cache(6, 2), "q_filters: filters must be .*, is 6");
    EXPECT_REFUSED(cache(12, 0), "q_filters: kv_heads must be those of a layer, is 0");
    EXPECT_REFUSED(cache(12, 1), "q_filters: kv_heads must be those of a layer, is 1");
    EXPECT_REFUSED(cache(0, 2), "q_filters: filters must be given, as kv_heads is, is 0");
    ms::q_filters policy;
    policy.filters = some(12);
    policy.kv_heads = 2;
    EXPECT_REFUSED(ms::table<ms::q_filters>({.states = 2}, policy), "q_filters: head_dim must be at least 1, is 0");
    using any = ms::one_of<ms::tova, ms::q_filters>;
    policy.kv_heads = 1;
    EXPECT_REFUSED(ms::cache<any>(shape, any(policy)), "q_filters: kv_heads must be those of a layer, is 1");
    using pooled = ms::composed<ms::q_filters, ms::pool>;
    EXPECT_REFUSED(ms::cache<pooled>(shape, pooled{policy, {}}), "q_filters: kv_heads must be");
}

TEST(of_policy, projections_fit_the_table) {
    const auto cache = [](std::vector<ms::rows> projections) {
        ms::criticalkv policy;
        policy.output.projection = projections;
        return ms::cache<ms::criticalkv>(shape, policy).shape().layers;
    };
    const ms::rows right{some(16).data(), 2, 8, 8};  // 4 heads of 2
    EXPECT_EQ(cache({right, right}), 2u);
    EXPECT_REFUSED(cache({right}), "criticalkv: output.projection must be one matrix for each layer, is 1");
    EXPECT_REFUSED(cache({right, {some(16).data(), 2, 6, 6}}),
                   "criticalkv: output.projection must be .outputs, heads . value_dim., a multiple of 4, .* is 6");
    EXPECT_REFUSED(cache({right, {some(16).data(), 2, 4, 4}}), "criticalkv: output.projection must be .* is 4");
    EXPECT_REFUSED(cache({right, {some(16).data(), 0, 8, 8}}), "criticalkv: output.projection must be a row");
}

TEST(of_policy, probes_fit_the_table) {
    const auto cache = [](std::vector<ms::rows> probe) {
        ms::citrus_probe policy;
        policy.probe = probe;
        return ms::cache<ms::citrus_probe>(shape, policy).shape().layers;
    };
    const ms::rows right{some(24).data(), 2, 12, 12};  // 4 heads of 3
    EXPECT_EQ(cache({right, right}), 2u);
    EXPECT_REFUSED(cache({right}), "citrus_probe: probe must be one matrix of queries for each layer, is 1");
    EXPECT_REFUSED(cache({right, {some(24).data(), 2, 6, 6}}), "citrus_probe: probe must be .* at least 12, is 6");
    EXPECT_REFUSED(cache({right, {}}), "citrus_probe: probe must be at least one token, is 0");
}

TEST(of_policy, rotary_positions_fit_the_heads) {
    ms::expected_attention policy;
    policy.rope.rotated = 1;
    EXPECT_REFUSED(ms::cache<ms::expected_attention>(shape, policy), "rope: rotated must be even, is 1");
    policy.rope.rotated = 2;
    policy.rope.slower = some(2);
    EXPECT_REFUSED(ms::cache<ms::expected_attention>(shape, policy),
                   "rope: slower must be .* for each of 1 pairs, is 2");
    const float zero = 0;
    policy.rope.slower = {&zero, 1};
    EXPECT_REFUSED(ms::cache<ms::expected_attention>(shape, policy), "rope: slower must be finite and positive");
    policy.rope.slower = some(1);
    EXPECT_EQ(ms::cache<ms::expected_attention>(shape, policy).shape().layers, 2u);
}

TEST(of_rope, turns_are_as_long_as_what_they_turn) {
    const ms::rope rope;
    std::vector<float> turns(2), x(4);
    EXPECT_ENDS(rope.turn(turns, x), "turn: turns must be .* 4, is 2");
    EXPECT_ENDS(rope.turn_back(turns, x), "turn_back: turns must be .* 4, is 2");
    EXPECT_ENDS(rope.find_mean_turns(0, 0, turns), "find_mean_turns: count must be at least 1, is 0");
}

// ---- sizes beyond memory

/// Each array alone would be refused by the system, or worse, granted and filled for minutes.
TEST(of_memory, what_the_machine_cannot_hold_is_refused_at_once) {
    ms::shape large = shape;
    large.states = (std::size_t{1} << 30) - 1;
    large.layers = 1000;
    large.head_dim = large.value_dim = 128;
    const std::string refused = " memory must be at most the [0-9]+ bytes of this machine, is [0-9]+";
    EXPECT_REFUSED(ms::cache<ms::tova>{large}, "cache:" + refused);
    EXPECT_REFUSED(ms::cache<ms::h2o>{large}, "cache:" + refused);
    EXPECT_REFUSED((ms::cache<ms::h2o, ms::int4>(large)), "cache:" + refused);
    large.heads = large.kv_heads = std::size_t{1} << 24;
    large.states = 2;
    EXPECT_REFUSED(ms::cache<ms::window>{large}, "cache:" + refused);
    EXPECT_REFUSED(ms::cache<ms::h2o>{large}, "cache:" + refused);
    large.states = std::size_t{1} << 28;
    EXPECT_REFUSED(ms::workspace{large}, "workspace:" + refused);
    ms::table_shape table = of_keys;
    table.head_dim = (std::size_t{1} << 22);
    table.heads = table.kv_heads = 1024;
    EXPECT_REFUSED(ms::table<ms::q_filters>{table}, "table:" + refused);
    table.head_dim = std::size_t{1} << 32;  // whose square wraps to nothing
    EXPECT_REFUSED(ms::table<ms::q_filters>{table}, "table: shape must be smaller than any memory can be");
    EXPECT_REFUSED(ms::attention_profile({far, 8, 8}), "attention_profile:" + refused);
}

TEST(of_memory, is_known_before_it_is_allocated) {
    const ms::cache<ms::h2o, ms::int8> cache(shape);
    EXPECT_EQ((ms::cache<ms::h2o, ms::int8>::bytes_for(shape)), cache.memory_bytes());
    EXPECT_EQ(ms::workspace::bytes_for(cache.shape()), ms::workspace(cache.shape()).memory_bytes());
    EXPECT_EQ(ms::table<ms::knorm>::bytes_for(of_keys, {}), ms::table<ms::knorm>(of_keys).memory_bytes());
}

// ---- the rest

TEST(of_selection, small_workspaces_are_caught) {
    const std::vector<float> scores{1, 2, 3};
    const std::vector<ms::position> positions{0, 1, 2};
    std::vector<std::int32_t> workspace(2);
    std::vector<std::uint32_t> rows(3);
    EXPECT_ENDS(ms::top_k(scores, positions, 2, workspace, rows), "top_k: workspace must be at least .* 3, is 2");
    EXPECT_ENDS(ms::least(scores, positions, {}, 2, workspace, rows), "least: workspace must be at least .* 3, is 2");
    EXPECT_ENDS(ms::least(scores, std::span(positions).first(2)),
                "least: positions must be one for each score, 3, is 2");
    workspace.resize(3);
    rows.resize(1);
    EXPECT_ENDS(ms::top_k(scores, positions, 2, workspace, rows), "top_k: kept must be room for .* 2, is 1");
    EXPECT_ENDS(ms::least(scores, positions, {}, 2, workspace, rows), "least: chosen must be room for .* 2, is 1");
}

TEST(of_products, panels_and_outputs_are_long_enough) {
    std::vector<float> panel(3 * ms::panel_width), out(ms::panel_width);
    const ms::rows a{some(8).data(), 2, 4, 4};
    EXPECT_ENDS(ms::products(a, panel, out, ms::panel_width), "products: panel must be .* 128, is 96");
    panel.resize(4 * ms::panel_width);
    EXPECT_ENDS(ms::products(a, panel, out, ms::panel_width), "products: out must be room for all columns, 64, is 32");
    EXPECT_ENDS(ms::products(a, panel, out, 8), "products: stride must be at least panel_width = 32, is 8");
}

TEST(of_scores, probabilities_cover_them) {
    std::vector<float> scores(4);
    EXPECT_ENDS(ms::add({some(3).data(), 1, 3, 3}, scores), "add: probabilities must be .* 4, is 3");
}

TEST_F(with_tova, attention_profiles_know_their_shape) {
    append();
    ms::attention_profile profile({2, 2, 2}, {.sinks = 0, .recent = 1});
    const ms::position zero = 0;
    EXPECT_ENDS(profile.observe({2, 0}, {some(1).data(), 1, 1, 1}, {&zero, 1}),
                "observe: layer must be less .* 2, is 2");
    EXPECT_ENDS(profile.observe({0, 2}, {some(1).data(), 1, 1, 1}, {&zero, 1}), "observe: kv_head must be less");
    EXPECT_ENDS(profile.observe({0, 0}, {some(1).data(), 1, 1, 1}, {}), "observe: positions must be at least 1, is 0");
    EXPECT_ENDS(profile.observe({0, 0}, {some(1).data(), 1, 0, 1}, {&zero, 1}), "probabilities must be one for each");
    EXPECT_ENDS(ms::attention_profile({1, 4, 2}).observe(cache.layer(1), {some(4).data(), 4, 1, 1}),
                "observe: layer must be less");
    EXPECT_ENDS(profile.observe(cache.layer(0), ms::rows{some(4).data(), 3, 1, 1}),
                "probabilities must be one row .* 4, is 3");
    EXPECT_ENDS(ms::attention_profile({2, 4, 4}).observe(cache.layer(0), ms::rows{some(4).data(), 4, 1, 1}),
                "kv_heads of the cache must be as here, 4, is 2");
    EXPECT_REFUSED(ms::attention_profile({1, 1, 1}, {.sinks = far << 23, .recent = far << 23}),
                   "shape must be|from 1 to");
}

TEST(of_pieces, cover_all_once) {
    std::vector<std::size_t> seen;
    ms::detail::in_pieces(10, 4, [&](std::size_t first, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) seen.push_back(first + i);
        EXPECT_LE(count, 4u);
    });
    EXPECT_EQ(seen, (std::vector<std::size_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

/// More tasks than 32 bits count: the first to run ends the program, and says so.
TEST(of_thread_pool, runs_any_number_of_tasks) {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    for (const std::size_t n : {(std::size_t{1} << 32) - 1, std::size_t{1} << 32}) {
        EXPECT_EXIT(
            {
                ms::thread_pool pool(2);
                pool.run(n, [](std::size_t i) {
                    if (i < 2) std::_Exit(7);
                });
                std::_Exit(1);
            },
            testing::ExitedWithCode(7), "");
    }
    testing::FLAGS_gtest_death_test_style = "fast";
}

// ---- the handler

TEST(of_handler, replaces_the_default_and_cannot_prevent_the_end) {
    const auto mine = [](const ms::failure& f) {
        std::fprintf(stderr, "%s/%s/%s/%s", f.who, f.argument, f.bound, f.value);
    };
    EXPECT_EXIT(
        {
            EXPECT_EQ(ms::set_failure_handler(mine), nullptr);
            ms::table<ms::window> table({.states = 2});
            static_cast<void>(table.place(-3));
        },
        testing::KilledBySignal(SIGABRT), "^place/position/at least next_position.* = 0/-3$");
    const ms::failure_handler before = ms::set_failure_handler(mine);
    EXPECT_EQ(before, nullptr);
    EXPECT_EQ(ms::set_failure_handler(before), static_cast<ms::failure_handler>(mine));
}

TEST(of_constructors, refuse_what_cannot_be) {
    ms::shape none = shape;
    none.layers = 0;
    EXPECT_REFUSED(ms::cache<ms::tova>{none}, "cache: layers must be at least 1, is 0");
    EXPECT_REFUSED(ms::table<ms::tova>({.states = 2, .slack = far}), "table: slack must be at most 1073741822, is");
    EXPECT_REFUSED(chosen::named("h3o"), "one_of: name must be one of full, h2o, is 'h3o'");
    auto policy = ms::h2o_decayed::make();
    policy.get<ms::decayed>().decay = 2;
    EXPECT_REFUSED(ms::table({.states = 2}, policy), "policy: decay must be from .*, is 2.0");
}

#if MULTISTATE_CHECKS >= 2

TEST(everything, rows_and_planes_are_checked_where_they_are_read_and_written) {
    const std::size_t rows[] = {2, 2};
    ms::key_value_storage<ms::f32, ms::f32> storage(
        rows, {.layers = 1, .heads = 2, .kv_heads = 2, .head_dim = 3, .value_dim = 2});
    EXPECT_ENDS(storage.write(0, 2, some(3).data(), nullptr), "write: row must be less than .* 2, is 2");
    EXPECT_ENDS(storage.write(2, 0, some(3).data(), nullptr), "write: plane must be less than 2, is 2");
    EXPECT_ENDS(storage.copy(storage, 0, {0, 2}), "copy: row must be less than .* 2, is 2");
    const ms::editor stored = storage.lend({.states = 1, .kv_heads = 2});
    std::vector<float> out(3);
    EXPECT_ENDS(stored.key(2, 0, out), "key: kv_head must be less than kv_heads = 2, is 2");
    EXPECT_ENDS(stored.key(0, 0, std::span(out).first(2)), "key: out must be head_dim floats, 3, is 2");
    EXPECT_ENDS(stored.dot_keys(0, some(2), out), "dot_keys: x must be head_dim floats, 3, is 2");
}

#endif

}  // namespace
