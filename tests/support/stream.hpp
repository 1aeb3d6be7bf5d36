#pragma once

// The queries, keys and values of a sequence of tokens for one layer, and the spans of some of them.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <multistate/core/shape.hpp>

#include "support/random.hpp"

namespace support {

/// Queries and keys within ±2.5 give logits with a standard deviation near 2 at the default scale: attention that is
/// neither flat nor a single peak. Values lie within ±1, so outputs do too.
class stream {
  public:
    stream(const multistate::shape& shape, std::size_t tokens, std::uint64_t seed)
        : query_width(shape.heads * shape.head_dim),
          key_width(shape.kv_heads * shape.head_dim),
          value_width(shape.kv_heads * value_dim(shape)),
          out_width(shape.heads * value_dim(shape)),
          size(tokens) {
        random_numbers random(seed);
        queries = random.floats(tokens * query_width, 2.5f);
        keys = random.floats(tokens * key_width, 2.5f);
        values = random.floats(tokens * value_width, 1.0f);
    }

    std::span<const float> q(std::size_t first, std::size_t count = 1) const {
        return std::span(queries).subspan(first * query_width, count * query_width);
    }
    std::span<const float> k(std::size_t first, std::size_t count = 1) const {
        return std::span(keys).subspan(first * key_width, count * key_width);
    }
    std::span<const float> v(std::size_t first, std::size_t count = 1) const {
        return std::span(values).subspan(first * value_width, count * value_width);
    }

    std::size_t query_width;
    std::size_t key_width;
    std::size_t value_width;
    std::size_t out_width;
    std::size_t size;
    std::vector<float> queries;
    std::vector<float> keys;
    std::vector<float> values;

  private:
    static std::size_t value_dim(const multistate::shape& shape) {
        return shape.value_dim == 0 ? shape.head_dim : shape.value_dim;
    }
};

}  // namespace support
