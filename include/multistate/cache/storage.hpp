#pragma once

// Storage of keys and values: [plane][row][dimension], one plane per layer and KV head, encoded by a codec.
//
//     const auto keys = cache.layer(i).keys(kv_head);         // ms::stored_rows: the stored rows, in place
//     keys.read(row, key.data());                             // decodes one row into head_dim floats
#include <algorithm>
#include <cstddef>
#include <span>
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

/// Owns the rows of one kind (keys or values) in all planes. Allocates in the constructor only.
template <codec C>
class storage {
  public:
    /// One plane for each entry of `rows`; the entry is its number of rows.
    storage(std::span<const std::size_t> rows, std::size_t dimension)
        : first_(first_rows(rows)),
          dimension_(dimension),
          stride_(C::stride(dimension)),
          elements_(detail::product("cache", first_.back(), stride_) + read_behind),
          scales_(C::scaled ? first_.back() : 0) {}

    struct needs {
        std::size_t planes;
        std::size_t rows;  ///< of all planes together
        std::size_t dimension;
    };
    /// Predicts memory_bytes(). Allocates nothing.
    static std::size_t bytes_for(needs n) {
        using detail::bytes, detail::product, detail::sum;
        constexpr const char* who = "cache";
        const std::size_t scales = C::scaled ? bytes<float>(who, n.rows) : 0;
        const std::size_t elements = sum(who, product(who, n.rows, C::stride(n.dimension)), read_behind);
        return sum(who, sum(who, bytes<typename C::element>(who, elements), scales),
                   bytes<std::size_t>(who, n.planes + 1));
    }

    storage(std::size_t planes, std::size_t rows, std::size_t dimension)
        : storage(std::vector<std::size_t>(planes, rows), dimension) {}

    stored_rows<C> plane(std::size_t i) const noexcept {
        return {elements_.data() + first_[i] * stride_, C::scaled ? scales_.data() + first_[i] : nullptr, stride_,
                dimension_};
    }

    /// Encodes x [dimension] into a row.
    void write(std::size_t plane, std::size_t row, const float* x) noexcept {
        expect_row("write", plane, row);
        const std::size_t i = first_[plane] + row;
        const float scale = C::store(x, dimension_, elements_.data() + i * stride_);
        if constexpr (C::scaled) scales_.data()[i] = scale;
    }

    /// Copies a row of the same plane of `other`, a storage of the same dimension.
    void copy(const storage& other, std::size_t plane, relocation r) noexcept {
        other.expect_row("copy", plane, r.from);
        expect_row("copy", plane, r.to);
        const std::size_t source = other.first_[plane] + r.from;
        const std::size_t target = first_[plane] + r.to;
        std::copy_n(other.elements_.data() + source * stride_, stride_, elements_.data() + target * stride_);
        if constexpr (C::scaled) scales_.data()[target] = other.scales_.data()[source];
    }

    std::size_t dimension() const noexcept { return dimension_; }
    std::size_t memory_bytes() const noexcept {
        return elements_.bytes() + scales_.bytes() + first_.size() * sizeof(std::size_t);
    }

  private:
    /// Elements after the last row: kernels may read them, but do not use them.
    static constexpr std::size_t read_behind = 16;

    static std::vector<std::size_t> first_rows(std::span<const std::size_t> rows) {
        std::vector<std::size_t> first(rows.size() + 1);
        for (std::size_t i = 0; i < rows.size(); ++i) first[i + 1] = detail::sum("cache", first[i], rows[i]);
        return first;
    }

    void expect_row(const char* who, std::size_t plane, std::size_t row) const noexcept {
        if constexpr (MULTISTATE_CHECKS < 2) return;
        detail::check<2>(plane + 1 < first_.size(), who, "plane", detail::bound{"less than ", first_.size() - 1},
                         plane);
        const std::size_t rows = first_[plane + 1] - first_[plane];
        detail::check<2>(row < rows, who, "row", detail::bound{"less than the rows of its plane, ", rows}, row);
    }

    std::vector<std::size_t> first_;  // the first row of each plane, and the end
    std::size_t dimension_;
    std::size_t stride_;
    aligned_array<typename C::element> elements_;
    aligned_array<float> scales_;
};

/// The keys and values of all layers and KV heads, and the access of policies to them. A plane is one KV head of one
/// layer: layer * kv_heads + kv_head.
template <codec K, codec V>
class key_value_storage {
  public:
    /// `rows` [layers * kv_heads]: the number of rows of each KV head.
    key_value_storage(std::span<const std::size_t> rows, const shape& s)
        : kv_heads_(s.kv_heads), keys_(rows, s.head_dim), values_(rows, s.value_dim) {}

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

    /// The rows of one table; valid while this storage does not move.
    editor lend(table_shape s) noexcept {
        s.head_dim = keys_.dimension();
        s.value_dim = values_.dimension();
        return detail::lend_rows(this, access, s);
    }
    /// The same, read-only: a reader never calls the function that stores.
    reader lend(const table_shape& s) const noexcept { return const_cast<key_value_storage*>(this)->lend(s); }

    std::size_t memory_bytes() const noexcept { return keys_.memory_bytes() + values_.memory_bytes(); }

  private:
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
    storage<K> keys_;
    storage<V> values_;
};

}}  // namespace multistate::MULTISTATE_TARGET
