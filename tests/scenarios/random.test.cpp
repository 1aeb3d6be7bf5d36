// Random sequences of operations on random shapes against the naive model. The seeds are fixed: every run is the same.
#include "support/random.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "reference/scenario.hpp"

namespace {

namespace ms = multistate;
using reference::operation;
using reference::rule;

ms::shape random_shape(support::random_numbers& random) {
    ms::shape s{.layers = 1 + random.below(3), .heads = 1, .kv_heads = 1 + random.below(3), .head_dim = 1};
    s.heads = s.kv_heads * (1 + random.below(5));
    s.head_dim = 1 + random.below(40);
    s.value_dim = random.below(3) == 0 ? 1 + random.below(40) : 0;
    s.states = random.below(4) == 0 ? 1 + random.below(80) : 1 + random.below(12);
    s.block = random.below(3) == 0 ? 1 + random.below(150) : 1 + random.below(20);
    s.slack = random.below(3) == 0 ? random.below(10) : 0;
    if (random.below(3) == 0) s.softcap = 1 + static_cast<float>(random.below(20));
    if (random.below(3) == 0) s.scale = 0.05f + 0.01f * static_cast<float>(random.below(20));
    return s;
}

/// Guards that leave a candidate, with those of the policy itself.
void add_guards(ms::shape& s, const rule& forgets_by, support::random_numbers& random) {
    if (random.below(2) == 0) return;
    const std::size_t own = forgets_by.sinks(s.states);
    s.sinks = random.below(std::min<std::size_t>(s.states - own, 6));
    s.recent = random.below(s.states - own - s.sinks);
}

std::vector<operation> random_operations(support::random_numbers& random, std::size_t block) {
    std::vector<operation> result;
    while (reference::tokens_of(result) < 150 && result.size() < 120) {
        const std::size_t n = 1 + random.below(block);
        switch (random.below(12)) {
            case 0:
                result.push_back({operation::forget});
                break;
            case 1:
                result.push_back({operation::clone});
                break;
            case 2:
                result.push_back({operation::skip, 1 + random.below(9)});
                break;
            case 3:
                if (random.below(3) == 0) result.push_back({operation::clear});
                break;
            case 4:
            case 5:
                result.push_back({operation::exact, n});
                break;
            case 6:
            case 7:
                result.push_back({operation::block, n});
                break;
            default:
                result.push_back({operation::step});
                break;
        }
    }
    return result;
}

/// Sequences for a rule; sanitizers make each ten times as slow.
std::uint64_t count_of(const rule& r) { return (reference::is_first(r) ? 150 : 25) / MULTISTATE_FEWER_SCENARIOS; }

class random_scenarios : public testing::TestWithParam<rule> {};

TEST_P(random_scenarios, equal_the_naive_model) {
    for (std::uint64_t seed = 1; seed <= count_of(GetParam()); ++seed) {
        support::random_numbers random(seed);
        ms::shape shape = random_shape(random);
        if (!reference::is_first(GetParam())) {
            shape.head_dim =
                std::max<std::size_t>(shape.head_dim, 4);  // on a line, all directions are equal or opposite
        }
        const auto operations = random_operations(random, shape.block);
        if (GetParam().forgets == reference::unit::never) {
            shape.block = std::max(shape.block, reference::tokens_of(operations));
        } else {
            add_guards(shape, GetParam(), random);
        }
        reference::run({GetParam(), shape, operations, seed});
        if (HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(sequences, random_scenarios, testing::ValuesIn(reference::every_rule()), reference::rule_name);

}  // namespace
