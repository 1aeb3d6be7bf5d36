#pragma once

// The cells' rules in double precision, each number on its own, as their headers state them.
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <multistate/recurrent/recurrent.hpp>

namespace recurrent {

namespace ms = multistate;
using doubles = std::vector<double>;

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// Row r of W x, where W begins at weights.
inline double dot(std::span<const double> weights, std::span<const double> x, std::size_t r) {
    double sum = 0;
    for (std::size_t c = 0; c < x.size(); ++c) sum += weights[r * x.size() + c] * x[c];
    return sum;
}

/// One token of minGRU and minLSTM: updates the state h.
template <class Shape>
void advance_minimal(const Shape& s, std::span<const double> p, std::span<const double> x, doubles& h, auto gates) {
    const std::size_t maps = p.size() / (s.inputs + 1), u = s.units;
    const auto map = [&](std::size_t r) { return dot(p, x, r) + p[maps * s.inputs + r]; };
    for (std::size_t c = 0; c < u; ++c) {
        const auto [keep, take] = gates([&](std::size_t gate) { return map(gate * u + c); });
        double v = map(maps - u + c);
        if (s.candidate == ms::candidate::positive) v = v >= 0 ? v + 0.5 : sigmoid(v);
        h[c] = keep * h[c] + take * v;
    }
}

inline void advance(const ms::min_gru_shape& s, std::span<const double> p, std::span<const double> x, doubles& h) {
    advance_minimal(s, p, x, h, [](auto map) { return std::pair(sigmoid(-map(0)), sigmoid(map(0))); });
}

inline void advance(const ms::min_lstm_shape& s, std::span<const double> p, std::span<const double> x, doubles& h) {
    advance_minimal(s, p, x, h, [&](auto map) {
        const double f = sigmoid(map(0)), i = sigmoid(map(1));
        return s.normalized ? std::pair(f / (f + i), i / (f + i)) : std::pair(f, i);
    });
}

/// Calls f(gate's map of x, gate's map of h) for a unit of a classic cell.
struct classic_maps {
    std::size_t gates;
    const ms::classic_shape& s;
    std::span<const double> p;
    std::span<const double> x;
    doubles h;

    double of_x(std::size_t row) const { return dot(p, x, row) + p[gates * s.units * (s.inputs + s.units) + row]; }
    double of_h(std::size_t row) const {
        return dot(p.subspan(gates * s.units * s.inputs), h, row) + p[gates * s.units * (s.inputs + s.units + 1) + row];
    }
};

template <class Cell>
void advance_classic(const ms::classic_shape& s, std::span<const double> p, std::span<const double> x, doubles& state) {
    const std::size_t u = s.units;
    const classic_maps m{std::is_same_v<Cell, ms::gru> ? 3u : 4u, s, p, x, doubles(state.data(), state.data() + u)};
    for (std::size_t c = 0; c < u; ++c) {
        const auto both = [&](std::size_t gate) { return m.of_x(gate * u + c) + m.of_h(gate * u + c); };
        if constexpr (std::is_same_v<Cell, ms::gru>) {
            const double r = sigmoid(both(0)), z = sigmoid(both(1));
            const double n = std::tanh(m.of_x(2 * u + c) + r * m.of_h(2 * u + c));
            state[c] = (1 - z) * n + z * m.h[c];
        } else {
            state[u + c] = sigmoid(both(1)) * state[u + c] + sigmoid(both(0)) * std::tanh(both(2));
            state[c] = sigmoid(both(3)) * std::tanh(state[u + c]);
        }
    }
}

/// All tokens of one sequence: outputs, and the state after them.
template <class Cell>
doubles oracle(const typename Cell::shape_type& s, const doubles& p, const doubles& x, doubles& state) {
    doubles out;
    for (std::size_t t = 0; t * s.inputs < x.size(); ++t) {
        const auto token = std::span(x).subspan(t * s.inputs, s.inputs);
        if constexpr (std::is_same_v<typename Cell::shape_type, ms::classic_shape>) {
            advance_classic<Cell>(s, p, token, state);
        } else {
            advance(s, p, token, state);
        }
        out.insert(out.end(), state.begin(), state.begin() + static_cast<std::ptrdiff_t>(s.units));
    }
    return out;
}

}  // namespace recurrent
