#pragma once

// The scratch memory of one attention call: packed queries, logits that become probabilities, packed outputs. A cache
// has one; calls on different layers of one cache may run concurrently if each brings a workspace of its own.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "multistate/aligned_array.hpp"
#include "multistate/shape.hpp"
#include "multistate/simd/vector.hpp"

namespace multistate::inline MULTISTATE_TARGET {

/// Scratch for attention over caches of one shape: query heads * tile * (states + block) floats, of which blocks are
/// cut into tiles so that it stays near 4 MB, or at one token's worth where that is more.
class workspace {
  public:
    explicit workspace(const shape& given)
        : shape_(checked(given)),
          stride_(simd::padded(shape_.states + shape_.block)),
          tile_(std::clamp<std::size_t>((std::size_t{4} << 20) / sizeof(float) / shape_.heads / stride_, 1,
                                        std::min<std::size_t>(shape_.block, 64))),
          queries_(floats(simd::padded(shape_.head_dim))),
          logits_(floats(stride_)),
          mixed_(floats(simd::padded(shape_.value_dim))),
          placed_(shape_.kv_heads * tile_) {}

    /// Whether caches of this shape can use it.
    bool fits(const shape& s) const noexcept {
        return s.heads == shape_.heads && s.kv_heads == shape_.kv_heads && s.head_dim == shape_.head_dim &&
               s.value_dim == shape_.value_dim && simd::padded(s.states + s.block) <= stride_;
    }
    /// Tokens of a block that are worked on together.
    std::size_t tile() const noexcept { return tile_; }
    /// Floats from one row of logits to the next.
    std::size_t stride() const noexcept { return stride_; }

    // Rows of the three arrays: query head h and token t of a tile of `tokens` share row h * tokens + t.
    float* queries(std::size_t row) noexcept { return queries_.data() + row * simd::padded(shape_.head_dim); }
    float* logits(std::size_t row) noexcept { return logits_.data() + row * stride_; }
    float* mixed(std::size_t row) noexcept { return mixed_.data() + row * simd::padded(shape_.value_dim); }

    /// For each token of a tile the row in which a table placed it; one stretch of `tile` per KV head.
    std::span<std::uint32_t> placed(std::size_t kv_head) noexcept { return {placed_.data() + kv_head * tile_, tile_}; }

    std::size_t memory_bytes() const noexcept {
        return queries_.bytes() + logits_.bytes() + mixed_.bytes() + placed_.bytes();
    }

  private:
    static shape checked(const shape& given) {
        const shape result = detail::checked(given);
        detail::require_size("workspace", "states", result.states);
        detail::require_size("workspace", "block", result.block);
        return result;
    }
    /// Floats in an array with a row of `width` for each query head and token of a tile.
    std::size_t floats(std::size_t width) const {
        return detail::product("workspace", detail::product("workspace", shape_.heads, tile_), width);
    }

    shape shape_;
    std::size_t stride_;
    std::size_t tile_;
    aligned_array<float> queries_;
    aligned_array<float> logits_;
    aligned_array<float> mixed_;
    aligned_array<std::uint32_t> placed_;
};

}  // namespace multistate::inline MULTISTATE_TARGET
