// Blocks of tokens against the naive model, which knows single tokens and blocks that shrink once.
#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/workspace.hpp>

#include "reference/scenario.hpp"

namespace {

namespace ms = multistate;
using reference::operation;
using reference::rule;

/// Operations of one kind on `total` tokens, `size` at a time; the last may be shorter.
std::vector<operation> pieces(decltype(operation::what) kind, std::size_t total, std::size_t size) {
    std::vector<operation> result;
    for (std::size_t done = 0; done < total; done += size) result.push_back({kind, std::min(size, total - done)});
    return result;
}

ms::shape grouped(std::size_t states, std::size_t block) {
    return {.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 20, .value_dim = 9, .states = states, .block = block};
}

class blocks : public testing::TestWithParam<rule> {
  protected:
    /// full has to have room for the whole text.
    ms::shape shape(std::size_t states, std::size_t block, std::size_t total) const {
        return grouped(states, GetParam() == rule::full ? std::max(block, total) : block);
    }
};

TEST_P(blocks, exact_prefill_equals_single_steps) {
    constexpr std::size_t total = 150;
    for (const std::size_t states : {1u, 2u, 3u, 5u, 16u, 33u, 64u, 200u}) {
        for (const std::size_t block : {2u, 3u, 7u, 16u, 63u, 64u, 65u, 130u, 150u}) {
            reference::run({GetParam(), shape(states, block, total), pieces(operation::exact, total, block)});
        }
    }
}

TEST_P(blocks, block_prefill_shrinks_once) {
    constexpr std::size_t total = 150;
    for (const std::size_t states : {1u, 2u, 3u, 5u, 16u, 33u, 64u, 200u}) {
        for (const std::size_t block : {2u, 3u, 7u, 16u, 63u, 64u, 65u, 130u, 150u}) {
            reference::run({GetParam(), shape(states, block, total), pieces(operation::block, total, block)});
        }
    }
}

TEST_P(blocks, once_is_a_prompt_in_one_block_then_single_steps) {
    for (const std::size_t prompt : {5u, 60u, 140u}) {
        std::vector<operation> operations{{operation::block, prompt}};
        operations.insert(operations.end(), 40, {operation::step});
        reference::run({GetParam(), shape(24, 140, prompt + 40), operations});
    }
}

TEST_P(blocks, pieces_smaller_than_the_block_may_vary) {
    std::vector<operation> operations;
    for (const std::size_t n : {1u, 2u, 30u, 1u, 1u, 17u, 64u, 3u, 66u, 1u, 5u})
        operations.push_back({operation::exact, n});
    reference::run({GetParam(), shape(16, 66, 200), operations});
    for (operation& o : operations) o.what = operation::block;
    reference::run({GetParam(), shape(16, 66, 200), operations});
}

TEST_P(blocks, kinds_of_operations_mix) {
    const std::vector<operation> round{{operation::step},      {operation::exact, 20}, {operation::step},
                                       {operation::block, 25}, {operation::step},      {operation::block, 9},
                                       {operation::exact, 11}, {operation::forget},    {operation::exact, 30},
                                       {operation::clone},     {operation::forget},    {operation::block, 30},
                                       {operation::forget},    {operation::step},      {operation::skip, 5},
                                       {operation::block, 2},  {operation::exact, 2},  {operation::block, 1}};
    std::vector<operation> operations = round;
    operations.push_back({operation::clear});
    operations.insert(operations.end(), round.begin(), round.end());
    for (const std::size_t states : {1u, 4u, 15u, 40u})
        reference::run({GetParam(), shape(states, 30, 200), operations});
}

TEST_P(blocks, guards_hold_in_blocks) {
    for (const std::size_t sinks : {0u, 1u, 4u}) {
        for (const std::size_t recent : {0u, 1u, 6u}) {
            ms::shape guarded = shape(12, 33, 150);
            guarded.sinks = sinks;
            guarded.recent = recent;
            for (const auto kind : {operation::exact, operation::block}) {
                reference::run({GetParam(), guarded, pieces(kind, 150, 33)});
                reference::run({GetParam(), guarded, pieces(kind, 150, 10)});
            }
        }
    }
}

TEST_P(blocks, softcap_scale_and_many_heads) {
    for (const auto kind : {operation::exact, operation::block}) {
        ms::shape capped = shape(20, 50, 100);
        capped.softcap = 4;
        reference::run({GetParam(), capped, pieces(kind, 100, 50)});
        ms::shape wide = shape(20, 50, 100);
        wide.heads = 16;
        wide.scale = 0.3f;
        reference::run({GetParam(), wide, pieces(kind, 100, 50)});
        ms::shape separate = shape(20, 50, 100);
        separate.kv_heads = 4;
        reference::run({GetParam(), separate, pieces(kind, 100, 50)});
    }
}

/// Many heads over many rows: the workspace holds fewer tokens than 64 of all heads, or 64 tokens of fewer heads.
TEST_P(blocks, tiles_shrink_where_scratch_would_grow) {
    const ms::shape wide{.layers = 1, .heads = 128, .kv_heads = 2, .head_dim = 4, .states = 20, .block = 900};
    const std::size_t tile = ms::workspace(wide).tile(2);
    EXPECT_EQ(tile, 34u);  // 16 MiB / (128 heads * 944 floats)
    EXPECT_EQ(ms::workspace(wide).wave(64), 1u);
    for (const auto kind : {operation::exact, operation::block}) {
        reference::run({GetParam(), wide, {{kind, tile + 1}, {kind, 50}, {operation::step}, {kind, 2 * tile}}});
    }
}

std::string rule_name(const testing::TestParamInfo<rule>& parameter) { return reference::name(parameter.param); }
INSTANTIATE_TEST_SUITE_P(prefill, blocks, testing::ValuesIn(reference::every_rule), rule_name);

}  // namespace
