#pragma once

// Which states to forget: the least of many scores, and the k best of many scores, vectorized.
//
// One total order for all: the least score first; of equal scores (-0 equals +0) the oldest position first; a NaN score
// before all others. Positions are distinct, so every selection has exactly one answer, on every target.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "multistate/assert.hpp"
#include "multistate/policy.hpp"
#include "multistate/simd/vector.hpp"

namespace multistate::inline MULTISTATE_TARGET {

/// Rows that may be chosen: [first, size) whose position is below `before`.
struct candidates {
    std::size_t first = 0;
    position before = std::numeric_limits<position>::max();
};

namespace detail {

/// An integer that orders as the score does, NaN least.
inline std::int32_t order_of(float score) noexcept {
    if (score != score) return std::numeric_limits<std::int32_t>::min();
    const auto bits = std::bit_cast<std::int32_t>(score + 0.0f);  // -0 becomes +0
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

/// Score and position in one integer that orders as the pair does: least score first, then oldest.
inline std::uint64_t rank_of(float score, position position) noexcept {
    const auto order = static_cast<std::uint32_t>(order_of(score)) ^ 0x80000000u;
    return std::uint64_t{order} << 32 | (static_cast<std::uint32_t>(position) ^ 0x80000000u);
}

}  // namespace detail

/// The row of the least score among the candidates, or scores.size() when there is none.
/// One pass over scores and positions.
inline std::size_t least(std::span<const float> scores, std::span<const position> positions,
                         candidates among = {}) noexcept {
    MULTISTATE_ASSERT(positions.size() >= scores.size(), "least: one position per score");
    namespace hn = simd::hn;
    const simd::float_tag d;
    const simd::integer_tag integers;
    constexpr std::size_t n = simd::lanes;
    constexpr auto greatest = std::numeric_limits<std::int32_t>::max();
    auto best_order = hn::Set(integers, greatest);
    auto best_position = hn::Set(integers, greatest);
    auto best_row = hn::Zero(integers);
    auto row_numbers = hn::Iota(integers, static_cast<std::int32_t>(among.first));
    const auto before = hn::Set(integers, among.before);
    std::size_t j = among.first;
    for (; j + n <= scores.size(); j += n) {
        const auto score = hn::Add(hn::LoadU(d, scores.data() + j), hn::Zero(d));
        const auto bits = hn::BitCast(integers, score);
        const auto flip = hn::And(hn::ShiftRight<31>(bits), hn::Set(integers, 0x7fffffff));
        const auto nan = hn::RebindMask(integers, hn::IsNaN(score));
        const auto order =
            hn::IfThenElse(nan, hn::Set(integers, std::numeric_limits<std::int32_t>::min()), hn::Xor(bits, flip));
        const auto place = hn::LoadU(integers, positions.data() + j);
        const auto lower =
            hn::Or(hn::Lt(order, best_order), hn::And(hn::Eq(order, best_order), hn::Lt(place, best_position)));
        const auto better = hn::And(lower, hn::Lt(place, before));
        best_order = hn::IfThenElse(better, order, best_order);
        best_position = hn::IfThenElse(better, place, best_position);
        best_row = hn::IfThenElse(better, row_numbers, best_row);
        row_numbers = hn::Add(row_numbers, hn::Set(integers, std::int32_t{n}));
    }
    alignas(64) std::int32_t orders[n], places[n], rows[n];
    hn::Store(best_order, integers, orders);
    hn::Store(best_position, integers, places);
    hn::Store(best_row, integers, rows);
    std::size_t row = scores.size();
    std::int32_t order = greatest;
    position oldest = greatest;
    const auto offer = [&](std::int32_t o, position p, std::size_t r) {
        if (o > order || (o == order && p >= oldest)) return;
        order = o;
        oldest = p;
        row = r;
    };
    for (std::size_t i = 0; i < n; ++i) offer(orders[i], places[i], static_cast<std::size_t>(rows[i]));
    for (; j < scores.size(); ++j) {
        if (positions[j] < among.before) offer(detail::order_of(scores[j]), positions[j], j);
    }
    return row;
}

/// The `count` least of the candidates: writes their rows to `chosen` in ascending order and returns how many there
/// are, count or fewer. `workspace` holds at least scores.size() elements. Linear on average.
inline std::size_t least(std::span<const float> scores, std::span<const position> positions, candidates among,
                         std::size_t count, std::span<std::uint64_t> workspace,
                         std::span<std::uint32_t> chosen) noexcept {
    MULTISTATE_ASSERT(workspace.size() >= scores.size(), "least: workspace too small");
    MULTISTATE_ASSERT(chosen.size() >= std::min(count, scores.size()), "least: no room for the rows chosen");
    std::size_t n = 0;
    for (std::size_t j = among.first; j < scores.size(); ++j) {
        if (positions[j] < among.before) workspace[n++] = detail::rank_of(scores[j], positions[j]);
    }
    count = std::min(count, n);
    if (count == 0) return 0;
    const auto last = workspace.begin() + static_cast<std::ptrdiff_t>(count - 1);
    std::nth_element(workspace.begin(), last, workspace.begin() + static_cast<std::ptrdiff_t>(n));
    const std::uint64_t threshold = *last;  // ranks are distinct: exactly `count` of them are not above it
    std::size_t written = 0;
    for (std::size_t j = among.first; j < scores.size(); ++j) {
        if (positions[j] < among.before && detail::rank_of(scores[j], positions[j]) <= threshold) {
            chosen[written++] = static_cast<std::uint32_t>(j);
        }
    }
    return written;
}

/// The rows of the k greatest scores, ascending, into `kept`; returns min(k, scores.size()). Of equal scores the
/// oldest is left out first. `workspace` holds at least scores.size() elements.
inline std::size_t top_k(std::span<const float> scores, std::span<const position> positions, std::size_t k,
                         std::span<std::uint64_t> workspace, std::span<std::uint32_t> kept) noexcept {
    MULTISTATE_ASSERT(workspace.size() >= scores.size(), "top_k: workspace too small");
    MULTISTATE_ASSERT(kept.size() >= std::min(k, scores.size()), "top_k: no room for the rows kept");
    const std::size_t n = scores.size();
    k = std::min(k, n);
    if (k == 0) return 0;
    for (std::size_t j = 0; j < n; ++j) workspace[j] = detail::rank_of(scores[j], positions[j]);
    const auto first = workspace.begin() + static_cast<std::ptrdiff_t>(n - k);
    std::nth_element(workspace.begin(), first, workspace.begin() + static_cast<std::ptrdiff_t>(n));
    const std::uint64_t threshold = *first;
    std::size_t written = 0;
    for (std::size_t j = 0; j < n; ++j) {
        if (detail::rank_of(scores[j], positions[j]) >= threshold) kept[written++] = static_cast<std::uint32_t>(j);
    }
    return written;
}

}  // namespace multistate::inline MULTISTATE_TARGET
