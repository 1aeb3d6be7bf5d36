#include "batch_throughput.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <unistd.h>

#include "report.hpp"

namespace demo {

namespace {

using decoding_cache = ms::cache<ms::one_of<ms::full, ms::tova>>;

/// Where steps are timed, as parts of the text in eighths; at 0 the caches are next to empty.
constexpr std::array<std::size_t, 5> moments{0, 1, 3, 5, 7};
constexpr std::size_t timed_steps = 3;
constexpr std::size_t shortest_text = 64;  // the steps at 7/8 stay within it

double median(std::vector<double> values) {
    std::ranges::sort(values);
    const std::size_t half = values.size() / 2;
    return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

/// The median over turns of ratio(a turn of one, the same turn of the other).
ms::estimate compare_turns(const std::vector<double>& a, const std::vector<double>& b, double factor) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) ratios.push_back(factor * a[i] / b[i]);
    return median_of(std::move(ratios));
}

double as_double(std::size_t n) { return static_cast<double>(n); }

/// Bytes of the machine's memory.
std::size_t physical_memory() {
    return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

decoding_cache make_cache(const llama& model, std::size_t states, std::size_t length) {
    using either = ms::one_of<ms::full, ms::tova>;
    return decoding_cache(model.cache_shape(states, 1), states < length ? either(ms::tova{}) : either(ms::full{}));
}

class batch_measurement {
  public:
    batch_measurement(llama& model, const sequence& text, const batch_plan& plan, const batch_watch& w)
        : model_(model), text_(text), plan_(plan), watch_(w) {
        refuse_impossible();
    }

    std::vector<batch_row> run() {
        if (!fill(text_.size())) return {};
        for (const std::size_t k : plan_.states) {
            if (!fill(k)) return {};
        }
        constexpr std::size_t enough = 5;
        const auto start = std::chrono::steady_clock::now();
        for (std::size_t turn = 0; turn < plan_.turns && take_turn(); ++turn) {
            const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
            if (turn + 1 >= enough && taken.count() > plan_.seconds) break;
        }
        return std::move(rows_);
    }

  private:
    void refuse_impossible() const {
        if (model_.config().replaced) throw std::runtime_error("cells serve some heads of this model");
        if (text_.size() < shortest_text) {
            throw std::runtime_error("a sequence has " + std::to_string(text_.size()) + " tokens, decoding needs " +
                                     std::to_string(shortest_text));
        }
        // A batch, and the caches that are copied into it: of each size one for each moment.
        const std::size_t full = decoding_cache::bytes_for(model_.cache_shape(text_.size(), 1), ms::full{});
        std::size_t needed = full * (plan_.full_batch + moments.size());
        for (const std::size_t k : plan_.states) {
            needed += moments.size() * decoding_cache::bytes_for(model_.cache_shape(k, 1), ms::tova{});
        }
        if (needed <= physical_memory() / 2) return;
        throw std::runtime_error("a batch of " + std::to_string(plan_.full_batch) +
                                 " full caches and the caches to copy take " + human_bytes(needed) +
                                 ", more than half of this machine's memory");
    }

    /// Makes a cache for each moment, to be copied into batches; false if it was stopped.
    bool fill(std::size_t states) {
        decoding_cache cache = make_cache(model_, states, text_.size());
        std::vector<decoding_cache> filled;
        std::size_t done = 0;
        matrix hidden;
        for (const std::size_t moment : moments) {
            const std::size_t end = moment * text_.size() / 8;
            while (done < end) {
                if (watch_.stop && watch_.stop()) return false;
                const std::size_t count = std::min<std::size_t>(256, end - done);
                static_cast<void>(model_.prefill(cache, std::span(text_).subspan(done, count),
                                                 static_cast<ms::position>(done), ms::prefill_mode::exact, hidden));
                done += count;  // there is room for the text
            }
            filled.push_back(cache.clone());
        }
        const std::size_t bytes = cache.memory_bytes();
        const std::size_t all = plan_.full_batch * (rows_.empty() ? bytes : rows_.front().cache_bytes);
        rows_.push_back(
            {.states = states, .batch = all / bytes, .cache_bytes = bytes, .seconds = {}, .empty_seconds = {}});
        filled_.push_back(std::move(filled));
        return true;
    }

    /// Each moment of each row; false if it was stopped, then the turn does not count.
    bool take_turn() {
        std::vector<double> sums(rows_.size()), empty(rows_.size());
        for (std::size_t m = 0; m < moments.size(); ++m) {
            for (std::size_t i = 0; i < rows_.size(); ++i) {
                if (watch_.stop && watch_.stop()) return false;
                const double seconds = time_steps(filled_[i][m], rows_[i].batch, moments[m] * text_.size() / 8);
                if (moments[m] == 0) {
                    empty[i] = seconds;
                } else {
                    sums[i] += seconds / as_double(moments.size() - 1);
                }
                if (watch_.progress) watch_.progress(1);
            }
        }
        for (std::size_t i = 0; i < rows_.size(); ++i) {
            rows_[i].seconds.push_back(sums[i]);
            rows_[i].empty_seconds.push_back(empty[i]);
        }
        return true;
    }

    /// The mean of some steps of a batch of copies, from `first` on; logits of all sequences are part of a step.
    double time_steps(const decoding_cache& filled, std::size_t batch, std::size_t first) {
        std::vector<decoding_cache> caches;
        caches.reserve(batch);
        while (caches.size() < batch) caches.push_back(filled.clone());
        const auto step = [&](std::size_t at) {
            const std::vector<token> tokens(batch, text_[at]);
            const std::vector<ms::position> positions(batch, static_cast<ms::position>(at));
            if (!model_.decode(std::span(caches), tokens, positions, hidden_)) {
                throw std::logic_error("decode: a cache has no room");
            }
            model_.logits(hidden_, 0, batch, logits_);
        };
        step(first);  // brings memory and scratch to where they stay
        const auto start = std::chrono::steady_clock::now();
        for (std::size_t i = 1; i <= timed_steps; ++i) step(first + i);
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
        return taken.count() / as_double(timed_steps);
    }

    llama& model_;
    const sequence& text_;
    const batch_plan& plan_;
    const batch_watch& watch_;
    std::vector<batch_row> rows_;
    std::vector<std::vector<decoding_cache>> filled_;  // by row and moment
    matrix hidden_, logits_;
};

}  // namespace

double batch_row::step_seconds() const { return median(seconds); }

double batch_row::tokens_per_second() const { return as_double(batch) / step_seconds(); }

ms::estimate batch_row::attention_share() const {
    ms::estimate share = compare_turns(empty_seconds, seconds, 1);
    share.value = 1 - share.value;
    return share;
}

ms::estimate median_of(std::vector<double> values) {
    if (values.empty()) return {std::numeric_limits<double>::quiet_NaN()};
    const double middle = median(values);
    if (values.size() < 2) return {middle};
    const auto n = as_double(values.size());
    for (double& each : values) each = std::abs(each - middle);
    // The standard error of a median of normal numbers, whose deviation is 1.4826 times the median deviation.
    return {middle, std::sqrt(M_PI / 2 / n) * 1.4826 * median(values)};
}

ms::estimate relative_throughput(const batch_row& row, const batch_row& other) {
    return compare_turns(other.seconds, row.seconds, as_double(row.batch) / as_double(other.batch));
}

ms::estimate relative_latency(const batch_row& row, const batch_row& other) {
    return compare_turns(row.seconds, other.seconds, 1);
}

ms::estimate throughput_by_batch(const batch_row& row, const batch_row& full) {
    const double larger = as_double(row.batch) / as_double(full.batch);
    std::vector<double> seconds(std::min(row.seconds.size(), full.seconds.size()));
    for (std::size_t i = 0; i < seconds.size(); ++i) {
        seconds[i] = row.empty_seconds[i] + larger * (full.seconds[i] - full.empty_seconds[i]);
    }
    return compare_turns(full.seconds, seconds, larger);
}

ms::estimate throughput_by_states(const batch_row& row, const batch_row& full) {
    const double smaller = as_double(full.batch) / as_double(row.batch);
    std::vector<double> seconds(std::min(row.seconds.size(), full.seconds.size()));
    for (std::size_t i = 0; i < seconds.size(); ++i) {
        seconds[i] = full.empty_seconds[i] + smaller * (row.seconds[i] - row.empty_seconds[i]);
    }
    return compare_turns(full.seconds, seconds, 1);
}

std::size_t steps_of(const batch_plan& plan) { return plan.turns * moments.size() * (plan.states.size() + 1); }

std::vector<batch_row> measure_batches(llama& model, const sequence& text, const batch_plan& plan,
                                       const batch_watch& w) {
    return batch_measurement(model, text, plan, w).run();
}

}  // namespace demo
