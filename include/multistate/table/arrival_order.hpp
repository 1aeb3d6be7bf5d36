#pragma once

// Which rows of a table came first and last: the guards in force, and the rows in the order of the text. No one but
// table_rows.hpp includes it.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "multistate/core/types.hpp"
#include "multistate/math/select.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

/// A template, so that a file that makes no table does not compile its sorts and copies.
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

    /// The guards in force. Sinks are first arrivals and never leave the rows they arrived in, the first ones. After a
    /// rebudget to more of them, those count that were not forgotten meanwhile, up to the first that was.
    guards guarded() const noexcept { return {.sinks = sinks(), .recent = wanted_.recent}; }
    /// The rows that may be forgotten: behind the sinks, and older than the `recent` newest.
    candidates unguarded() const noexcept {
        if (wanted_.recent == 0) return {.first = sinks()};
        return {.first = sinks(), .before = newest_positions_[placed_ % wanted_.recent]};
    }
    /// The first `size` rows in the order of the text; none where no policy reads them.
    std::span<const std::uint32_t> by_position(std::size_t size) const noexcept {
        return {by_position_.data(), by_position_.empty() ? 0 : size};
    }

    /// The newest state lies in `row`; it is one of `size`.
    void place(std::size_t row, position p, std::size_t size) noexcept {
        if (wanted_.recent != 0) newest_positions_[placed_ % wanted_.recent] = p;
        if (!by_position_.empty()) by_position_[size - 1] = static_cast<std::uint32_t>(row);
        ++placed_;
    }
    /// The state in `row` is forgotten.
    void forget(std::size_t row) noexcept { first_forgotten_ = (std::min)(first_forgotten_, row); }
    /// Leaves a gap at the end of the rows that are held, for the newest.
    void remove(std::size_t row, std::span<const position> held) noexcept {
        if (by_position_.empty()) return;
        const auto end = by_position_.begin() + static_cast<std::ptrdiff_t>(held.size());
        const auto gone = std::find(by_position_.begin(), end, static_cast<std::uint32_t>(row));
        std::copy(gone + 1, end, gone);
    }
    /// After rows moved.
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

    /// Other guards from now on. The `recent` newest are those of the positions held: enough, because nothing is
    /// forgotten before there are as many. Allocates.
    void change_guards(guards wanted, std::span<const position> positions) {
        wanted_ = wanted;
        newest_positions_.assign(wanted.recent, 0);
        std::vector<position> held(positions.begin(), positions.end());
        std::ranges::sort(held, [](position a, position b) { return a > b; });
        for (std::size_t i = 0; i < (std::min)(held.size(), wanted.recent); ++i) {
            newest_positions_[(placed_ - 1 - i) % wanted.recent] = held[i];
        }
    }
    /// Takes over the order of a table with the same guards, whose positions are given. Allocates nothing.
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
    std::vector<std::uint32_t> by_position_;  // [rows], where a policy reads it
    std::vector<position> newest_positions_;  // ring of the `recent` newest, by arrival
    std::size_t placed_ = 0;                  // arrivals since construction or clear
    std::size_t first_forgotten_ = none;      // the least row that ever lost its state: before it lie first arrivals
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
