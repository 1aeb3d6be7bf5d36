#pragma once

// The rows of a table and the policy that scores them. All hooks are called here. Only table.hpp includes this header.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "multistate/core/shape.hpp"
#include "multistate/policy/guards.hpp"
#include "multistate/policy/policy.hpp"
#include "multistate/table/policy_memory.hpp"
#include "multistate/table/table_rows.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

template <policy P>
class scored_rows : public table_rows<> {
  public:
    scored_rows(const table_shape& s, P wanted)
        : table_rows<>(rows_for(s, wanted)), policy(std::move(wanted)), shape(s), zeros_(zeros_of(s, policy)) {}

    /// Predicts bytes() of such rows. Allocates nothing; throws like the constructor.
    static std::size_t bytes_for(const table_shape& s, const P& policy) {
        const guards wanted = guards_in_force(s, policy);
        const std::size_t memory = policy_memory::bytes_for(policy, s, rows_of(s));
        return sum("table", sum("table", memory, detail::bytes<float>("table", zeros_of(s, policy))),
                   table_rows<>::bytes_for(s, wanted, reads_of(policy).order));
    }
    std::size_t bytes() const noexcept { return table_rows<>::bytes() + zeros_.size() * sizeof(float); }

    P policy;
    table_shape shape;
    position block_begin = 0;  ///< as in view

    /// A state was placed in `row`; the policy sees the first `visible` rows.
    void show_arrival(rows keys, rows values, std::size_t visible, std::size_t row) noexcept {
        if (!bounded(keys) || !bounded(values)) [[unlikely]] {
            spoil(row);
            keys = zeros(keys);
            values = zeros(values);
        }
        call_hook<hook::on_insert>(policy, keys, values, see(visible), row);
    }
    void show_queries(rows queries, std::size_t visible) noexcept {
        if constexpr (has_on_query<P>) policy.on_query(bounded(queries) ? queries : zeros(queries), see(visible));
    }
    void show_attention(rows probabilities) noexcept {
        if constexpr (has_on_attention<P>) {
            if (begin_finite(probabilities)) policy.on_attention(probabilities, see(probabilities.width));
        }
    }
    void finish_prompt(const editor& stored) noexcept {
        call_hook<hook::finish_prompt>(policy, hiding(stored), see(size()));
    }
    /// Scores all rows, because a decision is due.
    void score(const reader& stored) noexcept {
        call_hook<hook::on_forget>(policy, hiding(stored), see(size()));
        score_spoiled();
    }
    /// Computes scores that can be compared with those of other KV heads.
    void score_for_comparison() noexcept { call_hook<hook::on_compare>(policy, see(size())); }
    void merge(const editor& stored, std::span<const std::uint32_t> gone) noexcept {
        call_hook<hook::merge>(policy, hiding(stored), gone, see(size()));
    }

    /// Sets other guards for later decisions. Allocates.
    void change_shape(const table_shape& s) {
        order.change_guards(guards_in_force(s, policy), positions());
        shape = s;
    }
    /// Takes over the content of `old`, which must fit: same guards, same length of the log. Allocates nothing.
    void continue_from(scored_rows& old) noexcept {
        table_rows<>::continue_from(old);
        block_begin = old.block_begin;
        policy = std::move(old.policy);
    }

  private:
    /// Validates before it allocates.
    static table_rows<> rows_for(const table_shape& s, const P& policy) {
        require_memory("table", bytes_for(s, policy));
        const guards wanted = guards_in_force(s, policy);
        return {s, wanted, reads_of(policy).order, policy_memory(policy, s, rows_of(s))};
    }
    static std::size_t zeros_of(const table_shape& s, const P& policy) {
        const reads what = reads_of(policy);
        return what.queries || what.arrivals ? (std::max)(s.head_dim, s.value_dim) : 0;
    }

    view see(std::size_t visible) noexcept {
        const bool all = visible == size();
        return {.shape = shape,
                .position = positions().first(visible),
                .score = scores().first(visible),
                .origin = memory.origin(),
                .by_position = order.by_position(all ? visible : 0),
                .newest = all ? newest() : positions()[visible - 1],
                .block_begin = block_begin,
                .guarded = order.guarded()};
    }
    /// `stored` (a reader or an editor) with the spoiled states hidden.
    template <class Stored>
    Stored hiding(Stored stored) const noexcept {
        stored.spoiled = spoiled();
        stored.keys_may_change = reads_of(policy).writes;
        return stored;
    }
    /// The same number of rows of zeros; empty rows if the shape does not give their length.
    rows zeros(rows x) const noexcept { return {zeros_.data(), x.count, (std::min)(x.width, zeros_.size()), 0}; }

    /// Softmax makes either all numbers of a row NaN or none, so the first one is enough.
    static bool begin_finite(rows probabilities) noexcept {
        for (std::size_t i = 0; i < probabilities.count; ++i) {
            if (!__builtin_isfinite(probabilities[i][0])) return false;
        }
        return true;
    }

    std::vector<float> zeros_;  // replaces vectors that are not bounded, for hooks
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
