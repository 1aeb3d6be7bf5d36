// Scratch: its tiles, its rows, its bytes.
#include <gtest/gtest.h>
#include <multistate/workspace.hpp>

namespace {

namespace ms = multistate;

constexpr ms::shape shape_of(std::size_t heads, std::size_t states, std::size_t block) {
    return {
        .layers = 1, .heads = heads, .kv_heads = 1, .head_dim = 20, .value_dim = 40, .states = states, .block = block};
}

TEST(workspace, a_tile_is_never_longer_than_the_block_or_64) {
    EXPECT_EQ(ms::workspace(shape_of(4, 8, 1)).tile(), 1u);
    EXPECT_EQ(ms::workspace(shape_of(4, 8, 7)).tile(), 7u);
    EXPECT_EQ(ms::workspace(shape_of(4, 8, 64)).tile(), 64u);
    EXPECT_EQ(ms::workspace(shape_of(4, 8, 500)).tile(), 64u);
}

/// Logits stay near 4 MB however large the shape; at least one token fits.
TEST(workspace, tiles_shrink_for_large_shapes) {
    EXPECT_EQ(ms::workspace(shape_of(32, 4096, 4096)).tile(), (std::size_t{1} << 20) / 32 / 8192);
    EXPECT_EQ(ms::workspace(shape_of(1024, 2000, 48)).tile(), 1u);
}

TEST(workspace, rows_do_not_overlap) {
    ms::workspace scratch(shape_of(4, 30, 3));
    EXPECT_EQ(scratch.stride(), 48u);
    EXPECT_EQ(scratch.logits(1) - scratch.logits(0), 48);
    EXPECT_EQ(scratch.queries(1) - scratch.queries(0), 32);
    EXPECT_EQ(scratch.mixed(1) - scratch.mixed(0), 48);
    EXPECT_EQ(scratch.placed(0).size(), 3u);
    EXPECT_EQ(scratch.memory_bytes(), 4 * 3 * (48 + 32 + 48) * sizeof(float) + 3 * sizeof(std::uint32_t));
}

}  // namespace
