// Parts of a composition that would do nothing, or not what they say.
// prints: the hook modify must be one public, unambiguous member: void modify(view states) noexcept, otherwise
// prints: the hook on_insert must be one public, unambiguous member: void on_insert(rows keys, rows values, view states, std::size_t row) noexcept
// prints: the hook before_attention must be one public, unambiguous member: rows before_attention(rows probabilities, view states) noexcept
// prints: the hook forgets must be one public, unambiguous member: per forgets() const noexcept
// prints: a part of a composition has at least one hook
// prints: a part of a composition scores in modify or before_attention: on_attention, on_forget and on_compare are hooks of policies
// prints: a part with before_attention needs a policy with on_attention
// prints: a composition merges in one way at most
#include "wrappers.hpp"

struct modifies_a_row {
    void modify(ms::view, std::size_t) const noexcept {}
};
template class ms::composed<by_head, modifies_a_row>;

struct inserts_without_row : adds_one {
    void on_insert(ms::rows, ms::rows, ms::view) const noexcept {}
};
template class ms::composed<by_head, inserts_without_row>;

struct attends : by_head {
    void on_attention(ms::rows, ms::view) const noexcept {}
};
struct returns_nothing {
    void before_attention(ms::rows, ms::view) const noexcept {}
};
template class ms::composed<attends, adds_one, returns_nothing>;

struct scope_as_data {
    ms::per forgets = ms::per::layer;
};
template class ms::composed<by_head, scope_as_data>;

struct nothing {};
template class ms::composed<by_head, nothing>;

template class ms::composed<by_head, attends>;

struct passes_on {
    ms::rows before_attention(ms::rows probabilities, ms::view) const noexcept { return probabilities; }
};
template class ms::composed<by_head, passes_on>;

template <int>
struct merges_as {
    void merge(const ms::editor&, std::span<const std::uint32_t>, ms::view) const noexcept {}
};
template class ms::composed<by_head, merges_as<0>, merges_as<1>>;
