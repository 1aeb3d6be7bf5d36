#pragma once

// Lends an engine's stored keys and values to policies that read them or merge states into others.
//
//     ms::reading stored(shape, [&](std::size_t layer, std::size_t kv_head, std::size_t row,
//                                   std::span<float> key, std::span<float> value) {
//         engine.decode_key(layer, kv_head, row, key);         // key [head_dim], value [value_dim]; one may be
//         engine.decode_value(layer, kv_head, row, value);     // empty, so copy exactly key.size() floats
//     });
//
// Policies that merge need a second function. It takes the same arguments with spans of const float, and stores each
// span that is not empty:
//
//     ms::reading stored(shape, load, store);
//
// To all tables of a model (tables.hpp), pass `stored`; to one table, pass `stored.lend(table.shape())`.
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <utility>

#include "multistate/core/aligned_array.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/policy/view.hpp"
#include "multistate/simd/elementwise.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

/// There is no function that stores, so policies that merge are refused.
struct stores_nothing {};

}  // namespace detail

/// Products with stored rows load one row at a time: each product costs one call of `load` per row held. Allocates in
/// the constructor. It has its own scratch, so each thread needs its own object, as with a workspace. It must not move
/// while it is lent.
template <class Load, class Store = detail::stores_nothing>
class reading {
  public:
    /// Uses only head_dim and value_dim of the shape.
    reading(const shape& s, Load load, Store store = {})
        : load_(std::move(load)),
          store_(std::move(store)),
          head_dim_(s.head_dim),
          value_dim_(s.value_dim == 0 ? s.head_dim : s.value_dim),
          row_(simd::padded((std::max)(head_dim_, value_dim_)) + simd::padding) {}

    /// The rows of one table, in the form that hooks take.
    editor lend(table_shape s) noexcept {
        s.head_dim = head_dim_;
        s.value_dim = value_dim_;
        return detail::lend_rows(this, access, s);
    }

  private:
    static reading& self(const void* owner) noexcept { return *static_cast<reading*>(const_cast<void*>(owner)); }

    std::span<float> key_of(float* out) const noexcept { return {out, out == nullptr ? 0 : head_dim_}; }
    std::span<float> value_of(float* out) const noexcept { return {out, out == nullptr ? 0 : value_dim_}; }

    static void load(const void* owner, std::size_t layer, std::size_t kv_head, std::size_t row, float* key,
                     float* value) noexcept {
        reading& from = self(owner);
        from.load_(layer, kv_head, row, from.key_of(key), from.value_of(value));
    }
    /// One row, padded with zeros; valid until the next row is loaded.
    const float* loaded(std::size_t layer, std::size_t kv_head, std::size_t row, bool value) noexcept {
        const std::size_t dimension = value ? value_dim_ : head_dim_;
        load(this, layer, kv_head, row, value ? nullptr : row_.data(), value ? row_.data() : nullptr);
        std::fill(row_.data() + dimension, row_.data() + simd::padded(dimension), 0.0f);
        return row_.data();
    }
    static void dot(const void* owner, std::size_t layer, std::size_t kv_head, bool values, rows x, std::size_t n,
                    float* out, std::size_t stride) noexcept {
        for (std::size_t j = 0; j < n; ++j) {
            const float* const row = self(owner).loaded(layer, kv_head, j, values);
            for (std::size_t i = 0; i < x.count; ++i) out[i * stride + j] = simd::dot_in_one_sum(x[i], {row, x.width});
        }
    }
    static void sum(const void* owner, std::size_t layer, std::size_t kv_head, std::span<const float> weights,
                    std::span<float> out) noexcept {
        std::ranges::fill(out, 0.0f);
        for (std::size_t j = 0; j < weights.size(); ++j) {
            simd::add_scaled(weights[j], {self(owner).loaded(layer, kv_head, j, true), out.size()}, out);
        }
    }
    static void store(void* owner, std::size_t layer, std::size_t kv_head, std::size_t row, const float* key,
                      const float* value) noexcept {
        reading& to = self(owner);
        to.store_(layer, kv_head, row, std::span<const float>(key, key == nullptr ? 0 : to.head_dim_),
                  std::span<const float>(value, value == nullptr ? 0 : to.value_dim_));
    }
    static constexpr storage_access with_access() noexcept {
        storage_access result{.load = load, .dot = dot, .sum = sum, .store = nullptr};
        if constexpr (!std::same_as<Store, detail::stores_nothing>) result.store = store;
        return result;
    }
    static constexpr storage_access access = with_access();

    Load load_;
    Store store_;
    std::size_t head_dim_;
    std::size_t value_dim_;
    aligned_array<float> row_;
};

}}  // namespace multistate::MULTISTATE_TARGET
