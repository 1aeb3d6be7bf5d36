// Misuse inside the decoding step is caught by the one macro, which this program defines its own way: as a user may,
// and so that the checks are there in release builds too.
#include <cstdio>
#include <cstdlib>

#define MULTISTATE_ASSERT(condition, message)      \
    do {                                           \
        if (!(condition)) {                        \
            std::fprintf(stderr, "%s\n", message); \
            std::abort();                          \
        }                                          \
    } while (false)

#include <span>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/multistate.hpp>

namespace {

namespace ms = multistate;

constexpr ms::shape shape{
    .layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 3, .value_dim = 2, .states = 2, .block = 3};

template <class P>
class asserts : public testing::Test {
  protected:
    static std::span<const float> some(std::size_t n) {
        static const std::vector<float> halves(48, 0.5f);
        return std::span(halves).first(n);
    }
    void append(std::size_t tokens = 1) {
        cache.append(0, next, some(tokens * 6), some(tokens * 4));
        next += static_cast<ms::position>(tokens);
    }
    ms::cache<P> cache{shape};
    ms::position next = 0;
};
using with_tova = asserts<ms::tova>;
using with_window = asserts<ms::window>;
using chosen = ms::one_of<ms::full, ms::h2o>;
using with_choice = asserts<chosen>;

TEST_F(with_tova, appending_twice_without_observing_is_caught) {
    append();
    EXPECT_DEATH_IF_SUPPORTED(append(), "observe the last token first");
    EXPECT_DEATH_IF_SUPPORTED(append(2), "observe the last token first");
    cache.observe(0, some(4 * cache.size(0)));
    append();
    EXPECT_EQ(cache.size(0), 2u);
}

TEST_F(with_window, need_not_observe) {
    for (int i = 0; i < 10; ++i) append();
    append(3);
    append(2);
    EXPECT_EQ(cache.size(0), 4u);
}

TEST_F(with_choice, is_asked) {
    for (int i = 0; i < 4; ++i) append();  // full, the first of the list
    cache = ms::cache<chosen>(shape, chosen::named("h2o"));
    next = 0;
    append();
    EXPECT_DEATH_IF_SUPPORTED(append(), "observe the last token first");
}

TEST_F(with_tova, forgetting_does_not_stand_in_for_observing) {
    append(3);
    EXPECT_DEATH_IF_SUPPORTED((cache.forget(0), append()), "observe the last token first");
}

TEST_F(with_tova, a_block_is_observed_to_its_last_token) {
    append(3);
    const std::span<const float> probabilities = some(4 * 3);
    cache.observe(0, ms::rows{probabilities.data(), 4, 1, 3});
    cache.observe(0, ms::rows{probabilities.data(), 4, 2, 3});
    EXPECT_DEATH_IF_SUPPORTED(append(), "observe the last token first");
    cache.observe(0, ms::rows{probabilities.data(), 4, 3, 3});
    append();
    EXPECT_EQ(cache.size(0), 3u);
}

TEST_F(with_window, spans_of_the_wrong_size_are_caught_by_append) {
    EXPECT_DEATH_IF_SUPPORTED(cache.append(0, 0, some(7), some(4)), "k is not .tokens, kv_heads, head_dim.");
    EXPECT_DEATH_IF_SUPPORTED(cache.append(0, 0, some(6), some(6)), "v is not .tokens, kv_heads, value_dim.");
    EXPECT_DEATH_IF_SUPPORTED(cache.append(0, 0, {}, {}), "from 1 to `block` tokens");
    EXPECT_DEATH_IF_SUPPORTED(cache.append(0, 0, some(24), some(16)), "from 1 to `block` tokens");
}

TEST_F(with_window, spans_of_the_wrong_size_are_caught_by_attention) {
    append();
    std::vector<float> out(8), short_out(7);
    EXPECT_DEATH_IF_SUPPORTED(ms::attend(cache, 0, some(11), out), "q is not .heads, head_dim.");
    EXPECT_DEATH_IF_SUPPORTED(ms::attend(cache, 0, some(12), short_out), "out is not .heads, value_dim.");
    EXPECT_DEATH_IF_SUPPORTED(ms::prefill(cache, 0, 1, some(12), some(12), some(4), out), "k is not");
    EXPECT_DEATH_IF_SUPPORTED(ms::prefill(cache, 0, 1, some(12), some(6), some(5), out), "v is not");
    EXPECT_DEATH_IF_SUPPORTED(ms::prefill(cache, 0, 1, some(12), some(6), some(4), short_out), "out is not");
    EXPECT_DEATH_IF_SUPPORTED(ms::prefill(cache, 0, 1, some(13), some(6), some(4), out), "q is not");
    EXPECT_DEATH_IF_SUPPORTED(ms::prefill(cache, 0, 1, some(48), some(24), some(16), out), "from 1 to `block`");
}

TEST_F(with_tova, probabilities_of_the_wrong_size_are_caught) {
    append(2);
    const std::span<const float> probabilities = some(12);
    EXPECT_DEATH_IF_SUPPORTED(cache.observe(0, some(7)), "fewer probabilities");
    EXPECT_DEATH_IF_SUPPORTED(cache.observe(0, ms::rows{probabilities.data(), 3, 2, 2}), "one row per query head");
    EXPECT_DEATH_IF_SUPPORTED(cache.observe(0, ms::rows{probabilities.data(), 4, 3, 3}), "more rows than are held");
}

TEST_F(with_tova, queries_of_the_wrong_size_are_caught) {
    append();
    EXPECT_DEATH_IF_SUPPORTED(cache.observe_queries(0, some(11)), "q is not .heads, head_dim.");
}

TEST(table_asserts, widths_beyond_the_rows_held_are_caught) {
    ms::table<ms::tova> table({.states = 2});
    const std::vector<float> floats(4, 0.25f);
    table.place(0);
    EXPECT_DEATH_IF_SUPPORTED(table.observe({floats.data(), 1, 2, 2}), "observe: width is not size");
    EXPECT_DEATH_IF_SUPPORTED(table.observe({floats.data(), 1, 0, 0}), "observe: width is not size");
    EXPECT_DEATH_IF_SUPPORTED(table.observe_queries({floats.data(), 1, 2, 2}, 2), "observe_queries: width is not size");
    table.observe({floats.data(), 1, 1, 1});
    table.observe_queries({floats.data(), 1, 2, 2}, 1);
}

TEST(table_asserts, place_decides_about_one_state_only) {
    ms::table<ms::window> table({.states = 2, .block = 2, .slack = 1});
    for (int p = 0; p < 4; ++p) table.place(p);
    EXPECT_DEATH_IF_SUPPORTED(table.place(4), "append or forget first");
    table.append(4, 2);
    EXPECT_DEATH_IF_SUPPORTED(table.append(6, 4), "more tokens than rows are left");
    table.append(6, 2);
    EXPECT_EQ(table.size(), 4u);
}

TEST_F(with_window, positions_must_rise) {
    append();
    next = 0;
    EXPECT_DEATH_IF_SUPPORTED(append(), "positions must rise");
    EXPECT_DEATH_IF_SUPPORTED(append(2), "positions must rise");
    cache.clear();
    append();
    EXPECT_EQ(cache.size(0), 1u);
}

TEST(selection_asserts, small_workspaces_are_caught) {
    const std::vector<float> scores{1, 2, 3};
    const std::vector<ms::position> positions{0, 1, 2};
    std::vector<std::int32_t> workspace(2);
    std::vector<std::uint32_t> rows(3);
    EXPECT_DEATH_IF_SUPPORTED(ms::top_k(scores, positions, 2, workspace, rows), "workspace too small");
    EXPECT_DEATH_IF_SUPPORTED(ms::least(scores, positions, {}, 2, workspace, rows), "workspace too small");
    EXPECT_DEATH_IF_SUPPORTED(ms::least(scores, std::span(positions).first(2)), "one position per score");
    workspace.resize(3);
    rows.resize(1);
    EXPECT_DEATH_IF_SUPPORTED(ms::top_k(scores, positions, 2, workspace, rows), "no room");
    EXPECT_DEATH_IF_SUPPORTED(ms::least(scores, positions, {}, 2, workspace, rows), "no room");
}

}  // namespace
