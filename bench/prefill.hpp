#pragma once

// Blocks of tokens that arrive at a full cache.
#include <span>
#include <vector>

#include "decoder.hpp"

namespace bench {

/// Queries, keys and values of a block, and where the output goes.
struct block_of_text {
    std::size_t tokens, width;
    std::vector<float> q, k, v, out;

    block_of_text(const layer_shape& l, std::size_t count)
        : tokens(count),
          width(l.heads * l.head_dim),
          q(random_floats(count * width, 1)),
          k(random_floats(count * l.kv_heads * l.head_dim, 2)),
          v(random_floats(count * l.kv_heads * l.head_dim, 3)),
          out(count * width) {}
};

/// A cache that goes on through an endless text in its own way. All functions return seconds.
template <class Codec>
class reader {
  public:
    reader(const ms::any_policy& policy, const layer_shape& l, std::size_t tokens)
        : cache_({.layers = 1,
                  .heads = l.heads,
                  .kv_heads = l.kv_heads,
                  .head_dim = l.head_dim,
                  .states = l.states,
                  .block = tokens},
                 policy),
          scratch_(cache_.shape()) {
        fill(cache_.layer(0), l.states + 1, random_floats(l.heads * l.head_dim, 3),
             endless_text(l.kv_heads * l.head_dim, 4), endless_text(l.kv_heads * l.head_dim, 5));
    }

    template <class Executor = ms::serial>
    double block(block_of_text& t, ms::prefill_mode mode, Executor&& run = {}) {
        return seconds([&] {
            must(ms::prefill(cache_.layer(0), cache_.layer(0).next_position(), {t.q, t.k, t.v}, t.out, scratch_, mode,
                             run));
        });
    }
    /// The first `count` tokens of the block, one at a time.
    double steps(block_of_text& t, std::size_t count) {
        const std::size_t width = t.k.size() / t.tokens;
        return seconds([&] {
            for (std::size_t i = 0; i < count; ++i) {
                must(ms::step(cache_.layer(0), cache_.layer(0).next_position(),
                              {std::span(t.q).subspan(i * t.width, t.width), std::span(t.k).subspan(i * width, width),
                               std::span(t.v).subspan(i * width, width)},
                              std::span(t.out).subspan(i * t.width, t.width), scratch_));
            }
        });
    }

  private:
    ms::cache<ms::any_policy, Codec> cache_;
    ms::workspace scratch_;
};

}  // namespace bench
