// Mamba's block against PyTorch (selective_golden.py), against finite differences and against itself: step by step,
// in blocks of time, in batches, in bf16.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/execution/thread_pool.hpp>
#include <multistate/recurrent/selective.hpp>

#include "recurrent/selective_golden.hpp"

namespace selective_test {

namespace ms = multistate;
namespace golden = selective_golden;

using floats = std::vector<float>;

constexpr ms::selective_shape golden_shape{.inputs = golden::inputs,
                                           .units = golden::units,
                                           .outputs = golden::outputs,
                                           .unit_states = golden::state_size,
                                           .convolution = golden::convolution,
                                           .delta_rank = golden::rank};

/// [rows, columns] to [columns, rows].
floats transposed(const floats& x, std::size_t rows) {
    const std::size_t columns = x.size() / rows;
    floats y(x.size());
    for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < columns; ++c) y[c * rows + r] = x[r * columns + c];
    }
    return y;
}

floats joined(std::initializer_list<floats> parts) {
    floats all;
    for (const floats& each : parts) all.insert(all.end(), each.begin(), each.end());
    return all;
}

/// The tensors of mamba_ssm in the library's order.
floats golden_parameters() {
    return joined({golden::in_proj_weight, transposed(golden::conv1d_weight, golden::units), golden::conv1d_bias,
                   golden::x_proj_weight, golden::dt_proj_weight, golden::dt_proj_bias,
                   transposed(golden::A_log, golden::units), golden::D, golden::out_proj_weight});
}
floats golden_gradients() {
    return joined({golden::d_in_proj_weight, transposed(golden::d_conv1d_weight, golden::units), golden::d_conv1d_bias,
                   golden::d_x_proj_weight, golden::d_dt_proj_weight, golden::d_dt_proj_bias,
                   transposed(golden::d_A_log, golden::units), golden::d_D, golden::d_out_proj_weight});
}
floats golden_states(const floats& windows, const floats& h) {
    const std::size_t window = (golden::convolution - 1) * golden::units, each = golden::units * golden::state_size;
    floats states;
    for (std::size_t s = 0; s < golden::lengths.size(); ++s) {
        states.insert(states.end(), windows.begin() + static_cast<std::ptrdiff_t>(s * window),
                      windows.begin() + static_cast<std::ptrdiff_t>((s + 1) * window));
        const floats one(h.begin() + static_cast<std::ptrdiff_t>(s * each),
                         h.begin() + static_cast<std::ptrdiff_t>((s + 1) * each));
        const floats turned = transposed(one, golden::units);
        states.insert(states.end(), turned.begin(), turned.end());
    }
    return states;
}

void expect_near(const floats& got, const floats& wanted, double bound, const char* what) {
    ASSERT_EQ(got.size(), wanted.size()) << what;
    double largest = 0;
    for (const float each : wanted) largest = std::max(largest, std::abs(static_cast<double>(each)));
    for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_NEAR(got[i], wanted[i], bound * largest) << what << " at " << i;
    }
}

floats random_floats(std::size_t n, unsigned seed, float scale) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, scale);
    floats x(n);
    for (float& each : x) each = normal(random);
    return x;
}

/// Parameters for which neither the state nor its gradient vanishes or grows.
struct model {
    explicit model(const ms::selective_shape& shape, unsigned seed = 1)
        : parameters(random_floats(ms::selective::parameter_count(shape), seed, 0.3f)), cell(shape, parameters) {}
    floats parameters;
    ms::selective cell;
};

floats scanned(const ms::selective& cell, const floats& x, floats& state, std::vector<std::size_t> lengths = {},
               floats* saved = nullptr) {
    const std::size_t tokens = x.size() / cell.input_size();
    ms::cell_workspace scratch(cell, {.sequences = state.size() / cell.state_size(), .tokens = tokens});
    floats out(tokens * cell.output_size());
    if (saved != nullptr) saved->resize(cell.saved_size(tokens));
    cell.scan({.x = x,
               .state = state,
               .out = out,
               .lengths = lengths,
               .saved = saved == nullptr ? std::span<float>{} : std::span<float>(*saved)},
              scratch);
    return out;
}
floats stepped(const ms::selective& cell, const floats& x, floats& state) {
    const std::size_t tokens = x.size() / cell.input_size();
    ms::cell_workspace scratch(cell, {});
    floats out(tokens * cell.output_size());
    for (std::size_t t = 0; t < tokens; ++t) {
        cell.step({.x = std::span(x).subspan(t * cell.input_size(), cell.input_size()),
                   .state = state,
                   .out = std::span(out).subspan(t * cell.output_size(), cell.output_size())},
                  scratch);
    }
    return out;
}

TEST(selective, equals_pytorch) {
    const floats parameters = golden_parameters();
    ASSERT_EQ(parameters.size(), ms::selective::parameter_count(golden_shape));
    const ms::selective cell(golden_shape, parameters);
    floats state = golden_states(golden::window, golden::h), saved;
    const floats initial = state;
    const floats out = scanned(cell, golden::x, state, golden::lengths, &saved);
    expect_near(out, golden::out, 2e-6, "out");
    expect_near(state, golden_states(golden::last_window, golden::last_h), 2e-6, "state");

    floats x_gradient(golden::x.size()), state_gradient(state.size()), gradient(parameters.size(), 1.0f);
    const std::size_t tokens = golden::x.size() / golden::inputs;
    ms::cell_workspace scratch(cell, {.sequences = golden::lengths.size(), .tokens = tokens});
    cell.backward({.x = golden::x,
                   .initial_state = initial,
                   .out = out,
                   .saved = saved,
                   .lengths = golden::lengths,
                   .out_gradient = golden::d_out,
                   .state_gradient = state_gradient,
                   .x_gradient = x_gradient,
                   .parameter_gradient = gradient},
                  scratch);
    for (float& each : gradient) each -= 1;  // it is added to
    expect_near(x_gradient, golden::d_x, 5e-6, "gradient of x");
    expect_near(state_gradient, golden_states(golden::d_window, golden::d_h), 5e-6, "gradient of the state");
    expect_near(gradient, golden_gradients(), 5e-6, "gradient of the parameters");
}

/// Golden gradients begin from zeros after the last token; here something follows, over many saved states.
TEST(selective, gradients_are_finite_differences) {
    for (const std::size_t convolution : {std::size_t{1}, std::size_t{4}}) {
        const ms::selective_shape shape{
            .inputs = 3, .units = 21, .outputs = 2, .unit_states = 4, .convolution = convolution, .delta_rank = 2};
        model m(shape);
        const std::vector<std::size_t> lengths{37, 2, 16};
        const floats x = random_floats(55 * 3, 2, 1), initial = random_floats(3 * m.cell.state_size(), 3, 0.5f);
        const floats by_out = random_floats(55 * 2, 4, 1), by_state = random_floats(initial.size(), 5, 1);
        const auto loss = [&](const floats& parameters, const floats& xs, floats state) {
            const ms::selective cell(shape, parameters);
            const floats out = scanned(cell, xs, state, lengths);
            double sum = 0;
            for (std::size_t i = 0; i < out.size(); ++i) sum += static_cast<double>(out[i]) * by_out[i];
            for (std::size_t i = 0; i < state.size(); ++i) sum += static_cast<double>(state[i]) * by_state[i];
            return sum;
        };
        floats state = initial, saved, x_gradient(x.size()), state_gradient = by_state, gradient(m.parameters.size());
        const floats out = scanned(m.cell, x, state, lengths, &saved);
        ms::cell_workspace scratch(m.cell, {.sequences = 3, .tokens = 55});
        m.cell.backward({.x = x,
                         .initial_state = initial,
                         .out = out,
                         .saved = saved,
                         .lengths = lengths,
                         .out_gradient = by_out,
                         .state_gradient = state_gradient,
                         .x_gradient = x_gradient,
                         .parameter_gradient = gradient},
                        scratch);
        const auto check = [&](const floats& at, const floats& analytic, auto loss_at, const char* what) {
            const floats direction = random_floats(at.size(), 6, 1);
            floats ahead = at, behind = at;
            double slope = 0;
            constexpr float step = 1e-3f;
            for (std::size_t i = 0; i < at.size(); ++i) {
                ahead[i] += step * direction[i];
                behind[i] -= step * direction[i];
                slope += static_cast<double>(analytic[i]) * (static_cast<double>(ahead[i]) - behind[i]) / 2 / step;
            }
            const double measured = (loss_at(ahead) - loss_at(behind)) / 2 / step;
            EXPECT_NEAR(measured, slope, 2e-3 * std::max(1.0, std::abs(slope)))
                << what << ", convolution " << convolution;
        };
        check(
            m.parameters, gradient, [&](const floats& p) { return loss(p, x, initial); }, "parameters");
        check(
            x, x_gradient, [&](const floats& xs) { return loss(m.parameters, xs, initial); }, "x");
        check(
            initial, state_gradient, [&](const floats& s) { return loss(m.parameters, x, s); }, "state");
    }
}

/// With few units, a scan divides time; with many, units. Both continue a state as steps do.
TEST(selective, scan_equals_steps) {
    for (const std::size_t units : {std::size_t{5}, std::size_t{64}, std::size_t{600}}) {
        for (const std::size_t tokens : {std::size_t{1}, std::size_t{64}, std::size_t{193}}) {
            const model m({.inputs = 9, .units = units, .unit_states = 3});
            const floats x = random_floats(tokens * 9, 7, 1);
            floats one = random_floats(m.cell.state_size(), 8, 0.5f), other = one;
            const floats wanted = stepped(m.cell, x, one), got = scanned(m.cell, x, other);
            expect_near(got, wanted, 5e-6, "out");
            expect_near(other, one, 5e-6, "state");
        }
    }
}

TEST(selective, batches_equal_single_sequences_and_executors_agree) {
    for (const std::size_t units : {std::size_t{30}, std::size_t{200}}) {
        const model m({.inputs = 5, .units = units, .outputs = 7, .unit_states = 5});
        const std::vector<std::size_t> lengths{130, 1, 3, 70};
        const floats x = random_floats(204 * 5, 9, 1);
        floats states = random_floats(4 * m.cell.state_size(), 10, 0.5f), threaded = states, apart = states;
        const floats out = scanned(m.cell, x, states, lengths);
        ms::thread_pool pool(3);
        ms::cell_workspace scratch(m.cell, {.sequences = 4, .tokens = 204});
        floats out_of_threads(out.size());
        m.cell.scan({.x = x, .state = threaded, .out = out_of_threads, .lengths = lengths}, scratch, pool);
        EXPECT_EQ(out, out_of_threads);
        EXPECT_EQ(states, threaded);
        std::size_t first = 0;
        for (std::size_t s = 0; s < 4; ++s) {
            const auto at = apart.begin() + static_cast<std::ptrdiff_t>(s * m.cell.state_size());
            floats state(at, at + static_cast<std::ptrdiff_t>(m.cell.state_size()));
            const floats part(x.begin() + static_cast<std::ptrdiff_t>(first * 5),
                              x.begin() + static_cast<std::ptrdiff_t>((first + lengths[s]) * 5));
            const floats alone = scanned(m.cell, part, state);
            expect_near(alone,
                        {out.begin() + static_cast<std::ptrdiff_t>(first * 7),
                         out.begin() + static_cast<std::ptrdiff_t>((first + lengths[s]) * 7)},
                        5e-6, "out");
            first += lengths[s];
        }
    }
}

TEST(selective, steps_of_a_batch_equal_single_steps) {
    const model m({.inputs = 6, .units = 40});
    const floats x = random_floats(11 * 6, 11, 1);
    floats states = random_floats(11 * m.cell.state_size(), 12, 0.5f), apart = states, out(11 * 6);
    ms::cell_workspace scratch(m.cell, {.sequences = 11, .tokens = 11});
    m.cell.step({.x = x, .state = states, .out = out}, scratch);
    for (std::size_t s = 0; s < 11; ++s) {
        floats one(6);
        const auto state = std::span(apart).subspan(s * m.cell.state_size(), m.cell.state_size());
        m.cell.step({.x = std::span(x).subspan(s * 6, 6), .state = state, .out = one}, scratch);
        for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(one[i], out[s * 6 + i], 2e-6);
    }
    expect_near(states, apart, 2e-6, "state");
}

TEST(selective, bf16_equals_floats_of_the_same_values) {
    const ms::selective_shape shape{.inputs = 10, .units = 70, .unit_states = 6};
    std::vector<std::uint16_t> bits;
    floats rounded;
    for (const float each : random_floats(ms::selective::parameter_count(shape), 13, 0.3f)) {
        bits.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(each) >> 16));
        rounded.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits.back()) << 16));
    }
    const ms::selective wide(shape, rounded), narrow(shape, bits);
    const floats x = random_floats(100 * 10, 14, 1);
    floats a(wide.state_size()), b(wide.state_size());
    expect_near(scanned(narrow, x, a), scanned(wide, x, b), 2e-6, "scan");
    expect_near(a, b, 2e-6, "state");
    expect_near(stepped(narrow, x, a), stepped(wide, x, b), 2e-6, "step");
}

/// Extreme inputs close and open gates and forget everything: no number may become infinite or NaN.
TEST(selective, stays_finite) {
    const model m({.inputs = 4, .units = 33, .unit_states = 3});
    for (const float scale : {1e4f, 1e-20f}) {
        const floats x = random_floats(80 * 4, 15, scale);
        floats state(m.cell.state_size()), saved;
        const floats initial = state, out = scanned(m.cell, x, state, {}, &saved);
        EXPECT_TRUE(std::ranges::all_of(out, [](float each) { return std::isfinite(each); }));
        EXPECT_TRUE(std::ranges::all_of(state, [](float each) { return std::isfinite(each); }));
        EXPECT_TRUE(std::ranges::all_of(saved, [](float each) { return std::isfinite(each); }));
    }
}

std::string message(const ms::selective_shape& shape, std::size_t parameters, float value = 0.5f) {
    try {
        const ms::selective cell(shape, floats(parameters, value));
    } catch (const std::invalid_argument& e) {
        return e.what();
    }
    return "";
}

TEST(selective, refuses_wrong_shapes_and_parameters) {
    EXPECT_EQ(message({.inputs = 0, .units = 4}, 1), "selective: inputs must be from 1 to 1073741823, is 0");
    EXPECT_EQ(message({.inputs = 4, .units = 0}, 1), "selective: units must be from 1 to 1073741823, is 0");
    EXPECT_EQ(message({.inputs = 4, .units = 4, .unit_states = 0}, 1),
              "selective: unit_states must be from 1 to 256, is 0");
    EXPECT_EQ(message({.inputs = 4, .units = 4, .convolution = 17}, 1),
              "selective: convolution must be from 1 to 16, is 17");
    const ms::selective_shape shape{.inputs = 4, .units = 4, .unit_states = 2};
    const std::size_t count = ms::selective::parameter_count(shape);
    EXPECT_EQ(count, 2 * 4 * 4 + 4 * 4 + 4 + 5 * 4 + 4 + 4 + 2 * 4 + 4 + 4 * 4);
    EXPECT_EQ(message(shape, count), "");
    EXPECT_EQ(message(shape, count - 1), "selective: parameters must be parameter_count(shape) = " +
                                             std::to_string(count) + ", is " + std::to_string(count - 1));
    EXPECT_EQ(message(shape, count, INFINITY), "selective: parameters must be finite, is inf at index 0");
    EXPECT_NE(message({.inputs = std::size_t{1} << 29,
                       .units = std::size_t{1} << 29,
                       .unit_states = 256,
                       .delta_rank = std::size_t{1} << 29},
                      1),
              "");
}

TEST(selective_death, misuse_of_a_call_is_reported) {
    const model m({.inputs = 4, .units = 8});
    ms::cell_workspace scratch(m.cell, {});
    floats x(4), state(m.cell.state_size()), out(4);
    EXPECT_DEATH(m.cell.step({.x = x, .state = state, .out = std::span(out).first(3)}, scratch),
                 "selective: out must be");
    EXPECT_DEATH(m.cell.step({.x = std::span(x).first(3), .state = state, .out = out}, scratch),
                 "selective: x must be");
    floats two(8), more(8);
    EXPECT_DEATH(m.cell.step({.x = two, .state = state, .out = more}, scratch), "selective: x must be");
    EXPECT_DEATH(m.cell.scan({.x = two, .state = state, .out = more}, scratch), "selective: scratch must be");
    EXPECT_DEATH(m.cell.scan({.x = x, .state = state, .out = out, .log_space = true}, scratch), "log_space");
}

}  // namespace selective_test
