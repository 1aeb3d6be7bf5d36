// decayed: hand-checked sums that fade, alone and among other modifiers.
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/decayed.hpp>
#include <multistate/modifiers/pool.hpp>
#include <multistate/policies/h2o.hpp>
#include <multistate/policies/keyformer.hpp>
#include <multistate/table/table.hpp>

#include "support/micro.hpp"

namespace decayed_test {

namespace ms = multistate;
using floats = std::vector<float>;

template <class Policy>
ms::composed<Policy, ms::decayed> fading(float decay) {
    return {Policy{}, ms::decayed{decay}};
}

/// Three tokens, of which each attends to all equally.
template <class Policy>
floats scores(const Policy& policy) {
    ms::table<Policy> table({.states = 4, .recent = 0}, policy);
    for (int p = 0; p < 3; ++p) {
        EXPECT_NE(table.place(p), ms::no_row);
        support::observe(table, {floats(table.size(), 1 / static_cast<float>(table.size()))});
    }
    return {table.scores().begin(), table.scores().end()};
}

TEST(decayed, sums_fade_by_the_token) {
    const float third = 1 / 3.0f;
    EXPECT_EQ(scores(fading<ms::h2o>(0.5f)), (floats{0.5f + third, 0.25f + third, third}));
    EXPECT_EQ(scores(fading<ms::h2o>(1)), scores(ms::h2o{}));
    EXPECT_EQ(scores(ms::composed<ms::h2o, ms::decayed>{}), scores(fading<ms::h2o>(0.98f)));
    EXPECT_EQ(scores(fading<ms::h2o>(0)), floats(3, third));
}

/// keyformer gives one in all for each token, noise or not.
TEST(decayed, wraps_any_policy_that_sums) {
    float total = 0;
    for (const float score : scores(fading<ms::keyformer>(0.5f))) total += score;
    EXPECT_FLOAT_EQ(total, 1 + 0.5f + 0.25f);
}

TEST(decayed, fades_the_sums_and_not_what_modifiers_make_of_them) {
    ms::composed policy{ms::h2o{}, ms::pool{.width = 3}, ms::decayed{.decay = 0.5f}};
    ms::table table({.states = 2, .recent = 0}, policy);
    support::fill(table, 2, 1);  // sums 1 and .5
    EXPECT_NE(table.place(2), ms::no_row);
    support::observe(table, {{0.125f, 0.125f, 0.75f}});
    static_cast<void>(table.forget());  // sums .625 .375 .75, pooled .5 .583 .563; without decay position 2 would go
    EXPECT_EQ(support::forgotten(table), std::vector<int>{0});
}

TEST(decayed, its_number_follows_those_of_the_policy) {
    std::string names;
    const ms::composed<ms::keyformer, ms::decayed> policy;
    ms::for_each_parameter(policy, [&](auto name, auto...) { names.append(name).append(" "); });
    EXPECT_EQ(names, "seed first_temperature last_temperature generation decay ");
    EXPECT_THROW(ms::table({.states = 2}, fading<ms::h2o>(1.5f)), std::invalid_argument);
}

TEST(decayed, keeps_what_else_the_policy_is) {
    using fading_keyformer = ms::composed<ms::keyformer, ms::decayed>;
    static_assert(ms::policy<fading_keyformer> && ms::hooks_of<fading_keyformer> == ms::hooks_of<ms::keyformer>);
    static_assert(ms::hooks_of<ms::composed<ms::h2o, ms::decayed>> == ms::hooks_of<ms::h2o>);
    EXPECT_EQ(fading_keyformer().forgets(), ms::keyformer().forgets());
}

}  // namespace decayed_test
