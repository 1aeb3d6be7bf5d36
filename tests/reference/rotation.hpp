#pragma once

// Rotary positions, for rules that look at keys and queries before rotation or where a later token will see them.
#include <cmath>
#include <cstddef>
#include <vector>

#include "reference/numbers.hpp"
#include "reference/rule.hpp"

namespace reference {

/// What a model does to a vector at a position: neighbors form pairs, pair i of n turns by position * 10000^(-i / n).
struct rotation {
    numbers cosines, sines;

    rotation(int position, std::size_t head_dim) {
        const auto pairs = static_cast<double>(head_dim / 2);
        for (double i = 0; i < pairs; ++i) {
            const double angle = position * std::pow(10000, -i / pairs);
            cosines.push_back(std::cos(angle));
            sines.push_back(std::sin(angle));
        }
    }
    numbers done(const numbers& x) const {
        numbers result = x;
        for (std::size_t i = 0; i < cosines.size(); ++i) {
            result[2 * i] = cosines[i] * x[2 * i] - sines[i] * x[2 * i + 1];
            result[2 * i + 1] = cosines[i] * x[2 * i + 1] + sines[i] * x[2 * i];
        }
        return result;
    }
    /// The vector as it was before.
    numbers undone(const numbers& x) const {
        numbers result = x;
        for (std::size_t i = 0; i < cosines.size(); ++i) {
            result[2 * i] = cosines[i] * x[2 * i] + sines[i] * x[2 * i + 1];
            result[2 * i + 1] = cosines[i] * x[2 * i + 1] - sines[i] * x[2 * i];
        }
        return result;
    }
};

/// Queries before rotation, those of the first four positions left out.
inline std::vector<std::vector<numbers>> queries_before_rotation(const evidence& e) {
    std::vector<std::vector<numbers>> result(e.shape.heads);
    for (const token& t : e.past) {
        if (t.position < 4) continue;
        const rotation turned(t.position, e.shape.head_dim);
        for (std::size_t i = 0; i < e.shape.heads; ++i) result[i].push_back(turned.undone(t.queries[i]));
    }
    return result;
}

/// The mean of the rotations to the next 512 positions.
inline rotation mean_rotation(int newest, std::size_t head_dim) {
    rotation sum(newest + 1, head_dim);
    for (int p = newest + 2; p <= newest + 512; ++p) {
        const rotation one(p, head_dim);
        add(one.cosines, sum.cosines);
        add(one.sines, sum.sines);
    }
    sum.cosines = scaled(sum.cosines, 1.0 / 512);
    sum.sines = scaled(sum.sines, 1.0 / 512);
    return sum;
}

}  // namespace reference
