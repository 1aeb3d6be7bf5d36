#pragma once

// What the mergers share that look for the survivors most like the states that go: into_similar, into_nearest.
#include <algorithm>
#include <bit>
#include <limits>

#include "multistate/linear_algebra.hpp"
#include "multistate/policy.hpp"

namespace multistate::inline MULTISTATE_TARGET {

namespace detail {

/// For one KV head of a table: a survivor for each row that goes, and a weight with which it is merged into that.
class neighbors {
  public:
    /// One float for each KV head outlives a decision: the reciprocal of the key's length, 0 where it is not known.
    static constexpr std::size_t floats_per_state(const table_shape& s) noexcept { return s.kv_heads + 3; }
    static constexpr std::size_t floats_per_table(const table_shape& s) noexcept {
        return 2 * std::max(s.head_dim, s.value_dim);
    }

    neighbors(const editor& stored, std::size_t kv_head, std::span<const std::uint32_t> gone, view states) noexcept
        : stored_(stored),
          kv_head_(kv_head),
          gone_(gone),
          order_(states.by_position),
          reciprocal_(states.memory(kv_head)),
          nearest_(states.memory(states.shape.kv_heads)),
          weight_(states.memory(states.shape.kv_heads + 1)),
          cosine_(states.memory(states.shape.kv_heads + 2)),
          sum_(states.own.first(floats_per_table(states.shape) / 2)),
          other_(states.own.subspan(sum_.size(), sum_.size())) {}

    /// Finds for each row that goes the survivor whose key has the greatest cosine with its own, of equals the oldest,
    /// and makes that cosine its weight. A key of zeros has the cosine 0 with all. For each row that goes it costs
    /// about what attention of one query costs.
    void find() noexcept {
        for (const std::uint32_t row : order_) {
            if (reciprocal_[row] == 0) reciprocal_[row] = reciprocal_length(row);
        }
        const float none = std::numeric_limits<float>::quiet_NaN();
        for (const std::uint32_t row : gone_) {
            weight_[row] = reciprocal_[row];  // for now
            reciprocal_[row] = none;          // for good: what goes is no one's neighbor; a NaN is not the greatest
        }
        for (const std::uint32_t row : gone_) {
            stored_.key(kv_head_, row, key());
            stored_.dot_keys(kv_head_, key(), cosine_);
            simd::multiply(reciprocal_, cosine_);
            float most = -std::numeric_limits<float>::infinity();
            for (const std::uint32_t other : order_) {
                if (cosine_[other] * weight_[row] > most) {
                    most = cosine_[other] * weight_[row];
                    nearest_[row] = std::bit_cast<float>(other);  // kept in a float's bits, not as its number
                }
            }
            weight_[row] = std::clamp(most, -1.0f, 1.0f);
        }
    }

    std::uint32_t nearest(std::uint32_t row) const noexcept { return std::bit_cast<std::uint32_t>(nearest_[row]); }
    /// How much a row that goes counts in its neighbor, which itself counts 1; nothing unless greater than 0.
    float& weight(std::uint32_t row) noexcept { return weight_[row]; }
    float value_length(std::uint32_t row) noexcept {
        stored_.value(kv_head_, row, value());
        return norm(value());
    }

    /// Survivors become the weighted means of themselves and what is merged into them: x_j = (x_j + sum of w_i x_i) /
    /// (1 + sum of w_i), of values and, if asked, of keys.
    void blend(bool keys) noexcept {
        for (std::size_t i = 0; i < gone_.size(); ++i) {
            if (!(weight(gone_[i]) > 0)) continue;
            const std::uint32_t survivor = nearest(gone_[i]);
            blend_values(survivor, gone_.subspan(i));
            if (keys) blend_keys(survivor, gone_.subspan(i));
            for (const std::uint32_t row : gone_.subspan(i)) {
                if (nearest(row) == survivor) weight(row) = 0;  // done
            }
        }
    }

  private:
    std::span<float> key() const noexcept { return other_.first(stored_.head_dim); }
    std::span<float> value() const noexcept { return other_.first(stored_.value_dim); }

    float reciprocal_length(std::uint32_t row) const noexcept {
        stored_.key(kv_head_, row, key());
        const float length = norm(key());
        return length > 0 ? 1 / length : 0;
    }

    void blend_values(std::uint32_t survivor, std::span<const std::uint32_t> rows) noexcept {
        const auto sum = sum_.first(stored_.value_dim);
        stored_.value(kv_head_, survivor, sum);
        mean(survivor, rows, sum, [&](std::uint32_t row) {
            stored_.value(kv_head_, row, value());
            return value();
        });
        stored_.set_value(kv_head_, survivor, sum);
    }
    void blend_keys(std::uint32_t survivor, std::span<const std::uint32_t> rows) noexcept {
        const auto sum = sum_.first(stored_.head_dim);
        stored_.key(kv_head_, survivor, sum);
        mean(survivor, rows, sum, [&](std::uint32_t row) {
            stored_.key(kv_head_, row, key());
            return key();
        });
        stored_.set_key(kv_head_, survivor, sum);
        reciprocal_[survivor] = 0;
    }
    void mean(std::uint32_t survivor, std::span<const std::uint32_t> rows, std::span<float> sum, auto load) noexcept {
        float total = 1;
        for (const std::uint32_t row : rows) {
            if (nearest(row) != survivor || !(weight(row) > 0)) continue;
            simd::add_scaled(weight(row), load(row), sum);
            total += weight(row);
        }
        simd::scale(sum, 1 / total);
    }

    const editor& stored_;
    std::size_t kv_head_;
    std::span<const std::uint32_t> gone_;
    std::span<const std::uint32_t> order_;
    std::span<float> reciprocal_;  // by row, as the others
    std::span<float> nearest_;
    std::span<float> weight_;
    std::span<float> cosine_;
    std::span<float> sum_;
    std::span<float> other_;
};

}  // namespace detail
}  // namespace multistate::inline MULTISTATE_TARGET
