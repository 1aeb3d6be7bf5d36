#pragma once

// Which states to forget: the least of many scores, and the k best of many scores, vectorized.
//
// One total order for all: the least score first; of equal scores (-0 equals +0) the oldest position first; a NaN score
// before all others. Positions are distinct, so every selection has exactly one answer, on every target.
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

/// The row of the least score among the candidates, or scores.size() when there is none.
/// Two passes over the scores; positions are read where `before` or equal scores demand it.
inline std::size_t least(std::span<const float> scores, std::span<const position> positions,
                         candidates among = {}) noexcept {
    detail::check(positions.size() >= scores.size(), "least", "positions",
                  detail::bound{"one for each score, ", scores.size()}, positions.size());
    return simd::least_row(scores, positions, among);
}

/// The `count` least of the candidates: writes their rows to `chosen` in ascending order and returns how many there
/// are, count or fewer. `workspace` holds at least scores.size() elements. Some twenty passes over integers, whatever
/// the scores.
inline std::size_t least(std::span<const float> scores, std::span<const position> positions, candidates among,
                         std::size_t count, std::span<std::int32_t> workspace,
                         std::span<std::uint32_t> chosen) noexcept {
    detail::expect_room("least", scores, positions, workspace);
    detail::check(chosen.size() >= (std::min)(count, scores.size()), "least", "chosen",
                  detail::bound{"room for the rows chosen, ", (std::min)(count, scores.size())}, chosen.size());
    const simd::ranking all(scores, positions, among, workspace);
    return all.write(all.least(count), true, chosen);
}

/// The rows of the k greatest scores, ascending, into `kept`; returns min(k, scores.size()). Of equal scores the
/// oldest is left out first. Workspace and cost as for `least`.
inline std::size_t top_k(std::span<const float> scores, std::span<const position> positions, std::size_t k,
                         std::span<std::int32_t> workspace, std::span<std::uint32_t> kept) noexcept {
    detail::expect_room("top_k", scores, positions, workspace);
    detail::check(kept.size() >= (std::min)(k, scores.size()), "top_k", "kept",
                  detail::bound{"room for the rows kept, ", (std::min)(k, scores.size())}, kept.size());
    const simd::ranking all(scores, positions, {}, workspace);
    return all.write(all.least(scores.size() - (std::min)(k, scores.size())), false, kept);
}

}}  // namespace multistate::MULTISTATE_TARGET
