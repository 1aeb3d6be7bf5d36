#pragma once

// Storage of keys and values: [plane][row][dimension], one plane per layer and KV head, encoded by a codec.
//
//     const auto keys = cache.layer(i).keys(kv_head);         // ms::stored_rows: the stored rows, in place
//     keys.read(row, key.data());                             // decodes one row into head_dim floats
#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "multistate/codecs/codec.hpp"
#include "multistate/core/aligned_array.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/core/types.hpp"
#include "multistate/policy/view.hpp"
#include "multistate/simd/row_products.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Stored rows of one KV head, in place. Row j begins at data + j * stride and is multiplied by scales[j].
template <class C>
struct stored_rows {
    const typename C::element* data;
    const float* scales;    ///< one per row; null unless C::scaled
    std::size_t stride;     ///< elements from row to row, C::stride(dimension)
    std::size_t dimension;  ///< columns

    float scale(std::size_t row) const noexcept {
        if constexpr (C::scaled) {
            return scales[row];
        } else {
            return 1;
        }
    }
    /// The rows starting at `first`, for the kernels.
    simd::matrix<C> matrix(std::size_t first = 0) const noexcept {
        return {data + first * stride, C::scaled ? scales + first : nullptr, stride};
    }

    /// Decodes a row into out [dimension].
    void read(std::size_t row, float* out) const noexcept { simd::read_row(matrix(), row, dimension, out); }
};

/// The rows of one kind (keys or values) in all planes, in memory of its own or in a part of the caller's. Allocates in
/// the constructor only. Rows in memory of its own are zeros until they are written.
template <codec C>
class storage {
    using element = typename C::element;

  public:
    /// One plane for each entry of `rows`; the entry is its number of rows. `memory` has size_for() bytes, begins with
    /// a cache line and outlives the storage; null: allocates it.
    storage(std::span<const std::size_t> rows, std::size_t dimension, std::byte* memory = nullptr)
        : first_(first_rows(rows)),
          dimension_(dimension),
          stride_(C::stride(dimension)),
          own_(memory == nullptr ? size_for(first_.back(), dimension) : 0) {
        std::byte* const begin = memory == nullptr ? own_.data() : memory;
        elements_ = reinterpret_cast<element*>(begin);
        if constexpr (C::scaled) scales_ = reinterpret_cast<float*>(begin + elements_size(first_.back(), dimension));
    }
    storage(std::size_t planes, std::size_t rows, std::size_t dimension)
        : storage(std::vector<std::size_t>(planes, rows), dimension) {}
    storage(storage&&) noexcept = default;
    storage& operator=(storage&&) noexcept = default;

    /// The bytes of so many rows: elements, then scales, each in whole cache lines. Throws std::invalid_argument if no
    /// memory can have that size.
    static std::size_t size_for(std::size_t rows, std::size_t dimension) {
        const std::size_t scales = C::scaled ? whole_lines(detail::bytes<float>(who, rows)) : 0;
        return detail::sum(who, elements_size(rows, dimension), scales);
    }
    /// Predicts memory_bytes() of a storage with memory of its own. Allocates nothing.
    static std::size_t bytes_for(std::size_t planes, std::size_t rows, std::size_t dimension) {
        return detail::sum(who, size_for(rows, dimension), detail::bytes<std::size_t>(who, planes + 1));
    }

    stored_rows<C> plane(std::size_t i) const noexcept {
        return {elements_ + first_[i] * stride_, C::scaled ? scales_ + first_[i] : nullptr, stride_, dimension_};
    }

    /// Encodes x [dimension] into a row.
    void write(std::size_t plane, std::size_t row, const float* x) noexcept {
        expect_row("write", plane, row);
        const std::size_t i = first_[plane] + row;
        const float scale = C::store(x, dimension_, elements_ + i * stride_);
        if constexpr (C::scaled) scales_[i] = scale;
    }

    /// Copies a row of the same plane of `other`, a storage of the same dimension.
    void copy(const storage& other, std::size_t plane, relocation r) noexcept { copy_rows(other, plane, r, 1); }
    /// Copies the first `count` rows of the same plane of `other`.
    void copy(const storage& other, std::size_t plane, std::size_t count) noexcept {
        if (count > 0) copy_rows(other, plane, {0, 0}, count);
    }

    std::size_t dimension() const noexcept { return dimension_; }
    /// Without the caller's memory.
    std::size_t memory_bytes() const noexcept { return own_.bytes() + first_.size() * sizeof(std::size_t); }

  private:
    static constexpr const char* who = "cache";
    /// Elements after the last row: kernels may read them, but do not use them.
    static constexpr std::size_t read_behind = 16;

    static std::size_t whole_lines(std::size_t bytes) { return detail::sum(who, bytes, 63) / 64 * 64; }
    static std::size_t elements_size(std::size_t rows, std::size_t dimension) {
        const std::size_t elements = detail::product(who, rows, C::stride(dimension));
        return whole_lines(detail::bytes<element>(who, detail::sum(who, elements, read_behind)));
    }
    static std::vector<std::size_t> first_rows(std::span<const std::size_t> rows) {
        std::vector<std::size_t> first(rows.size() + 1);
        for (std::size_t i = 0; i < rows.size(); ++i) first[i + 1] = detail::sum(who, first[i], rows[i]);
        return first;
    }

    /// Copies `count` rows, from r.from on to r.to on.
    void copy_rows(const storage& other, std::size_t plane, relocation r, std::size_t count) noexcept {
        other.expect_row("copy", plane, r.from + count - 1);
        expect_row("copy", plane, r.to + count - 1);
        const std::size_t source = other.first_[plane] + r.from;
        const std::size_t target = first_[plane] + r.to;
        std::copy_n(other.elements_ + source * stride_, count * stride_, elements_ + target * stride_);
        if constexpr (C::scaled) std::copy_n(other.scales_ + source, count, scales_ + target);
    }

    void expect_row(const char* caller, std::size_t plane, std::size_t row) const noexcept {
        if constexpr (MULTISTATE_CHECKS < 2) return;
        detail::check<2>(plane + 1 < first_.size(), caller, "plane", detail::bound{"less than ", first_.size() - 1},
                         plane);
        const std::size_t rows = first_[plane + 1] - first_[plane];
        detail::check<2>(row < rows, caller, "row", detail::bound{"less than the rows of its plane, ", rows}, row);
    }

    std::vector<std::size_t> first_;  // the first row of each plane, and the end
    std::size_t dimension_;
    std::size_t stride_;
    aligned_array<std::byte> own_;
    element* elements_ = nullptr;
    float* scales_ = nullptr;
};

/// The keys and values of all layers and KV heads, and the access of policies to them. A plane is one KV head of one
/// layer: layer * kv_heads + kv_head. All rows lie in one allocation, so that small caches reach the size of huge
/// pages, too.
template <codec K, codec V>
class key_value_storage {
  public:
    /// `rows` [layers * kv_heads]: the number of rows of each KV head. All rows are zeros.
    key_value_storage(std::span<const std::size_t> rows, const shape& s)
        : key_value_storage(rows, s, aligned_array<std::byte>(size_for(total(rows), s))) {}
    /// Rows hold any numbers until they are written.
    key_value_storage(std::span<const std::size_t> rows, const shape& s, uncleared_t)
        : key_value_storage(rows, s, aligned_array<std::byte>(size_for(total(rows), s), uncleared)) {}

    /// Predicts memory_bytes() with `rows` rows in all planes together. Allocates nothing.
    static std::size_t bytes_for(std::size_t planes, std::size_t rows, const shape& s) {
        return detail::sum("cache", storage<K>::bytes_for(planes, rows, s.head_dim),
                           storage<V>::bytes_for(planes, rows, s.value_dim));
    }

    std::size_t plane(std::size_t layer, std::size_t kv_head) const noexcept { return layer * kv_heads_ + kv_head; }
    stored_rows<K> keys(std::size_t plane) const noexcept { return keys_.plane(plane); }
    stored_rows<V> values(std::size_t plane) const noexcept { return values_.plane(plane); }

    /// Encodes a key and a value into a row; one of them may be null.
    void write(std::size_t plane, std::size_t row, const float* key, const float* value) noexcept {
        if (key != nullptr) keys_.write(plane, row, key);
        if (value != nullptr) values_.write(plane, row, value);
    }
    /// Copies a row of the same plane of `other`; `other` may be this storage.
    void copy(const key_value_storage& other, std::size_t plane, relocation r) noexcept {
        keys_.copy(other.keys_, plane, r);
        values_.copy(other.values_, plane, r);
    }
    /// Copies the first `count` rows of the same plane of `other`.
    void copy(const key_value_storage& other, std::size_t plane, std::size_t count) noexcept {
        keys_.copy(other.keys_, plane, count);
        values_.copy(other.values_, plane, count);
    }

    /// The rows of one table; valid while this storage does not move.
    editor lend(table_shape s) noexcept {
        s.head_dim = keys_.dimension();
        s.value_dim = values_.dimension();
        return detail::lend_rows(this, access, s);
    }
    /// The same, read-only: a reader never calls the function that stores.
    reader lend(const table_shape& s) const noexcept { return const_cast<key_value_storage*>(this)->lend(s); }

    std::size_t memory_bytes() const noexcept {
        return memory_.bytes() + keys_.memory_bytes() + values_.memory_bytes();
    }

  private:
    key_value_storage(std::span<const std::size_t> rows, const shape& s, aligned_array<std::byte> memory)
        : kv_heads_(s.kv_heads),
          memory_(std::move(memory)),
          keys_(rows, s.head_dim, memory_.data()),
          values_(rows, s.value_dim, memory_.data() + storage<K>::size_for(total(rows), s.head_dim)) {}

    static std::size_t total(std::span<const std::size_t> rows) {
        std::size_t result = 0;
        for (const std::size_t n : rows) result = detail::sum("cache", result, n);
        return result;
    }
    static std::size_t size_for(std::size_t rows, const shape& s) {
        return detail::sum("cache", storage<K>::size_for(rows, s.head_dim), storage<V>::size_for(rows, s.value_dim));
    }

    static const key_value_storage& of(const void* owner) noexcept {
        return *static_cast<const key_value_storage*>(owner);
    }
    // NOLINTNEXTLINE(bugprone-easily-swappable-parameters): the signature is that of storage_access
    static void load(const void* owner, std::size_t layer, std::size_t kv_head, std::size_t row, float* key,
                     float* value) noexcept {
        const std::size_t plane = of(owner).plane(layer, kv_head);
        if (key != nullptr) of(owner).keys(plane).read(row, key);
        if (value != nullptr) of(owner).values(plane).read(row, value);
    }
    static void dot(const void* owner, std::size_t layer, std::size_t kv_head, bool values, rows x, std::size_t n,
                    float* out, std::size_t stride) noexcept {
        const std::size_t plane = of(owner).plane(layer, kv_head);
        const auto dot_all = [&](auto stored) {
            simd::dot_rows(x.data, x.count, x.stride, stored.dimension, stored.matrix(), n, out, stride);
        };
        values ? dot_all(of(owner).values(plane)) : dot_all(of(owner).keys(plane));
    }
    static void sum(const void* owner, std::size_t layer, std::size_t kv_head, std::span<const float> weights,
                    std::span<float> out) noexcept {
        const auto stored = of(owner).values(of(owner).plane(layer, kv_head));
        simd::sum_rows(weights.data(), stored.matrix(), weights.size(), stored.dimension, out.data());
    }
    static void store(void* owner, std::size_t layer, std::size_t kv_head, std::size_t row, const float* key,
                      const float* value) noexcept {
        key_value_storage& to = *static_cast<key_value_storage*>(owner);
        to.write(to.plane(layer, kv_head), row, key, value);
    }
    static constexpr storage_access access{.load = load, .dot = dot, .sum = sum, .store = store};

    std::size_t kv_heads_;
    aligned_array<std::byte> memory_;  // of keys, then of values
    storage<K> keys_;
    storage<V> values_;
};

}}  // namespace multistate::MULTISTATE_TARGET
