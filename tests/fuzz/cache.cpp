// Any operations on a cache of any shape and policy: it holds, forgets and computes what the naive model says. The
// bytes are, in order, the policy, the shape, and the operations.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include <gtest/gtest.h>
#include <multistate/multistate.hpp>

#include "fuzz/bytes.hpp"
#include "reference/lockstep.hpp"
#include "reference/scenario.hpp"
#include "support/any_policy.hpp"
#include "support/stream.hpp"

namespace {

namespace ms = multistate;
using reference::operation;

constexpr std::size_t most_tokens = 60;  // the naive model's time grows with their square

ms::shape read_shape(fuzz::numbers& input, const reference::rule& rule) {
    ms::shape s{.layers = 1 + input.below(2), .heads = 1, .kv_heads = 1 + input.below(3), .head_dim = 4};
    s.heads = s.kv_heads * (1 + input.below(4));
    s.head_dim += input.below(30);
    s.value_dim = input.below(2) == 0 ? 0 : 1 + input.below(20);
    s.states = 1 + input.below(24);
    s.block = rule.forgets == reference::unit::never ? most_tokens : 1 + input.below(20);
    s.slack = input.below(8);
    if (input.below(2) == 0) s.softcap = 1 + static_cast<float>(input.below(20));
    s.sinks = input.below(6);
    if (input.below(2) == 0) s.recent = input.below(24);
    return s;
}

reference::scenario read(fuzz::numbers& input) {
    const auto rules = reference::every_rule();
    reference::scenario s{.forgets_by = rules[input.below(rules.size())], .shape = {}, .operations = {}};
    s.shape = read_shape(input, s.forgets_by);
    s.seed = 1 + input.below(256);
    while (!input.empty() && s.operations.size() < most_tokens) {
        operation next{static_cast<operation::kind>(input.below(operation::skip + 1))};
        if (next.what == operation::exact || next.what == operation::block)
            next.tokens = 1 + input.below(s.shape.block);
        if (next.what == operation::skip) next.tokens = 1 + input.below(9);
        s.operations.push_back(next);
        if (reference::tokens_of(s.operations) > most_tokens) s.operations.pop_back();
    }
    return s;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::numbers input(data, size);
    const reference::scenario s = read(input);
    if (!reference::guards_fit(s.forgets_by, s.shape)) return 0;
    support::stream tokens(s.shape, reference::tokens_of(s.operations), s.seed);
    reference::expectation expected(s, tokens);
    if (expected.margin() < reference::least_margin) return 0;  // float32 may decide otherwise and be right
    const reference::prepared p{s, std::move(tokens), std::move(expected)};
    ms::cache<ms::any_policy> cache(s.shape, ms::any_policy::named(s.forgets_by.name));
    reference::lockstep(cache, p).run();
    if (testing::Test::HasFailure()) std::abort();
    return 0;
}
