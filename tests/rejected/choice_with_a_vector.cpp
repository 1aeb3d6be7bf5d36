// A choice at run time is copied as bytes, so it cannot own memory.
// prints: a policy or part that is chosen at run time is trivially copyable: data lie outside, behind a span
#include <string_view>
#include <vector>

#include "multistate/policies/window.hpp"
#include "multistate/policy/one_of.hpp"

namespace ms = multistate;

struct owns_its_weights {
    static constexpr std::string_view name = "owns_its_weights";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    std::vector<float> weights;
};
template class ms::one_of<ms::window, owns_its_weights>;
