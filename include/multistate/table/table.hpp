#pragma once

// A table decides which state to forget, and owns no key or value: for engines with storage of their own.
//
//     ms::table<ms::tova> table({.states = 512});             // one per layer (ms::per::layer) or per KV head
//     auto row = table.place(position);                       // a free row, or the row of the state forgotten
//     engine.write(layer, row, k, v);
//     engine.attend(layer, table.size(), q, out, probabilities);
//     table.observe({probabilities, heads, table.size(), table.size()});
//
// Forgetting is overwriting: in single steps without slack nothing ever moves. Live rows are always [0, size()); their
// order means nothing. The decision falls at the next place, from the scores that the last attention left, so attention
// sees `states` survivors and the new token: a table has states + slack + block rows.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "multistate/core/errors.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/math/select.hpp"
#include "multistate/policy/guards.hpp"
#include "multistate/policy/policy.hpp"
#include "multistate/table/borders.hpp"
#include "multistate/table/policy_memory.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// What a table that never forgets returns when its rows are used up.
inline constexpr std::size_t no_row = static_cast<std::size_t>(-1);

/// The state in row `from` moves to row `to`: the owner of the keys and values must do the same.
struct move {
    std::uint32_t from;
    std::uint32_t to;
};

/// A state that was forgotten, and the newest position held when the decision fell.
struct forgotten_state {
    multistate::position position;
    multistate::position decided_by;
};

namespace detail {

/// The rows of a table, once its shape is known to be one.
inline std::size_t rows_of(const table_shape& s) noexcept { return s.states + s.slack + s.block; }

}  // namespace detail

/// Positions and scores of rows that are kept and forgotten together. Allocates in the constructor and in rebudget; a
/// copy is a snapshot that continues alike. Calls on different tables may run concurrently.
template <policy P>
class table {
    static_assert(hooks_are_checked<P>);

  public:
    /// Throws std::invalid_argument for what cannot be: see guards_in_force in policy/guards.hpp, and for what is larger than
    /// the machine's memory.
    explicit table(const table_shape& s, P policy = {})
        : policy_(std::move(policy)),
          guards_(fitting_guards(s, policy_)),
          shape_(s),
          position_(detail::rows_of(s)),
          score_(position_.size()),
          memory_(policy_, s, position_.size()),
          by_position_(multistate::reads_of(policy_).order ? position_.size() : 0),
          newest_positions_(guards_.recent),
          forgotten_(2 * s.block + s.slack),
          moves_((std::min)(s.block + s.slack, s.states)),
          chosen_(s.block + s.slack),
          workspace_(s.block + s.slack > 1 ? position_.size() : 0),
          spoiled_(position_.size()),
          zeros_(zeros_of(s, policy_)),
          borders_(policy_, s) {}

    /// What memory_bytes() of such a table will be. Allocates nothing; throws as the constructor does.
    static std::size_t bytes_for(const table_shape& s, const P& policy) {
        constexpr const char* who = "table";
        const guards g = guards_in_force(s, policy);
        const std::size_t rows = detail::rows_of(s), due = s.block + s.slack;
        const std::size_t memory = detail::policy_memory::bytes_for(policy, s, rows);
        const std::size_t floats = rows + zeros_of(s, policy);
        const std::size_t numbers = (multistate::reads_of(policy).order ? rows : 0) + due + (due > 1 ? rows : 0);
        return detail::sum(who, detail::sum(who, memory, detail::bytes<float>(who, floats)),
                           (rows + g.recent) * sizeof(position) + (2 * s.block + s.slack) * sizeof(forgotten_state) +
                               (std::min)(due, s.states) * sizeof(move) + numbers * sizeof(std::uint32_t) + rows);
    }

    const table_shape& shape() const noexcept { return shape_; }
    std::size_t states() const noexcept { return shape_.states; }
    std::size_t rows() const noexcept { return position_.size(); }
    P& policy() noexcept { return policy_; }
    bool never_forgets() const noexcept { return policy_.forgets() == per::never; }
    /// Whether `count` tokens can be appended; always, up to `block`, for policies that forget.
    [[nodiscard]] bool has_room(std::size_t count) const noexcept {
        return count <= rows() - (never_forgets() || !is_due() ? size_ : states());
    }
    /// Whether the next place or append forgets first.
    [[nodiscard]] bool is_due() const noexcept { return !never_forgets() && size_ > states() + shape_.slack; }
    bool reads_attention() const noexcept { return multistate::reads_of(policy_).attention; }
    bool reads_queries() const noexcept { return multistate::reads_of(policy_).queries; }
    bool reads_stored() const noexcept { return multistate::reads_of(policy_).stored; }
    bool writes_stored() const noexcept { return borders_.reads(detail::table_borders::writes); }
    /// Whether a key or value that is held is not bounded: see policy.hpp.
    bool holds_spoiled() const noexcept { return spoiled_count_ > 0; }
    std::size_t size() const noexcept { return size_; }
    /// The position and the score of each live row.
    std::span<const position> positions() const noexcept {
        expect_rows("positions");
        return {position_.data(), size_};
    }
    std::span<const float> scores() const noexcept {
        expect_rows("scores");
        return {score_.data(), size_};
    }
    /// What is written here before the next place or append counts as if the policy had said so: the door for scores
    /// that come from elsewhere (see policies/given.hpp).
    std::span<float> scores() noexcept {
        expect_rows("scores");
        return {score_.data(), size_};
    }
    /// The position that follows the newest: the next RoPE index, which is not size().
    position next_position() const noexcept { return newest_ + 1; }
    /// What the last place, append or forget forgot, in the order of the decisions.
    std::span<const forgotten_state> forgotten() const noexcept {
        expect_rows("forgotten");
        return {forgotten_.data(), forgotten_count_};
    }

    /// Places one token: in a free row, else in the row of the state forgotten. Positions rise, from 0 to last_position.
    /// `keys` [KV heads, head_dim] and `values` are for policies that look at new keys or values, `stored` is for
    /// policies that read stored rows: at every call. Where keys and values are given, a state that is not finite is
    /// found and goes first (see policy.hpp). Returns no_row, and changes nothing, when the policy never forgets and the
    /// rows are used up. With slack, call append instead.
    [[nodiscard]] std::size_t place(position p, multistate::rows keys = {}, multistate::rows values = {},
                                    const editor& stored = {}) noexcept {
        begin();
        return place_next(p, keys, values, stored);
    }

    /// Places `count` tokens of consecutive positions in the last rows, after forgetting down to `states` where more
    /// than states + slack are held: the owner applies the moves, then writes the tokens in rows [size() - count,
    /// size()). For blocks that attend to themselves. Ask has_room first where the policy may never forget.
    [[nodiscard]] std::span<const move> append(position first, std::size_t count, const editor& stored = {}) noexcept {
        begin();
        return append_next(first, count, stored);
    }

    /// Shows the policy a token of the block appended last, in order: keys [KV heads, head_dim], values alike.
    void insert(std::size_t row, multistate::rows keys, multistate::rows values) noexcept {
        expect_rows("insert");
        detail::check(row < size_, "insert", "row", detail::bound{"less than size() = ", size_}, row);
        borders_.expect_arrival("insert", shape_, keys, values);
        if (row + 1 == size_) borders_.shown(borders_.arrivals);
        show(keys, values, row + 1, row);
    }

    /// Shows the policy the queries of one token, [query heads, head_dim], before its probabilities; `width` as there.
    void observe_queries(multistate::rows queries, std::size_t width) noexcept {
        expect_width("observe_queries", width);
        borders_.expect_queries("observe_queries", shape_, queries);
        if constexpr (has_on_query<P>) policy_.on_query(bounded(queries) ? queries : zeros(queries), see(width));
        if (width == size_) borders_.shown(borders_.queries);
    }

    /// Shows the policy the probabilities of one token: [query heads, width], width = size() for a single token. After
    /// a block, call it once for each of its tokens, in order, with the rows that token could see. Free for policies
    /// that do not look. Not shown where those of a head are not finite.
    void observe(multistate::rows probabilities) noexcept {
        expect_width("observe", probabilities.width);
        borders_.expect_probabilities("observe", shape_, probabilities);
        if constexpr (has_on_attention<P>) {
            if (begin_finite(probabilities)) policy_.on_attention(probabilities, see(probabilities.width));
        }
        if (probabilities.width == size_) borders_.shown(borders_.attention);
    }

    /// Makes the decision now that the next place or append would make: forgets down to `states`.
    [[nodiscard]] std::span<const move> forget(const editor& stored = {}) noexcept {
        begin();
        return forget_next(stored);
    }

    /// Tells the policy that the prompt has ended.
    void finish_prompt(const editor& stored = {}) noexcept {
        call_hook<hook::finish_prompt>(policy_, hiding(stored), see(size_));
    }

    /// Forgets everything and keeps the memory.
    void clear() noexcept {
        size_ = placed_ = forgotten_count_ = 0;
        newest_ = -1;
        borders_.clear();
        first_forgotten_ = all_rows;
        spoiled_count_ = 0;
        std::ranges::fill(spoiled_, std::uint8_t{0});
        memory_.clear_table();
    }

    /// The parts of place and append, for callers that feed a block one decision at a time: begin() empties
    /// forgotten(), the others add to it.
    void begin() noexcept { forgotten_count_ = 0; }
    /// The token at position p, which attends next, counts as arrived alone although a block was appended.
    void begin_alone(position p) noexcept { block_begin_ = p; }

    [[nodiscard]] std::size_t place_next(position p, multistate::rows keys = {}, multistate::rows values = {},
                                         const editor& stored = {}) noexcept {
        constexpr const char* who = "place";
        expect_rows(who);
        borders_.expect_next(who, newest_, p, 1);
        borders_.expect_stored(who, shape_, stored);
        borders_.expect_arrival(who, shape_, keys, values);
        if (never_forgets() && size_ == rows()) return no_row;
        std::size_t row = size_;
        if (!is_due()) {
            ++size_;
        } else {
            detail::check(size_ == states() + 1, who, "size()",
                          detail::bound{"at most states + 1 (else append or forget first) = ", states() + 1}, size_);
            decide(stored);
            row = least(scores(), positions(), among());
            log(row);
            first_forgotten_ = (std::min)(first_forgotten_, row);
            chosen_[0] = static_cast<std::uint32_t>(row);
            merge(stored, 1);
            remove_from_order(row);
        }
        put(row, p);
        block_begin_ = p;
        show(keys, values, size_, row);
        return row;
    }

    [[nodiscard]] std::span<const move> append_next(position first, std::size_t count,
                                                    const editor& stored = {}) noexcept {
        constexpr const char* who = "append";
        detail::check(count >= 1, who, "count", "at least 1", count);
        expect_rows(who);
        borders_.expect_next(who, newest_, first, count);
        borders_.expect_stored(who, shape_, stored);
        const auto moves = is_due() ? forget_next(stored) : std::span<const move>();
        detail::check(count <= rows() - size_, who, "count",
                      detail::bound{"at most the rows that are left, ", rows() - size_}, count);
        for (std::size_t i = 0; i < count; ++i) put(size_++, first + static_cast<position>(i));
        block_begin_ = first;
        borders_.appended();
        return moves;
    }

    [[nodiscard]] std::span<const move> forget_next(const editor& stored = {}) noexcept {
        expect_rows("forget");
        if (never_forgets() || size_ <= states()) return {};
        borders_.expect_stored("forget", shape_, stored);
        borders_.expect_shown("forget");
        decide(stored);
        const std::size_t count = choose(size_ - states());
        for (std::size_t i = 0; i < count; ++i) log(chosen_[i]);
        first_forgotten_ = (std::min<std::size_t>)(first_forgotten_, chosen_[0]);
        const auto logged = forgotten_.begin() + static_cast<std::ptrdiff_t>(forgotten_count_);
        std::sort(logged - static_cast<std::ptrdiff_t>(count), logged,
                  [](const forgotten_state& a, const forgotten_state& b) { return a.position < b.position; });
        merge(stored, count);
        return close_holes(count);
    }

    /// Another number of states, from now on: forgets down to it if more are held, and allocates afresh. The owner
    /// applies the moves, in order. Throws std::invalid_argument as the constructor does, and std::bad_alloc; whatever
    /// it throws, nothing has changed. Sinks that are more than before are the first arrivals as far as they still lie
    /// in the first rows. `guarded` as in table_shape.
    [[nodiscard]] std::vector<move> rebudget(std::size_t states, const editor& stored = {},
                                             const std::optional<guards>& guarded = {}) {
        rebudgeting work = prepare_rebudget(states, guarded);
        std::vector<move> moves(work.before.moves_.size());
        const auto done = work.finish(*this, stored);
        std::ranges::copy(done, moves.begin());
        moves.resize(done.size());
        return moves;
    }

    /// The two parts of rebudget, for owners of several tables: what may fail, on copies, and what cannot.
    struct rebudgeting {
        table before, after;
        /// Decides, and makes `target` the table of the new size. The moves are valid while this object lives.
        std::span<const move> finish(table& target, const editor& stored) noexcept {
            before.begin();
            const auto moves = before.forget_next(stored);
            after.continue_from(before);
            target = std::move(after);
            return moves;
        }
    };
    [[nodiscard]] rebudgeting prepare_rebudget(std::size_t states, const std::optional<guards>& guarded = {}) const {
        detail::require(!position_.empty(), "table", "rows", "those of a table that was not moved from", rows());
        table_shape wanted = shape_;
        wanted.states = states;
        wanted.guarded = guarded;
        rebudgeting work{*this, table(wanted, policy_)};
        detail::require(!never_forgets() || size_ <= work.after.rows(), "table", "states",
                        "enough for the " + std::to_string(size_) + " held, because the policy never forgets", states);
        table& t = work.before;  // the only decision that may forget more than a block
        const std::size_t most = never_forgets() ? 0 : size_ - (std::min)(size_, states);
        t.chosen_.resize((std::max)(chosen_.size(), most));
        t.forgotten_.resize((std::max)(forgotten_.size(), most));
        t.moves_.resize((std::max)(moves_.size(), most));
        t.workspace_.resize(position_.size());
        t.shape_ = wanted;
        t.guards_ = work.after.guards_;
        t.newest_positions_ = work.after.newest_positions_;
        t.remember_newest();
        if (most > work.after.forgotten_.size()) work.after.forgotten_ = std::vector<forgotten_state>(most);
        return work;
    }

    /// The scores of all rows by which rebudget(states) would decide, or those for comparison with other KV heads where
    /// the policy has such. Forgets nothing. Costs a copy of the table.
    [[nodiscard]] std::vector<float> scores_at(std::size_t states, const editor& stored = {}) const {
        borders_.expect_shown("scores_at");
        table judged = *this;
        judged.shape_.states = states;
        judged.shape_.guarded = {};
        judged.guards_ = guards_in_force(judged.shape_, policy_);
        judged.decide(stored);
        call_hook<hook::on_compare>(judged.policy_, judged.see(size_));
        return {judged.scores().begin(), judged.scores().end()};
    }

    /// Bytes that this table allocated.
    std::size_t memory_bytes() const noexcept {
        return position_.size() * sizeof(position) + score_.size() * sizeof(float) + memory_.bytes() +
               newest_positions_.size() * sizeof(position) + forgotten_.size() * sizeof(forgotten_state) +
               moves_.size() * sizeof(move) + (chosen_.size() + by_position_.size()) * sizeof(std::uint32_t) +
               zeros_.size() * sizeof(float) + workspace_.size() * sizeof(std::int32_t) + spoiled_.size();
    }

  private:
    static guards fitting_guards(const table_shape& s, const P& policy) {
        detail::require_memory("table", bytes_for(s, policy));
        return guards_in_force(s, policy);
    }

    static std::size_t zeros_of(const table_shape& s, const P& policy) {
        const multistate::reads what = reads_of(policy);
        return what.queries || what.arrivals ? (std::max)(s.head_dim, s.value_dim) : 0;
    }

    void expect_rows(const char* who) const noexcept {
        detail::check(size_ <= position_.size() && !position_.empty(), who, "the table", "one that has rows",
                      "moved from");
    }
    void expect_width(const char* who, std::size_t width) const noexcept {
        expect_rows(who);
        detail::check(width >= 1 && width <= size_, who, "width", detail::bound{"from 1 to size() = ", size_}, width);
    }

    view see(std::size_t visible) noexcept {
        return {.shape = shape_,
                .position = {position_.data(), visible},
                .score = {score_.data(), visible},
                .origin = memory_.origin(),
                .by_position = {by_position_.data(), visible == size_ && !by_position_.empty() ? size_ : 0},
                .newest = visible == size_ ? newest_ : position_[visible - 1],
                .block_begin = block_begin_,
                .guarded = {.sinks = sinks(), .recent = guards_.recent}};
    }

    /// Sinks are first arrivals and never leave the rows they arrived in, the first ones. After a rebudget to more of
    /// them, those count that were not forgotten meanwhile, up to the first that was.
    std::size_t sinks() const noexcept { return (std::min)(guards_.sinks, first_forgotten_); }

    /// The positions of the newest `recent` are remembered.
    candidates among() const noexcept {
        if (guards_.recent == 0) return {.first = sinks()};
        return {.first = sinks(), .before = newest_positions_[placed_ % guards_.recent]};
    }

    void put(std::size_t row, position p) noexcept {
        position_[row] = p;
        score_[row] = 0;
        memory_.clear_row(row);
        if (spoiled_count_ > 0) spoiled_count_ -= std::exchange(spoiled_[row], std::uint8_t{0});
        if (guards_.recent != 0) newest_positions_[placed_ % guards_.recent] = p;
        if (!by_position_.empty()) by_position_[size_ - 1] = static_cast<std::uint32_t>(row);
        newest_ = p;
        ++placed_;
        borders_.placed();
    }

    /// Shows the policy a state that was placed in `row`.
    void show(multistate::rows keys, multistate::rows values, std::size_t visible, std::size_t row) noexcept {
        if (!bounded(keys) || !bounded(values)) [[unlikely]] {
            spoiled_count_ += std::exchange(spoiled_[row], std::uint8_t{1}) == 0;
            keys = zeros(keys);
            values = zeros(values);
        }
        call_hook<hook::on_insert>(policy_, keys, values, see(visible), row);
    }
    /// As many rows of zeros; empty ones where the shape does not say how long they are.
    multistate::rows zeros(multistate::rows x) const noexcept {
        return {zeros_.data(), x.count, (std::min)(x.width, zeros_.size()), 0};
    }

    /// Softmax makes all of a row NaN or nothing, so its first number says it.
    static bool begin_finite(multistate::rows probabilities) noexcept {
        for (std::size_t i = 0; i < probabilities.count; ++i) {
            if (!std::isfinite(probabilities[i][0])) return false;
        }
        return true;
    }

    editor hiding(editor stored) const noexcept {
        stored.spoiled = spoiled_count_ > 0 ? spoiled_.data() : nullptr;
        return stored;
    }

    void decide(const editor& stored) noexcept {
        call_hook<hook::on_forget>(policy_, hiding(stored), see(size_));
        if (spoiled_count_ == 0) return;
        for (std::size_t row = 0; row < size_; ++row) {
            if (spoiled_[row] != 0) score_[row] = std::numeric_limits<float>::quiet_NaN();
        }
    }
    void merge(const editor& stored, std::size_t count) noexcept {
        call_hook<hook::merge>(policy_, hiding(stored), std::span<const std::uint32_t>(chosen_).first(count),
                               see(size_));
    }

    /// The row keeps its place in the table; in the order of the text it leaves a gap for the newest at the end.
    void remove_from_order(std::size_t row) noexcept {
        if (by_position_.empty()) return;
        const auto end = by_position_.begin() + static_cast<std::ptrdiff_t>(size_);
        const auto gone = std::find(by_position_.begin(), end, static_cast<std::uint32_t>(row));
        std::copy(gone + 1, end, gone);
    }
    void sort_order() noexcept {
        if (by_position_.empty()) return;
        const auto end = by_position_.begin() + static_cast<std::ptrdiff_t>(size_);
        std::iota(by_position_.begin(), end, 0u);
        std::sort(by_position_.begin(), end,
                  [this](std::uint32_t a, std::uint32_t b) { return position_[a] < position_[b]; });
    }

    std::size_t choose(std::size_t count) noexcept {
        if (count > 1) return least(scores(), positions(), among(), count, workspace_, chosen_);
        chosen_[0] = static_cast<std::uint32_t>(least(scores(), positions(), among()));
        return 1;
    }

    void log(std::size_t row) noexcept {
        detail::check(forgotten_count_ < forgotten_.size(), "forget", "states forgotten since begin()",
                      detail::bound{"fewer than ", forgotten_.size()}, forgotten_count_);
        forgotten_[forgotten_count_++] = {position_[row], newest_};
    }

    /// Survivors in rows >= states move down into the rows chosen below, which ascend.
    std::span<const move> close_holes(std::size_t count) noexcept {
        std::size_t moved = 0;
        auto gone = std::lower_bound(chosen_.begin(), chosen_.begin() + static_cast<std::ptrdiff_t>(count), states());
        for (std::size_t row = states(); row < size_; ++row) {
            if (gone != chosen_.begin() + static_cast<std::ptrdiff_t>(count) && *gone == row) {
                ++gone;
                continue;
            }
            const std::size_t hole = chosen_[moved];
            moves_[moved++] = {static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(hole)};
            position_[hole] = position_[row];
            score_[hole] = score_[row];
            memory_.move_row(row, hole);
            spoiled_[hole] = spoiled_[row];
        }
        size_ = states();
        if (spoiled_count_ > 0) count_spoiled();
        sort_order();
        return {moves_.data(), moved};
    }

    /// Takes over what `old` holds, which fits: the same guards, and as long a log. Allocates nothing.
    void continue_from(table& old) noexcept {
        size_ = old.size_;
        placed_ = old.placed_;
        newest_ = old.newest_;
        block_begin_ = old.block_begin_;
        borders_ = old.borders_;
        first_forgotten_ = old.first_forgotten_;
        forgotten_count_ = old.forgotten_count_;
        std::copy_n(old.forgotten_.begin(), forgotten_count_, forgotten_.begin());
        policy_ = std::move(old.policy_);
        std::copy_n(old.position_.begin(), size_, position_.begin());
        std::copy_n(old.score_.begin(), size_, score_.begin());
        std::copy_n(old.spoiled_.begin(), size_, spoiled_.begin());
        memory_.continue_from(old.memory_, size_);
        std::ranges::copy(old.newest_positions_, newest_positions_.begin());
        count_spoiled();
        sort_order();
    }

    /// After rows moved: those behind the last are no one's.
    void count_spoiled() noexcept {
        std::fill(spoiled_.begin() + static_cast<std::ptrdiff_t>(size_), spoiled_.end(), std::uint8_t{0});
        spoiled_count_ = static_cast<std::size_t>(std::ranges::count(spoiled_, std::uint8_t{1}));
    }

    /// The ring of the newest, from what is held: enough, because nothing is forgotten before it is full again.
    void remember_newest() {
        std::vector<position> held(position_.begin(), position_.begin() + static_cast<std::ptrdiff_t>(size_));
        std::ranges::sort(held, std::greater());
        for (std::size_t i = 0; i < (std::min)(held.size(), guards_.recent); ++i) {
            newest_positions_[(placed_ - 1 - i) % guards_.recent] = held[i];
        }
    }

    P policy_;
    guards guards_;
    table_shape shape_;
    std::vector<position> position_;  // [rows]
    std::vector<float> score_;        // [rows]
    detail::policy_memory memory_;
    std::vector<std::uint32_t> by_position_;  // [rows], where the policy reads it
    std::vector<position> newest_positions_;  // ring of the `recent` newest, by arrival
    std::vector<forgotten_state> forgotten_;
    std::vector<move> moves_;
    std::vector<std::uint32_t> chosen_;
    std::vector<std::int32_t> workspace_;
    std::vector<std::uint8_t> spoiled_;  // [rows], 1 where the key or value is not bounded
    std::vector<float> zeros_;           // what hooks see instead
    static constexpr std::size_t all_rows = static_cast<std::size_t>(-1);
    std::size_t spoiled_count_ = 0;
    std::size_t first_forgotten_ = all_rows;  // the least row that ever lost its state: before it lie first arrivals
    std::size_t size_ = 0;
    std::size_t placed_ = 0;  // arrivals since construction or clear
    std::size_t forgotten_count_ = 0;
    position newest_ = -1;
    position block_begin_ = 0;
    detail::table_borders borders_;
};

}}  // namespace multistate::MULTISTATE_TARGET
