// A table of a policy with a faulty hook, and of a choice that has one among its policies.
// prints: the hook on_attention must be one public, unambiguous member: void on_attention(rows probabilities, view states) noexcept
// prints: the hook on_query must be one public, unambiguous member: void on_query(rows queries, view states) noexcept
#include <multistate/table/table.hpp>

#include "wrappers.hpp"

struct attends_without_states : by_head {
    void on_attention(ms::rows) const noexcept {}
};
template class ms::table<attends_without_states>;

struct asks_without_states : by_head {
    void on_query(ms::rows) const noexcept {}
};
template class ms::table<ms::one_of<by_head, asks_without_states>>;
