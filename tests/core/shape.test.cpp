// Every check of a constructor names the argument, the bound and the value given.
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>
#include <multistate/multistate.hpp>

namespace shape_test {

namespace ms = multistate;
constexpr std::size_t huge = std::numeric_limits<std::size_t>::max();
constexpr ms::shape valid{.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 8, .states = 8, .block = 2};

/// The message of the std::invalid_argument that this throws.
std::string message(const std::function<void()>& construct) {
    try {
        construct();
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return "nothing was thrown";
}

template <class P = ms::tova>
std::string of_table(const ms::table_shape& shape) {
    return message([&] { ms::table<P> table(shape); });
}
template <class P = ms::tova>
std::string of_cache(const std::function<void(ms::shape&)>& spoil) {
    ms::shape shape = valid;
    spoil(shape);
    return message([&] { ms::cache<P> cache(shape); });
}

TEST(shape, a_table_needs_states_and_a_block) {
    EXPECT_EQ(of_table({.states = 0}), "table: states must be from 1 to 1073741823, is 0");
    EXPECT_EQ(of_table({.states = 1073741824}), "table: states must be from 1 to 1073741823, is 1073741824");
    EXPECT_EQ(of_table({.states = 1, .block = 0}), "table: block must be from 1 to 1073741823, is 0");
    EXPECT_EQ(of_table({.states = 1, .block = huge}),
              "table: block must be from 1 to 1073741823, is 18446744073709551615");
    EXPECT_EQ(of_table<ms::full>({.states = 0}), "table: states must be from 1 to 1073741823, is 0");
    EXPECT_EQ(of_table({.states = 1}), "nothing was thrown");
}

TEST(shape, guards_leave_a_candidate) {
    EXPECT_EQ(of_table({.states = 4, .sinks = 4}), "table: sinks must be at most states - 1 = 3, is 4");
    EXPECT_EQ(of_table({.states = 4, .sinks = huge}),
              "table: sinks must be at most states - 1 = 3, is 18446744073709551615");
    EXPECT_EQ(of_table({.states = 4, .recent = 4}), "table: recent must be at most states - 1 = 3, is 4");
    EXPECT_EQ(of_table({.states = 4, .recent = huge}),
              "table: recent must be at most states - 1 = 3, is 18446744073709551615");
    EXPECT_EQ(of_table({.states = 4, .sinks = 2, .recent = 2}),
              "table: sinks + recent must be at most states - 1 = 3, is 4");
    EXPECT_EQ(of_table<ms::h2o>({.states = 4, .sinks = 2}),
              "table: sinks + recent must be at most states - 1 = 3, is 4");
    EXPECT_EQ(of_table<ms::window>({.states = 1, .sinks = 1}), "table: sinks must be at most states - 1 = 0, is 1");
    EXPECT_EQ(of_table({.states = 4, .sinks = 1, .recent = 2}), "nothing was thrown");
    EXPECT_EQ(of_table<ms::h2o>({.states = 4, .sinks = 3, .recent = 0}), "nothing was thrown");
}

TEST(shape, a_cache_needs_every_size) {
    EXPECT_EQ(of_cache([](ms::shape& s) { s.layers = 0; }), "cache: layers must be at least 1, is 0");
    EXPECT_EQ(of_cache([](ms::shape& s) { s.heads = 0; }), "cache: heads must be at least 1, is 0");
    EXPECT_EQ(of_cache([](ms::shape& s) { s.kv_heads = 0; }), "cache: kv_heads must be at least 1, is 0");
    EXPECT_EQ(of_cache([](ms::shape& s) { s.kv_heads = 3; }), "cache: heads must be a multiple of kv_heads = 3, is 4");
    EXPECT_EQ(of_cache([](ms::shape& s) { s.head_dim = 0; }), "cache: head_dim must be from 1 to 1073741823, is 0");
    EXPECT_EQ(of_cache([](ms::shape& s) { s.head_dim = huge; }),
              "cache: head_dim must be from 1 to 1073741823, is 18446744073709551615");
    EXPECT_EQ(of_cache([](ms::shape& s) { s.value_dim = huge - 3; }),
              "cache: value_dim must be from 1 to 1073741823, is 18446744073709551612");
    EXPECT_EQ(of_cache([](ms::shape& s) { s.states = 0; }), "table: states must be from 1 to 1073741823, is 0");
    EXPECT_EQ(of_cache([](ms::shape& s) { s.block = 0; }), "table: block must be from 1 to 1073741823, is 0");
    EXPECT_EQ(of_cache([](ms::shape& s) { s.sinks = 8; }), "table: sinks must be at most states - 1 = 7, is 8");
    EXPECT_EQ(of_cache([](ms::shape& s) { s.recent = 8; }), "table: recent must be at most states - 1 = 7, is 8");
    EXPECT_EQ(of_cache([](ms::shape&) {}), "nothing was thrown");
}

TEST(shape, numbers_of_the_logits_are_finite) {
    const float infinity = std::numeric_limits<float>::infinity();
    const float not_a_number = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(of_cache([&](ms::shape& s) { s.scale = infinity; }), "cache: scale must be finite, is inf");
    EXPECT_EQ(of_cache([&](ms::shape& s) { s.scale = not_a_number; }), "cache: scale must be finite, is nan");
    EXPECT_EQ(of_cache([&](ms::shape& s) { s.softcap = infinity; }),
              "cache: softcap must be finite and not negative, is inf");
    EXPECT_EQ(of_cache([](ms::shape& s) { s.softcap = -1; }),
              "cache: softcap must be finite and not negative, is -1.000000");
}

TEST(shape, sizes_whose_product_overflows_are_refused) {
    const std::size_t many = huge / 4;
    const auto refused = [](const std::string& message) {
        return message.find("shape must be smaller than any memory can be, is ") != std::string::npos;
    };
    EXPECT_TRUE(refused(of_cache([&](ms::shape& s) { s.layers = many; })));
    EXPECT_TRUE(refused(of_cache([&](ms::shape& s) { s.heads = s.kv_heads = many; })));
    EXPECT_TRUE(refused(of_cache([&](ms::shape& s) { s.heads = 2 * many; })));
    EXPECT_TRUE(refused(of_cache<ms::h2o>([&](ms::shape& s) { s.layers = many; })));
}

TEST(shape, a_workspace_alone_checks_too) {
    ms::shape shape = valid;
    shape.states = 0;
    EXPECT_EQ(message([&] { ms::workspace scratch(shape); }), "workspace: states must be from 1 to 1073741823, is 0");
    shape = valid;
    shape.block = 0;
    EXPECT_EQ(message([&] { ms::workspace scratch(shape); }), "workspace: block must be from 1 to 1073741823, is 0");
    shape = valid;
    shape.heads = 0;
    EXPECT_EQ(message([&] { ms::workspace scratch(shape); }), "cache: heads must be at least 1, is 0");
}

TEST(shape, never_forgetting_ignores_guards) {
    EXPECT_EQ(of_cache<ms::full>([](ms::shape& s) { s.sinks = s.states + 3; }), "nothing was thrown");
}

}  // namespace shape_test
