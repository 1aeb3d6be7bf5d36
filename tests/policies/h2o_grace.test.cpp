// h2o_grace: new states get time, old ones are judged by what they are worth now.
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/list.hpp>
#include <multistate/table/table.hpp>

#include "reference/attention.hpp"
#include "support/micro.hpp"

namespace h2o_grace_test {

namespace ms = multistate;

TEST(h2o_grace, guards_sixteen_or_half) {
    EXPECT_EQ(ms::h2o_grace::make().default_guards(512).recent, 16u);
    EXPECT_EQ(ms::h2o_grace::make().default_guards(32).recent, 16u);
    EXPECT_EQ(ms::h2o_grace::make().default_guards(16).recent, 8u);
    EXPECT_EQ(ms::h2o_grace::make().default_guards(2).recent, 1u);
    EXPECT_EQ(ms::h2o_grace::make().default_guards(1).recent, 0u);
    EXPECT_EQ(ms::h2o_grace::make().get<ms::decayed>().decay, 0.98f);
}

/// A prompt of 8 states that every token attends to evenly, then `tokens` more that attend to what is newest: the
/// oldest position held that is not of the prompt, or -1.
template <class P>
int first_kept_after_the_prompt(P policy, int tokens) {
    ms::table<P> table({.states = 8}, policy);
    support::fill(table, 8, 1);
    for (int p = 8; p < 8 + tokens; ++p) {
        EXPECT_NE(table.place(p), ms::no_row);
        std::vector<float> seen(table.size(), 0.01f);
        for (std::size_t j = 0; j < seen.size(); ++j) {
            if (table.positions()[j] >= p - 3) seen[j] = 0.2f;
        }
        support::observe(table, {seen});
    }
    static_cast<void>(table.forget());
    for (const int p : support::held(table)) {
        if (p >= 8) return p;
    }
    return -1;
}

/// The bug it was made for: without grace and decay, the prompt stays for ever.
TEST(h2o_grace, thaws_what_freezes) {
    EXPECT_EQ(first_kept_after_the_prompt(ms::h2o_local::make(), 100), -1);
    EXPECT_GE(first_kept_after_the_prompt(ms::h2o_grace::make(), 100), 90);
}

TEST(h2o_grace, decays) {
    ms::table table({.states = 4}, ms::h2o_grace::make());
    EXPECT_NE(table.place(0), ms::no_row);
    support::observe(table, {{1.0f}});
    EXPECT_NE(table.place(1), ms::no_row);
    support::observe(table, {{0.5f, 0.5f}});
    EXPECT_FLOAT_EQ(table.scores()[0], 1.48f);
}

}  // namespace h2o_grace_test

namespace reference::h2o_grace {

const registered rule{{.name = "h2o_grace", .score = decayed, .recent = at_most<16, 2>}};

}  // namespace reference::h2o_grace
