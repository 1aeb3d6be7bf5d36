#pragma once

// Chooses the states to forget (the lowest scores) or to keep (the k highest scores), vectorized.
//
//     std::size_t row = ms::least(scores, positions);                       // the state to forget
//     std::size_t n = ms::top_k(scores, positions, 64, workspace, kept);    // rows kept[0], …, kept[n - 1], ascending
//
// All functions use one order: NaN scores first, then the lowest score; among equal scores (-0 equals +0) the oldest
// position. Positions are distinct, so every selection has exactly one answer, on every target.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "multistate/core/errors.hpp"
#include "multistate/core/types.hpp"
#include "multistate/simd/selection.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

inline void expect_room(const char* who, std::span<const float> scores, std::span<const position> positions,
                        std::span<const std::int32_t> workspace) noexcept {
    check(positions.size() >= scores.size(), who, "positions", bound{"one for each score, ", scores.size()},
          positions.size());
    check(workspace.size() >= scores.size(), who, "workspace", bound{"at least as long as scores, ", scores.size()},
          workspace.size());
}

}  // namespace detail

/// The row of the lowest score among the candidates, or scores.size() if there are none.
/// Two passes over the scores; positions are read only for `before` or ties.
inline std::size_t least(std::span<const float> scores, std::span<const position> positions,
                         candidates among = {}) noexcept {
    detail::check(positions.size() >= scores.size(), "least", "positions",
                  detail::bound{"one for each score, ", scores.size()}, positions.size());
    return simd::least_row(scores, positions, among);
}

/// The `count` lowest of the candidates. Writes their rows to `chosen` in ascending order and returns their number:
/// count or fewer. `workspace` holds at least scores.size() elements. About twenty passes over integers, for any
/// scores.
inline std::size_t least(std::span<const float> scores, std::span<const position> positions, candidates among,
                         std::size_t count, std::span<std::int32_t> workspace,
                         std::span<std::uint32_t> chosen) noexcept {
    detail::expect_room("least", scores, positions, workspace);
    detail::check(chosen.size() >= (std::min)(count, scores.size()), "least", "chosen",
                  detail::bound{"room for the rows chosen, ", (std::min)(count, scores.size())}, chosen.size());
    const simd::ranking all(scores, positions, among, workspace);
    return all.write(all.least(count), true, chosen);
}

/// Writes the rows of the k highest scores, ascending, into `kept`; returns min(k, scores.size()). Ties: the oldest is
/// left out first. Workspace and cost are as for `least`.
inline std::size_t top_k(std::span<const float> scores, std::span<const position> positions, std::size_t k,
                         std::span<std::int32_t> workspace, std::span<std::uint32_t> kept) noexcept {
    detail::expect_room("top_k", scores, positions, workspace);
    detail::check(kept.size() >= (std::min)(k, scores.size()), "top_k", "kept",
                  detail::bound{"room for the rows kept, ", (std::min)(k, scores.size())}, kept.size());
    const simd::ranking all(scores, positions, {}, workspace);
    return all.write(all.least(scores.size() - (std::min)(k, scores.size())), false, kept);
}

}}  // namespace multistate::MULTISTATE_TARGET
