// The cells against their rules in double precision: outputs for every kind of size, gradients by finite differences, and
// the two scans of the minimal cells against each other.
#include "recurrent/oracle.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "recurrent/cells.hpp"
#include "support/type_names.hpp"

namespace recurrent_oracle_test {

namespace ms = multistate;
using namespace recurrent;

doubles widened(const floats& x) { return {x.begin(), x.end()}; }

/// All forms of a cell.
template <class Cell>
std::vector<typename Cell::shape_type> forms(std::size_t inputs, std::size_t units) {
    using ms::candidate;
    if constexpr (std::is_same_v<Cell, ms::min_gru>) {
        return {{inputs, units, candidate::positive}, {inputs, units, candidate::linear}};
    } else if constexpr (std::is_same_v<Cell, ms::min_lstm>) {
        return {{inputs, units, candidate::positive, true},
                {inputs, units, candidate::positive, false},
                {inputs, units, candidate::linear, true},
                {inputs, units, candidate::linear, false}};
    } else {
        return {{inputs, units}};
    }
}

template <class Cell>
class oracle_of_cells : public testing::Test {};
TYPED_TEST_SUITE(oracle_of_cells, cells, support::type_names);

TYPED_TEST(oracle_of_cells, gives_the_same_outputs_for_every_size) {
    for (const std::size_t units : {1u, 4u, 15u, 16u, 33u, 70u}) {
        for (const std::size_t inputs : {1u, 3u, 17u, 64u, 300u}) {
            for (const auto& shape : forms<TypeParam>(inputs, units)) {
                // larger weights would make classic cells chaotic, and rounding errors grow with every token
                example<TypeParam> e(units + inputs, shape, 1.7f / std::sqrt(static_cast<float>(inputs + units)));
                const text given{e.inputs(70), e.states(1)};
                const outcome result = scan(e.cell, given);
                doubles state = widened(given.state);
                const doubles out = oracle<TypeParam>(shape, widened(e.parameters), widened(given.x), state);
                for (std::size_t i = 0; i < out.size(); ++i) {
                    ASSERT_NEAR(result.out[i], out[i], 3e-6 * (1 + std::abs(out[i]))) << inputs << " x " << units;
                }
                for (std::size_t i = 0; i < state.size(); ++i) {
                    ASSERT_NEAR(result.state[i], state[i], 3e-6 * (1 + std::abs(state[i]))) << inputs << " x " << units;
                }
            }
        }
    }
}

TYPED_TEST(oracle_of_cells, has_the_same_gradients_by_finite_differences) {
    for (const auto& shape : forms<TypeParam>(5, 19)) {
        example<TypeParam> e(1, shape);
        const text given{e.inputs(70), e.states(1)};  // more than one block of time
        const outcome forward = scan(e.cell, given);
        const floats weights = e.random.floats(forward.out.size(), 1);
        const floats state_weights = e.random.floats(given.state.size(), 1);
        const gradients gradient = backward(e.cell, given, forward, weights, state_weights);

        doubles p = widened(e.parameters), x = widened(given.x), h = widened(given.state);
        const auto loss = [&] {
            doubles state = h;
            const doubles out = oracle<TypeParam>(shape, p, x, state);
            double sum = 0;
            for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * static_cast<double>(weights[i]);
            for (std::size_t i = 0; i < state.size(); ++i) sum += state[i] * static_cast<double>(state_weights[i]);
            return sum;
        };
        const auto check = [&](doubles& at, const floats& by, const char* what) {
            for (std::size_t i = 0; i < at.size(); i += at.size() / 40 + 1) {
                const double before = at[i], step = 1e-6;
                at[i] = before + step;
                const double above = loss();
                at[i] = before - step;
                const double slope = (above - loss()) / (2 * step);
                at[i] = before;
                ASSERT_NEAR(by[i], slope, 2e-5 * (1 + std::abs(slope))) << what << " " << i;
            }
        };
        check(x, gradient.x, "x");
        check(h, gradient.state, "state");
        check(p, gradient.parameters, "parameters");
    }
}

/// What minimal_cell.hpp states, in double precision from what the scan saved: e^-x of gates, and candidates.
struct bounded_state {
    double h;
    double age = 0;        // the mean number of tokens since what h holds came into it
    double sum = 0;        // of ln keep in this block of time
    double magnitude = 0;  // the greatest of maps and logarithms so far

    void advance(double keep, double take, double c) {
        const double before = keep * h, added = take * c;
        age = before > 0 ? before * (age + 1) / (before + added) : 0;
        h = before + added;
        sum += std::log(keep);
        for (const double x : {sum, std::log(added), std::log(h)}) magnitude = std::max(magnitude, std::abs(x));
    }
    double of_direct_scan() const { return (25 + 14 * age) * 0x1p-24 * h; }
    double of_log_scan() const { return (55 + 32 * age) * (1 + magnitude) * 0x1p-24 * h; }
};

template <class Shape>
std::pair<double, double> gates(const Shape& s, const float* maps) {
    const double x = -std::log(static_cast<double>(maps[0])), f = sigmoid(x);
    if constexpr (std::is_same_v<Shape, ms::min_gru_shape>) {
        return {sigmoid(-x), f};
    } else {
        const double i = 1 / (1 + static_cast<double>(maps[s.units]));
        return s.normalized ? std::pair(f / (f + i), i / (f + i)) : std::pair(f, i);
    }
}

template <class Cell>
void check_channel(const typename Cell::shape_type& s, const float* maps, std::size_t length, double h,
                   const float* direct, const float* logs) {
    bounded_state state{h};
    const std::size_t gate_count = Cell::parameter_count(s) / s.units / (s.inputs + 1) - 1;
    for (std::size_t t = 0; t < length; ++t, maps += (gate_count + 1) * s.units) {
        if (t % 64 == 0) state.sum = 0;
        const auto [keep, take] = gates(s, maps);
        for (std::size_t g = 0; g < gate_count; ++g) {
            state.magnitude = std::max(state.magnitude, std::abs(std::log(static_cast<double>(maps[g * s.units]))));
        }
        state.advance(keep, take, static_cast<double>(maps[gate_count * s.units]));
        ASSERT_NEAR(direct[t * s.units], state.h, state.of_direct_scan()) << "token " << t;
        ASSERT_NEAR(logs[t * s.units], state.h, state.of_log_scan()) << "token " << t;
    }
}

template <class Cell>
class two_scans : public testing::Test {};
using minimal_cells = testing::Types<ms::min_gru, ms::min_lstm>;
TYPED_TEST_SUITE(two_scans, minimal_cells, support::type_names);

/// Both scans lie within the bound of minimal_cell.hpp around the rule: gates that forget fast, slowly and almost never.
TYPED_TEST(two_scans, agree_within_the_stated_bound) {
    for (auto shape : forms<TypeParam>(8, 40)) {
        if (shape.candidate == ms::candidate::linear) continue;
        for (const float scale : {0.1f, 1.0f, 4.0f}) {
            example<TypeParam> e(3, shape, scale);
            const text given{e.inputs(500), e.states(3), {64, 1, 435}};
            const outcome direct = scan(e.cell, given), logs = scan(e.cell, given, ms::serial{}, true);
            EXPECT_EQ(direct.saved, logs.saved);
            std::size_t first = 0;
            for (std::size_t s = 0; s < 3; first += given.lengths[s++]) {
                for (std::size_t c = 0; c < 40; ++c) {
                    const float h = given.state[s * 40 + c];
                    const std::size_t width = direct.saved.size() / 500;
                    check_channel<TypeParam>(shape, direct.saved.data() + first * width + c, given.lengths[s],
                                             static_cast<double>(h), direct.out.data() + first * 40 + c,
                                             logs.out.data() + first * 40 + c);
                    if (this->HasFatalFailure()) return;
                }
            }
        }
    }
}

TYPED_TEST(two_scans, begin_at_zero) {
    example<TypeParam> e(4);
    const text given{e.inputs(130), floats(2 * e.cell.state_size()), {1, 129}};
    const outcome direct = scan(e.cell, given), logs = scan(e.cell, given, ms::serial{}, true);
    expect_near(direct.out, logs.out, 1e-4, "out");
    expect_near(direct.state, logs.state, 1e-4, "state");
}

TYPED_TEST(two_scans, refuse_log_space_where_it_is_wrong) {
    example<TypeParam> linear(5, {.inputs = 3, .units = 4, .candidate = ms::candidate::linear}), positive(6);
    EXPECT_DEATH_IF_SUPPORTED(scan(linear.cell, {linear.inputs(2), floats(4)}, ms::serial{}, true),
                              "candidate in log space must be positive, is linear");
    EXPECT_DEATH_IF_SUPPORTED(scan(positive.cell, {positive.inputs(2), floats(21, -1.0f)}, ms::serial{}, true),
                              "state in log space must be at least 0, is negative");
}

TEST(classic_cells, refuse_log_space) {
    example<ms::gru> e(7);
    EXPECT_DEATH_IF_SUPPORTED(scan(e.cell, {e.inputs(2), e.states(1)}, ms::serial{}, true),
                              "gru: log_space must be false: this cell has no such form, is true");
}

/// The published shares of the classic cells' parameters, for units = 1 to 4 times inputs. They leave biases out, which
/// matter little at this width.
TEST(parameter_counts, are_the_published_shares) {
    constexpr double of_gru[] = {33, 22, 17, 13}, of_lstm[] = {38, 25, 19, 15};
    for (std::size_t expansion = 1; expansion <= 4; ++expansion) {
        const std::size_t inputs = 1024, units = expansion * inputs;
        const auto share = [=]<class Minimal, class Classic>() {
            return std::round(100.0 * static_cast<double>(Minimal::parameter_count({inputs, units})) /
                              static_cast<double>(Classic::parameter_count({inputs, units})));
        };
        EXPECT_EQ((share.template operator()<ms::min_gru, ms::gru>()), of_gru[expansion - 1]);
        EXPECT_EQ((share.template operator()<ms::min_lstm, ms::lstm>()), of_lstm[expansion - 1]);
    }
}

}  // namespace recurrent_oracle_test
