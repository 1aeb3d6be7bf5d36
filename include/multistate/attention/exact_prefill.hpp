#pragma once

// prefill_mode::exact: products for many tokens at once, decisions for one token after another. Only prefill.hpp
// includes this header.
//
// A batch is staged in the rows after the live ones, so one product gives the logits of all its tokens against all
// states that any of them may see. A table then places the tokens one by one. If a token gets the row of a forgotten
// state, its column of the logits moves to that row for the softmax, so softmax, policy and table see the same as in
// single steps. Afterwards the probability moves back to the row where the value is staged.
#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

#include "multistate/attention/query_batch.hpp"
#include "multistate/execution/executor.hpp"
#include "multistate/math/softmax.hpp"
#include "multistate/table/table.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

/// The rows where a table placed the tokens of a batch. Token i is staged in row held_before + i.
struct batch_placement {
    std::span<const std::uint32_t> row_of_token;
    std::size_t held_before;
    std::size_t states;

    std::size_t staged(std::size_t token) const noexcept { return held_before + token; }
    /// The number of rows that a token sees: the survivors and itself.
    std::size_t visible(std::size_t token) const noexcept { return (std::min)(staged(token), states) + 1; }

    /// Softmax over the rows of the table at the time when the token attended.
    void softmax_in_table_order(float* logits, std::size_t token) const noexcept {
        for (std::size_t i = 0; i <= token; ++i) {  // in order: a row may be reused twice
            logits[row_of_token[i]] = logits[staged(i)];
        }
        softmax({logits, visible(token)});
    }
    /// Moves the probabilities to the rows where the values lie.
    void restore_staged_order(float* probabilities, std::size_t token) const noexcept {
        std::fill(probabilities + visible(token),
                  probabilities + (std::max)(visible(token), staged(row_of_token.size())), 0.0f);
        for (std::size_t i = token + 1; i-- > 0;) {
            if (row_of_token[i] != staged(i)) {
                probabilities[staged(i)] = std::exchange(probabilities[row_of_token[i]], 0.0f);
            }
        }
    }
};

/// `Block` is a token_block.
template <class Block>
struct exact_prefill : Block {
    using base = Block;
    using base::layer, base::first, base::in, base::scratch, base::run;

    void compute() const noexcept {
        for (std::size_t begin = 0; begin < base::tokens(); begin += base::batch_size()) {
            compute_batch(begin, (std::min)(base::batch_size(), base::tokens() - begin));
        }
    }

  private:
    void compute_batch(std::size_t begin, std::size_t count) const noexcept {
        layer.forget(begin == 0 ? forgotten_log::restart : forgotten_log::extend);
        const Block batch_of_tokens = base::slice(begin, count);
        layer.stage(batch_of_tokens.in.k, batch_of_tokens.in.v);
        for (std::size_t t = 0; t < base::table_count(); ++t) {
            scratch.held_before(t) = base::table(t).size();
            for (std::size_t i = 0; !base::observes() && i < count; ++i) place(t, begin, i);
        }
        const auto n = [&](std::size_t kv_head) { return scratch.held_before(base::table_of(kv_head)) + count; };
        base::for_head_batches(begin, count, [&](const query_batch& batch, std::size_t end) {
            base::find_logits(batch, end, n);
            if (base::observes()) {
                run_tasks(run, base::deciders(batch, end), [&](std::size_t i) { decide(batch, i, begin); });
            } else {
                softmax_of_placed(batch, end);
            }
            base::weighted_sums(batch, end, n);
        });
        for (std::size_t t = 0; t < base::table_count(); ++t) move_to_placed(t, placement(t, count));
    }

    batch_placement placement(std::size_t t, std::size_t count) const noexcept {
        return {scratch.placed(t).first(count), scratch.held_before(t), base::table(t).states()};
    }
    void place(std::size_t t, std::size_t begin, std::size_t i) const noexcept {
        auto& table = base::table(t);
        const auto row = table.place(first + static_cast<position>(begin + i), layer.key_rows(table, begin + i, in.k),
                                     layer.value_rows(table, begin + i, in.v), {}, forgotten_log::extend);
        scratch.placed(t)[i] = static_cast<std::uint32_t>(row);
    }

    /// If the policy reads nothing, all tokens are already placed, and their rows are independent.
    void softmax_of_placed(const query_batch& batch, std::size_t end) const noexcept {
        base::for_row_ranges(batch, end, [&](const row_range& range) {
            const batch_placement p = placement(base::table_of(range.kv_head), batch.tokens);
            for (std::size_t row = range.first; row < range.end(); ++row) {
                p.softmax_in_table_order(scratch.logits(row), row % batch.tokens);
                p.restore_staged_order(scratch.logits(row), row % batch.tokens);
            }
        });
    }
    /// Table i of a batch, token by token: place, softmax, observe. Serial: each decision needs the previous one.
    void decide(const query_batch& batch, std::size_t i, std::size_t begin) const noexcept {
        const std::size_t t = batch.first_kv_head + i;
        const batch_placement p = placement(t, batch.tokens);
        for (std::size_t token = 0; token < batch.tokens; ++token) {
            const auto for_query_heads = [&](auto&& f) {
                for (std::size_t h = 0; h < base::table(t).shape().heads; ++h) {
                    f(scratch.logits(i * batch.rows_per_kv_head() + h * batch.tokens + token));
                }
            };
            place(t, begin, token);
            for_query_heads([&](float* row) { p.softmax_in_table_order(row, token); });
            base::observe(batch, i, begin, token, p.visible(token));
            for_query_heads([&](float* row) { p.restore_staged_order(row, token); });
        }
    }
    /// Moves staged keys and values to the rows where the table placed them.
    void move_to_placed(std::size_t t, const batch_placement& p) const noexcept {
        const auto restricted = layer.restricted_to(t);
        for (std::size_t i = 0; i < p.row_of_token.size(); ++i) {  // in order: the last token placed in a row stays
            const relocation r{static_cast<std::uint32_t>(p.staged(i)), p.row_of_token[i]};
            if (r.from != r.to) restricted.relocate({&r, 1});
        }
    }
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
