#include "measurement.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <concepts>
#include <exception>
#include <limits>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "recurformer_cache.hpp"

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

/// Tokens that are multiplied with the weights at once. With 64 the weights' way through the caches is a tenth of the
/// time; beyond 256 there is nothing more to save.
constexpr std::size_t tokens_at_once = 256;

/// Perplexities up to here, and percentages of them, are finite.
constexpr double greatest_mean = 600;

/// "tova at k = 64", "full"
std::string name_of(const setting& s) {
    if (s.policy.policy.forgets() == ms::per::never) return s.policy.text;
    return s.policy.text + " at k = " + std::to_string(s.states);
}

/// Tokens of a sequence that `once` takes as the prompt: all but the last quarter.
std::size_t prompt_of(std::size_t length) { return length - length / 4; }

/// The policy of a setting for this model: one that looks at keys or queries as they were before rotation must know
/// how the model rotates. What the user gave stays.
template <class... Policies>
ms::one_of<Policies...> fitted(const ms::one_of<Policies...>& chosen, const llama& model, const policy_spec& spec) {
    ms::one_of<Policies...> result = chosen;
    const auto fit = [&]<class P>(P policy) {
        if constexpr (requires { policy.rope; }) {
            if (chosen.name() != P::name) return;
            policy.rope = model.rope();
            result = policy;
        }
    };
    (fit(Policies{}), ...);
    for (const auto& [name, value] : spec.own) ms::set_parameter(result, name, value);
    return result;
}
ms::any_composed fitted(const llama& model, const policy_spec& spec) {
    ms::any_composed result = spec.policy;
    result.get<ms::any_policy>() = fitted(spec.policy.get<ms::any_policy>(), model, spec);
    return result;
}

/// Throws std::invalid_argument where they do not fit.
ms::guards guards_of(const llama& model, const setting& s, const ms::shape& shape) {
    const std::size_t tables = s.policy.policy.forgets() == ms::per::head ? shape.kv_heads : 1;
    return ms::guards_in_force({.states = shape.states,
                                .slack = shape.slack,
                                .sinks = shape.sinks,
                                .recent = shape.recent,
                                .heads = shape.heads / tables,
                                .kv_heads = shape.kv_heads / tables,
                                .head_dim = shape.head_dim,
                                .value_dim = shape.value_dim},
                               fitted(model, s.policy), ("k = " + std::to_string(s.states)).c_str());
}

/// The least that a layer keeps.
std::size_t least_states(const llama& model, const setting& s, const ms::shape& shape) {
    if (!s.policy.budget || s.policy.budget.needs_prompt()) return s.states;
    return std::ranges::min(s.policy.budget.by_layer(shape.layers, s.states, guards_of(model, s, shape)));
}

/// The cache for a setting. A k beyond the longest sequence needs no more rows than that.
ms::shape shape_for(const llama& model, const setting& s, std::size_t longest) {
    const std::size_t block = std::max(s.block, s.feeding == feeding::once ? prompt_of(longest) : 1);
    ms::shape shape = s.policy.applied_to(model.cache_shape(s.states, std::min(block, longest)));
    if (s.policy.policy.forgets() != ms::per::never && least_states(model, s, shape) + shape.slack < longest)
        return shape;
    // Nothing will be forgotten, and the guards may not fit so few states: those that can be are left out, the policy's
    // own sinks get states of their own.
    shape.states = longest + ms::default_guards(s.policy.policy, longest).sinks;
    shape.slack = 0;
    shape.sinks = 0;
    shape.recent = 0;
    return shape;
}

/// Whether recurrent cells serve some of the heads, so that a layer has any number of caches.
template <class Cache>
concept has_cells = requires(Cache& cache) {
    cache.layers();
};

/// Calls f(layer of a cache, the KV heads of the model that it stores) for each cache of a layer; no KV heads mean all.
template <class Cache, class F>
void for_each_part(Cache& cache, std::size_t layer, F f) {
    if constexpr (has_cells<Cache>) {
        for (auto& part : cache.layers()[layer].parts()) f(part.cache.layer(0), std::span(part.kept.all));
    } else {
        f(cache.layer(layer), std::span<std::uint32_t>{});
    }
}

// What a budget does to a cache, and to each of the caches that a model with cells has.
template <class Cache>
void budget_before_prompt(Cache& cache, const ms::any_budget& budget, ms::guards guarded) {
    if constexpr (has_cells<Cache>) {
        const ms::shape& s = cache.shape();
        const std::vector<std::size_t> states = budget.by_layer(s.layers, s.states, guarded);
        for (std::size_t layer = 0; layer < states.size(); ++layer) {
            for (auto& part : cache.layers()[layer].parts()) {
                part.cache.rebudget(ms::guarded_budget{{states[layer]}, guarded});
            }
        }
    } else {
        budget.before_prompt(cache);
    }
}
template <class Cache>
void reset_budget(Cache& cache, std::size_t states) {
    if constexpr (has_cells<Cache>) {
        for (auto& layer : cache.layers()) {
            for (auto& part : layer.parts()) part.cache.rebudget(std::vector{states});
        }
    } else {
        cache.rebudget(std::vector(cache.shape().layers, states));
    }
}
template <class Cache>
void budget_after_prompt(Cache& cache, const ms::any_budget& budget) {
    if constexpr (has_cells<Cache>) {
        for (auto& layer : cache.layers()) {
            for (auto& part : layer.parts()) budget.after_prompt(part.cache);
        }
    } else {
        budget.after_prompt(cache);
    }
}

template <class Cache>
std::size_t scratch_of(const Cache& cache) {
    if constexpr (has_cells<Cache>) {
        ms::replaced_heads_workspace scratch;
        for (const auto& layer : cache.layers()) scratch.reserve(layer);
        return scratch.memory_bytes();
    } else {
        return ms::workspace::bytes_for(cache.shape());
    }
}

/// Runs sequences through one cache, one at a time.
template <class Cache>
class runner {
  public:
    runner(const llama& model, const setting& s, Cache cache, const watch& w)
        : model_(model), setting_(s), cache_(std::move(cache)), watch_(w) {
        if (cache_.shape().states == s.states) budget_ = s.policy.budget;
        if (!budget_ || budget_.needs_prompt()) return;
        budget_before_prompt(cache_, budget_, guards_of(model, s, cache_.shape()));
        note_budget();
    }

    /// Returns whether a state was forgotten before the last prediction.
    bool run(std::size_t number, std::span<const token> tokens, std::vector<double>& nll,
             std::vector<forgetting>& forgotten) {
        cache_.clear();
        if (budget_.needs_prompt()) reset_budget(cache_, setting_.states);
        std::size_t done = 0;
        bool forgot = false;
        const auto attended = [&](std::size_t layer) {
            forgot = forgot || forgets_before(tokens.size(), layer);
            if (watch_.forgotten) note_forgotten(number, layer, forgotten);
        };
        const auto feed = [&](std::size_t count, ms::prefill_mode mode) {
            predict(tokens, done, count, mode, nll, attended);
            check_finite(number, std::span(nll).last(std::min(count, nll.size())), nll.size());
            done += count;
        };
        if (setting_.feeding == feeding::once) {
            feed(prompt_of(tokens.size()), ms::prefill_mode::block);
            for (std::size_t layer = 0; layer < cache_.shape().layers; ++layer) {
                for_each_part(cache_, layer, [](const auto& part, auto) { part.finish_prompt(); });
            }
            if (budget_.needs_prompt()) {
                budget_after_prompt(cache_, budget_);
                note_budget();
                for (std::size_t layer = 0; layer < cache_.shape().layers; ++layer) attended(layer);
            }
        }
        const auto mode = setting_.feeding == feeding::block ? ms::prefill_mode::block : ms::prefill_mode::exact;
        const std::size_t stretch = std::max<std::size_t>(1, tokens_at_once / setting_.block) * setting_.block;
        while (done < tokens.size()) feed(std::min(stretch, tokens.size() - done), mode);
        if (watch_.forgotten) forget_last(number, forgotten);
        return forgot;
    }

    [[nodiscard]] const Cache& cache() const { return cache_; }
    [[nodiscard]] const std::vector<layer_budget>& budget() const { return budgets_; }
    [[nodiscard]] double mean_budget() const { return mean_budget_; }

  private:
    void predict(std::span<const token> tokens, std::size_t first, std::size_t count, ms::prefill_mode mode,
                 std::vector<double>& nll, auto&& attended) {
        if (!model_.prefill(cache_, tokens.subspan(first, count), static_cast<ms::position>(first), mode, hidden_,
                            attended)) {
            throw std::logic_error("the cache has fewer rows than the sequence has tokens");
        }
        const auto targets = tokens.subspan(first + 1, std::min(count, tokens.size() - first - 1));
        nll.resize(nll.size() + targets.size());
        model_.negative_log_likelihoods(hidden_, targets, std::span(nll).last(targets.size()));
        if (watch_.progress) watch_.progress(count);
    }

    /// `last` of the nll that the sequence has so far are new.
    void check_finite(std::size_t number, std::span<const double> last, std::size_t nll) const {
        for (std::size_t i = 0; i < last.size(); ++i) {
            if (std::isfinite(last[i])) continue;
            throw not_finite(name_of(setting_) + ": the negative log likelihood of token " +
                             std::to_string(nll - last.size() + i + 1) + " in sequence " + std::to_string(number) +
                             " (both from 0) is " + std::to_string(last[i]));
        }
    }

    /// Whether one of the latest decisions came early enough for a prediction: it is in force from the next token on,
    /// and the last token predicts nothing.
    [[nodiscard]] bool forgets_before(std::size_t length, std::size_t layer) const {
        bool result = false;
        for_each_part(cache_, layer, [&](const auto& part, auto) {
            for (std::size_t head = 0; head < part.shape().kv_heads; ++head) {
                const auto latest = part.forgotten(head);
                result =
                    result || (!latest.empty() && latest.front().decided_by + 2 < static_cast<ms::position>(length));
            }
        });
        return result;
    }

    /// The decision after the last token, if it is due, which no append will ask for.
    void forget_last(std::size_t number, std::vector<forgetting>& forgotten) {
        for (std::size_t layer = 0; layer < cache_.shape().layers; ++layer) {
            for_each_part(cache_, layer, [&](const auto& part, auto kv_heads) {
                for (std::size_t t = 0; t < part.table_count(); ++t) {
                    const auto one = part.restricted_to(t);
                    if (!one.tables().front().is_due()) continue;
                    one.forget();
                    note_forgotten(number, layer, one, kv_heads, forgotten);
                }
            });
        }
        std::ranges::sort(forgotten, {},
                          [](const forgetting& f) { return std::tuple(f.step, f.layer, f.kv_head, f.position); });
    }

    void note_forgotten(std::size_t number, std::size_t layer, std::vector<forgetting>& forgotten) {
        for_each_part(cache_, layer, [&](const auto& part, auto kv_heads) {
            note_forgotten(number, layer, part, kv_heads, forgotten);
        });
    }
    /// Of all tables to which the handle `part` is restricted.
    static void note_forgotten(std::size_t number, std::size_t layer, const auto& part,
                               std::span<const std::uint32_t> kv_heads, std::vector<forgetting>& forgotten) {
        for (const auto& table : part.tables()) {
            for (std::size_t i = 0; i < table.shape().kv_heads; ++i) {
                const std::size_t head = table.shape().kv_head + i;
                for (const auto& f : table.forgotten()) {
                    forgotten.push_back(
                        {number, f.decided_by, layer, kv_heads.empty() ? head : kv_heads[head], f.position});
                }
            }
        }
    }

    /// What the tables may keep now.
    void note_budget() {
        std::size_t sum = 0, count = 0;
        budgets_.assign(cache_.shape().layers, {0, 0});
        for (std::size_t layer = 0; layer < budgets_.size(); ++layer) {
            layer_budget all{std::numeric_limits<std::size_t>::max(), 0};
            for_each_part(cache_, layer, [&](const auto& part, auto) {
                for (const auto& table : part.tables()) {
                    all.least = std::min(all.least, table.states());
                    all.most = std::max(all.most, table.states());
                    sum += table.states();
                    ++count;
                }
            });
            if (all.most > 0) budgets_[layer] = all;  // a layer whose heads are all replaced has none
        }
        mean_budget_ = count == 0 ? 0 : static_cast<double>(sum) / static_cast<double>(count);
    }

    llama model_;
    const setting& setting_;
    Cache cache_;
    const watch& watch_;
    ms::any_budget budget_;  // none where nothing is forgotten
    std::vector<layer_budget> budgets_;
    double mean_budget_ = 0;
    matrix hidden_;
};

template <class Cache>
void add_budget(const runner<Cache>& r, measurement& result) {
    if (r.budget().empty()) return;
    result.budget.resize(r.budget().size(), r.budget().front());
    for (std::size_t layer = 0; layer < r.budget().size(); ++layer) {
        layer_budget& all = result.budget[layer];
        if (result.mean_budget == 0) all = r.budget()[layer];
        all.least = std::min(all.least, r.budget()[layer].least);
        all.most = std::max(all.most, r.budget()[layer].most);
    }
    result.mean_budget = r.mean_budget();
}

/// Each thread takes sequences of its own while there are enough for all; all threads share each of the rest.
template <class Cache>
measurement measure_with(const llama& model, std::span<const sequence> sequences, const setting& s, const watch& w,
                         const auto& make_cache) {
    const std::size_t threads = model.pool().threads();
    const ms::shape shape = shape_for(model, s, longest_of(sequences));
    const std::size_t own = sequences.size() / threads * threads;
    const ms::any_composed policy = fitted(model, s.policy);
    std::vector<runner<Cache>> runners;
    for (std::size_t i = 0; i < (own > 0 ? threads : 1); ++i) {
        runners.emplace_back(model, s, make_cache(shape, policy), w);
    }
    measurement result;
    result.nll.resize(sequences.size());
    std::vector<std::vector<forgetting>> forgotten(sequences.size());
    std::vector<char> forgot(sequences.size());
    std::vector<std::exception_ptr> failures(sequences.size());
    std::atomic<std::size_t> next = 0;

    const auto run = [&](runner<Cache>& by, std::size_t i) {
        forgot[i] = by.run(i, sequences[i], result.nll[i], forgotten[i]) ? 1 : 0;
    };
    const auto start = std::chrono::steady_clock::now();
    model.pool().run(runners.size(), [&](std::size_t r) {
        for (std::size_t i = next++; i < own; i = next++) {
            try {
                run(runners[r], i);
            } catch (...) {
                failures[i] = std::current_exception();
                next = own;  // the sequences before this one have begun and end: the first failure is the same always
            }
        }
    });
    for (const auto& failure : failures) {
        if (failure) std::rethrow_exception(failure);
    }
    for (std::size_t i = own; i < sequences.size(); ++i) run(runners.front(), i);
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    result.seconds = std::max(result.seconds, 1e-9);  // what a clock may not see
    result.forgot_nothing = std::ranges::count(forgot, 1) == 0;
    result.cache_bytes = runners.front().cache().memory_bytes();
    result.scratch_bytes = scratch_of(runners.front().cache());
    for (const auto& r : runners) add_budget(r, result);
    if (const double mean = result.nll_sum() / static_cast<double>(std::max<std::size_t>(1, result.tokens()));
        mean > greatest_mean) {
        throw not_finite(name_of(s) + ": the mean negative log likelihood is " + std::to_string(mean) +
                         " nats, its exponential too great for a number");
    }
    for (const auto& part : forgotten) result.forgotten.insert(result.forgotten.end(), part.begin(), part.end());
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

void check(const llama& model, const setting& s) { (void)resolved(model, s); }

std::string resolved(const llama& model, const setting& s) {
    const ms::shape shape = s.policy.applied_to(model.cache_shape(s.states, 1));
    const ms::guards guards = guards_of(model, s, shape);
    (void)least_states(model, s, shape);
    std::string text = std::string(s.policy.policy.name()) + " sinks=" + std::to_string(guards.sinks) +
                       " recent=" + std::to_string(guards.recent) + " slack=" + std::to_string(shape.slack);
    for (const ms::parameter_text& p : ms::parameters_of(fitted(model, s.policy))) {
        text += ' ' + p.name + '=' + p.value;
    }
    const std::string& written = s.policy.text;
    return text + written.substr(std::min(written.find('|'), written.size()));
}

measurement measure(const llama& model, std::span<const sequence> sequences, const setting& s, const watch& w) {
    std::optional<measurement> result;
    ms::codecs::for_each([&]<class Codec>() {
        if (Codec::name != s.codec) return;
        if (model.config().replaced) {
            using cache = recurformer_cache<ms::any_composed, Codec>;
            result = measure_with<cache>(model, sequences, s, w, [&](const ms::shape& shape, const auto& policy) {
                return cache(model, shape, policy);
            });
        } else {
            using cache = ms::cache<ms::any_composed, Codec>;
            result = measure_with<cache>(model, sequences, s, w, [](const ms::shape& shape, const auto& policy) {
                return cache(shape, policy);
            });
        }
    });
    return std::move(result).value();
}

}  // namespace demo
