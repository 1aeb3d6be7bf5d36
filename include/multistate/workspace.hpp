#pragma once

// The scratch memory of one attention call: packed queries, logits that become probabilities, packed outputs. A cache
// has one; calls on different layers of one cache may run concurrently if each brings a workspace of its own.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "multistate/aligned_array.hpp"
#include "multistate/shape.hpp"
#include "multistate/simd/products.hpp"

namespace multistate::inline MULTISTATE_TARGET {

/// Scratch for attention over caches of one shape: rows of states + slack + block floats, one for each query head and
/// token that are worked on together. Blocks are cut into tiles of tokens, and heads into waves, so that the rows stay
/// within 16 MiB, or at one token's worth where that is more.
class workspace {
  public:
    explicit workspace(const shape& given)
        : shape_(checked(given)),
          stride_(simd::padded(rows_of(shape_), 32) + 16),
          rows_(std::clamp(most_logits / stride_, shape_.heads, shape_.heads * std::min(shape_.block, most_tokens))),
          queries_(floats(rows_, simd::query_stride(shape_.head_dim))),
          logits_(floats(rows_, stride_)),
          mixed_(floats(std::max(rows_, shape_.heads * parts()), simd::query_stride(shape_.value_dim))),
          products_(floats(shape_.kv_heads * parts(), products_size())),
          placed_(shape_.kv_heads * std::min(shape_.block, most_tokens)),
          bases_(shape_.kv_heads) {}

    /// Whether caches of this shape can use it.
    bool fits(const shape& s) const noexcept {
        return s.heads == shape_.heads && s.kv_heads == shape_.kv_heads && s.head_dim == shape_.head_dim &&
               s.value_dim == shape_.value_dim && s.block <= shape_.block && rows_of(s) <= rows_of(shape_);
    }
    /// Tokens of a block that are worked on together, where all of `kv_heads` KV heads must be.
    std::size_t tile(std::size_t kv_heads) const noexcept {
        return std::min({rows_ / (kv_heads * shape_.group()), shape_.block, most_tokens});
    }
    /// KV heads that are worked on together, with a tile of `tokens`.
    std::size_t wave(std::size_t tokens) const noexcept {
        return std::min(rows_ / (tokens * shape_.group()), shape_.kv_heads);
    }
    /// Tasks that share the work of one KV head where there are few KV heads. By shape, so that every executor computes
    /// the same.
    std::size_t parts() const noexcept { return std::max<std::size_t>(1, 8 / shape_.kv_heads); }
    /// Floats from one row of logits to the next: an odd number of cache lines, or the rows of a tile would share few
    /// sets of the cache.
    std::size_t stride() const noexcept { return stride_; }

    // Rows of the three arrays: query head h, counted from the first of the wave, and token t of a tile of `tokens`
    // share row h * tokens + t.
    float* queries(std::size_t row) noexcept { return queries_.data() + row * simd::query_stride(shape_.head_dim); }
    float* logits(std::size_t row) noexcept { return logits_.data() + row * stride_; }
    float* mixed(std::size_t row) noexcept { return mixed_.data() + row * simd::query_stride(shape_.value_dim); }

    /// What simd's products need, for each of kv_heads * parts() tasks.
    float* products(std::size_t task) noexcept { return products_.data() + task * products_size(); }

    /// For each token of a tile the row in which a table placed it; one stretch of `tile` per KV head.
    std::span<std::uint32_t> placed(std::size_t kv_head) noexcept {
        const std::size_t tokens = std::min(shape_.block, most_tokens);
        return {placed_.data() + kv_head * tokens, tokens};
    }

    /// Rows that the tables of a KV head held before a tile.
    std::size_t& base(std::size_t kv_head) noexcept { return bases_[kv_head]; }

    std::size_t memory_bytes() const noexcept {
        return queries_.bytes() + logits_.bytes() + mixed_.bytes() + products_.bytes() + placed_.bytes() +
               bases_.size() * sizeof(std::size_t);
    }

  private:
    static constexpr std::size_t most_tokens = 64;
    static constexpr std::size_t most_logits = (std::size_t{16} << 20) / sizeof(float);

    static std::size_t rows_of(const shape& s) noexcept { return s.states + s.slack + s.block; }
    static shape checked(const shape& given) {
        const shape result = detail::checked(given);
        detail::require_size("workspace", "states", result.states);
        detail::require_size("workspace", "block", result.block);
        detail::require_size("workspace", "slack + 1", result.slack + 1);
        return result;
    }
    static std::size_t floats(std::size_t rows, std::size_t width) { return detail::product("workspace", rows, width); }
    std::size_t products_size() const noexcept {
        const std::size_t queries = shape_.group() * std::min(shape_.block, most_tokens);
        return simd::product_scratch(queries, std::max(shape_.head_dim, shape_.value_dim));
    }

    shape shape_;
    std::size_t stride_;
    std::size_t rows_;
    aligned_array<float> queries_;
    aligned_array<float> logits_;
    aligned_array<float> mixed_;
    aligned_array<float> products_;
    aligned_array<std::uint32_t> placed_;
    std::vector<std::size_t> bases_;
};

}  // namespace multistate::inline MULTISTATE_TARGET
