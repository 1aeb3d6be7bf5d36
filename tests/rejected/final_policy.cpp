// A final policy: its hooks cannot be looked for by name.
// prints 2 times: a policy or part must not be final: its hooks could not be checked
#include "wrappers.hpp"

template <int>
struct bad final {
    static constexpr std::string_view name = "bad";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    void on_attention(ms::rows) const noexcept {}
};
static_assert(ms::hooks_are_checked<bad<0>>);
template class ms::one_of<by_head, bad<1>>;
