#pragma once

// The memory of a table's policy, as bytes: see policy/memory.hpp. Only table.hpp includes this header.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "multistate/core/aligned_array.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/policy/memory.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

class policy_memory {
  public:
    /// Throws std::invalid_argument if the size does not fit in memory.
    template <class P>
    policy_memory(const P& policy, const table_shape& s, std::size_t rows) : rows_(rows), shape_(s) {
        const memory_size size = checked_size(policy, s, rows);
        members_.resize(size.members);
        layout recorder(s, rows, members_.data());
        recorder.part(policy);
        states_ = aligned_array<std::byte>(size.states);
        table_ = aligned_array<std::byte>(size.table);
    }

    /// Predicts bytes() of such a memory. Allocates nothing; throws like the constructor.
    template <class P>
    static std::size_t bytes_for(const P& policy, const table_shape& s, std::size_t rows) {
        const memory_size size = checked_size(policy, s, rows);
        return sum("table", sum("table", size.states, size.table), size.members * sizeof(memory_member));
    }
    std::size_t bytes() const noexcept {
        return states_.bytes() + table_.bytes() + members_.size() * sizeof(memory_member);
    }

    memory_origin origin() noexcept {
        return {.states = states_.data(),
                .table = table_.data(),
                .states_end = states_.data() + states_.bytes(),
                .table_end = table_.data() + table_.bytes(),
                .rows = rows_,
                .shape = &shape_};
    }

    /// A state was placed in `row`.
    void clear_row(std::size_t row) noexcept {
        for_each_element(row, [](std::byte* element, std::size_t bytes) {
            switch (bytes) {  // compilers inline memset for constant sizes
                case 4:
                    std::memset(element, 0, 4);
                    break;
                case 8:
                    std::memset(element, 0, 8);
                    break;
                default:
                    std::memset(element, 0, bytes);
            }
        });
    }
    void move_row(std::size_t from, std::size_t to) noexcept {
        const auto distance = static_cast<std::ptrdiff_t>(to) - static_cast<std::ptrdiff_t>(from);
        for_each_element(from, [=](std::byte* element, std::size_t bytes) {
            std::memcpy(element + distance * static_cast<std::ptrdiff_t>(bytes), element, bytes);
        });
    }
    void clear_table() noexcept {
        if (table_.bytes() > 0) std::memset(table_.data(), 0, table_.bytes());
    }

    /// Takes over the first `rows` rows from the memory of the same policy in a table of another size. Of the table's
    /// own members, takes as many elements as fit.
    void continue_from(const policy_memory& old, std::size_t rows) noexcept {
        for (std::size_t m = 0; m < (std::min)(members_.size(), old.members_.size()); ++m) {
            const memory_member &to = members_[m], &from = old.members_[m];
            const std::size_t size = (std::min)(to.size, from.size);
            if (!to.of_states) {
                copy(old.table_.data() + from.offset, table_.data() + to.offset, size * to.element);
                continue;
            }
            for (std::size_t i = 0; i < size; ++i) {
                copy(old.states_.data() + from.offset + i * old.plane_bytes(from),
                     states_.data() + to.offset + i * plane_bytes(to), rows * to.element);
            }
        }
    }

  private:
    template <class P>
    static memory_size checked_size(const P& policy, const table_shape& s, std::size_t rows) {
        const memory_size size = size_of_memory(policy, s, rows);
        if (!size.representable)
            refuse("table", "shape", "smaller than any memory can be", "larger, with what its policy remembers");
        return size;
    }
    static void copy(const std::byte* from, std::byte* to, std::size_t bytes) noexcept {
        if (bytes > 0) std::memcpy(to, from, bytes);
    }
    std::size_t plane_bytes(const memory_member& m) const noexcept { return to_cache_lines(rows_ * m.element); }
    /// Calls f(element, bytes) for everything that a state remembers.
    template <class F>
    void for_each_element(std::size_t row, F f) noexcept {
        for (const memory_member& m : members_) {
            if (!m.of_states) continue;
            std::byte* element = states_.data() + m.offset + row * m.element;
            for (std::size_t i = 0; i < m.size; ++i, element += plane_bytes(m)) f(element, m.element);
        }
    }

    std::size_t rows_;
    table_shape shape_;  // a rebudget decides for other sizes, but on memory of these
    std::vector<memory_member> members_;
    aligned_array<std::byte> states_;
    aligned_array<std::byte> table_;
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
