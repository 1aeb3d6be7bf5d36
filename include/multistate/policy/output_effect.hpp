#pragma once

// How much a value can change a layer's output: a member of policies that multiply attention by it.
//
//     std::vector<ms::rows> w_o;                              // for each layer [model dimension, heads * value_dim]
//     ms::criticalkv policy;
//     policy.output.projection = w_o;                         // without it, the effect of a value v is |v|_1
//     ms::cache<ms::criticalkv> cache(shape, policy);         // w_o must outlive the cache
#include <cmath>
#include <span>
#include <string>

#include "multistate/core/errors.hpp"
#include "multistate/policy/view.hpp"
#include "multistate/simd/elementwise.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// A member of such policies.
struct output_effect {
    /// [layers]: [model dimension, query heads of the layer * value_dim]. Row r times the heads' outputs is element r
    /// of the layer's output. The caller owns this memory; it must outlive the cache.
    std::span<const rows> projection;

    /// Throws std::invalid_argument if there are projections, but none for the table's layer, or if its shape does not
    /// fit the heads. `who` is the policy.
    void check(const char* who, const table_shape& s) const {
        if (projection.empty()) return;
        using detail::require;
        require(s.layer < projection.size(), who, "output.projection", "one matrix for each layer", projection.size());
        const rows& matrix = projection[s.layer];
        const std::size_t columns = s.group() * s.value_dim, least = (s.kv_head + s.kv_heads) * columns;
        require(columns > 0, who, "value_dim", "at least 1 with an output projection", s.value_dim);
        require(matrix.count >= 1 && matrix.data != nullptr, who, "output.projection", "a row for each output",
                matrix.count);
        if (matrix.width >= least && matrix.width % columns == 0) return;
        detail::refuse_value(who, "output.projection",
                             "[outputs, heads * value_dim], a multiple of " + std::to_string(columns) + ", at least " +
                                 std::to_string(least),
                             matrix.width);
    }

    /// The sum over the query heads i of |W_o[i] v|_1, where v is the value that i reads. Without a projection, the sum
    /// over the KV heads of |v|_1.
    float effect(rows values, const table_shape& s) const noexcept {
        float sum = 0;
        for (std::size_t h = 0; h < values.count; ++h) sum += effect(values[h], s, h);
        return sum;
    }

  private:
    float effect(std::span<const float> value, const table_shape& s, std::size_t h) const noexcept {
        float sum = 0;
        if (projection.empty()) {
            for (const float x : value) sum += std::abs(x);
            return sum;
        }
        const rows matrix = projection[s.layer];
        for (std::size_t r = 0; r < matrix.count; ++r) {
            for (std::size_t i = 0; i < s.group(); ++i) {
                const std::size_t head = (s.kv_head + h) * s.group() + i;
                sum += std::abs(simd::dot(matrix[r].subspan(head * value.size(), value.size()), value));
            }
        }
        return sum;
    }
};

}}  // namespace multistate::MULTISTATE_TARGET
