#pragma once

// lagkv: keeps states whose keys and values vary most over their channels, relative to the ranges in the next chunk.
//
//     ms::cache<ms::lagkv> cache(shape, {.lag = 64});         // tokens in a chunk
//
//   paper    "LagKV: Lag-Relative Information of the KV Cache Tells Which Tokens Are Important", arXiv 2504.04704
//   rule     the text after the sinks is divided into chunks of `lag` tokens. s_k[j] = softmax over j's chunk of the
//            standard deviation, over the channels, of (k[j] - min) / (max - min); min and max are of each channel in
//            the next chunk. s_v[j] is the same for values. score[j] = the rank of s_k[j] + s_v[j] in j's chunk,
//            divided by the size of the chunk
//   reads    the stored keys and values of two chunks, once the second has ended
//   forgets  for each KV head; the first min(4, states / 8) are guarded
//   cost     about 8 operations per float of a chunk and the next; other decisions cost nothing. 12 bytes per
//            state.
//   differs  the authors keep the same share of every chunk, for ever. Here the count is fixed: the share falls as the
//            text grows, equally in every chunk, and among equal ranks the oldest is forgotten. The last two chunks
//            stay, as in the authors' code (see chunk_length for small tables). Their code has a lag of 1024 and 16
//            sinks; kvpress has 128 and 4, as here. A channel that does not vary counts 0; in their code it is NaN. A
//            layer (per_layer) sums s_k + s_v over its KV heads.
#include <algorithm>
#include <cmath>

#include "multistate/math/linear_algebra.hpp"
#include "multistate/math/softmax.hpp"
#include "multistate/policy/chunks.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct lagkv {
    static constexpr std::string_view name = "lagkv";
    static constexpr std::string_view paper = "arXiv 2504.04704";
    static constexpr per forgets() noexcept { return per::head; }

    std::size_t lag = 128;  ///< tokens
    bool ranks = true;      ///< false: the score is s_k[j] + s_v[j], and chunks with low sums lose more states
    static constexpr parameter<lagkv> parameters[] = {{"lag", &lagkv::lag, 4, 1 << 20}, {"ranks", &lagkv::ranks}};

    static constexpr guards default_guards(std::size_t states) noexcept {
        return {.sinks = (std::min<std::size_t>)(4, states / 8), .recent = 0};
    }
    struct memory {
        per_state<std::uint32_t> chunk;     // the chunk that the state waits for; 0 if it has a score
        per_state<float> sums, deviations;  // scratch, by index in the chunk
        per_table<std::uint64_t> length;    // of a chunk
        per_table<chunk_counter> text;
        per_table<float> least, scale;  // scratch: the minimum and the inverse range of each channel
        per_table<float> vector;        // scratch: a key or value
    };
    static void lay_out(memory& m, layout& l) noexcept {
        const std::size_t d = (std::max)(l.shape().head_dim, l.shape().value_dim);
        l(m.chunk);
        l(m.sums);
        l(m.deviations);
        l(m.length);
        l(m.text);
        l(m.least, d);
        l(m.scale, d);
        l(m.vector, d);
    }

    void on_insert(rows, rows, view states, std::size_t row) const noexcept {
        const memory mine = states.memory(*this);
        const std::size_t n = chunk_length(lag, states.shape);
        if (start_chunks(states, *this, mine.length, n)) std::ranges::fill(mine.chunk, 0u);
        if (row < states.guarded.sinks) return;
        mine.text[0].count(n);
        mine.chunk[row] = mine.text[0].number();
        states.score[row] = waiting;
    }
    void on_forget(const reader& stored, view states) const noexcept {
        const memory mine = states.memory(*this);
        const chunk_counter& text = mine.text[0];
        // A rebudget decides before the next arrival starts new chunks: the last chunk still has the old length.
        const bool last_ended = text.ended(mine.length[0]);
        const auto order = states.by_position;
        const auto end_of = [&](std::uint32_t number) {  // waiting states are the newest
            std::size_t end = order.size();
            while (end > 0 && mine.chunk[order[end - 1]] > number) --end;
            return end;
        };
        for (std::size_t first = end_of(0); first < order.size(); first = end_of(0)) {
            const std::uint32_t number = mine.chunk[order[first]];
            if (number + (last_ended ? 0 : 1) >= text.number()) return;
            const std::size_t end = end_of(number);
            judge(stored, states, order.subspan(first, end - first), order.subspan(end, end_of(number + 1) - end));
        }
    }

  private:
    using row_numbers = std::span<const std::uint32_t>;

    void judge(const reader& stored, view states, row_numbers chunk, row_numbers next) const noexcept {
        const memory mine = states.memory(*this);
        const auto sums = mine.sums.first(chunk.size()), deviations = mine.deviations.first(chunk.size());
        std::ranges::fill(sums, 0.0f);
        for (std::size_t h = 0; h < states.shape.kv_heads; ++h) {
            for (const bool values : {false, true}) {
                find_deviations(stored, mine, h, values, chunk, next, deviations);
                softmax(deviations);
                simd::add(deviations, sums);
            }
        }
        for (std::size_t i = 0; i < chunk.size(); ++i) {
            states.score[chunk[i]] = ranks ? rank(sums, i) / static_cast<float>(chunk.size()) : sums[i];
            mine.chunk[chunk[i]] = 0;
        }
    }

    /// deviations[i] = the standard deviation over the channels of row chunk[i], relative to each channel's range in
    /// the rows `next`.
    static void find_deviations(const reader& stored, const memory& mine, std::size_t h, bool values, row_numbers chunk,
                                row_numbers next, std::span<float> deviations) noexcept {
        const std::size_t d = values ? stored.value_dim : stored.head_dim;
        const auto least = mine.least.first(d), scale = mine.scale.first(d), x = mine.vector.first(d);
        const auto read = [&](std::uint32_t row) { values ? stored.value(h, row, x) : stored.key(h, row, x); };
        std::ranges::fill(least, 0.0f);
        std::ranges::fill(scale, 0.0f);
        for (std::size_t i = 0; i < next.size(); ++i) {
            read(next[i]);
            for (std::size_t c = 0; c < d; ++c) {
                least[c] = i == 0 ? x[c] : (std::min)(least[c], x[c]);
                scale[c] = i == 0 ? x[c] : (std::max)(scale[c], x[c]);  // the maximum for now
            }
        }
        for (std::size_t c = 0; c < d; ++c) scale[c] = scale[c] > least[c] ? 1 / (scale[c] - least[c]) : 0;
        for (std::size_t i = 0; i < chunk.size(); ++i) {
            read(chunk[i]);
            float mean = 0, squares = 0;
            for (std::size_t c = 0; c < d; ++c) mean += x[c] = (x[c] - least[c]) * scale[c];
            mean /= static_cast<float>(d);
            for (const float y : x) squares += (y - mean) * (y - mean);
            deviations[i] = std::sqrt(squares / static_cast<float>((std::max<std::size_t>)(d, 2) - 1));
        }
    }
    /// The number of states in a chunk that score less than its i-th; among equal scores the oldest counts as less.
    static float rank(std::span<const float> sums, std::size_t i) noexcept {
        std::size_t less = 0;
        for (std::size_t n = 0; n < sums.size(); ++n) less += sums[n] < sums[i] || (sums[n] == sums[i] && n < i);
        return static_cast<float>(less);
    }
};
static_assert(policy<lagkv> && hooks_of<lagkv> == (hook::default_guards | hook::on_insert | hook::on_forget));

}}  // namespace multistate::MULTISTATE_TARGET
