// Scratch: its tiles, its rows, its bytes.
#include <gtest/gtest.h>
#include <multistate/attention/workspace.hpp>

namespace workspace_test {

namespace ms = multistate;

constexpr ms::shape shape_of(std::size_t heads, std::size_t states, std::size_t block) {
    return {
        .layers = 1, .heads = heads, .kv_heads = 1, .head_dim = 20, .value_dim = 40, .states = states, .block = block};
}

TEST(workspace, a_batch_is_never_longer_than_the_block_or_64) {
    EXPECT_EQ(ms::workspace(shape_of(4, 8, 1)).tokens_at_once(1), 1u);
    EXPECT_EQ(ms::workspace(shape_of(4, 8, 7)).tokens_at_once(1), 7u);
    EXPECT_EQ(ms::workspace(shape_of(4, 8, 64)).tokens_at_once(1), 64u);
    EXPECT_EQ(ms::workspace(shape_of(4, 8, 500)).tokens_at_once(1), 64u);
}

/// Logits stay within 16 MiB however large the shape; at least one token of all heads fits.
TEST(workspace, tiles_and_waves_shrink_for_large_shapes) {
    const ms::shape large{.layers = 1, .heads = 32, .kv_heads = 32, .head_dim = 128, .states = 4096, .block = 4096};
    const ms::workspace scratch(large);
    const std::size_t rows = (std::size_t{16} << 20) / sizeof(float) / scratch.stride();
    EXPECT_EQ(scratch.tokens_at_once(32), rows / 32);
    EXPECT_EQ(scratch.tokens_at_once(1), 64u);
    EXPECT_EQ(scratch.kv_heads_at_once(64), rows / 64);
    EXPECT_EQ(scratch.kv_heads_at_once(rows / 32), 32u);
    EXPECT_LT(scratch.memory_bytes(), std::size_t{22} << 20);
    const ms::workspace huge(shape_of(1024, 40000, 48));
    EXPECT_EQ(huge.tokens_at_once(1), 1u);
    EXPECT_EQ(huge.kv_heads_at_once(1), 1u);
}

TEST(workspace, few_kv_heads_are_shared_by_tasks) {
    for (const std::size_t kv_heads : {1u, 2u, 3u, 4u, 8u, 32u}) {
        const ms::workspace scratch(
            {.layers = 1, .heads = 96, .kv_heads = kv_heads, .head_dim = 20, .states = 8, .block = 1});
        EXPECT_EQ(scratch.tasks_per_kv_head(), std::max<std::size_t>(1, 8 / kv_heads));
    }
}

TEST(workspace, rows_do_not_overlap) {
    ms::workspace scratch(shape_of(4, 30, 3));
    EXPECT_EQ(scratch.stride(), 80u);
    EXPECT_EQ(scratch.stride() / 16 % 2, 1u) << "an odd number of cache lines";
    EXPECT_EQ(scratch.logits(1) - scratch.logits(0), 80);
    EXPECT_EQ(scratch.queries(1) - scratch.queries(0), 32);
    EXPECT_EQ(scratch.sums(1) - scratch.sums(0), 64);
    EXPECT_EQ(scratch.placed(0).size(), 3u);
    EXPECT_GE(static_cast<std::size_t>(scratch.products(1) - scratch.products(0)),
              multistate::simd::product_scratch(12, 40));
}

}  // namespace workspace_test
