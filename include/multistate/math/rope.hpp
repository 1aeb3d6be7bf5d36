#pragma once

// Rotary positions: rotates the pairs of a query or key by angles that grow with its position, and back.
//
// The library never rotates stored keys. This is for policies that read queries or keys as they were before the model
// rotated them. Their `rope` must be the model's; otherwise these vectors mean nothing.
//
//     ms::rope model{.base = 500000, .adjacent = false};      // Llama 3 as Hugging Face stores it
//     model.unrotate(position, key);                          // the key as the projection made it
//
//   paper    "RoFormer: Enhanced Transformer with Rotary Position Embedding", arXiv 2104.09864
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>

#include "multistate/core/errors.hpp"
#include "multistate/core/parameter.hpp"
#include "multistate/core/types.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// A member of the policies that need it. Angles are computed in double. Up to position 10,000,000 the error is below
/// 2e-7 of the length of a pair.
struct rope {
    float base = 10000;    ///< pair i of n turns by position * base^(-i / n); 0: keys and queries carry no rotation
    bool adjacent = true;  ///< pairs (0, 1), (2, 3), … as in GGUF's llama; false: (0, n), (1, n + 1), … as elsewhere
    std::size_t rotated = 0;             ///< number of leading dimensions that are rotated; 0: all (if their number is
                                         ///< odd, all but the last)
    float stretch = 1;                   ///< linear scaling: positions are divided by it
    std::span<const float> slower = {};  ///< frequency i is divided by slower[i] (Llama 3); empty: unchanged
    static constexpr parameter<rope> parameters[] = {{"base", &rope::base, 0.0f, 1e12f},
                                                     {"adjacent", &rope::adjacent},
                                                     {"rotated", &rope::rotated, 0, 1 << 29},
                                                     {"stretch", &rope::stretch, 1e-3f, 1e6f}};

    /// Only pairs can be rotated; `slower` must have one number per pair.
    void check_shape(const table_shape& s) const {
        using detail::require;
        if (base == 0) return;
        require(rotated % 2 == 0, "rope", "rotated", "even", rotated);
        require(slower.empty() || slower.size() == pairs(s.head_dim), "rope", "slower",
                "one number for each of " + std::to_string(pairs(s.head_dim)) + " pairs", slower.size());
        for (const float x : slower) require(std::isfinite(x) && x > 0, "rope", "slower", "finite and positive", x);
    }

    constexpr std::size_t pairs(std::size_t head_dim) const noexcept {
        if (base == 0) return 0;
        return (rotated == 0 ? head_dim : (std::min)(rotated, head_dim)) / 2;
    }

    void rotate(position p, std::span<float> x) const noexcept {
        for_each_frequency(x.size(),
                           [&](std::size_t i, double f) { turn_pair(i, std::cos(p * f), std::sin(p * f), x); });
    }
    void unrotate(position p, std::span<float> x) const noexcept {
        for_each_frequency(x.size(),
                           [&](std::size_t i, double f) { turn_pair(i, std::cos(p * f), -std::sin(p * f), x); });
    }

    // The same for many vectors with the same position: computes cosines and sines once, into `turns` [head_dim].

    void find_turns(position p, std::span<float> turns) const noexcept {
        for_each_frequency(turns.size(), [&](std::size_t i, double f) {
            turns[2 * i] = static_cast<float>(std::cos(p * f));
            turns[2 * i + 1] = static_cast<float>(std::sin(p * f));
        });
    }
    /// The mean of the rotations by `count` positions starting at `first`: each pair turns by the angle of the middle
    /// position, and shrinks by the spread of the angles around it.
    void find_mean_turns(position first, std::size_t count, std::span<float> turns) const noexcept {
        detail::check(count >= 1, "find_mean_turns", "count", "at least 1", count);
        const auto n = static_cast<double>(count);
        for_each_frequency(turns.size(), [&](std::size_t i, double f) {
            // the sum of e^(i f m) over m < n has length sin(n f / 2) / sin(f / 2)
            const double half = std::sin(f / 2);
            const double length = half == 0 ? 1 : std::sin(n * f / 2) / (n * half);
            const double middle = (first + (n - 1) / 2) * f;
            turns[2 * i] = static_cast<float>(length * std::cos(middle));
            turns[2 * i + 1] = static_cast<float>(length * std::sin(middle));
        });
    }
    void turn(std::span<const float> turns, std::span<float> x) const noexcept {
        expect_turns("turn", turns, x);
        for (std::size_t i = 0; i < pairs(x.size()); ++i) turn_pair(i, turns[2 * i], turns[2 * i + 1], x);
    }
    /// The transposed turn.
    void turn_back(std::span<const float> turns, std::span<float> x) const noexcept {
        expect_turns("turn_back", turns, x);
        for (std::size_t i = 0; i < pairs(x.size()); ++i) turn_pair(i, turns[2 * i], -turns[2 * i + 1], x);
    }
    /// The same for vectors that stand side by side: x [head_dim, width] has one in each column.
    void turn_columns_back(std::span<const float> turns, std::span<float> x, std::size_t width) const noexcept {
        const std::size_t n = pairs(x.size() / width);
        for (std::size_t i = 0; i < n; ++i) {
            const auto a = x.subspan((adjacent ? 2 * i : i) * width, width);
            const auto b = x.subspan((adjacent ? 2 * i + 1 : i + n) * width, width);
            const float cosine = turns[2 * i], sine = -turns[2 * i + 1];
            for (std::size_t k = 0; k < width; ++k) {
                const float turned = a[k] * cosine - b[k] * sine;
                b[k] = a[k] * sine + b[k] * cosine;
                a[k] = turned;
            }
        }
    }
    /// The length of each pair; rotation does not change it.
    void find_lengths(std::span<const float> x, std::span<float> lengths) const noexcept {
        const std::size_t n = pairs(x.size()), step = adjacent ? 2 : 1, partner = adjacent ? 1 : n;
        for (std::size_t i = 0; i < n; ++i) {
            const float a = x[i * step], b = x[i * step + partner];
            lengths[i] = std::sqrt(a * a + b * b);
        }
    }

  private:
    void expect_turns(const char* who, std::span<const float> turns, std::span<const float> x) const noexcept {
        detail::check(turns.size() >= 2 * pairs(x.size()), who, "turns",
                      detail::bound{"as many floats as are turned, ", 2 * pairs(x.size())}, turns.size());
    }
    template <class F>
    void for_each_frequency(std::size_t head_dim, F f) const noexcept {
        const std::size_t n = pairs(head_dim);
        const double ratio = n == 0 ? 1 : std::pow(static_cast<double>(base), -1 / static_cast<double>(n));
        double frequency = 1 / static_cast<double>(stretch);
        for (std::size_t i = 0; i < n; ++i, frequency *= ratio) {
            f(i, i < slower.size() ? frequency / static_cast<double>(slower[i]) : frequency);
        }
    }
    template <class T>
    void turn_pair(std::size_t i, T cosine, T sine, std::span<float> x) const noexcept {
        float& a = x[adjacent ? 2 * i : i];
        float& b = x[adjacent ? 2 * i + 1 : i + pairs(x.size())];
        const auto c = static_cast<float>(cosine), s = static_cast<float>(sine);
        const float turned = a * c - b * s;
        b = a * s + b * c;
        a = turned;
    }
};

}}  // namespace multistate::MULTISTATE_TARGET
