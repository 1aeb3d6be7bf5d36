// What forgetting costs: predictions of sequences under one policy and one k, and how they differ from the full cache.
//
//     const demo::measurement full = demo::measure(model, sequences, full_setting, {.keep_hidden = true});
//     const demo::measurement m = demo::measure(model, sequences, {.policy = spec, .states = 64}, {.beside = &full});
//     m.perplexity(); m.standard_error(); demo::compare(m, full); m.fidelity->kl.median
//
// Every token after the first of a sequence is predicted; each sequence has a cache of its own that begins empty.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/evaluation/evaluation.hpp>

#include "llama.hpp"
#include "policy_spec.hpp"
#include "sequences.hpp"

namespace demo {

/// How the tokens of a sequence reach the cache.
enum class feeding {
    exact,  ///< blocks that end where single tokens end
    block,  ///< blocks that attend to themselves before anything is forgotten
    once,   ///< all but the last quarter of the sequence as one block, the rest exact
};

struct setting {
    policy_spec policy;
    std::size_t states;
    std::string codec = "f32";  ///< one of ms::codecs::names
    demo::feeding feeding = feeding::exact;
    std::size_t block = 64;
    bool shorter = false;  ///< full, on pieces of `states` tokens each: see shorter_context
    bool oracle = false;   ///< forgets by the attention still to come: see attention_oracle
};

/// The baseline of papers: the same model with a context of k tokens and nothing forgotten. The text is cut into pieces
/// of at most k tokens, which all begin with the first token of the sequence (BOS); each token is predicted from those
/// before it in its piece.
[[nodiscard]] setting shorter_context(std::size_t states, std::size_t block);
inline constexpr const char* shorter_context_name = "shorter_context";

/// Forgets the states with the least attention still to come in the full cache, token by token, in float32: the text is
/// read twice (multistate/evaluation/oracle.hpp). `scope` is ms::per::head or ms::per::layer.
[[nodiscard]] setting attention_oracle(std::size_t states, ms::per scope);
inline constexpr const char* oracle_name = "oracle";
inline constexpr const char* oracle_layer_name = "oracle_layer";

/// Whether predictions may lack a state: true for every policy except `full`.
[[nodiscard]] bool forgets(const setting& s);

/// A state that was forgotten in one layer and KV head, and the position of the token whose attention decided.
struct forgetting {
    std::size_t sequence;
    ms::position step;
    std::size_t layer;
    std::size_t kv_head;
    ms::position position;
};

/// The states of the tables of a layer, after its budget was set.
struct layer_budget {
    std::size_t least;
    std::size_t most;
};

/// How the predictions differ from those of the full cache.
struct fidelity {
    ms::distribution kl;            ///< KL(full || this), in nats per token
    double same_top = 0;            ///< the share of tokens for which both have the same likeliest token
    double probability_change = 0;  ///< of the right token, in the mean
};

/// Bytes of one sequence.
struct memory_use {
    std::size_t cache = 0;    ///< rows and bookkeeping
    std::size_t rows = 0;     ///< keys and values; states of recurrent cells
    std::size_t scratch = 0;  ///< of attention, for each sequence that is computed at the same time; not in `cache`
    std::size_t state = 0;    ///< one key and value of one KV head, as stored
    std::size_t cache_at_32k = 0;  ///< `cache` after 32,768 tokens that come one by one

    [[nodiscard]] std::size_t bookkeeping() const noexcept { return cache - rows; }
};
constexpr std::size_t long_context = 32768;

/// Parts of the longest sequence over which likelihoods are averaged.
constexpr std::size_t position_parts = 16;

/// What is kept of a measurement: enough for every table, and to pair it with others by sequence.
struct outcome {
    std::vector<ms::likelihood> sequences;
    std::vector<double> nll_by_position;  ///< [position_parts] means; NaN for a part without predictions
    std::optional<demo::fidelity> fidelity;
    bool forgot_nothing = false;       ///< at no prediction was a state missing: k is not put to the test
    std::vector<layer_budget> budget;  ///< [layers] over all sequences; empty without a budget
    double mean_budget = 0;            ///< states of a table in the mean; the same in every sequence
    memory_use bytes;
    double seconds = 0;  ///< of all threads together, as if they had worked on nothing else; without the comparison

    [[nodiscard]] std::size_t tokens() const;
    [[nodiscard]] double nll_sum() const;
    [[nodiscard]] double perplexity() const;
    /// Of the perplexity, over sequences; none with fewer than two.
    [[nodiscard]] std::optional<double> standard_error() const;
};

/// Perplexity in percent above another, paired by sequence.
[[nodiscard]] ms::estimate compare(const outcome& m, const outcome& baseline);

struct measurement : outcome {
    std::vector<std::vector<double>> nll;  ///< per sequence and predicted token, in nats
    std::vector<forgetting> forgotten;     ///< only when asked for
    std::vector<matrix> hidden;            ///< [predictions, width] per sequence; only when asked for
    std::vector<std::vector<bool>> kept;   ///< per sequence [layers * kv_heads * tokens]: held after its last token
};

/// The states that two policies both hold at the end of a sequence, over all sequences, layers and KV heads.
[[nodiscard]] ms::agreement shared_states(const measurement& a, const measurement& b, std::span<const sequence> texts);

struct watch {
    bool forgotten = false;                              ///< fill measurement::forgotten
    bool keep_hidden = false;                            ///< fill measurement::hidden
    const measurement* beside = nullptr;                 ///< full, with its hidden states: fill outcome::fidelity
    std::function<void(std::size_t tokens)> progress{};  ///< called from any thread, with tokens done since
    std::function<bool()> stop{};                        ///< asked from any thread: whether to end early
};

/// A result that is no finite number: names policy, k, sequence and token.
class not_finite : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// Throws std::invalid_argument if this policy cannot be had at this k (guards that leave no state to forget):
/// "k = 4: sinks must be at most states - 1 = 3, is 4".
void check(const llama& model, const setting& s);

/// The policy with all its parameters, guards and slack at this k, however they were written: settings with equal texts
/// measure the same. Throws as check does.
[[nodiscard]] std::string resolved(const llama& model, const setting& s);

/// Whether both have one policy, one k and one codec.
[[nodiscard]] bool same(const setting& a, const setting& b);

/// "tova at k = 64", "full"
[[nodiscard]] std::string name_of(const setting& s);

/// What became of settings[index]: a measurement, or why there is none.
struct finished {
    std::size_t index;
    std::optional<measurement> result;
    std::string failure;  ///< the sentence of a not_finite
};

/// Measures all settings. Every thread takes one sequence after the other, whatever its setting; all threads share the
/// few that are left in the end. `deliver` is called in the order of the settings, as soon as it can be, from any
/// thread, but never twice at a time. After watch::stop the settings that are not finished are not delivered.
void measure_all(const llama& model, std::span<const sequence> sequences, std::span<const setting> settings,
                 const watch& w, const std::function<void(finished)>& deliver);

/// One setting. Throws not_finite.
[[nodiscard]] measurement measure(const llama& model, std::span<const sequence> sequences, const setting& s,
                                  const watch& w);

}  // namespace demo
