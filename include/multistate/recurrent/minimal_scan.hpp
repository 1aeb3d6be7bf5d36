#pragma once

// The recurrence of minimal cells over whole sequences, forward and backward: prefix scans in blocks of time
// (minimal_cell.hpp explains them).
//
//     minimal_recurrence<Gates>(gates, candidate, units).scan(layout, {maps, state, out, false}, scratch, executor);
//
// `maps` are the linear maps v of x, [tokens, Gates::count * units]. A scan overwrites them with what `backward` needs:
// e^-v for gates, and candidates.
#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>

#include "multistate/recurrent/cell.hpp"
#include "multistate/recurrent/minimal_gates.hpp"
#include "multistate/recurrent/sequences.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

struct minimal_text {
    float* maps;
    std::span<float> state;
    std::span<float> out;
    bool log_space;
};
struct minimal_scratch {
    std::span<float> floats;  ///< [blocks, rows_per_block, units]
    std::span<std::size_t> indices;
};

/// Rows of [units] that a block of time needs. A block turns a state into kept * state + added. The state before it is
/// `carried`. In log space all are logarithms; a sum of terms is e^greatest * added until the block ends.
inline constexpr std::size_t rows_per_block = 4;
enum class row_of_block : std::size_t { kept, added, carried, greatest };

template <class Gates>
class minimal_recurrence {
  public:
    minimal_recurrence(Gates gates, candidate form, std::size_t units) noexcept
        : gates_(gates), form_(form), units_(units) {}

    /// The state after one token, from its linear maps of x.
    void step(const float* maps, float* state) const noexcept {
        for_channels(units_, [&](std::size_t c, auto some) {
            const token at = activated(load(maps + c, some));
            const gate_values gate = gates_.values(at.gates);
            some.store(gate.keep * some.load(state + c) + gate.take * at.value, state + c);
        });
    }

    template <class E>
    void scan(const sequence_layout& layout, const minimal_text& text, const minimal_scratch& scratch,
              E& by) const noexcept {
        const time_blocks blocks(layout, scratch.indices);
        const block_rows rows{scratch.floats.data(), units_};
        run_tasks(by, blocks.count(), [&](std::size_t b) {
            text.log_space ? sum_up_logs(blocks[b], text, rows, b) : sum_up(blocks[b], text, rows, b);
        });
        for (std::size_t b = 0; b < blocks.count(); ++b) carry(blocks[b], text, rows, b);
        run_tasks(by, blocks.count(), [&](std::size_t b) {
            text.log_space ? write_from_logs(blocks[b], text, rows, b) : write(blocks[b], text, rows, b);
        });
    }

    /// Writes the gradient of the maps. What token t passes back is keep_t (out_gradient_t + what token t + 1 passes
    /// back): the same scan in the other direction.
    template <class E>
    void backward(const sequence_layout& layout, const cell_backward& text, float* map_gradient,
                  const minimal_scratch& scratch, E& by) const noexcept {
        const time_blocks blocks(layout, scratch.indices);
        const block_rows rows{scratch.floats.data(), units_};
        run_tasks(by, blocks.count(), [&](std::size_t b) {
            if (!blocks[b].begins) sum_up_backward(blocks[b], text, rows, b);
        });
        for (std::size_t b = blocks.count(); b-- > 0;) carry_backward(blocks[b], text.state_gradient, rows, b);
        run_tasks(by, blocks.count(), [&](std::size_t b) {
            const time_span block = blocks[b];
            for (std::size_t t = block.end; t-- > block.first;) {
                const float* const before = t == block.first && block.begins
                                                ? text.initial_state.data() + block.sequence * units_
                                                : text.out.data() + (t - 1) * units_;
                differentiate(text, t, rows(b, row_of_block::carried), before, map_gradient + t * width());
            }
            if (!block.begins) return;
            std::copy_n(rows(b, row_of_block::carried), units_, text.state_gradient.data() + block.sequence * units_);
        });
    }

  private:
    struct token {
        typename Gates::maps gates;
        simd::floats value;
    };
    struct block_rows {
        float* data;
        std::size_t units;
        float* operator()(std::size_t block, row_of_block which) const noexcept {
            return data + (block * rows_per_block + static_cast<std::size_t>(which)) * units;
        }
    };

    std::size_t width() const noexcept { return Gates::count * units_; }

    template <class Some>
    MULTISTATE_INLINE token load(const float* maps, Some some) const noexcept {
        token result;
        for (std::size_t g = 0; g + 1 < Gates::count; ++g) result.gates[g] = some.load(maps + g * units_);
        result.value = some.load(maps + (Gates::count - 1) * units_);
        return result;
    }

    MULTISTATE_INLINE token activated(token at) const noexcept {
        for (simd::floats& x : at.gates) x = inverse_exp(x);
        at.value = value_of(form_, at.value);
        return at;
    }
    template <class Some>
    MULTISTATE_INLINE void store(const token& at, float* maps, Some some) const noexcept {
        for (std::size_t g = 0; g + 1 < Gates::count; ++g) some.store(at.gates[g], maps + g * units_);
        some.store(at.value, maps + (Gates::count - 1) * units_);
    }

    void sum_up(const time_span& block, const minimal_text& text, const block_rows& rows,
                std::size_t b) const noexcept {
        float* const kept = rows(b, row_of_block::kept);
        float* const added = rows(b, row_of_block::added);
        std::fill_n(kept, units_, 1.0f);
        std::fill_n(added, units_, 0.0f);
        for (std::size_t t = block.first; t < block.end; ++t) {
            float* const maps = text.maps + t * width();
            for_channels(units_, [&](std::size_t c, auto some) {
                const token at = activated(load(maps + c, some));
                store(at, maps + c, some);
                if (block.ends) return;  // no block follows that would need the sums
                const gate_values gate = gates_.values(at.gates);
                some.store(gate.keep * some.load(kept + c), kept + c);
                some.store(gate.keep * some.load(added + c) + gate.take * at.value, added + c);
            });
        }
    }

    void write(const time_span& block, const minimal_text& text, const block_rows& rows, std::size_t b) const noexcept {
        const float* before = rows(b, row_of_block::carried);
        for (std::size_t t = block.first; t < block.end; ++t) {
            const float* const maps = text.maps + t * width();
            float* const after = text.out.data() + t * units_;
            for_channels(units_, [&](std::size_t c, auto some) {
                const token at = load(maps + c, some);
                const gate_values gate = gates_.values(at.gates);
                some.store(gate.keep * some.load(before + c) + gate.take * at.value, after + c);
            });
            before = after;
        }
        if (block.ends) std::copy_n(before, units_, text.state.data() + block.sequence * units_);
    }

    /// The state before block b, from what the block before does to the state before that.
    void carry(const time_span& block, const minimal_text& text, const block_rows& rows, std::size_t b) const noexcept {
        float* const to = rows(b, row_of_block::carried);
        if (block.begins) {
            const float* const state = text.state.data() + block.sequence * units_;
            for_channels(units_, [&](std::size_t c, auto some) {
                const simd::floats h = some.load(state + c);
                some.store(text.log_space ? simd::log(h) : h, to + c);
            });
            return;
        }
        const float* const kept = rows(b - 1, row_of_block::kept);
        const float* const added = rows(b - 1, row_of_block::added);
        const float* const from = rows(b - 1, row_of_block::carried);
        for_channels(units_, [&](std::size_t c, auto some) {
            const simd::floats x = some.load(kept + c), y = some.load(added + c), h = some.load(from + c);
            some.store(text.log_space ? log_of_sum(x + h, y) : x * h + y, to + c);
        });
    }

    /// ln(e^x + e^y), where y is finite.
    static MULTISTATE_INLINE simd::floats log_of_sum(simd::floats x, simd::floats y) noexcept {
        const simd::floats most = x > y ? x : y, least = x > y ? y : x;
        return most + softplus(least - most);
    }

    /// The paper's log-space scan on one block: ln h_t = a_t + ln sum of e^(ln b_s - a_s), where a_t is the sum of
    /// ln keep up to token t, and b_s = take_s * candidate_s. Calls f(t, c, some, ln h_t).
    template <class F>
    void for_each_log(const time_span& block, const minimal_text& text, const block_rows& rows, std::size_t b,
                      F f) const noexcept {
        float* const sum = rows(b, row_of_block::kept);
        float* const terms = rows(b, row_of_block::added);
        float* const greatest = rows(b, row_of_block::greatest);
        std::fill_n(sum, units_, 0.0f);
        for (std::size_t t = block.first; t < block.end; ++t) {
            const float* const maps = text.maps + t * width();
            for_channels(units_, [&](std::size_t c, auto some) {
                const token at = load(maps + c, some);
                const gate_values gate = gates_.logarithms(at.gates);
                const simd::floats a = some.load(sum + c) + gate.keep;
                const simd::floats term = gate.take + log_of_positive(at.value) - a, before = some.load(greatest + c);
                const simd::floats most = term > before ? term : before;
                const simd::floats total = some.load(terms + c) * simd::exp(before - most) + simd::exp(term - most);
                some.store(a, sum + c);
                some.store(most, greatest + c);
                some.store(total, terms + c);
                f(t, c, some, a + (most + simd::log(total)));
            });
        }
    }

    void sum_up_logs(const time_span& block, const minimal_text& text, const block_rows& rows,
                     std::size_t b) const noexcept {
        if (block.ends) return;  // no block follows that would need the sums
        std::fill_n(rows(b, row_of_block::greatest), units_, -std::numeric_limits<float>::infinity());
        std::fill_n(rows(b, row_of_block::added), units_, 0.0f);
        float* const last = rows(b, row_of_block::carried);  // free until `carry`
        for_each_log(block, text, rows, b,
                     [=](std::size_t, std::size_t c, auto some, simd::floats h) { some.store(h, last + c); });
        std::copy_n(last, units_, rows(b, row_of_block::added));
    }

    void write_from_logs(const time_span& block, const minimal_text& text, const block_rows& rows,
                         std::size_t b) const noexcept {
        std::copy_n(rows(b, row_of_block::carried), units_, rows(b, row_of_block::greatest));  // the first term
        std::fill_n(rows(b, row_of_block::added), units_, 1.0f);
        float* const out = text.out.data();
        for_each_log(block, text, rows, b, [=, this](std::size_t t, std::size_t c, auto some, simd::floats h) {
            some.store(simd::exp(h), out + t * units_ + c);
            float* const maps = text.maps + t * width() + c;
            store(activated(load(maps, some)), maps, some);
        });
        if (!block.ends) return;
        std::copy_n(out + (block.end - 1) * units_, units_, text.state.data() + block.sequence * units_);
    }

    void sum_up_backward(const time_span& block, const cell_backward& text, const block_rows& rows,
                         std::size_t b) const noexcept {
        float* const kept = rows(b, row_of_block::kept);
        float* const added = rows(b, row_of_block::added);
        std::fill_n(kept, units_, 1.0f);
        std::fill_n(added, units_, 0.0f);
        for (std::size_t t = block.end; t-- > block.first;) {
            const float* const maps = text.saved.data() + t * width();
            const float* const gradient = text.out_gradient.data() + t * units_;
            for_channels(units_, [&](std::size_t c, auto some) {
                const simd::floats keep = gates_.values(load(maps + c, some).gates).keep;
                some.store(keep * some.load(kept + c), kept + c);
                some.store(keep * (some.load(gradient + c) + some.load(added + c)), added + c);
            });
        }
    }

    /// The gradient of the state after block b: given, or what the block that follows passes back.
    void carry_backward(const time_span& block, std::span<const float> state_gradient, const block_rows& rows,
                        std::size_t b) const noexcept {
        float* const to = rows(b, row_of_block::carried);
        if (block.ends) {
            std::copy_n(state_gradient.data() + block.sequence * units_, units_, to);
            return;
        }
        const float* const kept = rows(b + 1, row_of_block::kept);
        const float* const added = rows(b + 1, row_of_block::added);
        const float* const later = rows(b + 1, row_of_block::carried);
        for_channels(units_, [&](std::size_t c, auto some) {
            some.store(some.load(added + c) + some.load(kept + c) * some.load(later + c), to + c);
        });
    }

    /// The gradient of one token's maps; `later` is what the next token passes back, then what this one does.
    void differentiate(const cell_backward& text, std::size_t t, float* later, const float* before,
                       float* map_gradient) const noexcept {
        const float* const maps = text.saved.data() + t * width();
        const float* const gradient = text.out_gradient.data() + t * units_;
        for_channels(units_, [&](std::size_t c, auto some) {
            const token at = load(maps + c, some);
            const gate_values gate = gates_.values(at.gates);
            const simd::floats dh = some.load(gradient + c) + some.load(later + c);
            typename Gates::maps dx;
            gates_.gradient(at.gates, gate, {dh * some.load(before + c), dh * at.value}, dx);
            for (std::size_t g = 0; g + 1 < Gates::count; ++g) some.store(dx[g], map_gradient + g * units_ + c);
            some.store(dh * gate.take * slope_of(form_, at.value), map_gradient + (Gates::count - 1) * units_ + c);
            some.store(gate.keep * dh, later + c);
        });
    }

    Gates gates_;
    candidate form_;
    std::size_t units_;
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
