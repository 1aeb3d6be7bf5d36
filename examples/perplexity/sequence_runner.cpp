#include "sequence_runner.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include "recurformer_cache.hpp"

namespace demo {

namespace {

Eigen::Index index(std::size_t i) { return static_cast<Eigen::Index>(i); }

/// A row of so many numbers as it is stored, without padding, with its scale.
template <class Codec>
std::size_t state_bytes(std::size_t n) {
    return Codec::stride(n) * sizeof(typename Codec::element) + (Codec::scaled ? sizeof(float) : 0);
}

/// Tokens that are multiplied with the weights at once. With 64 the weights' way through the caches is a tenth of the
/// time; beyond 256 there is nothing more to save.
constexpr std::size_t tokens_at_once = 256;

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
/// KV head `head` of a part, counted among those of the model.
std::size_t model_head(std::span<const std::uint32_t> kv_heads, std::size_t head) {
    return kv_heads.empty() ? head : kv_heads[head];
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

/// `Cache` is a cache, or a recurformer_cache, with this codec.
template <class Codec, class Cache>
class runner final : public sequence_runner {
  public:
    runner(const llama& model, const setting& s, Cache cache, const watch& w)
        : model_(model), setting_(s), cache_(std::move(cache)), watch_(w) {
        if (cache_.shape().states == s.states) budget_ = s.policy.budget;
        if (!budget_ || budget_.needs_prompt()) return;
        budget_before_prompt(cache_, budget_, guards_of(model, s, cache_.shape()));
        note_budget();
    }

    sequence_result run(std::size_t number, std::span<const token> tokens) override {
        if (setting_.shorter) return run_pieces(number, tokens);
        cache_.clear();
        if constexpr (!has_cells<Cache>) {
            if (setting_.oracle) record(tokens);
        }
        if (budget_.needs_prompt()) reset_budget(cache_, setting_.states);
        sequence_result result;
        if (watch_.keep_hidden) result.hidden.resize(index(tokens.size() - 1), index(model_.config().width));
        std::size_t done = 0;
        const auto attended = [&](std::size_t layer) {
            if constexpr (!has_cells<Cache>) {
                if (setting_.oracle) score_by_record(layer);
            }
            result.forgot = result.forgot || forgets_before(tokens.size(), layer);
            if (watch_.forgotten) note_forgotten(number, layer, result.forgotten);
        };
        const auto feed = [&](std::size_t count, ms::prefill_mode mode) {
            predict(number, tokens, {done, count}, mode, result, attended);
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
        note_kept(tokens.size(), result.kept);
        if (watch_.forgotten) forget_last(number, result.forgotten);
        return result;
    }

    void describe(outcome& result) const override {
        using storage = typename ms::cache<ms::any_composed, Codec>::storage_type;
        const ms::shape& shape = cache_.shape();
        std::size_t bytes = 0;
        for (std::size_t layer = 0; layer < shape.layers; ++layer) {
            if constexpr (has_cells<Cache>) bytes += cache_.layers()[layer].cell_state().size_bytes();
            for_each_part(cache_, layer, [&](const auto& part, auto) {
                std::size_t rows = 0, planes = 0;
                for (const auto& t : part.tables()) {
                    rows += t.rows() * t.shape().kv_heads;
                    planes += t.shape().kv_heads;
                }
                bytes += storage::bytes_for(planes, rows, part.shape());
            });
        }
        result.bytes = {.cache = cache_.memory_bytes(),
                        .rows = bytes,
                        .scratch = scratch_of(cache_),
                        .state = state_bytes<Codec>(shape.head_dim) + state_bytes<Codec>(shape.value_dim),
                        .cache_at_32k = bytes_at_32k()};
        describe_budget(result);
    }

  private:
    /// Tokens [first, first + count) of a sequence, of which those before `origin` are unknown to the cache.
    struct token_range {
        std::size_t first;
        std::size_t count;
        std::size_t origin = 0;
    };

    /// The first pass of the oracle: full attention.
    void record(std::span<const token> tokens) {
        const ms::shape& s = cache_.shape();
        record_.emplace(ms::attention_record_shape{s.layers, s.kv_heads, tokens.size()});
        ms::cache<ms::attention_recorder, Codec> full(model_.cache_shape(tokens.size(), 64), {&*record_});
        for (std::size_t done = 0; done < tokens.size();) {
            if (watch_.stop && watch_.stop()) throw stopped{};
            const std::size_t count = std::min(tokens_at_once, tokens.size() - done);
            static_cast<void>(model_.prefill(full, tokens.subspan(done, count), static_cast<ms::position>(done),
                                             ms::prefill_mode::exact, hidden_));  // there is room
            done += count;
        }
        record_->finish();
    }
    /// The second pass, after a token attended: the scores by which the next one decides.
    void score_by_record(std::size_t index) {
        for (auto& table : cache_.layer(index).tables()) {
            const ms::position next = table.next_position();
            if (static_cast<std::size_t>(next) >= record_->shape().tokens) continue;
            std::ranges::fill(table.scores(), 0.0f);
            for (std::size_t h = 0; h < table.shape().kv_heads; ++h) {
                const auto later = record_->attention_from({index, table.shape().kv_head + h, next});
                for (std::size_t row = 0; row < table.size(); ++row) {
                    table.scores()[row] += later[static_cast<std::size_t>(table.positions()[row])];
                }
            }
        }
    }

    /// Each piece as if it were the whole text. All begin with the first token of the sequence, then comes the token
    /// that the piece before predicted last, so that each token is predicted once.
    sequence_result run_pieces(std::size_t number, std::span<const token> tokens) {
        sequence_result result;
        const std::size_t k = setting_.states;
        result.forgot = tokens.size() > k + 1;
        const std::size_t last = tokens.size() - 1;  // predicts nothing
        for (std::size_t begin = 0, end = 0; begin < last; begin = end) {
            const std::size_t ahead = begin > 0 && k > 1 ? 1 : 0;  // of one token, the newest is the better one
            end = std::min(begin + k - ahead, last);
            cache_.clear();
            const auto attended = [](std::size_t) {};
            if (ahead > 0) {
                static_cast<void>(
                    model_.prefill(cache_, tokens.first(1), 0, ms::prefill_mode::exact, hidden_, attended));
            }
            for (std::size_t done = begin; done < end;) {
                const std::size_t count = std::min(tokens_at_once, end - done);
                predict(number, tokens, {done, count, begin - ahead}, ms::prefill_mode::exact, result, attended);
                done += count;
            }
        }
        if (watch_.progress) watch_.progress(1);
        return result;
    }

    void predict(std::size_t number, std::span<const token> tokens, token_range s, ms::prefill_mode mode,
                 sequence_result& result, auto&& attended) {
        if (watch_.stop && watch_.stop()) throw stopped{};
        const auto position = static_cast<ms::position>(s.first - s.origin);
        if (!model_.prefill(cache_, tokens.subspan(s.first, s.count), position, mode, hidden_, attended)) {
            throw std::logic_error("the cache has fewer rows than the sequence has tokens");
        }
        const auto targets = tokens.subspan(s.first + 1, std::min(s.count, tokens.size() - s.first - 1));
        const auto begin = index(s.first), count = index(targets.size());
        if (watch_.keep_hidden) result.hidden.middleRows(begin, count) = hidden_.topRows(count);
        result.nll.resize(s.first + targets.size());
        const std::span<double> nll = std::span(result.nll).subspan(s.first);
        if (watch_.beside == nullptr) {
            model_.negative_log_likelihoods(hidden_, targets, nll);
        } else {
            compare_with(watch_.beside->hidden[number], s.first, targets, result);
        }
        check_finite(number, nll, s.first);
        if (watch_.progress) watch_.progress(s.count);
    }

    /// Likelihoods and divergences of the predictions in hidden_, which begin at `first` in `reference`.
    void compare_with(const matrix& reference, std::size_t first, std::span<const token> targets,
                      sequence_result& result) {
        constexpr std::size_t slice = 64;  // a large vocabulary times a whole prompt would not fit in memory
        const auto row = [](const matrix& m, std::size_t i) {
            return std::span(m.row(index(i)).data(), static_cast<std::size_t>(m.cols()));
        };
        result.divergences.resize(first + targets.size());
        for (std::size_t begin = 0; begin < targets.size(); begin += slice) {
            const std::size_t count = std::min(slice, targets.size() - begin);
            model_.logits(hidden_, begin, count, logits_);
            const auto start = std::chrono::steady_clock::now();
            model_.logits(reference, first + begin, count, reference_logits_);
            model_.pool().run(count, [&](std::size_t i) {
                const auto target = static_cast<std::size_t>(targets[begin + i]);
                const auto d = ms::divergence_of({row(reference_logits_, i), row(logits_, i)}, target);
                result.divergences[first + begin + i] = d;
                result.nll[first + begin + i] = d.nll;
            });
            result.comparison += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        }
    }

    /// Likelihoods of the predictions from `first` on.
    void check_finite(std::size_t number, std::span<const double> nll, std::size_t first) const {
        for (std::size_t i = 0; i < nll.size(); ++i) {
            if (std::isfinite(nll[i])) continue;
            throw not_finite(name_of(setting_) + ": the negative log likelihood of token " +
                             std::to_string(first + i + 1) + " in sequence " + std::to_string(number) +
                             " (both from 0) is " + std::to_string(nll[i]));
        }
    }

    /// One sequence of 32,768 tokens that come one by one; 0 if that is more than a machine has.
    [[nodiscard]] std::size_t bytes_at_32k() const {
        const std::size_t states = forgets(setting_) ? std::min(setting_.states, long_context) : long_context;
        const ms::shape shape = setting_.policy.applied_to(model_.cache_shape(states, 1));
        try {
            if constexpr (has_cells<Cache>) {
                return Cache::bytes_for(model_, shape, fitted(model_, setting_.policy));
            } else {
                return Cache::bytes_for(shape, fitted(model_, setting_.policy));
            }
        } catch (const std::invalid_argument&) {
            return 0;
        }
    }

    /// Whether one of the latest decisions came early enough for a prediction: it is in force from the next token on,
    /// and the last token predicts nothing.
    [[nodiscard]] bool forgets_before(std::size_t length, std::size_t layer) const {
        bool result = false;
        for_each_part(cache_, layer, [&](const auto& part, auto) {
            for (std::size_t head = 0; head < part.shape().kv_heads; ++head) {
                const auto latest = part.forgotten(head);
                const bool early = !latest.empty() && latest.front().decided_by + 2 < static_cast<ms::position>(length);
                result = result || early;
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
                    note_forgotten({number, layer}, one, kv_heads, forgotten);
                }
            });
        }
        std::ranges::sort(forgotten, {},
                          [](const forgetting& f) { return std::tuple(f.step, f.layer, f.kv_head, f.position); });
    }

    void note_forgotten(std::size_t number, std::size_t layer, std::vector<forgetting>& forgotten) {
        for_each_part(cache_, layer, [&](const auto& part, auto kv_heads) {
            note_forgotten({number, layer}, part, kv_heads, forgotten);
        });
    }
    struct place {
        std::size_t sequence, layer;
    };
    /// Of all tables to which the handle `part` is restricted.
    static void note_forgotten(place at, const auto& part, std::span<const std::uint32_t> kv_heads,
                               std::vector<forgetting>& forgotten) {
        for (const auto& table : part.tables()) {
            for (std::size_t i = 0; i < table.shape().kv_heads; ++i) {
                const std::size_t head = model_head(kv_heads, table.shape().kv_head + i);
                for (const auto& f : table.forgotten()) {
                    forgotten.push_back({at.sequence, f.decided_by, at.layer, head, f.position});
                }
            }
        }
    }

    /// Which of the sequence's tokens are still held, in every layer and KV head.
    void note_kept(std::size_t length, std::vector<bool>& kept) const {
        const ms::shape& shape = cache_.shape();
        kept.resize(shape.layers * shape.kv_heads * length);
        for (std::size_t layer = 0; layer < shape.layers; ++layer) {
            for_each_part(cache_, layer, [&](const auto& part, auto kv_heads) {
                for (std::size_t head = 0; head < part.shape().kv_heads; ++head) {
                    const std::size_t plane = layer * shape.kv_heads + model_head(kv_heads, head);
                    for (const ms::position p : part.positions(head)) {
                        kept[plane * length + static_cast<std::size_t>(p)] = true;
                    }
                }
            });
        }
    }

    void describe_budget(outcome& result) const {
        if (budgets_.empty()) return;
        if (result.budget.empty()) result.budget = budgets_;
        for (std::size_t layer = 0; layer < budgets_.size(); ++layer) {
            layer_budget& all = result.budget[layer];
            all.least = std::min(all.least, budgets_[layer].least);
            all.most = std::max(all.most, budgets_[layer].most);
        }
        result.mean_budget = mean_budget_;
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
    std::optional<ms::attention_record> record_;  // of the sequence, for the oracle
    matrix hidden_, logits_, reference_logits_;
};

}  // namespace

bool forgets(const setting& s) { return s.shorter || s.policy.policy.forgets() != ms::per::never; }

setting shorter_context(std::size_t states, std::size_t block) {
    setting s{.policy = parse_policies("full").front(), .states = states, .block = block, .shorter = true};
    s.policy.text = shorter_context_name;
    return s;
}

setting attention_oracle(std::size_t states, ms::per scope) {
    const bool layer = scope == ms::per::layer;
    setting s{.policy = parse_policies(layer ? "given|per_layer" : "given").front(),
              .states = states,
              .block = 1,
              .oracle = true};
    s.policy.text = layer ? oracle_layer_name : oracle_name;
    return s;
}

std::string name_of(const setting& s) {
    if (!forgets(s)) return s.policy.text;
    return s.policy.text + " at k = " + std::to_string(s.states);
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

std::unique_ptr<sequence_runner> make_runner(const llama& model, const setting& s, std::size_t longest,
                                             const watch& w) {
    const ms::shape shape = shape_for(model, s, s.shorter ? std::min(s.states, longest) : longest);
    std::unique_ptr<sequence_runner> result;
    ms::codecs::for_each([&]<class Codec>() {
        if (Codec::name != s.codec) return;
        const ms::any_composed policy = fitted(model, s.policy);
        if (model.config().replaced) {
            using cache = recurformer_cache<ms::any_composed, Codec>;
            result = std::make_unique<runner<Codec, cache>>(model, s, cache(model, shape, policy), w);
        } else {
            using cache = ms::cache<ms::any_composed, Codec>;
            result = std::make_unique<runner<Codec, cache>>(model, s, cache(shape, policy), w);
        }
    });
    return result;
}

}  // namespace demo
