// Each hook with another signature.
// prints: the hook forgets must be one public, unambiguous member: per forgets() const noexcept
// prints: the hook what_is_read must be one public, unambiguous member: reads what_is_read() const noexcept
// prints: the hook check_shape must be one public, unambiguous member: void check_shape(const table_shape& shape) const
// prints: the hook default_guards must be one public, unambiguous member: guards default_guards(std::size_t states) const noexcept
// prints: the hook scores_are_comparable must be one public, unambiguous member: bool scores_are_comparable() const noexcept
// prints: the hook on_insert must be one public, unambiguous member: void on_insert(rows keys, rows values, view states, std::size_t row) noexcept
// prints: the hook on_query must be one public, unambiguous member: void on_query(rows queries, view states) noexcept
// prints 2 times: the hook on_forget must be one public, unambiguous member: void on_forget(const reader& stored, view states) noexcept
// prints: the hook on_compare must be one public, unambiguous member: void on_compare(view states) noexcept
// prints: the hook merge must be one public, unambiguous member: void merge(const editor& stored, std::span<const std::uint32_t> gone, view states) noexcept
// prints: the hook finish_prompt must be one public, unambiguous member: void finish_prompt(const reader& stored, view states) noexcept
// prints 2 times: a policy that remembers has a struct memory and the public hook void lay_out(memory& m, layout& l) const noexcept, or neither
#include "wrappers.hpp"

struct a_policy_that_may_throw {
    static ms::per forgets() { return ms::per::head; }
};
static_assert(ms::hooks_are_checked<a_policy_that_may_throw>);

struct bad : by_head {
    ms::reads what_is_read() noexcept { return {}; }
    void check_shape(std::size_t) const {}
    std::size_t default_guards(std::size_t) const noexcept { return 1; }
    static constexpr bool scores_are_comparable = false;
    void on_insert(ms::rows, ms::rows, ms::view) const noexcept {}
    void on_query(ms::rows) const noexcept {}
    void on_forget(ms::view, std::size_t) const noexcept {}
    void on_compare(ms::view) const {}
    void merge(const ms::editor&, std::uint32_t, ms::view) const noexcept {}
    void finish_prompt(ms::view) const {}
    struct memory {};
};
static_assert(ms::hooks_are_checked<bad>);

struct both_forms : by_head {
    void on_forget(const ms::reader&, ms::view) const noexcept {}
    void on_forget(ms::view) const noexcept {}
};
static_assert(ms::hooks_are_checked<both_forms>);

struct lays_out_nothing : by_head {
    void lay_out(ms::layout&) const noexcept {}
};
static_assert(ms::hooks_are_checked<lays_out_nothing>);
