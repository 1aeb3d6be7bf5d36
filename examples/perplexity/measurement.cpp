#include "measurement.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <mutex>
#include <numeric>
#include <utility>

#include "sequence_runner.hpp"

namespace demo {

namespace {

/// Perplexities up to here, and percentages of them, are finite.
constexpr double greatest_mean = 600;

std::size_t longest_of(std::span<const sequence> sequences) {
    std::size_t longest = 1;
    for (const sequence& s : sequences) longest = std::max(longest, s.size());
    return longest;
}

fidelity fidelity_of(std::span<const sequence_result> results) {
    std::vector<double> kl;
    fidelity f;
    for (const sequence_result& r : results) {
        for (const ms::divergence& d : r.divergences) {
            kl.push_back(d.kl);
            f.same_top += d.same_top ? 1 : 0;
            f.probability_change += d.probability_change();
        }
    }
    f.same_top /= static_cast<double>(kl.size());
    f.probability_change /= static_cast<double>(kl.size());
    f.kl = ms::distribution_of(kl);
    return f;
}

/// Adds everything that the sequences say to what is known of memory and budgets.
void assemble(measurement& m, std::span<sequence_result> results, std::size_t longest, const watch& w) {
    ms::mean_by_part by_position({.parts = position_parts, .places = std::max<std::size_t>(1, longest - 1)});
    m.forgot_nothing = std::ranges::none_of(results, &sequence_result::forgot);
    if (w.beside != nullptr) m.fidelity = fidelity_of(results);
    for (sequence_result& r : results) {
        m.sequences.push_back({std::accumulate(r.nll.begin(), r.nll.end(), 0.0), r.nll.size()});
        for (std::size_t i = 0; i < r.nll.size(); ++i) by_position.add(i, r.nll[i]);
        m.nll.push_back(std::move(r.nll));
        m.forgotten.insert(m.forgotten.end(), r.forgotten.begin(), r.forgotten.end());
        m.kept.push_back(std::move(r.kept));
        if (w.keep_hidden) m.hidden.push_back(std::move(r.hidden));
    }
    m.nll_by_position = by_position.means();
}

/// All sequences under all settings, as jobs that threads take in order: a job is a sequence under a setting.
class campaign {
  public:
    campaign(const llama& model, std::span<const sequence> sequences, std::span<const setting> settings, const watch& w,
             const std::function<void(finished)>& deliver)
        : model_(model),
          sequences_(sequences),
          settings_(settings),
          watch_(w),
          deliver_(deliver),
          longest_(longest_of(sequences)),
          works_(settings.size()) {
        for (work& each : works_) {
            each.results.resize(sequences.size());
            each.failures.resize(sequences.size());
            each.left = sequences.size();
        }
    }

    void run() {
        const std::size_t threads = model_.pool().threads();
        const std::size_t jobs = sequences_.size() * settings_.size();
        const std::size_t own = jobs / threads * threads;
        const auto take = [&](std::size_t end, double share) {
            worker w;
            for (std::size_t job = next_++; job < end; job = next_++) do_job(w, job, share);
        };
        if (own > 0) model_.pool().run(threads, [&](std::size_t) { take(own, 1 / static_cast<double>(threads)); });
        next_ = own;  // each thread has counted one too many
        take(jobs, 1);
        if (fatal_) std::rethrow_exception(fatal_);
    }

  private:
    struct work {
        std::vector<sequence_result> results;
        std::vector<std::string> failures;  // sentences of not_finite, by sequence
        measurement result;
        std::size_t left = 0;
        bool failed = false;
    };
    /// What a thread keeps from job to job while the setting is the same.
    struct worker {
        std::unique_ptr<sequence_runner> runner;
        std::size_t setting = 0;
    };

    void do_job(worker& w, std::size_t job, double share) {
        const std::size_t s = job / sequences_.size(), i = job % sequences_.size();
        try {
            const auto start = std::chrono::steady_clock::now();
            // The sequences before one that failed have begun and end: the first failure is the same always.
            if (ended_) return;
            if (!begin(s)) return finish(s, nullptr, 0);
            if (!w.runner || w.setting != s) w.runner = make_runner(model_, settings_[s], longest_, watch_);
            w.setting = s;
            try {
                works_[s].results[i] = w.runner->run(i, sequences_[i]);
            } catch (const not_finite& problem) {
                fail(s, i, problem.what());
            }
            const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
            finish(s, w.runner.get(), (taken.count() - works_[s].results[i].comparison) * share);
        } catch (const stopped&) {
            ended_ = true;
        } catch (...) {
            const std::lock_guard lock(mutex_);
            if (!fatal_) fatal_ = std::current_exception();
            ended_ = true;
        }
    }

    bool begin(std::size_t s) {
        const std::lock_guard lock(mutex_);
        return !works_[s].failed;
    }

    void fail(std::size_t s, std::size_t i, const char* sentence) {
        const std::lock_guard lock(mutex_);
        works_[s].failed = true;
        works_[s].failures[i] = sentence;
    }

    void finish(std::size_t s, const sequence_runner* runner, double seconds) {
        const std::lock_guard lock(mutex_);
        if (fatal_) return;
        work& w = works_[s];
        w.result.seconds += seconds;
        if (runner != nullptr) runner->describe(w.result);
        --w.left;
        while (delivered_ < works_.size() && works_[delivered_].left == 0) deliver(delivered_++);
    }

    void deliver(std::size_t s) {
        work w = std::exchange(works_[s], {});
        const auto failure = std::ranges::find_if(w.failures, [](const std::string& each) { return !each.empty(); });
        if (failure != w.failures.end()) return deliver_({s, std::nullopt, *failure});
        assemble(w.result, w.results, longest_, watch_);
        w.result.seconds = std::max(w.result.seconds, 1e-9);  // what a clock may not see
        const double mean = w.result.nll_sum() / static_cast<double>(std::max<std::size_t>(1, w.result.tokens()));
        if (mean > greatest_mean) {
            return deliver_({s, std::nullopt,
                             name_of(settings_[s]) + ": the mean negative log likelihood is " + std::to_string(mean) +
                                 " nats, its exponential too great for a number"});
        }
        deliver_({s, std::move(w.result), {}});
    }

    const llama& model_;
    std::span<const sequence> sequences_;
    std::span<const setting> settings_;
    const watch& watch_;
    const std::function<void(finished)>& deliver_;
    std::size_t longest_;
    std::vector<work> works_;
    std::atomic<std::size_t> next_ = 0;
    std::atomic<bool> ended_ = false;
    std::mutex mutex_;  // guards all members below, and works_ except the results of jobs in progress
    std::size_t delivered_ = 0;
    std::exception_ptr fatal_;
};

/// The positions of one layer and KV head at the end of a sequence.
std::vector<ms::position> positions_of(const std::vector<bool>& kept, std::size_t plane, std::size_t length) {
    std::vector<ms::position> positions;
    for (std::size_t p = 0; p < length; ++p) {
        if (kept[plane * length + p]) positions.push_back(static_cast<ms::position>(p));
    }
    return positions;
}

}  // namespace

bool same(const setting& a, const setting& b) {
    return a.policy.text == b.policy.text && a.states == b.states && a.codec == b.codec;
}

std::size_t outcome::tokens() const {
    return std::accumulate(sequences.begin(), sequences.end(), std::size_t{0},
                           [](std::size_t n, const ms::likelihood& s) { return n + s.tokens; });
}

double outcome::nll_sum() const {
    return std::accumulate(sequences.begin(), sequences.end(), 0.0,
                           [](double sum, const ms::likelihood& s) { return sum + s.nll; });
}

double outcome::perplexity() const { return ms::perplexity(sequences).value; }

std::optional<double> outcome::standard_error() const { return ms::perplexity(sequences).error; }

ms::estimate compare(const outcome& m, const outcome& baseline) {
    return ms::percent_above({.measured = m.sequences, .baseline = baseline.sequences});
}

ms::agreement shared_states(const measurement& a, const measurement& b, std::span<const sequence> texts) {
    ms::agreement all;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        const std::size_t length = texts[i].size();
        for (std::size_t plane = 0; plane < a.kept[i].size() / length; ++plane) {
            all.add(positions_of(a.kept[i], plane, length), positions_of(b.kept[i], plane, length));
        }
    }
    return all;
}

void measure_all(const llama& model, std::span<const sequence> sequences, std::span<const setting> settings,
                 const watch& w, const std::function<void(finished)>& deliver) {
    campaign(model, sequences, settings, w, deliver).run();
}

measurement measure(const llama& model, std::span<const sequence> sequences, const setting& s, const watch& w) {
    finished only;
    measure_all(model, sequences, {&s, 1}, w, [&](finished f) { only = std::move(f); });
    if (!only.failure.empty()) throw not_finite(only.failure);
    return std::move(only.result).value();
}

}  // namespace demo
