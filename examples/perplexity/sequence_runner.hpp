// Runs sequences through one cache, one at a time: what a thread of measure_all works with.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "measurement.hpp"

namespace demo {

/// Of one sequence.
struct sequence_result {
    std::vector<double> nll;
    std::vector<ms::divergence> divergences;  ///< only with watch::beside
    std::vector<forgetting> forgotten;
    std::vector<bool> kept;
    matrix hidden;
    bool forgot = false;    ///< a state was forgotten before the last prediction
    double comparison = 0;  ///< seconds that watch::beside took: no part of the model's own time
};

/// watch::stop said so.
struct stopped {};

class sequence_runner {
  public:
    virtual ~sequence_runner() = default;
    /// Sequence `number`. Throws not_finite and stopped.
    virtual sequence_result run(std::size_t number, std::span<const token> tokens) = 0;
    /// Adds what is known of memory and budgets so far; may be called again.
    virtual void describe(outcome& result) const = 0;
};

/// For sequences of up to `longest` tokens. Model, setting and watch must outlive the runner.
[[nodiscard]] std::unique_ptr<sequence_runner> make_runner(const llama& model, const setting& s, std::size_t longest,
                                                           const watch& w);

}  // namespace demo
