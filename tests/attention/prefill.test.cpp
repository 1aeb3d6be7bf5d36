// Blocks of tokens against the naive model, which knows single tokens and blocks that shrink once.
#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/attention/workspace.hpp>

#include "reference/scenario.hpp"

namespace prefill_test {

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
        return grouped(states, GetParam().forgets == reference::unit::never ? std::max(block, total) : block);
    }

    using sizes = std::vector<std::size_t>;

    /// All of a text in pieces of every size. What policies do not share are their hooks: some sizes do for most.
    void in_pieces(decltype(operation::what) kind) const {
        const bool all = reference::is_first(GetParam());
        for (const std::size_t states : all ? sizes{1, 2, 3, 5, 16, 33, 64, 200} : sizes{16}) {
            for (const std::size_t block : all ? sizes{2, 3, 7, 16, 63, 64, 65, 130, 150} : sizes{2, 65}) {
                reference::run({GetParam(), shape(states, block, 150), pieces(kind, 150, block)});
            }
        }
    }
};

TEST_P(blocks, exact_prefill_equals_single_steps) { in_pieces(operation::exact); }

TEST_P(blocks, block_prefill_shrinks_once) { in_pieces(operation::block); }

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
    for (const std::size_t states : reference::is_first(GetParam()) ? sizes{1, 4, 15, 40} : sizes{4, 15}) {
        ms::shape mixed = shape(states, 30, 200);
        reference::run({GetParam(), mixed, operations});
        mixed.slack = 7;
        reference::run({GetParam(), mixed, operations});
    }
}

TEST_P(blocks, guards_hold_in_blocks) {
    const bool all = reference::is_first(GetParam());
    for (const std::size_t sinks : all ? sizes{0, 1, 4} : sizes{1}) {
        for (const std::size_t recent : all ? sizes{0, 1, 6} : sizes{6}) {
            ms::shape guarded = shape(12, 33, 150);
            guarded.sinks = sinks;
            guarded.recent = recent;
            if (!reference::guards_fit(GetParam(), guarded)) continue;
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
class wide_blocks : public blocks {};

TEST_P(wide_blocks, batches_shrink_where_scratch_would_grow) {
    const ms::shape wide{.layers = 1, .heads = 128, .kv_heads = 2, .head_dim = 4, .states = 20, .block = 900};
    const std::size_t batch = ms::workspace(wide).tokens_at_once(2);
    EXPECT_EQ(batch, 34u);  // 16 MiB / (128 heads * 944 floats)
    EXPECT_EQ(ms::workspace(wide).kv_heads_at_once(64), 1u);
    for (const auto kind : {operation::exact, operation::block}) {
        reference::run({GetParam(), wide, {{kind, batch + 1}, {kind, 50}, {operation::step}, {kind, 2 * batch}}});
    }
}

INSTANTIATE_TEST_SUITE_P(prefill, wide_blocks, testing::ValuesIn(reference::first_rules()), reference::rule_name);
INSTANTIATE_TEST_SUITE_P(prefill, blocks, testing::ValuesIn(reference::every_rule()), reference::rule_name);

}  // namespace prefill_test
