// lazy_layers_budget.
#include <vector>

#include <gtest/gtest.h>
#include <multistate/budgets/lazy_layers.hpp>

#include "support/thrown.hpp"

namespace lazy_layers_test {

namespace ms = multistate;
using budget = std::vector<std::size_t>;
using support::what_is_thrown;

TEST(lazy_layers_budget, keeps_all_but_of_lazy_layers) {
    const std::vector<float> laziness{0.95f, 0.9f, 0.2f};
    EXPECT_EQ(ms::lazy_layers_budget(laziness, 8192), (budget{1028, 8192, 8192})) << "0.9 is not above 0.9";
    EXPECT_EQ(ms::lazy_layers_budget(laziness, 100, 0.1f, {.sinks = 1, .recent = 9}), (budget{10, 10, 10}));
    EXPECT_EQ(what_is_thrown([&] { ms::lazy_layers_budget(laziness, 1000); }),
              "lazy_layers_budget: full must be at least sinks + recent = 1028, is 1000");
}

}  // namespace lazy_layers_test
