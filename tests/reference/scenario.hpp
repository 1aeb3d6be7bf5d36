#pragma once

// Sequences of operations on a cache, and what the naive model answers to them.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/core/shape.hpp>

#include "reference/naive_model.hpp"
#include "reference/rule.hpp"
#include "support/stream.hpp"

namespace reference {

/// What is done to a cache. `exact` and `block` are the two kinds of prefill; `skip` leaves a gap in the positions.
struct operation {
    enum kind { step, exact, block, forget, clear, clone, skip } what = step;
    std::size_t tokens = 1;
};

struct scenario {
    rule forgets_by;
    multistate::shape shape;
    std::vector<operation> operations;
    std::uint64_t seed = 1;
};

/// Tokens that the operations append.
std::size_t tokens_of(const std::vector<operation>& operations);
std::ostream& operator<<(std::ostream& out, const scenario& s);

/// For tests with a rule as their parameter.
void PrintTo(const rule& r, std::ostream* out);
inline std::string rule_name(const testing::TestParamInfo<rule>& parameter) {
    return std::string(parameter.param.name);
}

/// The policies of the paper, which are tried in every size; and the others, which share all code with them but their
/// hooks.
std::vector<rule> first_rules();
std::vector<rule> further_rules();
bool is_first(const rule& r);

/// Whether the guards of a shape and of the rule leave a candidate: the library refuses the rest.
bool guards_fit(const rule& forgets_by, const multistate::shape& s);

/// What the naive model answers to one operation.
struct answer {
    std::vector<std::vector<int>> present;  ///< per KV head: what the library should hold now
    std::vector<double> out;
    std::size_t sequence = 0;  ///< how many clears came before
};

/// Where the double-precision model sees less than this between what it erases and what it might have erased instead,
/// float32 may decide otherwise and be right: such input is drawn again with another seed. Nothing is widened.
inline constexpr double least_margin = 1e-5;

/// The naive model's run through a scenario.
class expectation {
  public:
    expectation(const scenario& s, const support::stream& tokens);

    /// How far the next position moves on.
    static int advance(const operation& o);
    double margin() const { return model_.margin(); }

    /// The newest position when a position was erased, in the sequence (of those between two clears) of operation i.
    int decided_by(std::size_t i, std::size_t kv_head, int position) const;

    std::vector<answer> answers;

  private:
    answer apply(const operation& o, const support::stream& tokens, std::size_t token, int position);

    naive_model model_;
    multistate::shape shape_;
    std::vector<naive_model::decision_map> sequences_;
    bool forgotten_already_ = true;  // the library decides at the next append, the model at once
};

/// A scenario with tokens on which every decision is clear, and the naive model's answers.
struct prepared {
    scenario what;
    support::stream tokens;
    expectation expected;
};
/// `change` may alter the tokens first, for example to what a codec makes of them.
prepared prepare(const scenario& s, const std::function<void(support::stream&)>& change = {},
                 double margin = least_margin);

/// Runs a scenario on ms::cache<ms::any_policy> in lockstep with the naive model.
void run(const scenario& s);

}  // namespace reference
