#pragma once

// Ordering scores, vector by vector: the row of the least, and the boundary of the least many. select.hpp says what the
// order is and is what callers use.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "multistate/simd/vector.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Rows that may be chosen: [first, size) whose position is below `before`.
struct candidates {
    std::size_t first = 0;
    std::int32_t before = (std::numeric_limits<std::int32_t>::max)();
};

namespace simd {

using order_vector = hn::Vec<integer_tag>;

/// Calls f(j, scores from row j on, function that loads their positions) for rows [first, scores.size()). Lanes behind
/// the last have the score infinity and a position that is no candidate's.
template <class F>
HWY_INLINE void for_rows(std::span<const float> scores, std::span<const std::int32_t> positions, std::size_t first,
                         F f) noexcept {
    const float_tag d;
    const integer_tag integers;
    std::size_t j = first;
    for (; j + lanes <= scores.size(); j += lanes) {
        f(j, hn::LoadU(d, scores.data() + j), [&] { return hn::LoadU(integers, positions.data() + j); });
    }
    if (j >= scores.size()) return;
    const std::size_t left = scores.size() - j;
    f(j, load_first(d, scores.data() + j, left, std::numeric_limits<float>::infinity()),
      [&] { return load_first(integers, positions.data() + j, left, (std::numeric_limits<std::int32_t>::max)()); });
}

inline std::size_t oldest_nan(std::span<const float> scores, std::span<const std::int32_t> positions,
                              candidates among) noexcept {
    std::size_t row = scores.size();
    for (std::size_t j = among.first; j < scores.size(); ++j) {
        const bool may = scores[j] != scores[j] && positions[j] < among.before;
        if (may && (row == scores.size() || positions[j] < positions[row])) row = j;
    }
    return row;
}

/// An integer that orders as the score does, NaN least; none is the greatest integer.
HWY_INLINE order_vector order_of(float_vector score) noexcept {
    const integer_tag d;
    const auto bits = hn::BitCast(d, hn::Add(score, hn::Zero(float_tag{})));  // -0 becomes +0
    const auto order = hn::Xor(bits, hn::And(hn::ShiftRight<31>(bits), hn::Set(d, (std::numeric_limits<int>::max)())));
    const auto nan = hn::RebindMask(d, hn::IsNaN(score));
    return hn::IfThenElse(nan, hn::Set(d, (std::numeric_limits<std::int32_t>::min)()), order);
}

/// Parts the least scores from the rest: those below `order`, and of those equal to it the positions up to `last`.
struct boundary {
    std::int32_t order;
    std::int32_t last;
};

/// The orders of all scores. The boundary of the `count` least is found by halving: guess an order, count how many are
/// not above it, halve the range. A pass is one comparison per vector, which beats moving elements around at every
/// size, and no input is worse than another.
class orders {
  public:
    orders(std::span<const float> scores, std::span<const std::int32_t> positions, candidates among,
           std::span<std::int32_t> workspace) noexcept
        : orders_(workspace.first(scores.size())),
          positions_(positions),
          first_((std::min)(among.first, scores.size())) {
        const auto before = hn::Set(d, among.before);
        auto low = hn::Set(d, excluded);
        auto high = hn::Set(d, least_of_all);
        for_rows(scores, positions, first_, [&](std::size_t j, float_vector score, auto load_position) {
            const auto may = hn::Lt(load_position(), before);
            const auto order = hn::IfThenElse(may, order_of(score), hn::Set(d, excluded));
            low = hn::Min(low, order);
            high = hn::IfThenElse(may, hn::Max(high, order), high);
            size_ += hn::CountTrue(d, may);
            store_first(d, order, orders_.data() + j, (std::min)(lanes, orders_.size() - j));
        });
        low_ = hn::GetLane(hn::MinOfLanes(d, low));
        high_ = hn::GetLane(hn::MaxOfLanes(d, high));
    }

    boundary of_least(std::size_t count) const noexcept {
        if (count == 0) return {least_of_all, -1};
        if (count >= size_) return {high_, any};
        std::size_t below = 0;
        const std::int32_t order = halve(low_, high_, count, below, [&](std::int32_t guess) {
            const auto bound = hn::Set(d, guess);
            return tally([=](std::size_t, order_vector o) { return hn::Not(hn::Lt(bound, o)); });
        });
        if (below == count) return {order, any};
        const auto equal = hn::Set(d, order);  // some of the equal ones stay: the oldest go
        below = tally([=](std::size_t, order_vector o) { return hn::Lt(o, equal); });
        const std::int32_t last = halve(0, any, count, below, [&, others = below](std::int32_t guess) {
            const auto bound = hn::Set(d, guess);
            return others + tally([&](std::size_t j, order_vector o) {
                       return hn::And(hn::Eq(o, equal), hn::Not(hn::Lt(bound, load(positions_, j, any))));
                   });
        });
        return {order, last};
    }

    /// Writes the rows within the boundary, or those outside, ascending; returns how many there are.
    std::size_t write(boundary b, bool within, std::span<std::uint32_t> rows) const noexcept {
        const auto order = hn::Set(d, b.order);
        const auto last = hn::Set(d, b.last);
        const hn::RebindToUnsigned<integer_tag> unsigned_tag;
        std::size_t written = 0;
        for (std::size_t j = first_; j < orders_.size(); j += lanes) {
            const auto o = load(std::span<const std::int32_t>(orders_), j, excluded);
            auto chosen = hn::Lt(o, order);
            const auto equal = hn::Eq(o, order);
            if (!hn::AllFalse(d, equal)) {
                chosen = hn::Or(chosen, hn::And(equal, hn::Not(hn::Lt(last, load(positions_, j, any)))));
            }
            if (!within) chosen = hn::AndNot(chosen, hn::FirstN(d, orders_.size() - j));
            alignas(64) std::uint32_t buffer[lanes];
            const auto numbers = hn::Iota(unsigned_tag, static_cast<std::uint32_t>(j));
            const std::size_t count =
                hn::CompressStore(numbers, hn::RebindMask(unsigned_tag, chosen), unsigned_tag, buffer);
            std::copy_n(buffer, count, rows.begin() + static_cast<std::ptrdiff_t>(written));
            written += count;
        }
        return written;
    }

  private:
    static constexpr integer_tag d{};
    static constexpr std::int32_t excluded = (std::numeric_limits<std::int32_t>::max)();
    static constexpr std::int32_t least_of_all = (std::numeric_limits<std::int32_t>::min)();
    static constexpr std::int32_t any = (std::numeric_limits<std::int32_t>::max)();

    static HWY_INLINE order_vector load(std::span<const std::int32_t> x, std::size_t j, std::int32_t fill) noexcept {
        if (j + lanes <= x.size()) return hn::LoadU(d, x.data() + j);
        return load_first(d, x.data() + j, x.size() - j, fill);
    }

    /// How many rows `f(row, orders)` is true for.
    template <class F>
    std::size_t tally(F f) const noexcept {
        std::size_t count = 0;
        for (std::size_t j = first_; j < orders_.size(); j += lanes) {
            count += hn::CountTrue(d, f(j, load(orders_, j, excluded)));
        }
        return count;
    }

    /// The least value in [low, high] for which at_most(value) >= count, or any for which they are equal; `found` is
    /// what at_most said last. Every other guess is where the count would be if values lay evenly.
    template <class F>
    std::int32_t halve(std::int32_t low, std::int32_t high, std::size_t count, std::size_t& found,
                       F at_most) const noexcept {
        auto below = 0.0;
        auto above = static_cast<double>(size_);
        for (bool even = true; low < high; even = !even) {
            const double share = even ? (static_cast<double>(count) - below) / (above - below) : 0.5;
            const double width = static_cast<double>(high) - static_cast<double>(low);
            const auto guess = static_cast<std::int32_t>(static_cast<double>(low) + share * (width - 1));
            found = at_most(guess);
            if (found == count) return guess;
            if (found < count) {
                low = guess + 1;
                below = static_cast<double>(found);
            } else {
                high = guess;
                above = static_cast<double>(found);
            }
        }
        return low;
    }

    std::span<std::int32_t> orders_;
    std::span<const std::int32_t> positions_;
    std::size_t first_;
    std::size_t size_ = 0;
    std::int32_t low_ = 0;
    std::int32_t high_ = 0;
};

/// The row of the least score among the candidates, of equals the oldest, a NaN first; scores.size() when there is
/// none.
inline std::size_t least_row(std::span<const float> scores, std::span<const std::int32_t> positions,
                             candidates among) noexcept {
    const float_tag d;
    const integer_tag integers;
    constexpr auto none = (std::numeric_limits<std::int32_t>::max)();
    const auto infinite = hn::Set(d, std::numeric_limits<float>::infinity());
    const auto before = hn::Set(integers, among.before);
    const bool all = among.before == none;

    auto lowest = infinite;
    auto other = infinite;  // two chains of minima: half the latency
    for_rows(scores, positions, among.first, [&](std::size_t, auto score, auto load_position) {
        const auto may = [&] { return hn::RebindMask(d, hn::Lt(load_position(), before)); };
        const auto next = hn::Min(lowest, all ? score : hn::IfThenElse(may(), score, infinite));
        lowest = other;
        other = next;
    });
    const auto least = hn::MinOfLanes(d, hn::Min(lowest, other));

    // Minima may lose a NaN, or become one: then none is equal, and this pass meets it.
    auto oldest = before;
    auto row = hn::Zero(integers);
    bool nan = false;
    for_rows(scores, positions, among.first, [&](std::size_t j, auto score, auto load_position) {
        const auto equal = hn::Eq(score, least);
        const auto odd = hn::IsNaN(score);
        if (hn::AllFalse(d, hn::Or(equal, odd))) return;
        const auto place = load_position();
        nan = nan || !hn::AllFalse(integers, hn::And(hn::Lt(place, before), hn::RebindMask(integers, odd)));
        const auto better = hn::And(hn::RebindMask(integers, equal), hn::Lt(place, oldest));
        oldest = hn::IfThenElse(better, place, oldest);
        row = hn::IfThenElse(better, hn::Iota(integers, static_cast<std::int32_t>(j)), row);
    });
    if (nan) return oldest_nan(scores, positions, among);
    const auto first = hn::MinOfLanes(integers, oldest);
    if (hn::GetLane(first) == among.before) return scores.size();
    const auto winner = hn::IfThenElse(hn::Eq(oldest, first), row, hn::Set(integers, none));
    return static_cast<std::size_t>(hn::GetLane(hn::MinOfLanes(integers, winner)));
}

}  // namespace simd
}}  // namespace multistate::MULTISTATE_TARGET
