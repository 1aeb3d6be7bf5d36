#pragma once

// A table decides which state to forget. It stores no keys or values: for engines with their own storage.
//
//     ms::table<ms::tova> table({.states = 512});             // one per layer (ms::per::layer) or per KV head
//     auto row = table.place(position);                       // a free row, or the row of the forgotten state
//     engine.write(layer, row, k, v);
//     engine.attend(layer, table.size(), q, out, probabilities);
//     table.observe({probabilities, heads, table.size(), table.size()});
//
// Forgetting overwrites a row, so single steps without slack move nothing. Live rows are always [0, size()); their
// order means nothing. The next place decides, from the scores after the last attention. So attention sees `states`
// survivors plus the new token, and a table has states + slack + block rows.
#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "multistate/core/errors.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/policy/policy.hpp"
#include "multistate/table/borders.hpp"
#include "multistate/table/scored_rows.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Returned by a table that never forgets when its rows are used up.
inline constexpr std::size_t no_row = static_cast<std::size_t>(-1);

/// Whether a call clears forgotten() first. If one block is fed in several calls, clear it only in the first.
enum class forgotten_log { restart, extend };

/// Positions and scores of rows that are kept and forgotten together. Allocates in the constructor and in rebudget. A
/// copy is a snapshot that continues identically. Calls on different tables may run concurrently.
template <policy P>
class table {
    static_assert(hooks_are_checked<P>);

  public:
    /// Throws std::invalid_argument for invalid sizes (see guards_in_force in policy/guards.hpp) and for tables larger
    /// than the machine's memory.
    explicit table(const table_shape& s, P policy = {}) : rows_(s, std::move(policy)), borders_(rows_.policy, s) {}

    /// Predicts memory_bytes() of such a table. Allocates nothing; throws like the constructor.
    static std::size_t bytes_for(const table_shape& s, const P& policy) {
        return detail::scored_rows<P>::bytes_for(s, policy);
    }

    const table_shape& shape() const noexcept { return rows_.shape; }
    std::size_t states() const noexcept { return shape().states; }
    std::size_t rows() const noexcept { return rows_.capacity(); }
    P& policy() noexcept { return rows_.policy; }
    const P& policy() const noexcept { return rows_.policy; }
    bool never_forgets() const noexcept { return rows_.policy.forgets() == per::never; }
    /// Whether `count` tokens can be appended. For policies that forget: always, up to `block`.
    [[nodiscard]] bool has_room(std::size_t count) const noexcept {
        return count <= rows() - (never_forgets() || !is_due() ? size() : states());
    }
    /// Whether the next place or append forgets first.
    [[nodiscard]] bool is_due() const noexcept { return !never_forgets() && size() > states() + shape().slack; }
    bool reads_attention() const noexcept { return multistate::reads_of(policy()).attention; }
    bool reads_queries() const noexcept { return multistate::reads_of(policy()).queries; }
    bool reads_stored() const noexcept { return multistate::reads_of(policy()).stored; }
    bool writes_stored() const noexcept { return borders_.reads(detail::table_borders::writes); }
    /// Whether a stored key or value is not bounded: see policy.hpp.
    bool holds_spoiled() const noexcept { return rows_.holds_spoiled(); }
    std::size_t size() const noexcept { return rows_.size(); }
    /// The position and the score of each live row.
    std::span<const position> positions() const noexcept {
        expect_rows("positions");
        return rows_.positions();
    }
    std::span<const float> scores() const noexcept {
        expect_rows("scores");
        return rows_.scores();
    }
    /// Scores written here before the next place or append count like the policy's own: for scores that come from
    /// elsewhere (see policies/given.hpp).
    std::span<float> scores() noexcept {
        expect_rows("scores");
        return rows_.scores();
    }
    /// The position after the newest: the next RoPE index. It is not size().
    position next_position() const noexcept { return rows_.newest() + 1; }
    /// The states forgotten by the last place, append or forget, in the order of the decisions. Calls with
    /// forgotten_log::extend add to the states of the earlier calls.
    std::span<const forgotten_state> forgotten() const noexcept {
        expect_rows("forgotten");
        return rows_.forgotten();
    }

    /// Places one token in a free row, or else in the row of the forgotten state. Positions rise, from 0 to
    /// last_position. Pass `keys` [KV heads, head_dim] and `values` at every call if the policy reads new keys or
    /// values, and `stored` if it reads stored rows. If keys and values are given, a state that is not finite is
    /// detected and forgotten first (see policy.hpp). If the policy never forgets and the rows are used up, returns
    /// no_row and changes nothing. With slack, call append instead.
    [[nodiscard]] std::size_t place(position p, multistate::rows keys = {}, multistate::rows values = {},
                                    const editor& stored = {}, forgotten_log log = forgotten_log::restart) noexcept {
        constexpr const char* who = "place";
        expect_rows(who);
        borders_.expect_next(who, rows_.newest(), p, 1);
        borders_.expect_stored(who, shape(), stored);
        borders_.expect_arrival(who, shape(), keys, values);
        if (log == forgotten_log::restart) rows_.clear_forgotten();
        if (never_forgets() && size() == rows()) return no_row;
        std::size_t row = size();
        if (!is_due()) {
            rows_.place(p);
        } else {
            detail::check(size() == states() + 1, who, "size()",
                          detail::bound{"at most states + 1 (else append or forget first) = ", states() + 1}, size());
            rows_.score(stored);
            const auto gone = rows_.choose(1);
            row = gone.front();
            rows_.merge(stored, gone);
            rows_.order.remove(row, rows_.positions());
            rows_.place_in(row, p);
        }
        borders_.placed();
        rows_.block_begin = p;
        rows_.show_arrival(keys, values, size(), row);
        return row;
    }

    /// Forgets down to `states` if more than states + slack are held, then places `count` tokens of consecutive
    /// positions in the last rows. The owner applies the relocations, then writes the tokens in rows [size() - count,
    /// size()). For blocks that attend to themselves. If the policy may never forget, call has_room first.
    [[nodiscard]] std::span<const relocation> append(position first, std::size_t count, const editor& stored = {},
                                                     forgotten_log log = forgotten_log::restart) noexcept {
        constexpr const char* who = "append";
        detail::check(count >= 1, who, "count", "at least 1", count);
        expect_rows(who);
        borders_.expect_next(who, rows_.newest(), first, count);
        borders_.expect_stored(who, shape(), stored);
        if (log == forgotten_log::restart) rows_.clear_forgotten();
        const auto relocations = is_due() ? forget(stored, forgotten_log::extend) : std::span<const relocation>();
        detail::check(count <= rows() - size(), who, "count",
                      detail::bound{"at most the rows that are left, ", rows() - size()}, count);
        for (std::size_t i = 0; i < count; ++i) rows_.place(first + static_cast<position>(i));
        borders_.placed();
        rows_.block_begin = first;
        borders_.appended();
        return relocations;
    }

    /// Shows the policy one token of the last appended block, in order: keys [KV heads, head_dim], values likewise.
    void observe_arrival(std::size_t row, multistate::rows keys, multistate::rows values) noexcept {
        expect_rows("observe_arrival");
        detail::check(row < size(), "observe_arrival", "row", detail::bound{"less than size() = ", size()}, row);
        borders_.expect_arrival("observe_arrival", shape(), keys, values);
        if (row + 1 == size()) borders_.shown(borders_.arrivals);
        rows_.show_arrival(keys, values, row + 1, row);
    }

    /// Shows the policy one token's queries, [query heads, head_dim], before its probabilities of the same `width`.
    void observe_queries(multistate::rows queries, std::size_t width) noexcept {
        expect_width("observe_queries", width);
        borders_.expect_queries("observe_queries", shape(), queries);
        rows_.show_queries(queries, width);
        if (width == size()) borders_.shown(borders_.queries);
    }

    /// Shows the policy the probabilities of one token: [query heads, width]; width = size() for a single token. After
    /// a block, call it once per token, in order, with the rows that this token could see. Free if the policy does not
    /// read them. Skips the token if the probabilities of one head are not finite.
    void observe(multistate::rows probabilities) noexcept {
        expect_width("observe", probabilities.width);
        borders_.expect_probabilities("observe", shape(), probabilities);
        rows_.show_attention(probabilities);
        if (probabilities.width == size()) borders_.shown(borders_.attention);
    }

    /// Makes now the decision that the next place or append would make: forgets down to `states`.
    [[nodiscard]] std::span<const relocation> forget(const editor& stored = {},
                                                     forgotten_log log = forgotten_log::restart) noexcept {
        expect_rows("forget");
        if (log == forgotten_log::restart) rows_.clear_forgotten();
        if (never_forgets() || size() <= states()) return {};
        borders_.expect_stored("forget", shape(), stored);
        borders_.expect_shown("forget");
        rows_.score(stored);
        const auto gone = rows_.choose(size() - states());
        rows_.merge(stored, gone);
        return rows_.close_holes(gone, states());
    }

    /// Tells the policy that the prompt has ended.
    void finish_prompt(const editor& stored = {}) noexcept { rows_.finish_prompt(stored); }

    /// Forgets everything and keeps the memory.
    void clear() noexcept {
        rows_.clear();
        borders_.clear();
    }

    /// The token at position p attends next. It counts as having arrived alone, although it was appended with a block.
    void count_as_alone(position p) noexcept { rows_.block_begin = p; }

    /// Changes the number of states: forgets down to it if more are held, and allocates again. The owner applies the
    /// relocations, in order. Throws std::bad_alloc, or std::invalid_argument like the constructor; after a throw,
    /// nothing has changed. If sinks are added, they are the first arrivals that still lie in the first rows. `guarded`
    /// as in table_shape.
    [[nodiscard]] std::vector<relocation> rebudget(std::size_t states, const editor& stored = {},
                                                   const std::optional<guards>& guarded = {}) {
        rebudgeting work = prepare_rebudget(states, guarded);
        std::vector<relocation> result(work.most_relocations());
        const auto relocations = work.finish(*this, stored);
        std::ranges::copy(relocations, result.begin());
        result.resize(relocations.size());
        return result;
    }

    /// The two parts of rebudget, for owners of several tables: the part that may fail (on copies), and the rest.
    struct rebudgeting {
        table before, after;

        std::size_t most_relocations() const noexcept { return before.size(); }
        /// Decides, and turns `target` into the table of the new size. Relocations are valid while this object lives.
        std::span<const relocation> finish(table& target, const editor& stored) noexcept {
            const auto relocations = before.forget(stored);
            after.rows_.continue_from(before.rows_);
            after.borders_ = before.borders_;
            target = std::move(after);
            return relocations;
        }
    };
    [[nodiscard]] rebudgeting prepare_rebudget(std::size_t states, const std::optional<guards>& guarded = {}) const {
        detail::require(rows() != 0, "table", "rows", "those of a table that was not moved from", rows());
        table_shape wanted = shape();
        wanted.states = states;
        wanted.guarded = guarded;
        rebudgeting work{*this, table(wanted, policy())};
        detail::require(!never_forgets() || size() <= work.after.rows(), "table", "states",
                        "enough for the " + std::to_string(size()) + " held, because the policy never forgets", states);
        const std::size_t most = never_forgets() ? 0 : size() - (std::min)(size(), states);
        work.before.rows_.make_room(most);  // only this decision may forget more than a block
        work.after.rows_.make_room_to_log(most);
        work.before.rows_.change_shape(wanted);
        return work;
    }

    /// The scores of all rows by which rebudget(states) would decide; or, if the policy has them, the scores for
    /// comparison between KV heads. Forgets nothing. Costs a copy of the table.
    [[nodiscard]] std::vector<float> scores_at(std::size_t states, const reader& stored = {}) const {
        borders_.expect_shown("scores_at");
        table judged = *this;
        table_shape wanted = shape();
        wanted.states = states;
        wanted.guarded = {};
        judged.rows_.change_shape(wanted);
        judged.rows_.score(stored);
        judged.rows_.score_for_comparison();
        return {judged.scores().begin(), judged.scores().end()};
    }

    /// Bytes that this table allocated.
    std::size_t memory_bytes() const noexcept { return rows_.bytes(); }

  private:
    void expect_rows(const char* who) const noexcept {
        detail::check(rows() != 0, who, "the table", "one that has rows", "moved from");
    }
    void expect_width(const char* who, std::size_t width) const noexcept {
        expect_rows(who);
        detail::check(width >= 1 && width <= size(), who, "width", detail::bound{"from 1 to size() = ", size()}, width);
    }

    detail::scored_rows<P> rows_;
    detail::table_borders borders_;
};

}}  // namespace multistate::MULTISTATE_TARGET
