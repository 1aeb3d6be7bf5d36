#pragma once

// Selects by score, vector by vector: the row of the least score, and the boundary of the `count` least. select.hpp is
// what callers use, and defines the order.
//
//     const std::size_t row = simd::least_row(scores, positions, {});       // scores.size() where there is none
//     const simd::ranking all(scores, positions, {}, workspace);
//     const std::size_t written = all.write(all.least(count), true, rows);  // the rows of the count least
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

/// Calls f(j, scores from row j on, function that loads their positions) for rows [first, scores.size()). Lanes behind
/// the last row have the score infinity and the greatest position, which is no candidate's.
template <class F>
MULTISTATE_INLINE void for_rows(std::span<const float> scores, std::span<const std::int32_t> positions,
                                std::size_t first, F f) noexcept {
    std::size_t j = first;
    for (; j + vector_width <= scores.size(); j += vector_width) {
        f(j, load(scores.data() + j), [&] { return load(positions.data() + j); });
    }
    if (j >= scores.size()) return;
    const std::size_t left = scores.size() - j;
    f(j, load_first(scores.data() + j, left, std::numeric_limits<float>::infinity()),
      [&] { return load_first(positions.data() + j, left, (std::numeric_limits<std::int32_t>::max)()); });
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

inline constexpr auto lesser = [](auto a, auto b) { return a < b ? a : b; };

/// Whether none of the scores in four vectors equals `least` or is NaN. May return false for infinities.
MULTISTATE_INLINE bool holds_neither(floats least, const float* scores) noexcept {
    const floats a = load(scores), b = load(scores + vector_width);
    const floats c = load(scores + 2 * vector_width), d = load(scores + 3 * vector_width);
    const floats total = (a + b) + (c + d);  // NaN where one of them is
    return all((a != least) & (b != least) & (c != least) & (d != least) & (total == total));
}

/// The row of the least score among the candidates; of equal scores the oldest, a NaN first; scores.size() when there
/// is none.
inline std::size_t least_row(std::span<const float> scores, std::span<const std::int32_t> positions,
                             candidates among) noexcept {
    constexpr auto none = (std::numeric_limits<std::int32_t>::max)();
    const floats infinite = fill(std::numeric_limits<float>::infinity());
    const integers before = fill(among.before);
    const bool all = among.before == none;

    floats lowest = infinite, other = infinite;  // two chains of minima: half the latency
    for_rows(scores, positions, among.first, [&](std::size_t, floats score, auto load_positions) {
        const floats next = lesser(lowest, all ? score : load_positions() < before ? score : infinite);
        lowest = other;
        other = next;
    });
    const floats least = fill(fold(lesser(lowest, other), lesser));

    // SIMD minima do not propagate NaN reliably; the second pass looks for NaN explicitly.
    integers oldest = before, row = {}, nan = {};
    const auto examine = [&](std::size_t j, floats score, auto load_positions) {
        if (!any(~((score < least) | (score > least)))) return;  // one comparison: neither equal nor NaN
        const integers position = load_positions();
        nan |= (score != score) & (position < before);
        const integers better = (score == least) & (position < oldest);
        oldest = better ? position : oldest;
        row = better ? count_from(static_cast<std::int32_t>(j)) : row;
    };
    constexpr std::size_t block = 4 * vector_width;
    std::size_t j = among.first;
    for (; scores.size() >= 8 * block && j + block <= scores.size(); j += block) {  // pays where there are many
        if (holds_neither(least, scores.data() + j)) continue;
        for_rows(scores.first(j + block), positions, j, examine);
    }
    for_rows(scores, positions, j, examine);
    if (any(nan)) return oldest_nan(scores, positions, among);
    const std::int32_t first = fold(oldest, lesser);
    if (first == among.before) return scores.size();
    return static_cast<std::size_t>(fold(oldest == first ? row : fill(none), lesser));
}

/// An integer for each score that compares as the score does; the least integer for NaN. No score has the greatest.
MULTISTATE_INLINE integers key_of(floats score) noexcept {
    const auto bits = reinterpret_cast<integers>(score + floats{});  // -0 becomes +0
    const integers key = bits ^ ((bits >> 31) & (std::numeric_limits<std::int32_t>::max)());
    return score != score ? fill((std::numeric_limits<std::int32_t>::min)()) : key;
}

/// Separates the least scores from the rest: the keys below `key`, and of those equal to it the positions up to `last`.
struct boundary {
    std::int32_t key;
    std::int32_t last;
};

/// All scores as integer keys. Bisection finds the boundary of the `count` least: guess a key, count how many are not
/// above it, halve the range. A pass is one comparison per vector, which is faster than moving elements around at every
/// size, and no input is slower than another.
class ranking {
  public:
    ranking(std::span<const float> scores, std::span<const std::int32_t> positions, candidates among,
            std::span<std::int32_t> workspace) noexcept
        : keys_(workspace.first(scores.size())), positions_(positions), first_((std::min)(among.first, scores.size())) {
        integers low = fill(excluded), high = fill(least_of_all), size = {};
        for_rows(scores, positions, first_, [&](std::size_t j, floats score, auto load_positions) {
            const integers may = load_positions() < among.before;
            const integers key = may ? key_of(score) : fill(excluded);
            low = key < low ? key : low;
            high = (may & (key > high)) ? key : high;
            size -= may;
            if (j + vector_width <= keys_.size()) return store(key, keys_.data() + j);
            for (std::size_t i = j; i < keys_.size(); ++i) keys_[i] = key[i - j];
        });
        size_ = total(size);
        low_ = fold(low, lesser);
        high_ = fold(high, [](auto a, auto b) { return a > b ? a : b; });
    }

    /// The boundary of the `count` least.
    boundary least(std::size_t count) const noexcept {
        if (count == 0) return {least_of_all, -1};
        if (count >= size_) return {high_, any_position};
        std::size_t below = 0;
        const std::int32_t key = bisect(low_, high_, count, below, [&](std::int32_t guess) {
            return tally([=](std::size_t, integers k) { return k <= guess; });
        });
        if (below == count) return {key, any_position};
        // Some of those with an equal key stay: the oldest go.
        below = tally([=](std::size_t, integers k) { return k < key; });
        const std::int32_t last = bisect(0, any_position, count, below, [&, others = below](std::int32_t guess) {
            return others + tally([&](std::size_t j, integers k) {
                       return (k == key) & (load_up_to(positions_, j, any_position) <= guess);
                   });
        });
        return {key, last};
    }

    /// Writes the rows within the boundary, or those outside, ascending; returns how many there are.
    std::size_t write(boundary b, bool within, std::span<std::uint32_t> rows) const noexcept {
        std::size_t written = 0;
        for (std::size_t j = first_; j < keys_.size(); j += vector_width) {
            const integers key = load_up_to(keys_, j, excluded);
            integers chosen = key < b.key;
            const integers equal = key == b.key;
            if (any(equal)) chosen |= equal & (load_up_to(positions_, j, any_position) <= b.last);
            unsigned bits = bits_of(within ? chosen : ~chosen);
            if (j + vector_width > keys_.size()) bits &= (1u << (keys_.size() - j)) - 1;
            written += store_indices(bits, static_cast<std::int32_t>(j), rows.data() + written);
        }
        return written;
    }

  private:
    static constexpr std::int32_t excluded = (std::numeric_limits<std::int32_t>::max)();
    static constexpr std::int32_t least_of_all = (std::numeric_limits<std::int32_t>::min)();
    static constexpr std::int32_t any_position = (std::numeric_limits<std::int32_t>::max)();

    static MULTISTATE_INLINE integers load_up_to(std::span<const std::int32_t> x, std::size_t j,
                                                 std::int32_t rest) noexcept {
        if (j + vector_width <= x.size()) return load(x.data() + j);
        return load_first(x.data() + j, x.size() - j, rest);
    }
    static std::size_t total(integers counts) noexcept {
        return static_cast<std::size_t>(fold(counts, [](auto a, auto b) { return a + b; }));
    }

    /// How many rows f(row, keys) is true for.
    template <class F>
    std::size_t tally(F f) const noexcept {
        integers count = {};
        std::size_t j = first_;
        for (; j + vector_width <= keys_.size(); j += vector_width) count -= f(j, load(keys_.data() + j));
        if (j < keys_.size()) count -= f(j, load_up_to(keys_, j, excluded));
        return total(count);
    }

    /// The least value in [low, high] for which at_most(value) >= count, or any for which they are equal; `found` is
    /// the last answer of at_most. Every other guess is where the count would be if values lay evenly.
    template <class F>
    std::int32_t bisect(std::int32_t low, std::int32_t high, std::size_t count, std::size_t& found,
                        F at_most) const noexcept {
        auto below = 0.0;
        auto above = static_cast<double>(size_);
        for (bool even = true; low < high; even = !even) {
            const double share = even ? (static_cast<double>(count) - below) / (above - below) : 0.5;
            const double range = static_cast<double>(high) - static_cast<double>(low);
            const auto guess = static_cast<std::int32_t>(static_cast<double>(low) + share * (range - 1));
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

    std::span<std::int32_t> keys_;
    std::span<const std::int32_t> positions_;
    std::size_t first_;
    std::size_t size_ = 0;
    std::int32_t low_ = 0;
    std::int32_t high_ = 0;
};

}  // namespace simd
}}  // namespace multistate::MULTISTATE_TARGET
