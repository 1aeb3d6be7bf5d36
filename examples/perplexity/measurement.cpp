#include "measurement.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <tuple>

namespace demo {

namespace {

double sum_of(std::span<const double> nll) { return std::accumulate(nll.begin(), nll.end(), 0.0); }

/// Standard error of sum(value) / sum(tokens), where both vary from sequence to sequence.
std::optional<double> error_of_ratio(std::span<const double> values, std::span<const double> tokens) {
    const auto n = static_cast<double>(values.size());
    if (values.size() < 2) return std::nullopt;
    const double total = std::accumulate(tokens.begin(), tokens.end(), 0.0);
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / total;
    double squares = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double residual = values[i] - mean * tokens[i];
        squares += residual * residual;
    }
    return std::sqrt(squares * n / (n - 1)) / total;
}

std::size_t longest_of(std::span<const sequence> sequences) {
    std::size_t longest = 1;
    for (const sequence& s : sequences) longest = std::max(longest, s.size());
    return longest;
}

/// Tokens of a sequence that `once` takes as the prompt: all but the last quarter.
std::size_t prompt_of(std::size_t length) { return length - length / 4; }

/// The cache for a setting. A k beyond the longest sequence needs no more rows than that.
ms::shape shape_for(const llama& model, const setting& s, std::size_t longest) {
    const std::size_t block = std::max(s.block, s.feeding == feeding::once ? prompt_of(longest) : 1);
    const bool forgets = s.policy.policy.forgets() != ms::per::never && s.states < longest;
    ms::shape shape = model.cache_shape(forgets ? s.states : longest, std::min(block, longest));
    if (forgets) return s.policy.guarded(shape);
    shape.recent = 0;  // nothing will be forgotten, and the policy's own guards may not fit so few states
    return shape;
}

/// Runs sequences through one cache.
template <class Cache>
class runner {
  public:
    runner(llama& model, const setting& s, Cache& cache, const watch& w, measurement& result)
        : model_(model), setting_(s), cache_(cache), watch_(w), result_(result) {}

    void run(std::span<const token> tokens) {
        cache_.clear();
        nll_.clear();
        std::size_t done = 0;
        if (setting_.feeding == feeding::once)
            done = feed(tokens, 0, prompt_of(tokens.size()), ms::prefill_mode::block);
        const auto mode = setting_.feeding == feeding::block ? ms::prefill_mode::block : ms::prefill_mode::exact;
        while (done < tokens.size()) done += feed(tokens, done, std::min(setting_.block, tokens.size() - done), mode);
        if (watch_.forgotten) forget_last();
        result_.nll.push_back(nll_);
    }

  private:
    std::size_t feed(std::span<const token> tokens, std::size_t first, std::size_t count, ms::prefill_mode mode) {
        if (!model_.prefill(cache_, tokens.subspan(first, count), static_cast<ms::position>(first), mode, hidden_)) {
            throw std::logic_error("the cache has fewer rows than the sequence has tokens");
        }
        if (watch_.forgotten) note_forgotten();
        const auto targets = tokens.subspan(first + 1, std::min(count, tokens.size() - first - 1));
        nll_.resize(nll_.size() + targets.size());
        model_.negative_log_likelihoods(hidden_, targets, std::span(nll_).last(targets.size()));
        if (watch_.progress) watch_.progress(count);
        return count;
    }

    /// The decision after the last token, which no append will ask for.
    void forget_last() {
        for (std::size_t layer = 0; layer < cache_.shape().layers; ++layer) cache_.forget(layer);
        note_forgotten();
        std::ranges::stable_sort(result_.forgotten, {}, [](const forgetting& f) {
            return std::tuple(f.sequence, f.step, f.layer, f.kv_head, f.position);
        });
    }

    void note_forgotten() {
        for (std::size_t layer = 0; layer < cache_.shape().layers; ++layer) {
            for (std::size_t head = 0; head < cache_.shape().kv_heads; ++head) {
                for (const auto& f : cache_.forgotten(layer, head)) {
                    result_.forgotten.push_back({result_.nll.size(), f.decided_by, layer, head, f.position});
                }
            }
        }
    }

    llama& model_;
    const setting& setting_;
    Cache& cache_;
    const watch& watch_;
    measurement& result_;
    matrix hidden_;
    std::vector<double> nll_;
};

template <class Codec>
measurement measure_with(llama& model, std::span<const sequence> sequences, const setting& s, const watch& w) {
    ms::cache<ms::any_policy, Codec> cache(shape_for(model, s, longest_of(sequences)), s.policy.policy);
    measurement result;
    result.cache_bytes = cache.memory_bytes();
    runner run(model, s, cache, w, result);
    const auto start = std::chrono::steady_clock::now();
    for (const sequence& tokens : sequences) run.run(tokens);
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
}

}  // namespace

std::size_t measurement::tokens() const {
    return std::accumulate(nll.begin(), nll.end(), std::size_t{0},
                           [](std::size_t n, const auto& part) { return n + part.size(); });
}

double measurement::nll_sum() const {
    return std::accumulate(nll.begin(), nll.end(), 0.0,
                           [](double sum, const auto& part) { return sum + sum_of(part); });
}

double measurement::perplexity() const { return std::exp(nll_sum() / static_cast<double>(tokens())); }

std::optional<double> measurement::standard_error() const {
    std::vector<double> sums, counts;
    for (const auto& part : nll) {
        sums.push_back(sum_of(part));
        counts.push_back(static_cast<double>(part.size()));
    }
    const auto error = error_of_ratio(sums, counts);
    if (!error) return std::nullopt;
    return perplexity() * *error;  // the derivative of exp at the mean
}

difference compare(const measurement& m, const measurement& baseline) {
    std::vector<double> differences, counts;
    for (std::size_t i = 0; i < m.nll.size(); ++i) {
        differences.push_back(sum_of(m.nll[i]) - sum_of(baseline.nll[i]));
        counts.push_back(static_cast<double>(m.nll[i].size()));
    }
    const double ratio = m.perplexity() / baseline.perplexity();
    const auto error = error_of_ratio(differences, counts);
    return {100 * (ratio - 1), error ? std::optional(100 * ratio * *error) : std::nullopt};
}

void check(const llama& model, const setting& s) {
    const ms::shape shape = s.policy.guarded(model.cache_shape(s.states, 1));
    (void)ms::guards_in_force({.states = shape.states, .sinks = shape.sinks, .recent = shape.recent}, s.policy.policy);
}

measurement measure(llama& model, std::span<const sequence> sequences, const setting& s, const watch& w) {
    if (s.codec == "f16") return measure_with<ms::f16>(model, sequences, s, w);
    if (s.codec == "bf16") return measure_with<ms::bf16>(model, sequences, s, w);
    if (s.codec == "int8") return measure_with<ms::int8>(model, sequences, s, w);
    return measure_with<ms::f32>(model, sequences, s, w);
}

}  // namespace demo
