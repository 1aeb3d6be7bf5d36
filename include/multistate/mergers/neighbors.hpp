#pragma once

// Shared by the mergers that look for the survivors most similar to the forgotten states: into_similar, into_nearest.
#include <algorithm>
#include <limits>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/math/select.hpp"
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

struct neighbor_memory {
    /// The number of rows that look for their neighbors together.
    static constexpr std::size_t at_once = 4;

    per_state_array<float> reciprocals;  // [KV heads]: 1 / length of the key; 0 if not known
    per_state<std::uint32_t> nearest;    // scratch: a row
    per_state<float> weight;             // scratch
    per_state_array<float> cosines;      // scratch: [at_once]
    per_table<float> sum;                // scratch: a key or value
    per_table<float> others;             // scratch: keys, or a value

    void lay_out(layout& l) noexcept {
        const std::size_t d = (std::max)(l.shape().head_dim, l.shape().value_dim);
        l(reciprocals, l.shape().kv_heads);
        l(nearest);
        l(weight);
        l(cosines, at_once);
        l(sum, d);
        l(others, at_once * d);
    }
};

/// For one KV head of a table: the survivor nearest to each forgotten row, and the weight with which the row is merged.
class neighbors {
    static constexpr std::size_t at_once = neighbor_memory::at_once;

  public:
    neighbors(const editor& stored, std::size_t kv_head, std::span<const std::uint32_t> gone, view states,
              const neighbor_memory& memory) noexcept
        : stored_(stored),
          kv_head_(kv_head),
          gone_(gone),
          positions_(states.position),
          reciprocal_(memory.reciprocals[kv_head]),
          nearest_(memory.nearest),
          weight_(memory.weight),
          cosines_(memory.cosines),
          sum_(memory.sum),
          others_(memory.others) {}

    /// Finds, for each forgotten row, the survivor whose key has the greatest cosine with its own (ties: the oldest),
    /// and sets its weight to that cosine. A key of zeros has cosine 0 with all keys. Four forgotten rows share one
    /// reading of the keys (two on AVX2 and SSE4).
    void find() noexcept {
        for (std::uint32_t row = 0; row < reciprocal_.size(); ++row) {
            if (reciprocal_[row] == 0) reciprocal_[row] = reciprocal_length(row);
        }
        const float none = std::numeric_limits<float>::quiet_NaN();
        for (const std::uint32_t row : gone_) {
            weight_[row] = reciprocal_[row];  // temporarily
            reciprocal_[row] = none;          // permanently: not a neighbor, because a NaN is never the greatest
        }
        for (std::size_t first = 0; first < gone_.size(); first += at_once) {
            const auto some = gone_.subspan(first, (std::min)(at_once, gone_.size() - first));
            const std::size_t d = stored_.head_dim;
            for (std::size_t i = 0; i < some.size(); ++i) stored_.key(kv_head_, some[i], others_.subspan(i * d, d));
            stored_.dot_keys(kv_head_, {others_.data(), some.size(), d, d}, cosines_[0], cosines_.stride());
            for (std::size_t i = 0; i < some.size(); ++i) find_greatest(some[i], cosines_[i]);
        }
    }

    std::uint32_t nearest(std::uint32_t row) const noexcept { return nearest_[row]; }
    /// The weight of a forgotten row in its neighbor, which has weight 1; not merged unless greater than 0.
    float& weight(std::uint32_t row) noexcept { return weight_[row]; }
    float value_length(std::uint32_t row) noexcept {
        stored_.value(kv_head_, row, value());
        return norm(value());
    }

    /// Survivors become the weighted means of themselves and the rows merged into them: x_j = (x_j + sum of w_i x_i) /
    /// (1 + sum of w_i), for values and, if asked, keys.
    void blend(bool keys) noexcept {
        for (std::size_t i = 0; i < gone_.size(); ++i) {
            if (!(weight(gone_[i]) > 0)) continue;
            const std::uint32_t survivor = nearest(gone_[i]);
            blend_into(survivor, gone_.subspan(i), false);
            if (keys) blend_into(survivor, gone_.subspan(i), true);
            for (const std::uint32_t row : gone_.subspan(i)) {
                if (nearest(row) == survivor) weight(row) = 0;  // done
            }
        }
    }

  private:
    std::span<float> key() const noexcept { return others_.first(stored_.head_dim); }
    std::span<float> value() const noexcept { return others_.first(stored_.value_dim); }

    /// Finds the nearest row, given the products of the row's key with all keys.
    void find_greatest(std::uint32_t row, std::span<float> products) noexcept {
        const simd::floats none = simd::fill(std::numeric_limits<float>::infinity());
        simd::combine(reciprocal_, products, [=](simd::floats product, simd::floats reciprocal) {
            const simd::floats similar = product * reciprocal;
            return similar != similar ? none : -similar;
        });
        const std::size_t found = least(products, positions_);
        nearest_[row] = static_cast<std::uint32_t>(found);
        weight_[row] =
            (std::min)(1.0f, (std::max)(-1.0f, -products[found] * weight_[row]));  // -1 if that is not a number
    }

    float reciprocal_length(std::uint32_t row) const noexcept {
        stored_.key(kv_head_, row, key());
        const float length = norm(key());
        return length > 0 ? 1 / length : 0;
    }

    /// Blends the keys, or the values, of the rows that are merged into `survivor`.
    void blend_into(std::uint32_t survivor, std::span<const std::uint32_t> rows, bool keys) noexcept {
        const auto sum = sum_.first(keys ? stored_.head_dim : stored_.value_dim), other = others_.first(sum.size());
        const auto load = [&](std::uint32_t row, std::span<float> x) {
            keys ? stored_.key(kv_head_, row, x) : stored_.value(kv_head_, row, x);
        };
        load(survivor, sum);
        float total = 1;
        for (const std::uint32_t row : rows) {
            if (nearest(row) != survivor || !(weight(row) > 0)) continue;
            load(row, other);
            simd::add_scaled(weight(row), other, sum);
            total += weight(row);
        }
        simd::scale(sum, 1 / total);
        if (!keys) return stored_.set_value(kv_head_, survivor, sum);
        stored_.set_key(kv_head_, survivor, sum);
        reciprocal_[survivor] = 0;
    }

    const editor& stored_;
    std::size_t kv_head_;
    std::span<const std::uint32_t> gone_;
    std::span<const position> positions_;
    std::span<float> reciprocal_;
    std::span<std::uint32_t> nearest_;
    std::span<float> weight_;
    per_state_array<float> cosines_;
    std::span<float> sum_;
    std::span<float> others_;
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
