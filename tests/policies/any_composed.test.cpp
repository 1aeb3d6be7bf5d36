// any_composed: a composition made at run time decides, bit for bit, as the same composition by its type.
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/attention/prefill.hpp>
#include <multistate/cache/cache.hpp>
#include <multistate/policies/any_composed.hpp>
#include <multistate/policies/spec_text.hpp>

#include "support/any_policy.hpp"
#include "support/stream.hpp"

namespace any_composed_test {

namespace ms = multistate;

constexpr ms::shape shape{.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 8, .states = 12, .block = 7, .slack = 1};

struct trace {
    std::vector<std::vector<int>> positions;
    std::vector<float> out;
    bool operator==(const trace&) const = default;
};

/// Tokens in steps and blocks.
template <class P>
trace run(const P& policy, const ms::shape& s = shape, std::size_t count = 60) {
    ms::cache<P> cache(s, policy);
    ms::workspace scratch(s);
    const auto layer = cache.layer(0);
    const support::stream tokens(s, count, 3);
    trace result;
    std::size_t t = 0;
    while (t < count) {
        const std::size_t n = t % 3 == 0 && t + shape.block <= count ? shape.block : 1;
        std::vector<float> out(n * tokens.out_width);
        EXPECT_TRUE(ms::prefill(layer, static_cast<int>(t),
                                {.q = tokens.q(t, n), .k = tokens.k(t, n), .v = tokens.v(t, n)}, out, scratch,
                                ms::prefill_mode::block));
        result.out.insert(result.out.end(), out.begin(), out.end());
        for (std::size_t h = 0; h < 2; ++h) {
            result.positions.emplace_back(layer.positions(h).begin(), layer.positions(h).end());
        }
        t += n;
    }
    return result;
}

ms::any_composed made(const char* policy, const std::vector<const char*>& parts) {
    ms::any_composed result(ms::any_policy::named(policy));
    for (const char* part : parts) result.add(part);
    return result;
}

TEST(any_composed, decides_as_the_composition_of_types_does) {
    EXPECT_EQ(run(made("h2o", {})), run(ms::h2o{}));
    EXPECT_EQ(run(made("h2o", {"pool"})), run(ms::composed<ms::h2o, ms::pool>()));
    EXPECT_EQ(run(made("tova", {"value_norm", "pool", "per_head"})),
              run(ms::composed<ms::tova, ms::value_norm, ms::pool, ms::per_head>()));
    EXPECT_EQ(run(made("h2o", {"max_over_heads", "decayed", "chunk", "per_layer"})),
              run(ms::composed<ms::h2o, ms::max_over_heads, ms::decayed, ms::chunk, ms::per_layer>()));
    EXPECT_EQ(run(made("h2o", {"pool", "into_similar"})), run(ms::composed<ms::h2o, ms::pool, ms::into_similar>()));
}

TEST(any_composed, costs_no_memory_for_scores_unless_a_part_modifies_them) {
    const ms::table_shape s{.states = 8, .head_dim = 4, .value_dim = 4};
    const auto bytes = [&](const auto& policy) { return ms::detail::size_of_memory(policy, s, 8).per_state; };
    EXPECT_EQ(bytes(made("h2o", {})), 0u);
    EXPECT_EQ(bytes(made("h2o", {"decayed", "per_layer"})), 0u);
    EXPECT_EQ(bytes(made("h2o", {"chunk"})), bytes(ms::composed<ms::h2o, ms::chunk>()));
    EXPECT_EQ(bytes(made("h2o", {"pool", "value_norm"})), bytes(ms::composed<ms::h2o, ms::pool, ms::value_norm>()));
}

TEST(any_composed, reads_what_policy_and_parts_read) {
    EXPECT_EQ(ms::reads_of(made("window", {})), ms::reads{});
    EXPECT_EQ(ms::reads_of(made("tova", {"pool"})), (ms::reads{.attention = true, .order = true}));
    EXPECT_EQ(ms::reads_of(made("window", {"value_norm"})), (ms::reads{.arrivals = true, .order = true}));
    EXPECT_TRUE(ms::reads_of(made("h2o", {"into_nearest"})).writes);
}

TEST(any_composed, refuses_parts_that_do_not_go_with_the_policy) {
    EXPECT_THROW(made("h2o", {"poool"}), std::invalid_argument);
    EXPECT_THROW(made("h2o", std::vector<const char*>(7, "pool")), std::invalid_argument);
    const ms::table_shape s{.states = 8, .head_dim = 4, .value_dim = 4};
    const auto refused = [&](const ms::any_composed& policy) {
        EXPECT_THROW(ms::table<ms::any_composed>(s, policy), std::invalid_argument);
    };
    refused(made("window", {"decayed"}));
    refused(made("knorm", {"max_over_heads"}));
    refused(made("snapkv", {"decayed"}));
    refused(made("d2o", {"into_nearest"}));
    refused(made("h2o", {"into_nearest", "into_following"}));
    refused(made("full", {"per_layer"}));
    refused(made("window", {"pool"}));
    refused(made("tova_kvpress", {"decayed"}));
    refused(made("h2o", {"max_over_heads", "max_over_heads"}));
    refused(made("h2o", {"per_layer", "per_head"}));
    EXPECT_EQ(made("window", {"pool"}).problem_of_parts(), "pool has no effect: window does not score states");
    EXPECT_EQ(made("window", {"per_head"}).problem_of_parts(), "");
}

/// Positions and outputs show an effect on decisions and on stored rows; a scope is itself one. Parameters are such
/// that little is needed to see it.
TEST(any_composed, every_part_that_is_taken_has_an_effect) {
    constexpr ms::shape shapes[] = {
        {.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 8, .states = 24, .block = 7, .recent = 4},
        {.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 8, .states = 24, .block = 16, .recent = 4}};
    for (const std::string_view name : ms::any_policy::names) {
        ms::any_policy policy = ms::any_policy::named(name);
        if (policy.forgets() == ms::per::never) continue;
        ms::set_parameter(policy, "length", "4");
        ms::set_parameter(policy, "lag", "4");
        ms::set_parameter(policy, "window", "4");  // of more tokens than states, sums are least for the newest
        const trace plain[] = {run(ms::any_composed(policy), shapes[0], 300),
                               run(ms::any_composed(policy), shapes[1], 300)};
        for (const std::string_view part : ms::part_list::names) {
            ms::any_composed with(policy);
            with.add(part);
            ms::set_parameter(with.get<ms::part_list>(), "decay", "0.5");
            ms::set_parameter(with.get<ms::part_list>(), "length", "3");
            if (!with.problem_of_parts().empty() || with.forgets() != policy.forgets()) continue;
            const bool same = run(with, shapes[0], 300) == plain[0] && run(with, shapes[1], 300) == plain[1];
            const bool unwritten = name == "given" && part == "into_following";  // it merges by scores that nobody gave
            EXPECT_EQ(same, unwritten) << name << '|' << part;
        }
    }
}

}  // namespace any_composed_test
