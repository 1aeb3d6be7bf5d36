#pragma once

// One layer of a bounded multi-state RNN in double precision, written from the published rules and from nothing of the
// library: attend over everything held, in position order; then, if more than k are held, really erase.
//
// Each KV head has a std::vector of its own. Where a layer decides, its rule is asked once, and every head erases the
// same states.
#include <cstddef>
#include <limits>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "reference/rule.hpp"

namespace reference {

class naive_model {
  public:
    naive_model(const rule& forgets_by, const setting& s);

    /// One token: attends, then forgets if more than k + slack are held. Returns the outputs [heads, value_dim].
    std::vector<double> step(int position, std::span<const float> q, std::span<const float> k,
                             std::span<const float> v);
    /// Tokens that attend to the survivors and causally to each other; then the layer shrinks once. Returns the outputs
    /// [tokens, heads, value_dim].
    std::vector<double> block(int first, std::size_t tokens, std::span<const float> q, std::span<const float> k,
                              std::span<const float> v);
    /// Forgets down to k now.
    void forget() { shrink(setting_.states); }
    void clear();

    /// Positions in ascending order: held after the last decision, or seen by the last token's attention.
    std::vector<int> held(std::size_t kv_head) const;
    std::vector<int> attended(std::size_t kv_head) const;
    /// KV head and position of every state erased since construction or clear, with the newest position at that time.
    using decision_map = std::map<std::pair<std::size_t, int>, int>;
    const decision_map& decisions() const { return decided_by_; }
    /// The smallest relative distance, over all decisions so far, from the greatest score erased to the least score
    /// that could have been erased instead. Below the rounding of float32, the library may rightly decide otherwise.
    double margin() const { return margin_; }

  private:
    void place(int position, std::span<const float> k, std::span<const float> v);
    /// Appends one token's outputs to `out`, and the token to the past.
    void attend(int position, std::span<const float> q, std::vector<double>& out);
    std::vector<double> probabilities(std::span<const float> q, const std::vector<state>& held) const;
    void shrink(std::size_t most);
    /// Erases the least of a table down to k, by scores that are computed once.
    void decide(std::size_t table);
    /// The rule's scores of the states that a table holds.
    std::vector<double> ask(const evidence& e) const;
    /// A test that meets this fails.
    void fail(const char* what, int position) const;
    void compare(double a, double b);

    rule rule_;
    setting setting_;
    std::vector<std::vector<state>> held_;  // [KV head]
    std::vector<token> past_;
    std::size_t tables_;
    std::size_t last_arrival_ = 0;
    decision_map decided_by_;
    double margin_ = std::numeric_limits<double>::infinity();
};

}  // namespace reference
