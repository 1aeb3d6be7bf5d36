#pragma once

// The view of a policy that has no table: for tests that call its hooks and set its memory themselves.
#include <numeric>
#include <vector>

#include <multistate/policy/view.hpp>
#include <multistate/table/policy_memory.hpp>

namespace support {

/// Rows 0, 1, … hold positions 0, 1, …; all scores and all memory are 0 at first.
template <class P>
class hand_held {
  public:
    hand_held(const P& policy, const multistate::table_shape& s, std::size_t rows)
        : shape_(s), memory_(policy, s, rows), position_(rows), score_(rows) {
        std::iota(position_.begin(), position_.end(), 0);
    }
    multistate::view states() noexcept {
        return {.shape = shape_,
                .position = position_,
                .score = score_,
                .origin = memory_.origin(),
                .by_position = {},
                .newest = position_.back(),
                .block_begin = position_.back(),
                .guarded = {}};
    }

  private:
    multistate::table_shape shape_;
    multistate::detail::policy_memory memory_;
    std::vector<multistate::position> position_;
    std::vector<float> score_;
};

}  // namespace support
