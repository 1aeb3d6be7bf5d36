#pragma once

// Keys and values as plain floats, for tables that are driven without a cache.
#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <multistate/table/table.hpp>

namespace support {

using vectors = std::vector<std::vector<float>>;  ///< one key, or value, for each KV head

/// The keys and values of one layer: [KV heads][rows][dimension].
class stored_floats {
  public:
    stored_floats(std::size_t kv_heads, std::size_t rows, std::size_t head_dim, std::size_t value_dim)
        : kv_heads_(kv_heads),
          rows_(rows),
          head_dim_(head_dim),
          value_dim_(value_dim),
          keys_(kv_heads * rows * head_dim),
          values_(kv_heads * rows * value_dim) {}
    explicit stored_floats(const multistate::table_shape& s)
        : stored_floats(s.kv_heads, s.states + s.slack + s.block, s.head_dim, s.value_dim) {}

    float* key(std::size_t kv_head, std::size_t row) { return &keys_[(kv_head * rows_ + row) * head_dim_]; }
    float* value(std::size_t kv_head, std::size_t row) { return &values_[(kv_head * rows_ + row) * value_dim_]; }
    const float* key(std::size_t kv_head, std::size_t row) const { return &keys_[(kv_head * rows_ + row) * head_dim_]; }
    const float* value(std::size_t kv_head, std::size_t row) const {
        return &values_[(kv_head * rows_ + row) * value_dim_];
    }

    /// What a table reads and merges; valid while this object stays where it is.
    multistate::editor edit() {
        static constexpr multistate::storage_access access{.load = load, .dot = dot, .sum = sum, .store = store};
        multistate::editor result;
        result.owner = this;
        result.access = &access;
        result.kv_heads = kv_heads_;
        result.head_dim = head_dim_;
        result.value_dim = value_dim_;
        return result;
    }

    /// Places a token in the table and stores it; returns its row.
    template <class Table>
    std::size_t place(Table& table, int position, const vectors& keys, const vectors& values) {
        std::vector<float> flat_keys, flat_values;
        for (const auto& key : keys) flat_keys.insert(flat_keys.end(), key.begin(), key.end());
        for (const auto& value : values) flat_values.insert(flat_values.end(), value.begin(), value.end());
        const std::size_t row = table.place(position, {flat_keys.data(), keys.size(), head_dim_, head_dim_},
                                            {flat_values.data(), values.size(), value_dim_, value_dim_}, edit());
        for (std::size_t h = 0; h < kv_heads_; ++h) {
            std::copy_n(&flat_keys[h * head_dim_], head_dim_, key(h, row));
            std::copy_n(&flat_values[h * value_dim_], value_dim_, value(h, row));
        }
        return row;
    }

    /// Forgets down to `states` and applies the moves.
    template <class Table>
    void forget(Table& table) {
        for (const auto [from, to] : table.forget(edit())) {
            for (std::size_t h = 0; h < kv_heads_; ++h) {
                std::copy_n(key(h, from), head_dim_, key(h, to));
                std::copy_n(value(h, from), value_dim_, value(h, to));
            }
        }
    }

  private:
    static const stored_floats& self(const void* owner) { return *static_cast<const stored_floats*>(owner); }

    static void load(const void* owner, std::size_t, std::size_t kv_head, std::size_t row, float* key,
                     float* value) noexcept {
        if (key != nullptr) std::copy_n(self(owner).key(kv_head, row), self(owner).head_dim_, key);
        if (value != nullptr) std::copy_n(self(owner).value(kv_head, row), self(owner).value_dim_, value);
    }
    static void dot(const void* owner, std::size_t, std::size_t kv_head, bool values, multistate::rows x, std::size_t n,
                    float* out, std::size_t stride) noexcept {
        for (std::size_t i = 0; i < x.count; ++i) {
            for (std::size_t j = 0; j < n; ++j) {
                const float* y = values ? self(owner).value(kv_head, j) : self(owner).key(kv_head, j);
                out[i * stride + j] = 0;
                for (std::size_t c = 0; c < x.width; ++c) out[i * stride + j] += x[i][c] * y[c];
            }
        }
    }
    static void sum(const void* owner, std::size_t, std::size_t kv_head, std::span<const float> weights,
                    std::span<float> out) noexcept {
        std::ranges::fill(out, 0.0f);
        for (std::size_t j = 0; j < weights.size(); ++j) {
            for (std::size_t c = 0; c < out.size(); ++c) out[c] += weights[j] * self(owner).value(kv_head, j)[c];
        }
    }
    static void store(void* owner, std::size_t, std::size_t kv_head, std::size_t row, const float* key,
                      const float* value) noexcept {
        auto& to = *static_cast<stored_floats*>(owner);
        if (key != nullptr) std::copy_n(key, to.head_dim_, to.key(kv_head, row));
        if (value != nullptr) std::copy_n(value, to.value_dim_, to.value(kv_head, row));
    }

    std::size_t kv_heads_;
    std::size_t rows_;
    std::size_t head_dim_;
    std::size_t value_dim_;
    std::vector<float> keys_;
    std::vector<float> values_;
};

}  // namespace support
