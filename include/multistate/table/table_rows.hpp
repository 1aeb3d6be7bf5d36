#pragma once

// The rows of a table, for any policy: positions, scores, the policy's memory, forgotten states. Only table.hpp
// includes this header.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "multistate/core/errors.hpp"
#include "multistate/core/types.hpp"
#include "multistate/math/select.hpp"
#include "multistate/table/arrival_order.hpp"
#include "multistate/table/policy_memory.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// A forgotten state, and the newest position held at the decision.
struct forgotten_state {
    multistate::position position;
    multistate::position decided_by;
};

namespace detail {

/// The number of rows of a table with a valid shape.
inline std::size_t rows_of(const table_shape& s) noexcept { return s.states + s.slack + s.block; }

/// Rows [0, size()) are live. Allocates in the constructor and in make_room.
template <class = void>  // a template for the same reason as arrival_order
class table_rows {
  public:
    table_rows(const table_shape& s, guards wanted, bool keeps_order, policy_memory remembered)
        : memory(std::move(remembered)),
          order(rows_of(s), wanted, keeps_order),
          position_(rows_of(s)),
          score_(rows_of(s)),
          spoiled_(rows_of(s)),
          forgotten_(2 * s.block + s.slack),
          relocations_((std::min)(s.block + s.slack, s.states)),
          chosen_(s.block + s.slack),
          workspace_(s.block + s.slack > 1 ? rows_of(s) : 0) {}

    /// Predicts bytes() of such rows, without the policy's memory.
    static std::size_t bytes_for(const table_shape& s, guards wanted, bool keeps_order) noexcept {
        const std::size_t rows = rows_of(s), due = s.block + s.slack;
        return arrival_order<>::bytes_for(rows, wanted, keeps_order) +
               rows * (sizeof(position) + sizeof(float) + sizeof(std::uint8_t)) +
               (s.block + due) * sizeof(forgotten_state) + (std::min)(due, s.states) * sizeof(relocation) +
               (due + (due > 1 ? rows : 0)) * sizeof(std::uint32_t);
    }
    std::size_t bytes() const noexcept {
        return memory.bytes() + order.bytes() + position_.size() * sizeof(position) + score_.size() * sizeof(float) +
               spoiled_.size() + forgotten_.size() * sizeof(forgotten_state) +
               relocations_.size() * sizeof(relocation) + (chosen_.size() + workspace_.size()) * sizeof(std::uint32_t);
    }

    policy_memory memory;
    arrival_order<> order;

    std::size_t capacity() const noexcept { return position_.size(); }
    std::size_t size() const noexcept { return size_; }
    position newest() const noexcept { return newest_; }
    std::span<const position> positions() const noexcept { return {position_.data(), size_}; }
    std::span<const float> scores() const noexcept { return {score_.data(), size_}; }
    std::span<float> scores() noexcept { return {score_.data(), size_}; }

    /// Places a state in a free row, after the last live row.
    std::size_t place(position p) noexcept {
        place_in(size_++, p);
        return size_ - 1;
    }
    /// Places a state in the row of a forgotten one.
    void place_in(std::size_t row, position p) noexcept {
        position_[row] = p;
        score_[row] = 0;
        memory.clear_row(row);
        if (spoiled_count_ > 0) spoiled_count_ -= std::exchange(spoiled_[row], std::uint8_t{0});
        order.place(row, p, size_);
        newest_ = p;
    }

    /// The key or the value in `row` is not bounded: see policy.hpp.
    void spoil(std::size_t row) noexcept { spoiled_count_ += std::exchange(spoiled_[row], std::uint8_t{1}) == 0; }
    bool holds_spoiled() const noexcept { return spoiled_count_ > 0; }
    /// As reader::spoiled: null if no state is spoiled.
    const std::uint8_t* spoiled() const noexcept { return spoiled_count_ > 0 ? spoiled_.data() : nullptr; }
    /// Spoiled states are forgotten first.
    void score_spoiled() noexcept {
        if (spoiled_count_ == 0) return;
        for (std::size_t row = 0; row < size_; ++row) {
            if (spoiled_[row] != 0) score_[row] = std::numeric_limits<float>::quiet_NaN();
        }
    }

    std::span<const forgotten_state> forgotten() const noexcept { return {forgotten_.data(), forgotten_count_}; }
    void clear_forgotten() noexcept { forgotten_count_ = 0; }

    /// Chooses `count` states to forget by score, or all unguarded ones if there are fewer. Rows ascend. Logs them.
    std::span<const std::uint32_t> choose(std::size_t count) noexcept {
        if (count > 1) {
            count = least(scores(), positions(), order.unguarded(), count, workspace_, chosen_);
        } else {
            chosen_[0] = static_cast<std::uint32_t>(least(scores(), positions(), order.unguarded()));
        }
        order.forget(chosen_[0]);
        const std::size_t before = forgotten_count_;
        for (std::size_t i = 0; i < count; ++i) log(chosen_[i]);
        std::sort(forgotten_.begin() + static_cast<std::ptrdiff_t>(before),
                  forgotten_.begin() + static_cast<std::ptrdiff_t>(forgotten_count_),
                  [](const forgotten_state& a, const forgotten_state& b) { return a.position < b.position; });
        return {chosen_.data(), count};
    }
    /// Moves survivors in rows >= states into the rows `gone`. `gone` ascends; all its states are forgotten.
    std::span<const relocation> close_holes(std::span<const std::uint32_t> gone, std::size_t states) noexcept {
        std::size_t moved = 0;
        auto next = std::lower_bound(gone.begin(), gone.end(), states);
        for (std::size_t row = states; row < size_; ++row) {
            if (next != gone.end() && *next == row) {
                ++next;
                continue;
            }
            const std::size_t hole = gone[moved];
            relocations_[moved++] = {static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(hole)};
            position_[hole] = position_[row];
            score_[hole] = score_[row];
            memory.move_row(row, hole);
            spoiled_[hole] = spoiled_[row];
        }
        size_ = states;
        if (spoiled_count_ > 0) count_spoiled();
        order.sort(positions());
        return {relocations_.data(), moved};
    }

    /// Forgets everything and keeps the memory.
    void clear() noexcept {
        size_ = forgotten_count_ = spoiled_count_ = 0;
        newest_ = -1;
        order.clear();
        memory.clear_table();
        std::ranges::fill(spoiled_, std::uint8_t{0});
    }

    /// Makes room for a decision that may forget up to `count` states. Allocates.
    void make_room(std::size_t count) {
        chosen_.resize((std::max)(chosen_.size(), count));
        relocations_.resize((std::max)(relocations_.size(), count));
        workspace_.resize(position_.size());
        make_room_to_log(count);
    }
    /// The same for the log only, exactly as large as memory_bytes() says.
    void make_room_to_log(std::size_t count) {
        if (count <= forgotten_.size()) return;
        std::vector<forgotten_state> longer(count);
        std::ranges::copy(forgotten_, longer.begin());
        forgotten_.swap(longer);
    }
    /// Takes over the states of `old`. They must fit: the same guards and a log of the same length. Allocates nothing.
    void continue_from(const table_rows& old) noexcept {
        size_ = old.size_;
        newest_ = old.newest_;
        forgotten_count_ = old.forgotten_count_;
        std::copy_n(old.forgotten_.begin(), forgotten_count_, forgotten_.begin());
        std::copy_n(old.position_.begin(), size_, position_.begin());
        std::copy_n(old.score_.begin(), size_, score_.begin());
        std::copy_n(old.spoiled_.begin(), size_, spoiled_.begin());
        memory.continue_from(old.memory, size_);
        order.continue_from(old.order, positions());
        count_spoiled();
    }

  private:
    void log(std::size_t row) noexcept {
        check(forgotten_count_ < forgotten_.size(), "forget", "states forgotten since the log began",
              bound{"fewer than ", forgotten_.size()}, forgotten_count_);
        forgotten_[forgotten_count_++] = {position_[row], newest_};
    }
    /// Call it after rows moved: rows after the last live one hold no state.
    void count_spoiled() noexcept {
        std::fill(spoiled_.begin() + static_cast<std::ptrdiff_t>(size_), spoiled_.end(), std::uint8_t{0});
        spoiled_count_ = static_cast<std::size_t>(std::ranges::count(spoiled_, std::uint8_t{1}));
    }

    std::vector<position> position_;     // [rows]
    std::vector<float> score_;           // [rows]
    std::vector<std::uint8_t> spoiled_;  // [rows], 1 if the key or value is not bounded
    std::vector<forgotten_state> forgotten_;
    std::vector<relocation> relocations_;
    std::vector<std::uint32_t> chosen_;
    std::vector<std::int32_t> workspace_;  // for the selection
    std::size_t size_ = 0;
    std::size_t spoiled_count_ = 0;
    std::size_t forgotten_count_ = 0;
    position newest_ = -1;
};

}  // namespace detail
}}  // namespace multistate::MULTISTATE_TARGET
