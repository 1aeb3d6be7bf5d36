#pragma once

// The duties of a table's caller, and their checks (errors.hpp). Only table.hpp includes this header.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "multistate/core/errors.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/policy/hooks.hpp"
#include "multistate/policy/view.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

/// The data that the policy of a table reads, and the part of the newest tokens' data that it has not yet seen.
class table_borders {
  public:
    static constexpr std::uint8_t attention = 1, queries = 2, arrivals = 4, stored_rows = 8, writes = 16;

    template <class P>
    table_borders(const P& policy, table_shape s) noexcept : counts_heads_(s.heads != 1) {
        const multistate::reads what = reads_of(policy);
        if (what.attention) reads_ |= attention;
        if (what.queries) reads_ |= queries;
        if (what.arrivals) reads_ |= arrivals;
        if (what.stored) reads_ |= stored_rows;
        if (what.writes) reads_ |= writes;
        const auto memory = [&] {
            const memory_size size = size_of_memory(policy, s, 1);
            return size.per_state + size.per_table;
        };
        const std::size_t of_heads = memory();
        s.heads *= 2;
        counts_heads_ = counts_heads_ || memory() != of_heads;
    }

    bool reads(std::uint8_t what) const noexcept { return (reads_ & what) != 0; }

    /// A token was placed. Keys and values of a block's tokens come later.
    void placed() noexcept { owed_ = reads_ & (attention | queries); }
    void appended() noexcept { owed_ |= reads_ & arrivals; }
    void shown(std::uint8_t what) noexcept { owed_ &= static_cast<std::uint8_t>(~what); }
    void clear() noexcept { owed_ = 0; }

    void expect_shown(const char* who) const noexcept {
        check(owed_ == 0, who, "the newest token",
              (owed_ & attention) != 0 ? "observed first (observe: the policy reads attention)"
              : (owed_ & queries) != 0 ? "observed first (observe_queries: the policy reads queries)"
                                       : "shown to the policy first (observe_arrival: it reads new keys and values)",
              "not");
    }
    /// Positions must rise and stay within last_position; all earlier tokens must have been shown.
    void expect_next(const char* who, position newest, position first, std::size_t count) const noexcept {
        check(first > newest, who, "position", bound{"at least next_position() (clear() starts anew) = ", newest + 1},
              first);
        check(first <= last_position && count <= static_cast<std::size_t>(last_position - first) + 1, who,
              "the last position", bound{"at most last_position = ", last_position},
              static_cast<long long>(first) + static_cast<long long>(count) - 1);
        expect_shown(who);
    }
    /// Not every policy reads both, so each may be omitted. expect_heads checks that a policy gets what it reads.
    void expect_arrival(const char* who, const table_shape& s, rows keys, rows values) const noexcept {
        if (!reads(arrivals)) return;
        if (keys.count != 0) expect_rows(who, "keys", keys, "one for each KV head: ", s.kv_heads, s.head_dim);
        if (values.count != 0) expect_rows(who, "values", values, "one for each KV head: ", s.kv_heads, s.value_dim);
    }
    void expect_queries(const char* who, const table_shape& s, rows given) const noexcept {
        if (reads(queries)) expect_rows(who, "queries", given, "one for each query head: ", s.heads, s.head_dim);
    }
    void expect_stored(const char* who, const table_shape& s, const editor& stored) const noexcept {
        if (!reads(stored_rows)) return;
        check(stored.access != nullptr, who, "stored", "given at every call, as the policy reads stored rows",
              "missing");
        check(stored.kv_heads == s.kv_heads, who, "stored.kv_heads", bound{"that of the table, ", s.kv_heads},
              stored.kv_heads);
        check(stored.head_dim == s.head_dim, who, "stored.head_dim", bound{"that of the table, ", s.head_dim},
              stored.head_dim);
        check(stored.value_dim == s.value_dim, who, "stored.value_dim", bound{"that of the table, ", s.value_dim},
              stored.value_dim);
    }
    /// If the shape leaves the number of query heads at 1 and the policy's memory does not depend on it, any number is
    /// accepted.
    void expect_probabilities(const char* who, const table_shape& s, rows given) const noexcept {
        check(!counts_heads_ || given.count == s.heads, who, "probabilities",
              bound{"one row for each query head: ", s.heads}, given.count);
        check(given.count >= 1 && given.data != nullptr, who, "probabilities", "one row for each query head", "empty");
        check(given.count == 1 || given.stride == 0 || given.stride >= given.width, who, "stride",
              bound{"0 (one row for all heads) or at least width = ", given.width}, given.stride);
    }

  private:
    /// [count, width]; width 0: the shape does not give it.
    // NOLINTNEXTLINE(bugprone-easily-swappable-parameters)
    static void expect_rows(const char* who, const char* argument, rows given, const char* words, std::size_t count,
                            std::size_t width) noexcept {
        check(given.count == count, who, argument, bound{words, count}, given.count);
        check(width == 0 || given.width == width, who, argument, bound{"as wide as the table was told, ", width},
              given.width);
        check(given.data != nullptr, who, argument, "floats", "null");
    }

    bool counts_heads_;
    std::uint8_t reads_ = 0;
    std::uint8_t owed_ = 0;
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
