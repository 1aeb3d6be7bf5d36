#pragma once

// The scratch memory of one attention call: packed queries, logits (later probabilities), weighted sums.
//
//     ms::workspace scratch(cache.shape());                   // one per worker, for any number of sequences
//     ms::step(cache.layer(i), position, {.q = q, .k = k, .v = v}, out, scratch);
//
// It belongs to no cache: layers and caches of one shape use it in turn, and concurrent calls need one each. An engine
// with its own attention needs none.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "multistate/core/aligned_array.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/simd/attention_products.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Scratch for attention over caches of one shape. Its rows have states + slack + block floats: one row for each query
/// head and token that are computed together. Blocks are divided into batches of tokens and of heads, so that the rows
/// need at most 16 MiB, or the memory of one token if that is more.
class workspace {
  public:
    /// Throws std::invalid_argument for an invalid shape, or one that exceeds the machine's memory.
    explicit workspace(const shape& given) : workspace(layout(given)) {}

    /// Predicts memory_bytes() of such a workspace. Allocates nothing; throws for an invalid shape.
    static std::size_t bytes_for(const shape& given) { return layout(given).bytes(); }

    /// Whether caches of this shape can use it; a workspace that was moved from fits none.
    bool fits(const shape& s) const noexcept {
        return held_before_.size() == s.kv_heads && s.heads == shape_.heads && s.kv_heads == shape_.kv_heads &&
               s.head_dim == shape_.head_dim && s.value_dim == shape_.value_dim && s.block <= shape_.block &&
               rows_of(s) <= rows_of(shape_);
    }
    /// The number of tokens of a block that are computed together, if all `kv_heads` KV heads must be.
    std::size_t tokens_at_once(std::size_t kv_heads) const noexcept {
        return (std::min)({rows_ / (kv_heads * shape_.group()), shape_.block, most_tokens});
    }
    /// The number of KV heads that are computed together, with `tokens` tokens at once.
    std::size_t kv_heads_at_once(std::size_t tokens) const noexcept {
        return (std::min)(rows_ / (tokens * shape_.group()), shape_.kv_heads);
    }
    /// The number of tasks that share the work of one KV head if there are few KV heads. It depends on the shape only,
    /// so every executor computes the same.
    std::size_t tasks_per_kv_head() const noexcept { return tasks_of(shape_); }
    /// Floats from one row of logits to the next: an odd number of cache lines. Otherwise the rows of a batch would
    /// compete for few sets of the processor's cache.
    std::size_t stride() const noexcept { return stride_; }

    // Rows of the three arrays: query head h (counted from the first of the batch) and token t of `tokens` tokens have
    // row h * tokens + t.
    float* queries(std::size_t row) noexcept { return queries_.data() + row * simd::query_stride(shape_.head_dim); }
    float* logits(std::size_t row) noexcept { return logits_.data() + row * stride_; }
    float* sums(std::size_t row) noexcept { return sums_.data() + row * simd::query_stride(shape_.value_dim); }

    /// The scratch of simd's products, for each of kv_heads * tasks_per_kv_head() tasks.
    float* products(std::size_t task) noexcept { return products_.data() + task * products_size(); }

    /// For each token of a batch, the row in which table t of a layer placed it.
    std::span<std::uint32_t> placed(std::size_t t) noexcept {
        const std::size_t tokens = (std::min)(shape_.block, most_tokens);
        return {placed_.data() + t * tokens, tokens};
    }

    /// The number of rows that table t of a layer held before a batch.
    std::size_t& held_before(std::size_t t) noexcept { return held_before_[t]; }

    std::size_t memory_bytes() const noexcept {
        return queries_.bytes() + logits_.bytes() + sums_.bytes() + products_.bytes() + placed_.bytes() +
               held_before_.size() * sizeof(std::size_t);
    }

  private:
    static constexpr std::size_t most_tokens = 64;
    static constexpr std::size_t most_logits = (std::size_t{16} << 20) / sizeof(float);

    static constexpr const char* who = "workspace";

    static std::size_t rows_of(const shape& s) noexcept { return s.states + s.slack + s.block; }
    static std::size_t tasks_of(const shape& s) noexcept { return (std::max<std::size_t>)(1, 8 / s.kv_heads); }
    static std::size_t products_of(const shape& s) noexcept {
        return simd::product_scratch(s.group() * (std::min)(s.block, most_tokens), (std::max)(s.head_dim, s.value_dim));
    }
    std::size_t products_size() const noexcept { return products_of(shape_); }

    /// The sizes of the arrays, computed before allocation.
    struct layout {
        explicit layout(const shape& given) : s(detail::checked(given)) {
            using detail::product;
            detail::require_size(who, "states", s.states);
            detail::require_size(who, "block", s.block);
            detail::require_slack(who, s.slack);
            const std::size_t tokens = (std::min)(s.block, most_tokens);
            stride = simd::padded(rows_of(s), 32) + 16;
            rows = std::clamp(most_logits / stride, s.heads, product(who, s.heads, tokens));
            queries = product(who, rows, simd::query_stride(s.head_dim));
            logits = product(who, rows, stride);
            sums = product(who, (std::max)(rows, product(who, s.heads, tasks_of(s))), simd::query_stride(s.value_dim));
            products = product(who, product(who, s.kv_heads, tasks_of(s)), products_of(s));
            placed = product(who, s.kv_heads, tokens);
        }
        std::size_t bytes() const {
            std::size_t total = detail::bytes<std::size_t>(who, s.kv_heads);
            for (const std::size_t floats : {queries, logits, sums, products, placed}) {
                total = detail::sum(who, total, detail::bytes<float>(who, floats));
            }
            return total;
        }

        shape s;
        std::size_t stride, rows;
        std::size_t queries, logits, sums, products, placed;
    };

    explicit workspace(const layout& sizes)
        : shape_(sizes.s),
          stride_(sizes.stride),
          rows_(sizes.rows),
          queries_((detail::require_memory(who, sizes.bytes()), sizes.queries)),
          logits_(sizes.logits),
          sums_(sizes.sums),
          products_(sizes.products),
          placed_(sizes.placed),
          held_before_(shape_.kv_heads) {}

    shape shape_;
    std::size_t stride_;
    std::size_t rows_;
    aligned_array<float> queries_;
    aligned_array<float> logits_;
    aligned_array<float> sums_;
    aligned_array<float> products_;
    aligned_array<std::uint32_t> placed_;
    std::vector<std::size_t> held_before_;
};

namespace detail {

inline void expect_workspace(const char* who, const shape& s, const workspace& scratch) noexcept {
    check(scratch.fits(s), who, "the workspace", "made for caches of this shape", "of another, or moved from");
}
/// Inputs must not overlap outputs: heads and tokens are finished one by one.
inline void expect_apart(const char* who, const char* argument, std::span<const float> read,
                         std::span<const float> written) noexcept {
    const auto before = [](const float* a, const float* b) {
        return reinterpret_cast<std::uintptr_t>(a) <= reinterpret_cast<std::uintptr_t>(b);
    };
    check(before(read.data() + read.size(), written.data()) || before(written.data() + written.size(), read.data()),
          who, argument, "memory apart from out", "overlapping");
}

}  // namespace detail
}}  // namespace multistate::MULTISTATE_TARGET
