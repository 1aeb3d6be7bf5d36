#pragma once

// How many states two policies both keep.
//
//     ms::agreement together;                                 // over as many tables and moments as you like
//     together.add(sorted_positions_of_tova, sorted_positions_of_h2o);
//     together.share()                                        // 0.57: of the states that either keeps, both keep 57 %
//
// The share is the Jaccard index. It is summed over tables before it is divided: each state counts the same.
#include <cstddef>
#include <limits>
#include <span>

#include "multistate/core/types.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Counts the states that two policies keep, both of them or either, over any number of tables.
class agreement {
  public:
    /// Adds one table at one step: the positions that each policy holds, in rising order. Takes a.size() + b.size()
    /// comparisons at most; allocates nothing.
    void add(std::span<const position> a, std::span<const position> b) noexcept {
        std::size_t i = 0, j = 0;
        for (; i < a.size() && j < b.size(); ++either_) {
            if (a[i] == b[j]) ++both_;
            const bool a_first = a[i] <= b[j], b_first = b[j] <= a[i];
            i += a_first ? 1 : 0;
            j += b_first ? 1 : 0;
        }
        either_ += (a.size() - i) + (b.size() - j);
    }

    /// States that both policies keep, summed over all tables.
    std::size_t both() const noexcept { return both_; }
    /// States that at least one of them keeps.
    std::size_t either() const noexcept { return either_; }
    /// both() / either(); NaN if neither keeps a state.
    double share() const noexcept {
        if (either_ == 0) return std::numeric_limits<double>::quiet_NaN();
        return static_cast<double>(both_) / static_cast<double>(either_);
    }

  private:
    std::size_t both_ = 0;
    std::size_t either_ = 0;
};

}}  // namespace multistate::MULTISTATE_TARGET
