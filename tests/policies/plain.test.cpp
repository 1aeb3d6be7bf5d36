// Policies by their type against any_policy: each says the same of itself, and tables of an engine with storage of its
// own have the same bits. One policy for each set of hooks stands for the others there: forty tables take a minute to
// compile, and every policy's own tests use it by its type.
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/policies/list.hpp>

#include "support/engine.hpp"
#include "support/stream.hpp"
#include "support/type_names.hpp"

namespace plain_test {

namespace ms = multistate;

constexpr std::size_t length = 90;

ms::table_shape shape_of(ms::per unit) {
    const bool head = unit == ms::per::head;
    return {.states = 8,
            .block = unit == ms::per::never ? length : 13,
            .slack = 2,
            .layer = 1,
            .kv_head = head ? 1u : 0u,
            .heads = head ? 3u : 6u,
            .kv_heads = head ? 1u : 2u,
            .head_dim = 12,
            .value_dim = 7,
            .scale = 0.3f};
}

/// All that a table lets its owner know.
struct trace {
    std::vector<std::vector<int>> positions;
    std::vector<std::vector<int>> forgotten;
    std::vector<std::vector<float>> scores;
    std::vector<float> stored;
    bool operator==(const trace&) const = default;

    void add(std::span<const ms::position> p, std::span<const float> s, std::span<const ms::forgotten_state> f,
             const support::engine_rows& rows) {
        positions.emplace_back(p.begin(), p.end());
        scores.emplace_back(s.begin(), s.end());
        forgotten.emplace_back();
        for (const auto& one : f) forgotten.back().insert(forgotten.back().end(), {one.position, one.decided_by});
        for (std::size_t row = 0; row < p.size(); ++row) {
            stored.push_back(*rows.key(0, row));
            stored.push_back(*rows.value(0, row));
        }
    }
};

/// Steps, blocks, a decision before its time, the end of a prompt, a clear.
template <class P>
trace run_table(P policy, const ms::table_shape& s, const support::stream& tokens) {
    support::engine<P> engine(s, policy);
    trace result;
    for (int round = 0; round < 2; ++round) {
        std::size_t t = 0;
        for (const std::size_t n :
             {1u, 1u, 5u, 13u, 0u, 1u, 1u, 1u, 1u, 1u, 1u, 12u, 1u, 1u, 1u, 1u, 1u, 13u, 2u, 1u}) {
            const auto p = static_cast<ms::position>(t);
            if (n == 0) {
                engine.forget();
            } else if (n == 1) {
                engine.step(p, tokens.q(t), tokens.k(t), tokens.v(t));
            } else {
                engine.block(p, n, tokens.q(t, n), tokens.k(t, n), tokens.v(t, n));
            }
            t += n;
            result.add(engine.table.positions(), engine.table.scores(), engine.table.forgotten(), engine.rows);
        }
        engine.table.finish_prompt(engine.rows.edit());
        engine.forget();
        result.add(engine.table.positions(), engine.table.scores(), engine.table.forgotten(), engine.rows);
        engine.table.clear();
    }
    return result;
}

/// What a policy says of itself.
std::vector<std::size_t> answers(const ms::policy auto& p) {
    const ms::table_shape s = shape_of(p.forgets());
    const auto memory = ms::detail::size_of_memory(p, s, 1);
    std::vector<std::size_t> result{static_cast<std::size_t>(p.forgets()),
                                    ms::reads_of(p).attention,
                                    ms::reads_of(p).queries,
                                    ms::reads_of(p).arrivals,
                                    ms::reads_of(p).stored,
                                    ms::reads_of(p).order,
                                    memory.per_state,
                                    memory.per_table};
    for (const std::size_t states : {1u, 2u, 9u, 512u}) {
        result.push_back(ms::default_guards(p, states).sinks);
        result.push_back(ms::default_guards(p, states).recent);
    }
    return result;
}

void expect_equal(const ms::any_policy& chosen, const trace& expected, const support::stream& tokens) {
    const trace found = run_table(chosen, shape_of(chosen.forgets()), tokens);
    EXPECT_EQ(found.positions, expected.positions);
    EXPECT_EQ(found.forgotten, expected.forgotten);
    EXPECT_EQ(found.scores, expected.scores);
    EXPECT_EQ(found.stored, expected.stored);
}

template <class P>
class plain : public testing::Test {};
using one_for_each_set_of_hooks =
    testing::Types<ms::full, ms::random, ms::tova, ms::h2o, ms::keyformer, ms::snapkv, ms::criticalkv, ms::knorm,
                   ms::keydiff, ms::lagkv, ms::compactor, ms::r_kv, ms::cam>;
TYPED_TEST_SUITE(plain, one_for_each_set_of_hooks, support::type_names);

TYPED_TEST(plain, equals_any_policy_bit_for_bit) {
    const ms::table_shape s = shape_of(TypeParam{}.forgets());
    const support::stream tokens({.layers = 1,
                                  .heads = s.heads,
                                  .kv_heads = s.kv_heads,
                                  .head_dim = s.head_dim,
                                  .value_dim = s.value_dim,
                                  .states = 1},
                                 length, 7);
    const trace expected = run_table(TypeParam{}, s, tokens);
    expect_equal(ms::any_policy::named(TypeParam::name), expected, tokens);
    expect_equal(TypeParam{}, expected, tokens);
}

template <class P>
auto made() {
    if constexpr (ms::named_preset<P>) {
        return P::make();
    } else {
        return P{};
    }
}
template <class P>
void check_answers() {
    EXPECT_EQ(answers(ms::any_policy(made<P>())), answers(made<P>())) << P::name;
    EXPECT_EQ(answers(ms::any_policy::named(P::name)), answers(made<P>())) << P::name;
    EXPECT_EQ(ms::any_policy::named(P::name).name(), P::name);
}
template <class... P>
void check_every_answer(const ms::one_of<P...>&) {
    (check_answers<P>(), ...);
}
TEST(any_policy, says_what_its_choice_says) { check_every_answer(ms::any_policy{}); }

}  // namespace plain_test
