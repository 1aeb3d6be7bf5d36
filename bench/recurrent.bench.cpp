// Recurrent cells (multistate/recurrent): a step against a read of its parameters, a scan against the steps of the
// classic cell, and training against training of the classic cell. Inputs are as wide as units.
//
//     cell_step/<cell>/<f32 or bf16>/<width>                    parameters come from DRAM, as in a model of many layers
//     cell_scan/<minimal cell>/<width>/<length>/<threads>       one sequence; its rival is the classic cell's step loop
//     cell_training/<minimal cell>/<batch>x<width>/<length>/<threads>   forward and backward; beside the classic cell's
//     cell_parameters/<minimal cell>/<units over inputs>        shares of the classic cell's parameters
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <vector>

#include <multistate/execution/thread_pool.hpp>
#include <multistate/recurrent/recurrent.hpp>

#include "interleaved.hpp"
#include "memory.hpp"
#include "names.hpp"
#include "probe.hpp"

namespace {

namespace ms = multistate;

/// One thread or two, as one type.
struct executor {
    std::size_t threads = 1;

    void run(std::size_t n, auto&& task) const noexcept {
        static ms::thread_pool both(2);
        threads == 2 ? both.run(n, task) : ms::serial{}.run(n, task);
    }
};

template <class Cell>
constexpr bool is_lstm = std::is_same_v<Cell, ms::min_lstm> || std::is_same_v<Cell, ms::lstm>;
/// What a minimal cell is held against.
template <class Cell>
using classic = std::conditional_t<is_lstm<Cell>, ms::lstm, ms::gru>;

std::vector<float> parameters_of(std::size_t count, std::size_t width) {
    std::vector<float> result = bench::random_floats(count, 1);
    for (float& p : result) p /= std::sqrt(static_cast<float>(width));
    return result;
}

/// As many equal cells as make a rotation cold. Bits of bf16 are the upper halves of floats.
template <class Cell, class Element>
class cells_in_rotation {
  public:
    explicit cells_in_rotation(std::size_t width)
        : width_(width),
          memory_(pattern(width), Cell::parameter_count({width, width})),
          scratch_(cell(), {}),
          x_(bench::random_floats(width, 2)),
          state_(cell().state_size()),
          out_(width),
          probe_(bytes()) {
        for (std::size_t i = 0; i < bench::cold_bytes / bytes(); ++i) cells_.push_back(cell());
    }

    std::size_t bytes() const { return Cell::parameter_count({width_, width_}) * sizeof(Element); }
    double step() {
        const Cell& next = cells_[at_++ % cells_.size()];
        return bench::seconds([&] { next.step({.x = x_, .state = state_, .out = out_}, scratch_); });
    }
    double read() { return probe_.read(); }

  private:
    static std::vector<Element> pattern(std::size_t width) {
        const std::vector<float> floats = parameters_of(4096, width);
        if constexpr (std::is_same_v<Element, float>) {
            return floats;
        } else {
            std::vector<Element> bits;
            for (const float p : floats) {
                bits.push_back(static_cast<Element>(std::bit_cast<std::uint32_t>(p) >> 16));
            }
            return bits;
        }
    }
    Cell cell() { return {{width_, width_}, memory_.next(Cell::parameter_count({width_, width_}))}; }

    std::size_t width_;
    bench::cold_memory<Element> memory_;
    ms::cell_workspace scratch_;
    std::vector<float> x_, state_, out_;
    bench::probe probe_;
    std::vector<Cell> cells_;
    std::size_t at_ = 0;
};

template <class Cell, class Element>
void step(benchmark::State& state, const std::string& name, std::size_t width) {
    auto& all = bench::prepared(name, [=] { return cells_in_rotation<Cell, Element>(width); });
    bench::turns ours, reads;
    for (auto _ : state) {
        ours.push_back(all.step());
        reads.push_back(all.read());
        state.SetIterationTime(ours.back());
    }
    state.counters["us"] = 1e6 * bench::median(ours);
    state.counters["bytes"] = static_cast<double>(all.bytes());
    state.counters["bytes/s"] = static_cast<double>(all.bytes()) / bench::median(ours);
    state.counters["step/read"] = bench::median_ratio(ours, reads);
}

/// A batch of sequences of one length, and memory for their training.
template <class Cell>
class batch {
  public:
    batch(std::size_t sequences, std::size_t width, std::size_t length)
        : parameters_(parameters_of(Cell::parameter_count({width, width}), width)),
          cell_({width, width}, parameters_),
          scratch_(cell_, {.sequences = sequences, .tokens = sequences * length}),
          x_(bench::random_floats(sequences * length * width, 3)),
          state_(sequences * cell_.state_size()),
          initial_(state_),
          out_(x_.size()),
          out_gradient_(bench::random_floats(x_.size(), 4)),
          x_gradient_(x_.size()),
          parameter_gradient_(parameters_.size()) {}

    double scan(const executor& run) {
        return bench::seconds([&] { cell_.scan({.x = x_, .state = state_, .out = out_}, scratch_, run); });
    }
    /// All tokens of one sequence, one by one.
    double steps() {
        const std::size_t width = cell_.input_size();
        return bench::seconds([&] {
            for (std::size_t i = 0; i < x_.size(); i += width) {
                cell_.step({std::span(x_).subspan(i, width), state_, std::span(out_).subspan(i, width)}, scratch_);
            }
        });
    }
    double train(const executor& run) {
        saved_.resize(cell_.saved_size(x_.size() / cell_.input_size()));
        return bench::seconds([&] {
            std::ranges::fill(state_, 0.0f);
            cell_.scan({.x = x_, .state = state_, .out = out_, .saved = saved_}, scratch_, run);
            std::ranges::fill(state_, 0.0f);
            cell_.backward({.x = x_,
                            .initial_state = initial_,
                            .out = out_,
                            .saved = saved_,
                            .out_gradient = out_gradient_,
                            .state_gradient = state_,
                            .x_gradient = x_gradient_,
                            .parameter_gradient = parameter_gradient_},
                           scratch_, run);
        });
    }
    /// What training holds besides parameters and the arrays of x and out.
    std::size_t training_bytes() const { return saved_.size() * sizeof(float) + scratch_.memory_bytes(); }

  private:
    std::vector<float> parameters_;
    Cell cell_;
    ms::cell_workspace scratch_;
    std::vector<float> x_, state_, initial_, out_, out_gradient_, x_gradient_, parameter_gradient_, saved_;
};

template <class Cell>
struct rivals {
    batch<Cell> ours;
    batch<classic<Cell>> other;

    rivals(std::size_t sequences, std::size_t width, std::size_t length)
        : ours(sequences, width, length), other(sequences, width, length) {}
};

template <class Cell>
void scan(benchmark::State& state, const std::string& name, std::size_t width, std::size_t length,
          std::size_t threads) {
    auto& all = bench::prepared(name, [=] { return rivals<Cell>(1, width, length); });
    const executor run{threads};
    bench::turns ours, classics, steps;
    for (auto _ : state) {
        ours.push_back(all.ours.scan(run));
        steps.push_back(all.ours.steps());
        classics.push_back(all.other.steps());
        state.SetIterationTime(ours.back());
    }
    state.counters["us"] = 1e6 * bench::median(ours) / static_cast<double>(length);
    state.counters["own_steps/scan"] = bench::median_ratio(steps, ours);
    state.counters["classic_steps/scan"] = bench::median_ratio(classics, ours);
}

template <class Cell>
void training(benchmark::State& state, const std::string& name, std::size_t sequences, std::size_t width,
              std::size_t length, std::size_t threads) {
    auto& all = bench::prepared(name, [=] { return rivals<Cell>(sequences, width, length); });
    const executor run{threads};
    bench::turns ours, others;
    for (auto _ : state) {
        ours.push_back(all.ours.train(run));
        others.push_back(all.other.train(run));
        state.SetIterationTime(ours.back());
    }
    state.counters["ms"] = 1e3 * bench::median(ours);
    state.counters["classic_ms"] = 1e3 * bench::median(others);
    state.counters["classic/ours"] = bench::median_ratio(others, ours);
    state.counters["bytes"] = static_cast<double>(all.ours.training_bytes());
    state.counters["classic_bytes"] = static_cast<double>(all.other.training_bytes());
}

template <class Cell>
void parameters(benchmark::State& state, std::size_t expansion) {
    constexpr std::size_t inputs = 512;
    const std::size_t units = expansion * inputs;
    const auto count = static_cast<double>(Cell::parameter_count({inputs, units}));
    const auto of_classic = static_cast<double>(classic<Cell>::parameter_count({inputs, units}));
    constexpr double published[2][4] = {{33, 22, 17, 13}, {38, 25, 19, 15}};
    for (auto _ : state) state.SetIterationTime(1);
    state.counters["parameters"] = count;
    state.counters["classic_parameters"] = of_classic;
    state.counters["percent"] = 100 * count / of_classic;
    state.counters["published"] = published[is_lstm<Cell> ? 1 : 0][expansion - 1];
}

template <class Cell>
void add_steps() {
    for (const std::size_t width : {512u, 1024u, 2048u}) {
        const auto add = [=]<class Element>(std::string_view type, Element) {
            const std::string name = bench::joined("cell_step", Cell::name, type, width);
            benchmark::RegisterBenchmark(name.c_str(), step<Cell, Element>, name, width)
                ->UseManualTime()
                ->Iterations(101);
        };
        add("f32", 0.0f);
        add("bf16", std::uint16_t{});
    }
}

template <class Cell>
void add_rivals() {
    const std::size_t most_threads = std::thread::hardware_concurrency() < 2 ? 1 : 2;
    for (std::size_t threads = 1; threads <= most_threads; ++threads) {
        for (const std::size_t width : {256u, 512u}) {
            const std::string name = bench::joined("cell_scan", Cell::name, width, 4096, threads);
            benchmark::RegisterBenchmark(name.c_str(), scan<Cell>, name, width, std::size_t{4096}, threads)
                ->UseManualTime()
                ->Iterations(3);
        }
        for (const auto& [sequences, width] : {std::pair<std::size_t, std::size_t>{64, 64}, {1, 512}}) {
            for (std::size_t length = 64; length <= 4096; length *= 2) {
                const std::string shape = std::to_string(sequences).append("x").append(std::to_string(width));
                const std::string name = bench::joined("cell_training", Cell::name, shape, length, threads);
                benchmark::RegisterBenchmark(name.c_str(), training<Cell>, name, sequences, width, length, threads)
                    ->UseManualTime()
                    ->Iterations(length <= 512 ? 11 : 3);
            }
        }
    }
    for (std::size_t expansion = 1; expansion <= 4; ++expansion) {
        const std::string name = bench::joined("cell_parameters", Cell::name, expansion);
        benchmark::RegisterBenchmark(name.c_str(), parameters<Cell>, expansion)->UseManualTime()->Iterations(1);
    }
}

[[maybe_unused]] const bool added = [] {
    add_steps<ms::gru>();
    add_steps<ms::lstm>();
    add_steps<ms::min_gru>();
    add_steps<ms::min_lstm>();
    add_rivals<ms::min_gru>();
    add_rivals<ms::min_lstm>();
    return true;
}();

}  // namespace
