// What forgetting costs: the perplexity of sequences under one policy and one k.
//
//     const demo::measurement m = demo::measure(model, sequences, {.policy = spec, .states = 64}, {});
//     m.perplexity(); m.standard_error(); demo::compare(m, baseline)
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
};

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

struct measurement {
    std::vector<std::vector<double>> nll;  ///< per sequence and predicted token, in nats
    std::vector<forgetting> forgotten;     ///< only when asked for
    bool forgot_nothing = false;           ///< at no prediction was a state missing: k is not put to the test
    std::vector<layer_budget> budget;      ///< [layers] over all sequences; empty without a budget
    double mean_budget = 0;                ///< states of a table in the mean; the same in every sequence
    std::size_t cache_bytes = 0;           ///< of one sequence
    std::size_t scratch_bytes = 0;         ///< of attention, for each sequence that is computed at the same time
    double seconds = 0;

    [[nodiscard]] std::size_t tokens() const;
    [[nodiscard]] double nll_sum() const;
    [[nodiscard]] double perplexity() const;
    /// Of the perplexity, over sequences; none with fewer than two.
    [[nodiscard]] std::optional<double> standard_error() const;
};

/// Perplexity in percent above another, paired by sequence, with its standard error.
struct difference {
    double percent;
    std::optional<double> standard_error;
};
[[nodiscard]] difference compare(const measurement& m, const measurement& baseline);

struct watch {
    bool forgotten = false;                              ///< fill measurement::forgotten
    std::function<void(std::size_t tokens)> progress{};  ///< called from any thread, with tokens done since
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

/// Throws not_finite.
[[nodiscard]] measurement measure(const llama& model, std::span<const sequence> sequences, const setting& s,
                                  const watch& w);

}  // namespace demo
