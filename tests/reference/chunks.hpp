#pragma once

// Rules that score the text by chunks.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <map>
#include <numbers>
#include <vector>

#include "reference/numbers.hpp"
#include "reference/rotation.hpp"
#include "reference/rule.hpp"

namespace reference {

inline constexpr double waiting = std::numeric_limits<double>::infinity();

inline std::size_t chunk_length(const evidence& e, std::size_t wanted) {
    const std::size_t length = std::min(wanted, e.shape.states / 4);
    return length < 4 ? 1 : length;
}

/// The tokens of a chunk, from past[first] on.
struct chunk {
    const evidence& e;
    std::size_t first;
    std::size_t length;

    const token& operator[](std::size_t i) const { return e.past[first + i]; }
    /// Those held when past[last] attended.
    std::vector<std::size_t> held(std::size_t last) const {
        const auto& seen = e.past[last].seen[e.first_kv_head];
        std::vector<std::size_t> result;
        for (std::size_t i = 0; i < length; ++i) {
            if (std::ranges::find(seen, (*this)[i].position) != seen.end()) result.push_back(i);
        }
        return result;
    }
};

/// Asks for the scores of each chunk, one for each token, when it and `ahead` more have ended; the `skipped` first
/// tokens are in none.
inline numbers by_chunks(const evidence& e, std::size_t wanted, std::size_t skipped, std::size_t ahead,
                         const std::function<numbers(const chunk&)>& score) {
    const std::size_t length = chunk_length(e, wanted);
    std::map<int, double> found;
    for (std::size_t first = skipped; first + (1 + ahead) * length <= e.past.size(); first += length) {
        const chunk one{e, first, length};
        const numbers scores = length == 1 ? numbers{0} : score(one);
        for (std::size_t i = 0; i < length; ++i) found[one[i].position] = scores[i];
    }
    numbers result;
    for (const state& s : e.states()) result.push_back(found.contains(s.position) ? found[s.position] : waiting);
    return result;
}

/// Sum over the chunk's queries of the softmax over all of the chunk, times the norm of the value, mean of three.
inline numbers asked_by_neighbors(const chunk& p) {
    numbers scores(p.length);
    for (std::size_t h = p.e.first_kv_head; h < p.e.end_kv_head(); ++h) {
        numbers sums(p.length);
        for (std::size_t i = h * p.e.shape.group(); i < (h + 1) * p.e.shape.group(); ++i) {
            for (std::size_t t = 0; t < p.length; ++t) {
                numbers logits;
                for (std::size_t j = 0; j < p.length; ++j) logits.push_back(dot(p[t].queries[i], p[j].keys[h]));
                add(softmax(logits), sums);
            }
        }
        for (std::size_t j = 0; j < p.length; ++j) sums[j] *= norm(p[j].values[h]);
        for (std::size_t j = 0; j < p.length; ++j) {
            numbers three{sums[j]};
            if (j > 0) three.push_back(sums[j - 1]);
            if (j + 1 < p.length) three.push_back(sums[j + 1]);
            scores[j] += mean(three);
        }
    }
    return scores;
}

/// Gaussian number i of the random matrix: both uniform numbers come from a hash of seed 0, i and 0 or 1.
inline double gaussian(std::size_t i) {
    const auto bits = [&](std::size_t which) { return hash(0, {0, i, which}); };
    const double open = (static_cast<double>(bits(0) >> 41) + 0.5) / 8388608;
    return std::sqrt(-2 * std::log(open)) *
           std::cos(2 * std::numbers::pi * static_cast<double>(bits(1) >> 40) / 16777216);
}

inline numbers leverages_of(const chunk& p) {
    const std::size_t d = p.e.shape.head_dim;
    const std::size_t columns = std::max<std::size_t>(1, std::min({std::size_t{48}, d, p.length / 2}));
    std::vector<numbers> sketch(columns);
    for (std::size_t i = 0; i < columns * d; ++i) {
        sketch[i / d].push_back(gaussian(i) / std::sqrt(static_cast<double>(columns)));
    }
    numbers scores(p.length);
    for (std::size_t h = p.e.first_kv_head; h < p.e.end_kv_head(); ++h) {
        std::vector<numbers> rows(p.length);
        numbers centre;
        for (std::size_t j = 0; j < p.length; ++j) {
            const numbers key = rotation(p[j].position, d).undone(p[j].keys[h]);
            for (const numbers& column : sketch) rows[j].push_back(dot(key, column));
            add(scaled(rows[j], 1 / static_cast<double>(p.length)), centre);
        }
        std::vector<numbers> squares(columns, numbers(columns));
        for (numbers& row : rows) {
            add(scaled(centre, -1), row);
            for (std::size_t c = 0; c < columns; ++c) add(scaled(row, row[c]), squares[c]);
        }
        for (std::size_t c = 0; c < columns; ++c) squares[c][c] += 0.01f;
        for (std::size_t j = 0; j < p.length; ++j) scores[j] += dot(rows[j], solve(squares, rows[j]));
    }
    return scores;
}

}  // namespace reference
