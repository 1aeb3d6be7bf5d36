#pragma once

// A table decides which state to forget, and owns no key or value: for engines with storage of their own.
//
//     ms::table<ms::tova> table({.states = 512});             // one per layer (ms::per::layer) or per KV head
//     auto row = table.place(position);                       // a free row, or the row of the state forgotten
//     engine.write(layer, row, k, v);
//     engine.attend(layer, table.size(), q, out, probabilities);
//     table.observe({probabilities, heads, table.size(), table.size()});
//
// Forgetting is overwriting: in single steps nothing ever moves. Live rows are always [0, size()); their order means
// nothing. The decision falls at the next place, from the scores that the last attention left, so attention sees
// `states` survivors and the new token: a table has states + block rows.
#include <algorithm>
#include <utility>
#include <vector>

#include "multistate/assert.hpp"
#include "multistate/policy.hpp"
#include "multistate/select.hpp"
#include "multistate/shape.hpp"

namespace multistate::inline MULTISTATE_TARGET {

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

/// Positions and scores of rows that are kept and forgotten together. Allocates in the constructor only; a copy is a
/// snapshot that continues alike. Calls on different tables may run concurrently.
template <policy P>
class table {
    static_assert(detail::hooks_fit<P>(),
                  "a hook of this policy has another signature than policy.hpp gives, or is "
                  "not noexcept: it would never be called");

  public:
    /// Throws std::invalid_argument unless states, block >= 1 and sinks + recent <= states - 1.
    explicit table(const table_shape& s, P policy = {})
        : policy_(std::move(policy)),
          guards_(guards_in_force(s, policy_)),
          states_(s.states),
          layer_(s.layer),
          kv_head_(s.kv_head),
          position_(s.states + s.block),
          score_(position_.size()),
          memory_(multistate::floats_per_state(policy_) * position_.size()),
          newest_positions_(guards_.recent),
          forgotten_(2 * s.block),
          moves_(std::min(s.block, s.states)),
          chosen_(s.block),
          workspace_(s.block > 1 ? position_.size() : 0) {}

    std::size_t states() const noexcept { return states_; }
    std::size_t rows() const noexcept { return position_.size(); }
    bool never_forgets() const noexcept { return policy_.forgets() == per::never; }
    /// Whether `count` tokens can be appended; always, up to `block`, for policies that forget.
    bool has_room(std::size_t count) const noexcept {
        return (never_forgets() ? size_ : std::min(size_, states_)) + count <= rows();
    }
    bool reads_attention() const noexcept { return multistate::reads_attention(policy_); }
    bool reads_stored() const noexcept { return multistate::reads_stored(policy_); }
    std::size_t size() const noexcept { return size_; }
    /// The position and the score of each live row.
    std::span<const position> positions() const noexcept { return {position_.data(), size_}; }
    std::span<const float> scores() const noexcept { return {score_.data(), size_}; }
    /// The position that follows the newest: the next RoPE index, which is not size().
    position next_position() const noexcept { return placed_ == 0 ? 0 : newest_ + 1; }
    /// What the last place, append or forget forgot, in the order of the decisions.
    std::span<const forgotten_state> forgotten() const noexcept { return {forgotten_.data(), forgotten_count_}; }

    /// Places one token: in a free row, else in the row of the state forgotten. Positions must rise. `keys`
    /// [KV heads, head_dim], `values` and `stored` are read only by policies with such hooks. Returns no_row, and
    /// changes nothing, when the policy never forgets and the rows are used up.
    std::size_t place(position p, multistate::rows keys = {}, multistate::rows values = {},
                      const reader& stored = {}) noexcept {
        begin();
        return place_next(p, keys, values, stored);
    }

    /// Places `count` tokens of consecutive positions in rows [size(), size() + count), after forgetting down to
    /// `states`: the owner applies the moves, then writes the tokens. For blocks that attend to themselves. Ask
    /// has_room first where the policy may never forget.
    std::span<const move> append(position first, std::size_t count, const reader& stored = {}) noexcept {
        MULTISTATE_ASSERT(placed_ == 0 || first > newest_, "append: positions must rise");
        MULTISTATE_ASSERT(observed_ || !reads_attention(), "append: observe the last token first");
        begin();
        const auto moves = forget_next(stored);
        MULTISTATE_ASSERT(size_ + count <= rows(), "append: more tokens than rows are left");
        for (std::size_t i = 0; i < count; ++i) put(size_++, first + static_cast<position>(i));
        return moves;
    }

    /// Shows the policy a token of the block appended last, in order: keys [KV heads, head_dim], values alike.
    void insert(std::size_t row, multistate::rows keys, multistate::rows values) noexcept {
        if constexpr (observes_insertion<P>) policy_.on_insert(keys, values, see(row + 1), row);
    }

    /// Shows the policy the probabilities of one token: [query heads, width], width = size() for a single token. After
    /// a block, call it once for each of its tokens, in order, with the rows that token could see. Free for policies
    /// that do not look.
    void observe(multistate::rows probabilities) noexcept {
        MULTISTATE_ASSERT(probabilities.width >= 1 && probabilities.width <= size_, "observe: width is not size()");
        if constexpr (observes_attention<P>) policy_.on_attention(probabilities, see(probabilities.width));
        if (probabilities.width == size_) observed_ = true;
    }

    /// Makes the decision now that the next place or append would make: forgets down to `states`.
    std::span<const move> forget(const reader& stored = {}) noexcept {
        begin();
        return forget_next(stored);
    }

    /// Tells the policy that the prompt has ended.
    void finish_prompt(const reader& stored = {}) noexcept {
        if constexpr (observes_prompt_end<P>) policy_.finish_prompt(stored, see(size_));
    }

    /// Forgets everything and keeps the memory.
    void clear() noexcept {
        size_ = placed_ = forgotten_count_ = 0;
        observed_ = true;
    }

    /// The parts of place and append, for callers that feed a block one decision at a time: begin() empties
    /// forgotten(), the others add to it.
    void begin() noexcept { forgotten_count_ = 0; }

    std::size_t place_next(position p, multistate::rows keys = {}, multistate::rows values = {},
                           const reader& stored = {}) noexcept {
        MULTISTATE_ASSERT(placed_ == 0 || p > newest_, "place: positions must rise");
        MULTISTATE_ASSERT(observed_ || !reads_attention(), "place: observe the last token first");
        if (never_forgets() && size_ == rows()) return no_row;
        std::size_t row = size_;
        if (size_ <= states_ || never_forgets()) {
            ++size_;
        } else {
            MULTISTATE_ASSERT(size_ == states_ + 1, "place: after a block, forget first");
            decide(stored);
            row = least(scores(), positions(), among());
            log(row);
        }
        put(row, p);
        if constexpr (observes_insertion<P>) policy_.on_insert(keys, values, see(size_), row);
        return row;
    }

    std::span<const move> forget_next(const reader& stored = {}) noexcept {
        if (never_forgets() || size_ <= states_) return {};
        decide(stored);
        const std::size_t count = choose(size_ - states_);
        for (std::size_t i = 0; i < count; ++i) log(chosen_[i]);
        const auto logged = forgotten_.begin() + static_cast<std::ptrdiff_t>(forgotten_count_);
        std::sort(logged - static_cast<std::ptrdiff_t>(count), logged,
                  [](const forgotten_state& a, const forgotten_state& b) { return a.position < b.position; });
        return close_holes(count);
    }

    /// Bytes that this table allocated.
    std::size_t memory_bytes() const noexcept {
        return position_.size() * sizeof(position) + (score_.size() + memory_.size()) * sizeof(float) +
               newest_positions_.size() * sizeof(position) + forgotten_.size() * sizeof(forgotten_state) +
               moves_.size() * sizeof(move) + chosen_.size() * sizeof(std::uint32_t) +
               workspace_.size() * sizeof(std::int32_t);
    }

  private:
    view see(std::size_t visible) noexcept {
        return {.position = {position_.data(), visible},
                .score = {score_.data(), visible},
                .planes = memory_.data(),
                .plane_stride = rows(),
                .newest = visible == size_ ? newest_ : position_[visible - 1],
                .layer = layer_,
                .kv_head = kv_head_};
    }

    /// Sinks never leave the rows they arrived in, the first ones; the positions of the newest `recent` are remembered.
    candidates among() const noexcept {
        if (guards_.recent == 0) return {.first = guards_.sinks};
        return {.first = guards_.sinks, .before = newest_positions_[placed_ % guards_.recent]};
    }

    void put(std::size_t row, position p) noexcept {
        position_[row] = p;
        score_[row] = 0;
        for (std::size_t i = row; i < memory_.size(); i += rows()) memory_[i] = 0;
        if (guards_.recent != 0) newest_positions_[placed_ % guards_.recent] = p;
        newest_ = p;
        ++placed_;
        observed_ = false;
    }

    void decide(const reader& stored) noexcept {
        if constexpr (observes_decision<P>) policy_.on_forget(stored, see(size_));
    }

    std::size_t choose(std::size_t count) noexcept {
        if (count > 1) return least(scores(), positions(), among(), count, workspace_, chosen_);
        chosen_[0] = static_cast<std::uint32_t>(least(scores(), positions(), among()));
        return 1;
    }

    void log(std::size_t row) noexcept {
        MULTISTATE_ASSERT(forgotten_count_ < forgotten_.size(), "more states forgotten than a block can bring");
        forgotten_[forgotten_count_++] = {position_[row], newest_};
    }

    /// Survivors in rows >= states move down into the rows chosen below, which ascend.
    std::span<const move> close_holes(std::size_t count) noexcept {
        std::size_t moved = 0;
        auto gone = std::lower_bound(chosen_.begin(), chosen_.begin() + static_cast<std::ptrdiff_t>(count), states_);
        for (std::size_t row = states_; row < size_; ++row) {
            if (gone != chosen_.begin() + static_cast<std::ptrdiff_t>(count) && *gone == row) {
                ++gone;
                continue;
            }
            const std::size_t hole = chosen_[moved];
            moves_[moved++] = {static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(hole)};
            position_[hole] = position_[row];
            score_[hole] = score_[row];
            for (std::size_t i = 0; i < memory_.size(); i += rows()) memory_[i + hole] = memory_[i + row];
        }
        size_ = states_;
        return {moves_.data(), moved};
    }

    P policy_;
    guards guards_;
    std::size_t states_;
    std::size_t layer_;
    std::size_t kv_head_;
    std::vector<position> position_;          // [rows]
    std::vector<float> score_;                // [rows]
    std::vector<float> memory_;               // [floats_per_state][rows]
    std::vector<position> newest_positions_;  // ring of the `recent` newest, by arrival
    std::vector<forgotten_state> forgotten_;
    std::vector<move> moves_;
    std::vector<std::uint32_t> chosen_;
    std::vector<std::int32_t> workspace_;
    std::size_t size_ = 0;
    std::size_t placed_ = 0;  // arrivals since construction or clear
    std::size_t forgotten_count_ = 0;
    position newest_ = 0;
    bool observed_ = true;
};

}  // namespace multistate::inline MULTISTATE_TARGET
