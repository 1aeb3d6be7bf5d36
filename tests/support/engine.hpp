#pragma once

// The smallest engine with storage of its own: one table, rows in plain vectors, attention written out.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <multistate/table/table.hpp>

#include "support/stored.hpp"

namespace support {

/// Keys and values of one table, and attention over them. KV heads are counted from the table's first.
class engine_rows : public stored_floats {
  public:
    explicit engine_rows(const multistate::table_shape& shape) : stored_floats(shape), shape_(shape) {}

    multistate::rows query_rows(std::span<const float> q) const {
        return {q.data(), shape_.heads, shape_.head_dim, shape_.head_dim};
    }
    multistate::rows key_rows(std::span<const float> k) const {
        return {k.data(), shape_.kv_heads, shape_.head_dim, shape_.head_dim};
    }
    multistate::rows value_rows(std::span<const float> v) const {
        return {v.data(), shape_.kv_heads, shape_.value_dim, shape_.value_dim};
    }

    void write(std::size_t row, std::span<const float> k, std::span<const float> v) {
        for (std::size_t h = 0; h < shape_.kv_heads; ++h) {
            std::ranges::copy(key_rows(k)[h], key(h, row));
            std::ranges::copy(value_rows(v)[h], value(h, row));
        }
    }
    void relocate(std::span<const multistate::relocation> moves) {
        for (const auto [from, to] : moves) {
            for (std::size_t h = 0; h < shape_.kv_heads; ++h) {
                std::copy_n(key(h, from), shape_.head_dim, key(h, to));
                std::copy_n(value(h, from), shape_.value_dim, value(h, to));
            }
        }
    }

    /// The probabilities [heads, width] of one token over the first `width` rows.
    std::vector<float> attend(std::span<const float> q, std::size_t width) const {
        std::vector<float> probabilities(shape_.heads * width);
        for (std::size_t i = 0; i < shape_.heads; ++i) {
            const auto row = std::span(probabilities).subspan(i * width, width);
            for (std::size_t j = 0; j < width; ++j) {
                const float* k = key(i / shape_.group(), j);
                for (std::size_t c = 0; c < shape_.head_dim; ++c) row[j] += shape_.scale * query_rows(q)[i][c] * k[c];
            }
            const float greatest = *std::ranges::max_element(row);
            float total = 0;
            for (float& x : row) total += x = std::exp(x - greatest);
            for (float& x : row) x /= total;
        }
        return probabilities;
    }

  private:
    multistate::table_shape shape_;
};

/// Of one token: q [heads, head_dim], k [kv_heads, head_dim], v [kv_heads, value_dim]; of a block, one after another.
template <class P>
class engine {
  public:
    explicit engine(const multistate::table_shape& shape, P policy = {})
        : rows(shape), table(shape, std::move(policy)) {}

    void step(multistate::position p, std::span<const float> q, std::span<const float> k, std::span<const float> v) {
        if (table.is_due() && table.size() > table.states() + 1) return block(p, 1, q, k, v);
        rows.write(table.place(p, rows.key_rows(k), rows.value_rows(v), rows.edit()), k, v);
        attend(q, table.size());
    }

    void block(multistate::position first, std::size_t tokens, std::span<const float> q, std::span<const float> k,
               std::span<const float> v) {
        rows.relocate(table.append(first, tokens, rows.edit()));
        const std::size_t begin = table.size() - tokens;
        for (std::size_t t = 0; t < tokens; ++t) {
            const auto key = k.subspan(t * k.size() / tokens);
            const auto value = v.subspan(t * v.size() / tokens);
            table.observe_arrival(begin + t, rows.key_rows(key), rows.value_rows(value));
            rows.write(begin + t, key, value);
        }
        for (std::size_t t = 0; t < tokens; ++t) attend(q.subspan(t * q.size() / tokens), begin + t + 1);
    }

    void forget() { rows.relocate(table.forget(rows.edit())); }

    engine_rows rows;
    multistate::table<P> table;

  private:
    void attend(std::span<const float> q, std::size_t width) {
        table.observe_queries(rows.query_rows(q), width);
        const std::vector<float> probabilities = rows.attend(q, width);
        table.observe({probabilities.data(), probabilities.size() / width, width, width});
    }
};

}  // namespace support
