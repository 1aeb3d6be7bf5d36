#pragma once

// The recurrence of classic cells over whole sequences, one token after another, forward and backward.
//
//     classic_recurrence<gru_rule> recurrence("gru", layout, units, floats, indices);     // both are scratch
//     recurrence.scan(recurrent_layer, {saved, state, out}, executor);
//
// Within a token, a task computes 32 units with all of their gates, so there is one round of tasks per token. Sequences
// are ordered by length: the unfinished ones are always the first.
#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

#include "multistate/recurrent/cell.hpp"
#include "multistate/recurrent/linear.hpp"
#include "multistate/recurrent/minimal_gates.hpp"
#include "multistate/recurrent/sequences.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

/// One token, from some unit on. Gates and states are `units` apart.
struct classic_token {
    float* saved;            ///< maps of x; becomes what the rule saves
    const float* recurrent;  ///< maps of h
    const float* before;     ///< the state
    float* after;            ///< may be `before`
    std::size_t units;
};

/// The results of the previous token. For the first token, h is the initial h and `saved` is null.
struct classic_past {
    const float* h;
    const float* saved;
    const float* initial_state;
};

/// The gradient of one token, from some unit on.
struct classic_gradient {
    const float* saved;
    const float* before;  ///< what the rule asks for
    float* later;         ///< in: with respect to the state after the token; out: with respect to the state before it,
                          ///< without the part that goes through the maps of h
    float* gradient;      ///< of the maps
    std::size_t units;
};

struct classic_text {
    float* saved;
    std::span<float> state;
    std::span<float> out;
};

template <class Rule>
class classic_recurrence {
  public:
    static constexpr std::size_t group = simd::tile_columns;

    /// The scratch for so many units and sequences.
    static std::size_t floats(const char* who, std::size_t units, std::size_t sequences) {
        const std::size_t packed = product(who, parts(units, group) * group, product(who, Rule::gates, units));
        return sum(who, packed, product(who, sequences, 2 * (Rule::gates + Rule::states) * units));
    }
    static std::size_t indices(std::size_t sequences) noexcept { return 2 * sequences; }

    classic_recurrence(const char* who, const sequence_layout& layout, std::size_t units, std::span<float>& floats_left,
                       std::span<std::size_t> indices_left) noexcept
        : layout_(layout), units_(units), sequences_(layout.sequences()) {
        packed_ = take_floats(who, floats_left, parts(units, group) * group * Rule::gates * units).data();
        for (int i = 0; i < 2; ++i) {
            maps_[i] = take_floats(who, floats_left, sequences_ * Rule::gates * units).data();
            states_[i] = take_floats(who, floats_left, sequences_ * Rule::states * units).data();
        }
        order_ = take_indices(who, indices_left, sequences_);
        firsts_ = take_indices(who, indices_left, sequences_);
        std::size_t first = 0;
        for (std::size_t s = 0; s < sequences_; first += layout.length(s++)) order_[s] = s, firsts_[s] = first;
        std::ranges::sort(order_, [&](std::size_t a, std::size_t b) {
            return std::pair(layout.length(b), a) < std::pair(layout.length(a), b);
        });
    }

    template <class Element, class E>
    void scan(const cell_layer<Element>& layer, const classic_text& text, E& by) noexcept {
        const bool packed = sequences_ >= linear_few;
        if (packed) pack(layer.weights, by);
        for (std::size_t s = 0; s < sequences_; ++s) copy_state(text.state.data(), order_[s], states_[0], s);
        for (std::size_t t = 0, active = sequences_; active > 0; ++t) {
            run_tasks(by, groups(), [&](std::size_t task) {
                const range units = units_of(task);
                map_states(layer, packed, active, units);
                for (std::size_t s = 0; s < active; ++s) advance(text, s, t, units);
            });
            std::swap(states_[0], states_[1]);
            for (; active > 0 && layout_.length(order_[active - 1]) == t + 1; --active) {
                copy_state(states_[0], active - 1, text.state.data(), order_[active - 1]);
            }
        }
    }

    /// Writes the gradients of all maps, [tokens, Rule::gradients * units].
    template <class E>
    void backward(const simd::weights<float>& weights, const cell_backward& text, float* gradients, E& by) noexcept {
        pack_columns(weights, by);
        std::size_t known = 0;
        for (std::size_t t = layout_.length(order_[0]); t-- > 0;) {
            std::size_t active = known;
            while (active < sequences_ && layout_.length(order_[active]) > t) ++active;
            run_tasks(by, groups(), [&](std::size_t task) {
                const range units = units_of(task);
                pass_through_maps(known, units);
                for (std::size_t s = 0; s < active; ++s) differentiate(text, gradients, {s, t, s >= known}, units);
            });
            std::swap(maps_[0], maps_[1]);
            known = active;
        }
        run_tasks(by, groups(), [&](std::size_t task) { pass_through_maps(sequences_, units_of(task)); });
        for (std::size_t s = 0; s < sequences_; ++s) {
            copy_state(states_[0], s, text.state_gradient.data(), order_[s]);
        }
    }

  private:
    struct range {
        std::size_t first, count;
    };
    struct token_of {
        std::size_t slot;
        std::size_t t;
        bool last;
    };

    std::size_t groups() const noexcept { return parts(units_, group); }
    range units_of(std::size_t task) const noexcept { return {task * group, (std::min)(group, units_ - task * group)}; }
    std::size_t map_width() const noexcept { return Rule::gates * units_; }
    std::size_t state_width() const noexcept { return Rule::states * units_; }
    std::size_t token(std::size_t slot, std::size_t t) const noexcept { return firsts_[order_[slot]] + t; }
    void copy_state(const float* from, std::size_t row, float* to, std::size_t to_row) const noexcept {
        std::copy_n(from + row * state_width(), state_width(), to + to_row * state_width());
    }

    /// The rows of a gate that belong to a group of units, as panels [units, group]; made once for all tokens.
    float* panel(std::size_t task, std::size_t gate) const noexcept {
        return packed_ + (task * Rule::gates + gate) * group * units_;
    }
    template <class Element, class E>
    void pack(const simd::weights<Element>& w, E& by) const noexcept {
        run_tasks(by, groups(), [&](std::size_t task) {
            const range units = units_of(task);
            for (std::size_t gate = 0; gate < Rule::gates; ++gate) {
                simd::pack_rows(w, gate * units_ + units.first, units.count, panel(task, gate));
            }
        });
    }
    /// The columns of all gates that belong to a group of units: a panel [gates * units, group].
    template <class E>
    void pack_columns(const simd::weights<float>& w, E& by) const noexcept {
        run_tasks(by, groups(), [&](std::size_t task) {
            const range units = units_of(task);
            simd::pack_columns(w, units.first, units.count, panel(task, 0));
        });
    }

    /// The maps of the states h of the first `active` sequences.
    template <class Element>
    void map_states(const cell_layer<Element>& layer, bool packed, std::size_t active, range units) const noexcept {
        const rows h{states_[0], active, units_, state_width()};
        for (std::size_t gate = 0; gate < Rule::gates; ++gate) {
            const std::size_t first = gate * units_ + units.first;
            float* const out = maps_[0] + first;
            fill_rows(std::span(layer.bias + first, units.count), active, out, map_width());
            if (packed) {
                simd::add_packed_products(panel(units.first / group, gate), h, units.count, out, map_width());
            } else {
                const simd::weights<Element> some{layer.weights.row(first), units.count, units_};
                simd::add_few_products(some, h, out, map_width());
            }
        }
    }

    void advance(const classic_text& text, std::size_t slot, std::size_t t, range units) const noexcept {
        const std::size_t at = token(slot, t);
        float* const after = states_[1] + slot * state_width() + units.first;
        Rule::advance(
            {text.saved + at * Rule::saved * units_ + units.first, maps_[0] + slot * map_width() + units.first,
             states_[0] + slot * state_width() + units.first, after, units_},
            units.count);
        std::copy_n(after, units.count, text.out.data() + at * units_ + units.first);
    }

    /// Adds to the gradients of the states h the part that went through the maps of the next token.
    void pass_through_maps(std::size_t known, range units) const noexcept {
        simd::add_packed_products(panel(units.first / group, 0), {maps_[0], known, map_width(), map_width()},
                                  units.count, states_[0] + units.first, state_width());
    }

    void differentiate(const cell_backward& text, float* gradients, token_of at, range units) const noexcept {
        const std::size_t i = token(at.slot, at.t), sequence = order_[at.slot];
        const float* const initial = text.initial_state.data() + sequence * state_width();
        const float* const saved = text.saved.data() + i * Rule::saved * units_;
        const classic_past past{at.t == 0 ? initial : text.out.data() + (i - 1) * units_,
                                at.t == 0 ? nullptr : saved - Rule::saved * units_, initial};
        float* const later = states_[0] + at.slot * state_width() + units.first;
        if (at.last) {
            const float* const given = text.state_gradient.data() + sequence * state_width() + units.first;
            for (std::size_t k = 0; k < Rule::states; ++k) {
                std::copy_n(given + k * units_, units.count, later + k * units_);
            }
        }
        simd::add(text.out_gradient.subspan(i * units_ + units.first, units.count), {later, units.count});
        float* const gradient = gradients + i * Rule::gradients * units_ + units.first;
        Rule::differentiate({saved + units.first, Rule::before(past, units_) + units.first, later, gradient, units_},
                            units.count);
        float* const recurrent = maps_[1] + at.slot * map_width() + units.first;
        for (std::size_t gate = 0; gate < Rule::gates; ++gate) {
            std::copy_n(gradient + Rule::recurrent_gradient(gate) * units_, units.count, recurrent + gate * units_);
        }
    }

    sequence_layout layout_;
    std::size_t units_;
    std::size_t sequences_;
    float* packed_;
    float* maps_[2];                 // of the states, or their gradients: of this token and of the one before or after
    float* states_[2];               // before and after a token; in `backward` the first are gradients
    std::span<std::size_t> order_;   // sequences, the longest first
    std::span<std::size_t> firsts_;  // the first token of each sequence
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
