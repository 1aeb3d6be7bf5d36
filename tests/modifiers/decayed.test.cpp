// decayed: hand-checked sums that fade, alone and among other modifiers.
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/modifiers/decayed.hpp>
#include <multistate/modifiers/pool.hpp>
#include <multistate/policies/h2o.hpp>
#include <multistate/policies/h2o_decayed.hpp>
#include <multistate/policies/keyformer.hpp>
#include <multistate/policies/window.hpp>
#include <multistate/table/table.hpp>

#include "support/micro.hpp"

namespace decayed_test {

namespace ms = multistate;
using floats = std::vector<float>;

template <class Policy>
Policy fading(float decay) {
    Policy policy;
    policy.decay = decay;
    return policy;
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
    EXPECT_EQ(scores(fading<ms::decayed<ms::h2o>>(0.5f)), (floats{0.5f + third, 0.25f + third, third}));
    EXPECT_EQ(scores(fading<ms::decayed<ms::h2o>>(1)), scores(ms::h2o{}));
    EXPECT_EQ(scores(ms::decayed<ms::h2o>{}), scores(ms::h2o_decayed{}));
    EXPECT_EQ(scores(fading<ms::decayed<ms::h2o>>(0)), floats(3, third));
}

/// keyformer gives one in all for each token, noise or not.
TEST(decayed, wraps_any_policy_that_sums) {
    float total = 0;
    for (const float score : scores(fading<ms::decayed<ms::keyformer>>(0.5f))) total += score;
    EXPECT_FLOAT_EQ(total, 1 + 0.5f + 0.25f);
}

TEST(decayed, fades_the_sums_and_not_what_modifiers_make_of_them) {
    using smooth = ms::modified<ms::decayed<ms::h2o>, ms::pool>;
    smooth policy;
    policy.base.decay = 0.5f;
    policy.modifiers.width = 3;
    ms::table<smooth> table({.states = 2, .recent = 0}, policy);
    support::fill(table, 2, 1);  // sums 1 and .5
    EXPECT_NE(table.place(2), ms::no_row);
    support::observe(table, {{0.125f, 0.125f, 0.75f}});
    static_cast<void>(table.forget());  // sums .625 .375 .75, pooled .5 .583 .563; without decay position 2 would go
    EXPECT_EQ(support::forgotten(table), std::vector<int>{0});
}

TEST(decayed, its_number_follows_those_of_the_policy) {
    std::string names;
    const ms::decayed<ms::keyformer> policy;
    ms::for_each_parameter(policy, [&](auto name, auto...) { names.append(name).append(" "); });
    EXPECT_EQ(names, "seed first_temperature last_temperature generation decay ");
    EXPECT_THROW(ms::table<ms::decayed<ms::h2o>>({.states = 2}, fading<ms::decayed<ms::h2o>>(1.5f)),
                 std::invalid_argument);
}

template <class P>
concept can_fade = requires {
    typename ms::decayed<P>;
};

/// What a policy sums elsewhere than in its scores would not fade.
TEST(decayed, refuses_policies_that_score_when_they_decide) {
    static_assert(can_fade<ms::h2o> && can_fade<ms::keyformer>);
    static_assert(!can_fade<ms::modified<ms::h2o, ms::pool>> && !can_fade<ms::window>);
}

TEST(decayed, keeps_what_else_the_policy_is) {
    static_assert(ms::policy<ms::decayed<ms::h2o>> && ms::has_default_guards<ms::decayed<ms::h2o>>);
    static_assert(ms::has_memory<ms::decayed<ms::keyformer>> && ms::has_finish_prompt<ms::decayed<ms::keyformer>>);
    EXPECT_EQ(ms::decayed<ms::h2o>().forgets(), ms::h2o().forgets());
}

}  // namespace decayed_test
