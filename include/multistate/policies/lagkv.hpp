#pragma once

// lagkv: keeps states whose keys and values stand out, measured by the range of those that follow in the text.
//
//   paper    "LagKV: Lag-Relative Information of the KV Cache Tells Which Tokens Are Important", arXiv 2504.04704
//   rule     behind the sinks the text falls into pieces of `lag` tokens; with x the keys, then the values, of a piece,
//            and min, max those of each channel in the next piece:
//            s[j] = softmax over j of the deviation over the channels of (x[j] - min) / (max - min);
//            score[j] = rank in its piece of s[j] of the keys plus s[j] of the values, divided by the size of the piece
//   reads    the stored keys and values of two pieces, when the second has ended
//   forgets  for each KV head; the first min(4, states / 8) are guarded
//   cost     about 8 operations per float of a piece and the next; other decisions cost nothing. Three floats per
//            state.
//   differs  the authors keep the same share of every piece, for ever. Here the count is fixed: the share falls as the
//            text grows, of every piece alike, and of equal ranks the oldest goes. The last two pieces stay, as with
//            them (see piece_length for small tables). Their code has a lag of 1024 and 16 sinks, kvpress has 128 and 4
//            as here. A channel that does not vary counts 0; theirs is NaN. A layer (per_layer) sums s over its KV
//            heads.
#include <algorithm>
#include <cmath>
#include <tuple>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/math/softmax.hpp"
#include "multistate/policy/chunks.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct lagkv {
    static constexpr std::string_view name = "lagkv";
    static constexpr std::string_view paper = "arXiv 2504.04704";
    static constexpr per forgets() noexcept { return per::head; }

    std::size_t lag = 128;  ///< tokens
    bool ranks = true;      ///< false: s itself is the score, and pieces lose as many states as score little
    static constexpr auto parameters = std::tuple{parameter{"lag", &lagkv::lag, std::size_t{4}, std::size_t{1} << 20},
                                                  parameter{"ranks", &lagkv::ranks, false, true}};

    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = (std::min<std::size_t>)(4, states / 8), .recent = 0};
    }
    /// The piece a state waits for, 0 when it has a score; two scratch numbers for each state of a piece.
    static constexpr std::size_t floats_per_state(const table_shape&) noexcept { return 3; }
    /// The length, a counter; the least and the inverse range of each channel, a key or value.
    static constexpr std::size_t floats_per_table(const table_shape& s) noexcept {
        return first_buffer + 3 * (std::max)(s.head_dim, s.value_dim);
    }

    void on_insert(rows, rows, view states, std::size_t row) const noexcept {
        const std::size_t n = piece_length(lag, states.shape);
        start_pieces(states, n);
        if (row < states.guarded.sinks) return;
        piece_counter text(states.own.subspan(1));
        text.count(n);
        states.memory(0)[row] = text.number();
        states.score[row] = waiting;
    }
    void on_forget(const reader& stored, view states) const noexcept {
        const piece_counter text(states.own.subspan(1));
        const float last = text.ended(piece_length(lag, states.shape)) ? text.number() : text.number() - 1;
        const auto order = states.by_position;
        const auto piece = states.memory(0);
        const auto end_of = [&](float number) {  // those that wait are the newest
            std::size_t end = order.size();
            while (end > 0 && piece[order[end - 1]] > number) --end;
            return end;
        };
        for (std::size_t first = end_of(0); first < order.size(); first = end_of(0)) {
            const float number = piece[order[first]];
            if (number >= last) return;
            const std::size_t end = end_of(number);
            judge(stored, states, order.subspan(first, end - first), order.subspan(end, end_of(number + 1) - end));
        }
    }

  private:
    using row_numbers = std::span<const std::uint32_t>;
    static constexpr std::size_t first_buffer = 1 + piece_counter::floats;

    void judge(const reader& stored, view states, row_numbers piece, row_numbers next) const noexcept {
        const auto sums = states.memory(1).first(piece.size()), deviations = states.memory(2).first(piece.size());
        std::ranges::fill(sums, 0.0f);
        for (std::size_t h = 0; h < states.shape.kv_heads; ++h) {
            for (const bool values : {false, true}) {
                find_deviations(stored, states, h, values, piece, next, deviations);
                softmax(deviations);
                simd::add(deviations, sums);
            }
        }
        for (std::size_t i = 0; i < piece.size(); ++i) {
            states.score[piece[i]] = ranks ? rank(sums, i) / static_cast<float>(piece.size()) : sums[i];
            states.memory(0)[piece[i]] = 0;
        }
    }

    /// deviations[i] = that of the channels of row piece[i], each measured by its range in the rows `next`.
    static void find_deviations(const reader& stored, view states, std::size_t h, bool values, row_numbers piece,
                                row_numbers next, std::span<float> deviations) noexcept {
        const std::size_t d = values ? states.shape.value_dim : states.shape.head_dim;
        const auto buffer = [&](std::size_t i) { return states.own.subspan(first_buffer + i * d, d); };
        const auto least = buffer(0), scale = buffer(1), x = buffer(2);  // scale: first the greatest
        const auto read = [&](std::uint32_t row) { values ? stored.value(h, row, x) : stored.key(h, row, x); };
        std::ranges::fill(least, 0.0f);
        std::ranges::fill(scale, 0.0f);
        for (std::size_t i = 0; i < next.size(); ++i) {
            read(next[i]);
            for (std::size_t c = 0; c < d; ++c) {
                least[c] = i == 0 ? x[c] : (std::min)(least[c], x[c]);
                scale[c] = i == 0 ? x[c] : (std::max)(scale[c], x[c]);
            }
        }
        for (std::size_t c = 0; c < d; ++c) scale[c] = scale[c] > least[c] ? 1 / (scale[c] - least[c]) : 0;
        for (std::size_t i = 0; i < piece.size(); ++i) {
            read(piece[i]);
            float mean = 0, squares = 0;
            for (std::size_t c = 0; c < d; ++c) mean += x[c] = (x[c] - least[c]) * scale[c];
            mean /= static_cast<float>(d);
            for (const float y : x) squares += (y - mean) * (y - mean);
            deviations[i] = std::sqrt(squares / static_cast<float>((std::max<std::size_t>)(d, 2) - 1));
        }
    }
    /// How many of a piece score less than its i-th; of equals the oldest.
    static float rank(std::span<const float> sums, std::size_t i) noexcept {
        std::size_t less = 0;
        for (std::size_t n = 0; n < sums.size(); ++n) less += sums[n] < sums[i] || (sums[n] == sums[i] && n < i);
        return static_cast<float>(less);
    }
};
static_assert(policy<lagkv> && hooks_of<lagkv> == (hook::default_guards | hook::on_insert | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
