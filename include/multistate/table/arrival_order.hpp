#pragma once

// Which rows of a table came first and last: the guards in force, and the rows in the order of the text. Only
// table_rows.hpp includes this header.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "multistate/core/types.hpp"
#include "multistate/math/select.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

/// A template, so that a file without tables does not compile its sorts and vectors, 0.14 s of compiler time.
template <class = void>
class arrival_order {
  public:
    /// `keeps_rows`: whether a policy reads rows in the order of the text. Allocates.
    arrival_order(std::size_t rows, guards wanted, bool keeps_rows)
        : wanted_(wanted), by_position_(keeps_rows ? rows : 0), newest_positions_(wanted.recent) {}

    static std::size_t bytes_for(std::size_t rows, guards wanted, bool keeps_rows) noexcept {
        return (keeps_rows ? rows : 0) * sizeof(std::uint32_t) + wanted.recent * sizeof(position);
    }
    std::size_t bytes() const noexcept {
        return by_position_.size() * sizeof(std::uint32_t) + newest_positions_.size() * sizeof(position);
    }

    /// The guards in force. Sinks are the first arrivals; they never leave their rows, which are the first ones. If a
    /// rebudget raises the number of sinks, the first arrivals up to the first one that was forgotten count.
    guards guarded() const noexcept { return {.sinks = sinks(), .recent = wanted_.recent}; }
    /// The rows that may be forgotten: all except the sinks and the `recent` newest.
    candidates unguarded() const noexcept {
        if (wanted_.recent == 0) return {.first = sinks()};
        return {.first = sinks(), .before = newest_positions_[placed_ % wanted_.recent]};
    }
    /// The first `size` rows in the order of the text; empty if no policy reads them.
    std::span<const std::uint32_t> by_position(std::size_t size) const noexcept {
        return {by_position_.data(), by_position_.empty() ? 0 : size};
    }

    /// The newest state was placed in `row`; the table holds `size`.
    void place(std::size_t row, position p, std::size_t size) noexcept {
        if (wanted_.recent != 0) newest_positions_[placed_ % wanted_.recent] = p;
        if (!by_position_.empty()) by_position_[size - 1] = static_cast<std::uint32_t>(row);
        ++placed_;
    }
    /// The state in `row` was forgotten.
    void forget(std::size_t row) noexcept { first_forgotten_ = (std::min)(first_forgotten_, row); }
    /// Closes the gap of a removed row; leaves one at the end, for the newest.
    void remove(std::size_t row, std::span<const position> held) noexcept {
        if (by_position_.empty()) return;
        const auto end = by_position_.begin() + static_cast<std::ptrdiff_t>(held.size());
        const auto gone = std::find(by_position_.begin(), end, static_cast<std::uint32_t>(row));
        std::copy(gone + 1, end, gone);
    }
    /// Call it after rows moved.
    void sort(std::span<const position> positions) noexcept {
        if (by_position_.empty()) return;
        const auto end = by_position_.begin() + static_cast<std::ptrdiff_t>(positions.size());
        for (std::size_t row = 0; row < positions.size(); ++row) by_position_[row] = static_cast<std::uint32_t>(row);
        std::sort(by_position_.begin(), end,
                  [&](std::uint32_t a, std::uint32_t b) { return positions[a] < positions[b]; });
    }
    void clear() noexcept {
        placed_ = 0;
        first_forgotten_ = none;
    }

    /// Sets other guards. The `recent` newest are the newest positions held. If fewer are held, nothing is forgotten
    /// before there are enough. Allocates.
    void change_guards(guards wanted, std::span<const position> positions) {
        wanted_ = wanted;
        newest_positions_.assign(wanted.recent, 0);
        std::vector<position> held(positions.begin(), positions.end());
        std::ranges::sort(held, [](position a, position b) { return a > b; });
        for (std::size_t i = 0; i < (std::min)(held.size(), wanted.recent); ++i) {
            newest_positions_[(placed_ - 1 - i) % wanted.recent] = held[i];
        }
    }
    /// Takes over the order of a table with the same guards and the given positions. Allocates nothing.
    void continue_from(const arrival_order& old, std::span<const position> positions) noexcept {
        placed_ = old.placed_;
        first_forgotten_ = old.first_forgotten_;
        std::ranges::copy(old.newest_positions_, newest_positions_.begin());
        sort(positions);
    }

  private:
    static constexpr std::size_t none = static_cast<std::size_t>(-1);

    std::size_t sinks() const noexcept { return (std::min)(wanted_.sinks, first_forgotten_); }

    guards wanted_;
    std::vector<std::uint32_t> by_position_;  // [rows], if a policy reads it
    std::vector<position> newest_positions_;  // ring of the `recent` newest, by arrival
    std::size_t placed_ = 0;                  // arrivals since construction or clear
    std::size_t first_forgotten_ = none;      // the lowest row that ever lost its state; first arrivals lie before it
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
