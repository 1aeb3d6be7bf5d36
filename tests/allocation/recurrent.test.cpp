// Recurrent cells allocate nothing but their workspace, which says what it takes.
#include <vector>

#include <multistate/policies/tova.hpp>
#include <multistate/recurrent/replaced_heads.hpp>

#include "allocation/counting.hpp"
#include "recurrent/cells.hpp"
#include "support/type_names.hpp"

namespace recurrent_allocation_test {

namespace ms = multistate;
using namespace recurrent;

template <class Cell>
class allocation_of_cells : public testing::Test {};
TYPED_TEST_SUITE(allocation_of_cells, cells, support::type_names);

TYPED_TEST(allocation_of_cells, only_the_workspace_allocates) {
    constexpr std::size_t tokens = 150;
    example<TypeParam> e(1);
    const std::size_t before = counting::live_bytes();
    const TypeParam cell(e.cell.shape(), e.parameters);
    ms::cell_workspace scratch(cell, {.sequences = 3, .tokens = tokens});
    EXPECT_EQ(counting::live_bytes() - before, scratch.memory_bytes());

    const floats x = e.inputs(tokens), initial = e.states(3);
    floats state = initial, out(tokens * cell.output_size()), saved(cell.saved_size(tokens));
    floats x_gradient(x.size()), gradient(e.parameters.size());
    const std::vector<std::size_t> lengths{100, 1, 49};
    const std::size_t count = counting::allocations();
    cell.step({.x = std::span(x).first(3 * cell.input_size()),
               .state = state,
               .out = std::span(out).first(3 * cell.output_size())},
              scratch);
    cell.scan({.x = x, .state = state, .out = out}, scratch);
    cell.scan({.x = x, .state = state, .out = out, .lengths = lengths, .saved = saved}, scratch);
    cell.backward({.x = x,
                   .initial_state = initial,
                   .out = out,
                   .saved = saved,
                   .lengths = lengths,
                   .out_gradient = out,
                   .state_gradient = state,
                   .x_gradient = x_gradient,
                   .parameter_gradient = gradient},
                  scratch);
    EXPECT_EQ(counting::allocations(), count);
}

TEST(allocation_of_a_workspace, it_grows_for_what_is_larger_only) {
    const example<ms::min_gru> small(2), large(3, {.inputs = 70, .units = 90});
    ms::cell_workspace scratch(small.cell, {.tokens = 10});
    const std::size_t before = counting::allocations(), bytes = scratch.memory_bytes();
    scratch.reserve(small.cell, {.tokens = 5});
    EXPECT_EQ(counting::allocations(), before);
    EXPECT_EQ(scratch.memory_bytes(), bytes);
    scratch.reserve(large.cell, {.tokens = 10});
    EXPECT_GT(counting::allocations(), before);
    EXPECT_GT(scratch.memory_bytes(), bytes);
}

/// Of 4 query heads on 2 KV heads, a cell serves one group and half of the other.
TEST(allocation_of_replaced_heads, steps_and_blocks_allocate_nothing) {
    const ms::shape s{.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 8, .states = 6, .block = 9};
    example<ms::selective> e(4, {.inputs = 7, .units = 20, .outputs = 3 * 8});
    const std::vector<std::size_t> heads{0, 1, 2};
    ms::replaced_heads<ms::tova> layer(s, {.heads = heads, .cell = e.cell});
    ms::replaced_heads_workspace scratch(layer);
    const floats x = e.inputs(9), one_head = e.random.floats(9 * 8, 1.0f);
    floats out(9 * 4 * 8);
    const std::size_t count = counting::allocations();
    for (int first = 0; first < 90; first += 9) {
        ASSERT_TRUE(layer.prefill(first, {x, one_head, one_head, one_head}, out, scratch));
    }
    for (int p = 90; p < 100; ++p) {
        const auto token = std::span(one_head).first(8);
        ASSERT_TRUE(layer.step(p, {std::span(x).first(7), token, token, token}, std::span(out).first(32), scratch));
    }
    layer.clear();
    EXPECT_EQ(counting::allocations(), count);
}

}  // namespace recurrent_allocation_test
