#pragma once

// What a hook of a policy sees: the states of a table, and their stored keys and values.
//
//     void on_attention(ms::rows probabilities, ms::view states) const noexcept {   // probabilities [heads, size()]
//         ms::add(probabilities, states.score);                                     // entry j belongs to row j
//     }
//     void on_forget(const ms::reader& stored, ms::view states) const noexcept {
//         stored.dot_keys(0, filter, states.score);                                 // score[j] = filter . key j
//     }
//
// Rows are reused, so their order means nothing. When a decision is due, by_position lists the rows from the oldest
// state to the newest.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

#include "multistate/core/errors.hpp"
#include "multistate/core/types.hpp"
#include "multistate/policy/memory.hpp"
#include "multistate/simd/elementwise.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Whether x can be squared and summed safely: its length is at most 1e9, so that products of up to four such lengths
/// are finite in float32. False if an element is a NaN or an infinity.
inline bool bounded(std::span<const float> x) noexcept { return simd::dot(x, x) <= 1e18f; }
/// The same for all rows.
inline bool bounded(rows x) noexcept {
    if (x.stride == x.width) return bounded(std::span(x.data, x.count * x.width));
    float squares = 0;
    for (std::size_t r = 0; r < x.count; ++r) squares += simd::dot(x[r], x[r]);
    return squares <= 1e18f;
}

/// What a hook sees of a table: entry j of every span belongs to row j.
struct view {
    const table_shape& shape;
    std::span<const multistate::position> position;
    std::span<float> score;                      ///< written by the policy; 0 when a state is placed
    detail::memory_origin origin;                ///< where the policy's memory begins; see memory()
    std::span<const std::uint32_t> by_position;  ///< from the oldest to the newest; in on_forget, on_compare, merge
    multistate::position newest;                 ///< the newest position held
    multistate::position block_begin;            ///< the first position of the block that `newest` arrived in: `newest`
                                                 ///< itself if it arrived alone, or in an exact prefill
    guards guarded;                              ///< in force: the policy's and the user's

    std::size_t size() const noexcept { return score.size(); }
    /// The part of by_position that may be forgotten.
    std::span<const std::uint32_t> unguarded() const noexcept {
        const std::size_t sinks = (std::min)(guarded.sinks, by_position.size());
        const std::size_t recent = (std::min)(guarded.recent, by_position.size() - sinks);
        return by_position.subspan(sinks, by_position.size() - sinks - recent);
    }
    /// The policy's memory (memory.hpp). Costs a few additions for each member.
    template <has_memory P>
    typename P::memory memory(const P& policy) const noexcept {
        typename P::memory result;
        layout l(origin, size());
        policy.lay_out(result, l);
        return result;
    }
    /// Skips the memory of `policy`: memory() then starts directly after it. For policies that call other policies.
    template <class P>
    void skip(const P& policy) noexcept {
        const detail::memory_size used = detail::size_of_memory(policy, *origin.shape, origin.rows);
        origin.states += used.states;
        origin.table += used.table;
    }
    /// Sets the policy's per_table members to zero.
    template <class P>
    void clear_table_memory(const P& policy) const noexcept {
        const std::size_t bytes = detail::size_of_memory(policy, *origin.shape, origin.rows).table;
        if (bytes > 0) std::memset(origin.table, 0, bytes);
    }
};

/// How a reader reaches keys and values in any storage. Functions that the policy does not call may be null.
struct storage_access {
    /// Decodes a row into key and value; one of them may be null.
    void (*load)(const void* owner, std::size_t layer, std::size_t kv_head, std::size_t row, float* key,
                 float* value) noexcept = nullptr;
    /// out[i * stride + j] = x_i . key j, or value j, for the first n rows.
    void (*dot)(const void* owner, std::size_t layer, std::size_t kv_head, bool values, rows x, std::size_t n,
                float* out, std::size_t stride) noexcept = nullptr;
    /// out = the sum of weights[j] times value j over the first weights.size() rows.
    void (*sum)(const void* owner, std::size_t layer, std::size_t kv_head, std::span<const float> weights,
                std::span<float> out) noexcept = nullptr;
    /// Encodes key and value into a row; one of them may be null.
    void (*store)(void* owner, std::size_t layer, std::size_t kv_head, std::size_t row, const float* key,
                  const float* value) noexcept = nullptr;
};

/// Reads stored keys and values as floats, for any codec. KV heads are counted from the first of the table. Each call
/// reads its rows from memory; dot_keys and similar calls cost about as much as attention of one query. A spoiled state
/// (see policy.hpp) reads as zeros; only sum_values adds its stored value.
struct reader {
    void* owner = nullptr;
    const storage_access* access = nullptr;
    std::size_t layer = 0;
    std::size_t first_kv_head = 0;
    std::size_t kv_heads = 0;
    std::size_t head_dim = 0;
    std::size_t value_dim = 0;
    const std::uint8_t* spoiled = nullptr;  ///< [rows], not 0 for a spoiled state; null if there is none. Set by
                                            ///< the table
    bool keys_may_change = false;           ///< a part of the policy writes stored rows, so nothing that was computed
                                            ///< from keys at an earlier decision is known to hold. Set by the table

    void key(std::size_t kv_head, std::size_t row, std::span<float> out) const noexcept {
        expect(access != nullptr && access->load != nullptr, "key", kv_head);
        detail::check<2>(out.size() == head_dim, "key", "out", detail::bound{"head_dim floats, ", head_dim},
                         out.size());
        if (is_spoiled(row)) return clear(out);
        access->load(owner, layer, first_kv_head + kv_head, row, out.data(), nullptr);
    }
    void value(std::size_t kv_head, std::size_t row, std::span<float> out) const noexcept {
        expect(access != nullptr && access->load != nullptr, "value", kv_head);
        detail::check<2>(out.size() == value_dim, "value", "out", detail::bound{"value_dim floats, ", value_dim},
                         out.size());
        if (is_spoiled(row)) return clear(out);
        access->load(owner, layer, first_kv_head + kv_head, row, nullptr, out.data());
    }
    /// out[j] = x [head_dim] . key j
    void dot_keys(std::size_t kv_head, std::span<const float> x, std::span<float> out) const noexcept {
        dot_keys(kv_head, {x.data(), 1, x.size()}, out, 0);
    }
    /// The same for several vectors: x[i] writes to plane i. The planes begin at `out` and are `stride` floats apart,
    /// like the policy's memory. Each key that is read serves four vectors (two on AVX2 and SSE4).
    void dot_keys(std::size_t kv_head, rows x, std::span<float> out, std::size_t stride) const noexcept {
        expect(access != nullptr && access->dot != nullptr, "dot_keys", kv_head);
        detail::check<2>(x.width == head_dim, "dot_keys", "x", detail::bound{"head_dim floats, ", head_dim}, x.width);
        access->dot(owner, layer, first_kv_head + kv_head, false, x, out.size(), out.data(), stride);
        for (std::size_t i = 0; i < x.count; ++i) hide({out.data() + i * stride, out.size()});
    }
    /// out[j] = x [value_dim] . value j
    void dot_values(std::size_t kv_head, std::span<const float> x, std::span<float> out) const noexcept {
        expect(access != nullptr && access->dot != nullptr, "dot_values", kv_head);
        detail::check<2>(x.size() == value_dim, "dot_values", "x", detail::bound{"value_dim floats, ", value_dim},
                         x.size());
        access->dot(owner, layer, first_kv_head + kv_head, true, {x.data(), 1, x.size()}, out.size(), out.data(), 0);
        hide(out);
    }
    /// out [value_dim] = the sum of weights[j] times value j
    void sum_values(std::size_t kv_head, std::span<const float> weights, std::span<float> out) const noexcept {
        expect(access != nullptr && access->sum != nullptr, "sum_values", kv_head);
        detail::check<2>(out.size() == value_dim, "sum_values", "out", detail::bound{"value_dim floats, ", value_dim},
                         out.size());
        access->sum(owner, layer, first_kv_head + kv_head, weights, out);
    }

  protected:
    void expect(bool can, const char* who, std::size_t head) const noexcept {
        detail::check(can, who, "the stored rows", "lent by whoever called the table, with what the policy calls",
                      "missing");
        detail::check<2>(head < kv_heads, who, "kv_head", detail::bound{"less than kv_heads = ", kv_heads}, head);
    }
    bool is_spoiled(std::size_t row) const noexcept { return spoiled != nullptr && spoiled[row] != 0; }

  private:
    static void clear(std::span<float> x) noexcept { std::ranges::fill(x, 0.0f); }
    void hide(std::span<float> products) const noexcept {
        if (spoiled == nullptr) return;
        for (std::size_t row = 0; row < products.size(); ++row) {
            if (spoiled[row] != 0) products[row] = 0;
        }
    }
};

/// A reader that can also write: for merging a state into others before it is forgotten. A spoiled state stays
/// unchanged.
struct editor : reader {
    void set_key(std::size_t kv_head, std::size_t row, std::span<const float> key) const noexcept {
        expect(access != nullptr && access->store != nullptr, "set_key", kv_head);
        if (is_spoiled(row)) return;
        access->store(owner, layer, first_kv_head + kv_head, row, key.data(), nullptr);
    }
    void set_value(std::size_t kv_head, std::size_t row, std::span<const float> value) const noexcept {
        expect(access != nullptr && access->store != nullptr, "set_value", kv_head);
        if (is_spoiled(row)) return;
        access->store(owner, layer, first_kv_head + kv_head, row, nullptr, value.data());
    }
};

namespace detail {

/// The rows of one table. `owner` is passed to the functions of `access`.
inline editor lend_rows(void* owner, const storage_access& access, const table_shape& s) noexcept {
    editor result;
    result.owner = owner;
    result.access = &access;
    result.layer = s.layer;
    result.first_kv_head = s.kv_head;
    result.kv_heads = s.kv_heads;
    result.head_dim = s.head_dim;
    result.value_dim = s.value_dim;
    return result;
}

/// For policies that read each new key or value: callers of a table may omit arguments that no policy reads.
inline void expect_heads(std::string_view policy, const char* argument, rows given, const view& states) noexcept {
    check(given.count == states.shape.kv_heads, policy.data(), argument,
          bound{"given for every token, as many as KV heads: ", states.shape.kv_heads}, given.count);
}

}  // namespace detail

/// score[j] += the sum of column j of `probabilities`.
inline void add(rows probabilities, std::span<float> score) noexcept {
    detail::check(probabilities.width >= score.size(), "add", "probabilities",
                  detail::bound{"at least as wide as score, ", score.size()}, probabilities.width);
    simd::add_rows(probabilities.data, probabilities.count, probabilities.stride, score);
}
}}  // namespace multistate::MULTISTATE_TARGET
