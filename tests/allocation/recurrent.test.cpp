// Recurrent cells allocate nothing but their workspace, which says what it takes.
#include <vector>

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

}  // namespace recurrent_allocation_test
